"""Measure calls with ringback and with its alternatives, in turns, in one run, with the same work.

    python bench/run.py [--rounds N] [--contenders A,B] [--scenarios up,down] [--in-flight 1,64]
        [--uvloop] [--json FILE] [--check]

The content of each result is checked. Processor time is the sum of all processes of a contender, as the
kernel counts it. Quote ratios: the speed of a shared machine drifts, for all contenders alike.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from subprocess import Popen
from typing import Any, NamedTuple

from contenders import Middle
from machine import machine
from options import OneLineParser, seconds, some_of, whole_number, whole_numbers
from processes import memory_mib, program, start_endpoint, use_uvloop

from ringback_cli.load_processes import measure_calls

CONTENDERS = {
    "loops": "pyzmq_loops",
    "proxy": "pyzmq_proxy",
    "ringback.aio": "ringback_aio",
    "ringback.aio CURVE": "ringback_curve",
    "ringback": "ringback_blocking",
    "ringback callbacks": "ringback_callbacks",
    "nats": "nats_requests",
    "redis": "redis_lists",
    "redis-batched": "redis_batched",
    "socketio": "socketio_acks",
    "grpc": "grpc_aio",
}
BASELINE = "loops"
MOST_THREADS = 64

Rows = list[dict[str, Any]]
"""The measurements of one contender in one situation, in the order of the rounds."""


class Scenario(NamedTuple):
    """Who calls whom.

    Attributes:
        text: the scenario in words, for the heading of its table.
        caller: "players" or "server".
        players: how many players there are.
        in_flight: the numbers of calls in flight that are measured by default.
        blob_bytes: size of payload and result. 0 stands for small dicts.
        contenders: if not empty, only these are measured.
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


class Bound(NamedTuple):
    """A bound of `--check` on ringback.aio against the loops: at least this rate, at most this CPU a call."""

    scenario: str
    in_flight: int
    rate: float
    cpu: float


BOUNDS = (
    Bound("up", 1, 0.40, 2.20),
    Bound("up", 64, 0.80, 0.80),
    Bound("up", 512, 0.90, 0.80),
    Bound("down-100", 64, 0.35, 2.60),
    Bound("down-100", 512, 0.45, 2.00),
)


def missing(contender: str) -> str | None:
    """Return what a contender needs that is not installed, or None."""
    try:
        module = import_module(f"contenders.{CONTENDERS[contender]}")
    except ModuleNotFoundError as error:
        return f"the Python package {error.name}"
    wanted = getattr(module, "PROGRAM", None)
    return wanted if wanted is not None and program(wanted) is None else None


def start_broker(stack: ExitStack, contender: str) -> Middle:
    """Start the broker of a contender, if it has one."""
    module = import_module(f"contenders.{CONTENDERS[contender]}")
    middle: Middle = module.start_broker(stack)
    return middle


def start_processes(
    stack: ExitStack, contender: str, scenario: Scenario, workload: str = "closed_loop", spread: int = 1
) -> dict[str, Popen[str]]:
    """Start a contender, and return its processes: "broker" if there is one, "server" and "players".

    Args:
        workload: what the caller does: a name in `WORKLOADS` of endpoint.py.
        spread: how many processes share the players. Several are named "players 0", "players 1" and so on.
    """
    middle = start_broker(stack, contender)
    processes = {} if middle.process is None else {"broker": middle.process}
    each = scenario.players // spread
    ends = [("server", "server", middle.backend, scenario.players, 0)]
    for number in range(spread):
        name = "players" if spread == 1 else f"players {number}"
        ends.append((name, "players", middle.players, each, number * each))
    for name, role, address, players, first in ends:
        processes[name] = start_endpoint(
            stack,
            CONTENDERS[contender],
            role,
            address,
            calls=role == scenario.caller,
            workload=workload,
            players=players,
            first=first,
            blob_bytes=scenario.blob_bytes,
            settings=middle.settings.get(role),
        )
    return processes


def measure(
    contender: str, scenario: Scenario, in_flight: tuple[int, ...], seconds: float
) -> Iterator[dict[str, Any]]:
    """Start a contender, and yield its figures for each number of calls in flight."""
    with ExitStack() as stack:
        processes = start_processes(stack, contender, scenario)
        for number in in_flight:
            asked = {"in_flight": number, "seconds": seconds}
            figures = measure_calls(processes[scenario.caller], processes, **asked)
            figures["cpu_us"] = sum(figures[f"cpu_{role}_us"] for role in processes)
            if "broker" in processes:
                figures["broker_mib"] = memory_mib(processes["broker"])
            yield {"in_flight": number, **figures}


