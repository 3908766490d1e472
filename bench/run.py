"""Measures calls beside hand-written pyzmq loops of the same work, in turns, in one run.

    python bench/run.py [--rounds N] [--in-flight 1,64,512] [--json FILE]

Processor time is that of all processes of a contender, from /proc. Quote the ratios: a shared machine
drifts, and both contenders drift with it.
"""

from __future__ import annotations

import argparse
import json
import statistics
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from processes import BROKER, cpu_s, go_on, line_of, make_keys, start

CALLS = {1: 5_000, 64: 40_000, 512: 60_000}
BASELINE = "pyzmq loops"
PLAIN, CURVE = "ringback.aio", "aio, CURVE"
CONTENDERS = {
    BASELINE: (("pyzmq_loops.py", "broker"), "pyzmq_loops.py"),
    PLAIN: (BROKER, "ringback_aio.py"),
    CURVE: (BROKER, "ringback_aio.py"),
    "ringback": (BROKER, "ringback_blocking.py"),
}


def measure(name: str, in_flight: int, calls: int) -> dict[str, float]:
    broker_command, script = CONTENDERS[name]
    with ExitStack() as stack:
        options, keys = (), {}
        if name == CURVE:
            options, keys = make_keys(Path(stack.enter_context(TemporaryDirectory())))
        broker = start(stack, *broker_command, *options)
        players, backend = line_of(broker, r"ready players=(\S+) backend=(\S+)").groups()
        server = start(stack, script, "server", backend, environment=keys)
        line_of(server, "ready")
        work = (str(in_flight), str(calls // 10), str(calls))
        player = start(stack, script, "player", players, *work, environment=keys)
        processes = {"broker": broker, "server": server, "player": player}
        line_of(player, "START")
        before = {role: cpu_s(process) for role, process in processes.items()}
        go_on(player)
        figures: dict[str, float] = json.loads(line_of(player, r"^\{.*\}$")[0])
        spent = {role: cpu_s(process) - before[role] for role, process in processes.items()}
        go_on(player)
    figures["calls_per_s"] = figures["calls"] / figures["elapsed_s"]
    figures["cpu_us_a_call"] = 1e6 * sum(spent.values()) / figures["calls"]
    for role, seconds in spent.items():
        figures[f"cpu_{role}_us_a_call"] = 1e6 * seconds / figures["calls"]
    return figures


def table(in_flight: int, results: dict[str, list[dict[str, float]]]) -> None:
    print(f"\n{in_flight} in flight, one player to one server, medians of {len(results[BASELINE])} rounds")
    print(
        f"{'':14}{'calls/s':>10}{'p50 us':>10}{'p99 us':>10}{'CPU us/call':>13}"
        "   (broker, server, player)   rate and CPU a call against the loops"
    )
    for name, rounds in results.items():
        median = {key: statistics.median(figures[key] for figures in rounds) for key in rounds[0]}
        by_role = ", ".join(
            f"{median[f'cpu_{role}_us_a_call']:.1f}" for role in ("broker", "server", "player")
        )
        ratios = against(rounds, results[BASELINE])
        print(
            f"{name:14}{median['calls_per_s']:>10.0f}{median['p50_us']:>10.0f}{median['p99_us']:>10.0f}"
            f"{median['cpu_us_a_call']:>13.1f}   ({by_role:^24})   x{ratios[0]:.2f} and x{ratios[1]:.2f}"
        )
    if PLAIN in results and CURVE in results:
        rate, cpu = against(results[CURVE], results[PLAIN])
        print(f"CURVE against plain: x{rate:.2f} calls a second, x{cpu:.2f} CPU a call")


def against(rounds: list[dict[str, float]], others: list[dict[str, float]]) -> list[float]:
    """Gives the medians of the ratios of rate and processor time a call, round by round."""
    pairs = list(zip(rounds, others, strict=True))
    return [
        statistics.median(ours[key] / theirs[key] for ours, theirs in pairs)
        for key in ("calls_per_s", "cpu_us_a_call")
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in-flight", default="1,64,512")
    parser.add_argument("--only", help="a contender beside the loops")
    parser.add_argument("--json", type=Path, help="append every round to this file, a line each")
    options = parser.parse_args()
    names = [name for name in CONTENDERS if options.only in (None, name) or name == BASELINE]
    for in_flight in map(int, options.in_flight.split(",")):
        calls = CALLS.get(in_flight, 20_000)
        results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for number in range(options.rounds):
            for name in names:
                # A thread for each of 512 calls is nobody's program.
                if name == "ringback" and in_flight > 64:
                    results.pop(name, None)
                    continue
                figures = measure(name, in_flight, calls)
                results[name].append(figures)
                if options.json:
                    row = {"contender": name, "in_flight": in_flight, "round": number, **figures}
                    with options.json.open("a") as file:
                        file.write(json.dumps(row) + "\n")
        table(in_flight, results)


if __name__ == "__main__":
    main()
