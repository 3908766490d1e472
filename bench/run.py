"""Measures calls by ringback and by what else one would use, in turns, in one run, on the same work.

    python bench/run.py [--rounds N] [--contenders A,B] [--scenarios up,down] [--in-flight 1,64] [--json FILE]

The content of each result is checked. Processor time is that of all processes of a contender, from /proc.
Quote ratios: a shared machine drifts, and all contenders drift with it.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from processes import measure_calls, memory_mib, start_endpoint

CONTENDERS = {
    "loops": "pyzmq_loops",
    "ringback.aio": "ringback_aio",
    "ringback": "ringback_blocking",
}
BASELINE = "loops"
MOST_THREADS = 64


class Scenario(NamedTuple):
    """Who calls whom.

    Attributes:
        text: what the table says of it.
        caller: "players" or "server".
        blob_bytes: of payload and result; 0 for small dicts.
        in_flight: how many calls at one time, by default.
        contenders: those alone, if any are named.
    """

    text: str
    caller: str
    players: int
    in_flight: tuple[int, ...]
    blob_bytes: int = 0
    contenders: tuple[str, ...] = ()


SCENARIOS = {
    "up": Scenario("one player calls the server", "players", 1, (1, 64, 512)),
    "down": Scenario("the server calls one player", "server", 1, (1, 64, 512)),
    "down-100": Scenario("the server calls 100 players in turn", "server", 100, (64, 512)),
    "blob": Scenario("the server calls one player, 64 KiB each way", "server", 1, (64,), 65536),
}


def measure(
    contender: str, scenario: Scenario, in_flight: tuple[int, ...], seconds: float
) -> Iterator[dict[str, Any]]:
    """Starts a contender, and gives the figures for each number of calls in flight."""
    module = import_module(f"contenders.{CONTENDERS[contender]}")
    with ExitStack() as stack:
        middle = module.start_broker(stack)
        processes = {} if middle.process is None else {"broker": middle.process}
        for role, address in (("server", middle.backend), ("players", middle.players)):
            processes[role] = start_endpoint(
                stack,
                CONTENDERS[contender],
                role,
                address,
                calls=role == scenario.caller,
                players=scenario.players,
                blob_bytes=scenario.blob_bytes,
                settings=middle.settings.get(role),
            )
        for number in in_flight:
            figures = measure_calls(processes[scenario.caller], processes, number, seconds)
            figures["cpu_us"] = sum(figures[f"cpu_{role}_us"] for role in processes)
            if middle.process is not None:
                figures["broker_mib"] = memory_mib(middle.process)
            yield {"in_flight": number, **figures}


def table(scenario: Scenario, in_flight: int, results: dict[str, list[dict[str, Any]]]) -> None:
    rounds = max(map(len, results.values()))
    print(f"\n{scenario.text}, {in_flight} in flight, medians of {rounds} rounds")
    print(
        f"{'':16}{'calls/s':>9}{'p50 us':>9}{'p99 us':>9}{'p99.9 us':>10}{'CPU us':>8}"
        f"   (broker, server, players)   rate and CPU against {BASELINE}"
    )
    for name, rows in results.items():
        median = medians(rows)
        roles = ", ".join(
            f"{median.get(f'cpu_{role}_us', 0):.1f}" for role in ("broker", "server", "players")
        )
        line = (
            f"{name:16}{median['calls_per_s']:>9.0f}{median['p50_us']:>9.0f}{median['p99_us']:>9.0f}"
            f"{median['p999_us']:>10.0f}{median['cpu_us']:>8.1f}   ({roles:^22})"
        )
        if BASELINE in results:
            rate, cpu = against(rows, results[BASELINE], "calls_per_s", "cpu_us")
            line += f"   x{rate:.2f} and x{cpu:.2f}"
        print(line, flush=True)


def medians(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Gives the median of each figure."""
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def against(rows: list[dict[str, Any]], others: list[dict[str, Any]], *figures: str) -> list[float]:
    """Gives the medians of the ratios of figures, round by round."""
    pairs = list(zip(rows, others, strict=True))
    return [statistics.median(ours[key] / theirs[key] for ours, theirs in pairs) for key in figures]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--contenders", default=",".join(CONTENDERS))
    parser.add_argument("--scenarios", default=",".join(SCENARIOS))
    parser.add_argument("--in-flight", default="", help="in place of what each scenario has")
    parser.add_argument("--json", type=Path, help="append every measurement to this file, a line each")
    options = parser.parse_args()
    for scenario_name in options.scenarios.split(","):
        scenario = SCENARIOS[scenario_name]
        names = [
            name
            for name in options.contenders.split(",")
            if not scenario.contenders or name in scenario.contenders
        ]
        in_flight = tuple(map(int, filter(None, options.in_flight.split(",")))) or scenario.in_flight
        results: dict[int, dict[str, list[dict[str, Any]]]] = {number: {} for number in in_flight}
        for number in range(options.rounds):
            for name in names:
                # A thread for each of 512 calls is nobody's program.
                most = MOST_THREADS if name == "ringback" else max(in_flight)
                wanted = tuple(some for some in in_flight if some <= most)
                for figures in measure(name, scenario, wanted, options.seconds):
                    results[figures["in_flight"]].setdefault(name, []).append(figures)
                    if options.json:
                        row = {"scenario": scenario_name, "contender": name, "round": number, **figures}
                        with options.json.open("a") as file:
                            file.write(json.dumps(row) + "\n")
        for some, rows in results.items():
            table(scenario, some, rows)


if __name__ == "__main__":
    main()