def table(scenario: Scenario, in_flight: int, results: dict[str, Rows]) -> None:
    rounds = max(map(len, results.values()))
    print(f"\n{scenario.text}, {in_flight} in flight, medians of {rounds} rounds")
    print(
        f"{'':19}{'calls/s':>9}{'p50 us':>9}{'p99 us':>9}{'p99.9 us':>10}{'CPU us':>8}"
        f"   (broker, server, players)   rate and CPU against {BASELINE}"
    )
    for name, rows in results.items():
        median = medians(rows)
        roles = ", ".join(
            f"{median.get(f'cpu_{role}_us', 0):.1f}" for role in ("broker", "server", "players")
        )
        line = (
            f"{name:19}{median['calls_per_s']:>9.0f}{median['p50_us']:>9.0f}{median['p99_us']:>9.0f}"
            f"{median['p999_us']:>10.0f}{median['cpu_us']:>8.1f}   ({roles:^22})"
        )
        if BASELINE in results:
            rate, cpu = against(rows, results[BASELINE], "calls_per_s", "cpu_us")
            line += f"   x{rate:.2f} and x{cpu:.2f}"
        print(line, flush=True)


def medians(rows: Rows) -> dict[str, float]:
    """Return the median of each figure."""
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def against(rows: Rows, others: Rows, *figures: str) -> list[float]:
    """Return for each figure the median of its ratios, round by round."""
    pairs = list(zip(rows, others, strict=True))
    return [statistics.median(ours[key] / theirs[key] for ours, theirs in pairs) for key in figures]


def out_of_bounds(results: dict[tuple[str, int], dict[str, Rows]]) -> list[str]:
    """Return a text for each measured ratio that is worse than its bound.

    Args:
        results: the rows by scenario and calls in flight, and then by contender.
    """
    found = []
    for bound in BOUNDS:
        rows = results.get((bound.scenario, bound.in_flight), {})
        if "ringback.aio" in rows and BASELINE in rows:
            rate, cpu = against(rows["ringback.aio"], rows[BASELINE], "calls_per_s", "cpu_us")
            where = f"{bound.scenario} with {bound.in_flight} in flight"
            if rate < bound.rate:
                found.append(f"{where}: rate x{rate:.2f}, not x{bound.rate:.2f}")
            if cpu > bound.cpu:
                found.append(f"{where}: CPU a call x{cpu:.2f}, not x{bound.cpu:.2f}")
    return found


class Journal:
    """A file with a line of JSON about the machine, and one for each measurement. An existing file grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.exists() or not path.stat().st_size:
            self._write({"machine": machine()})

    def add(self, **row: Any) -> None:
        self._write({key: round(value, 1) if type(value) is float else value for key, value in row.items()})

    def _write(self, row: dict[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def arguments() -> argparse.Namespace:
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=whole_number, default=5)
    parser.add_argument("--seconds", type=seconds, default=2.0, help="seconds for each measurement")
    parser.add_argument("--contenders", type=some_of(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--scenarios", type=some_of(SCENARIOS), default=list(SCENARIOS))
    parser.add_argument(
        "--in-flight",
        type=whole_numbers,
        default=[],
        help="numbers of calls in flight, instead of those of the scenario",
    )
    parser.add_argument("--uvloop", action="store_true", help="use uvloop in all endpoints on asyncio")
    parser.add_argument("--json", type=Path, help="append each measurement to this file, one per line")
    parser.add_argument(
        "--check", action="store_true", help="end with exit code 1 if ringback.aio is out of bounds"
    )
    return parser.parse_args()


def in_turns(
    scenario: Scenario, names: Sequence[str], in_flight: tuple[int, ...], rounds: int, seconds: float
) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Measure each contender in each round. Yield round, contender and figures."""
    for number in range(rounds):
        for name in names:
            # The blocking face needs a thread for each call in flight. No real program starts 512 of them.
            most = MOST_THREADS if name == "ringback" else max(in_flight)
            numbers = tuple(calls for calls in in_flight if calls <= most)
            for figures in measure(name, scenario, numbers, seconds):
                yield number, name, figures


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # and so stop the processes
    options = arguments()
    use_uvloop(options.uvloop)
    names = []
    for name in options.contenders:
        if what := missing(name):
            print(f"{name} is not measured: {what} is not installed")
        else:
            names.append(name)
    journal = Journal(options.json) if options.json else None
    results: dict[tuple[str, int], dict[str, Rows]] = {}
    for scenario_name in options.scenarios:
        scenario = SCENARIOS[scenario_name]
        contenders = [name for name in names if not scenario.contenders or name in scenario.contenders]
        in_flight = tuple(options.in_flight) or scenario.in_flight
        turns = in_turns(scenario, contenders, in_flight, options.rounds, options.seconds)
        for number, name, figures in turns:
            where = results.setdefault((scenario_name, figures["in_flight"]), {})
            where.setdefault(name, []).append(figures)
            if journal is not None:
                journal.add(
                    scenario=scenario_name,
                    contender=name,
                    round=number,
                    seconds=options.seconds,
                    **figures,
                )
        for calls in in_flight:
            if rows := results.get((scenario_name, calls)):
                table(scenario, calls, rows)
    if options.check and (found := out_of_bounds(results)):
        sys.exit(f"ringback.aio against the {BASELINE} is out of bounds: {'; '.join(found)}")


if __name__ == "__main__":
    main()
