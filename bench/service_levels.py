"""Measure what users feel: latencies at a fixed rate, a gather, joins, and what idle players cost.

    python bench/service_levels.py [--scenarios gather,idle] [--contenders ringback.aio,nats] [--rounds N]
        [--seconds S] [--rates 1000,5000] [--idle-players N] [--idle-seconds S] [--uvloop] [--json FILE]
        [--check]

Service level indicators are the figures of a service that its users notice. Each is measured with
ringback.aio and with NATS, in turns, in one run, with the same work. Each result of a call is checked.
Processor time is that of each process, as the kernel counts it. Quote ratios: the speed of a shared machine
drifts, for all contenders alike.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import crowd
import handshakes
from options import OneLineParser, seconds, some_of, whole_number, whole_numbers
from processes import allow_many_connections, memory_mib, start_endpoint, use_uvloop
from run import CONTENDERS, Journal, Rows, against, missing, start_broker, start_processes
from run import Scenario as Calls

from ringback_cli.load_processes import measure_calls

OPEN_LOOP_PLAYERS = 200
MOST_IN_FLIGHT = 1024
"""How many calls of an open loop may be in flight."""

GATHER_PLAYERS, GATHER_PROCESSES, GATHER_TIMES = 1000, 10, 20
JOINS, JOINING_AT_ONCE = 1000, 32
JOIN_WAYS = {"ringback.aio": "plain", "ringback.aio CURVE": "CURVE", "nats": "nats"}
IDLE_ROUNDS = 2
"""A round of idle players takes minutes."""

Results = dict[tuple[str, int], dict[str, Rows]]
"""The rows by scenario and rate, and then by contender. The rate is 0 if the scenario has none."""


class Column(NamedTuple):
    """A figure in a table.

    Attributes:
        over: what is shown of the figures of all rounds.
    """

    head: str
    key: str
    digits: int = 0
    over: Callable[[Iterable[float]], float] = statistics.median


class Goal(NamedTuple):
    """A bound on a figure of ringback.aio against that of another contender.

    Attributes:
        rate: the rate that it is about; 0 if the scenario has none.
        bound: the most that the ratio may be, or the difference.
        difference: whether the bound is on the difference.
    """

    scenario: str
    rate: int
    key: str
    words: str
    other: str
    bound: float
    difference: bool = False


class Verdict(NamedTuple):
    """What was measured for a goal."""

    scenario: str
    figure: str
    wanted: str
    measured: str
    reached: bool


class Scenario(NamedTuple):
    """What is measured.

    Attributes:
        measure: a function that yields the figures of one contender in one round, with "rate" if there
            are several.
        compared: the columns with ratios against a contender: head, key and contender.
    """

    text: str
    contenders: tuple[str, ...]
    measure: Callable[[str, argparse.Namespace], Iterator[dict[str, Any]]]
    columns: tuple[Column, ...]
    compared: tuple[tuple[str, str, str], ...]
    most_rounds: int | None = None


def open_loop(calls: Calls, contender: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    with ExitStack() as stack:
        processes = start_processes(stack, contender, calls, "open_loop")
        caller = processes[calls.caller]
        for rate in options.rates:
            asked = {"rate": rate, "seconds": options.seconds, "in_flight": MOST_IN_FLIGHT}
            figures = measure_calls(caller, processes, **asked)
            for name in ("late", "held"):
                figures[f"{name}_percent"] = 100 * figures.pop(name) / figures["calls"]
            yield {"rate": rate, **figures}


def gather(contender: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    calls = Calls("", "server", GATHER_PLAYERS, ())
    with ExitStack() as stack:
        processes = start_processes(stack, contender, calls, "gather", GATHER_PROCESSES)
        figures = measure_calls(processes["server"], processes, times=GATHER_TIMES, players=GATHER_PLAYERS)
        shares = [figures.pop(f"cpu_{name}_us") for name in processes if name.startswith("players")]
        yield {**figures, "cpu_players_us": sum(shares)}


def joins(contender: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    yield handshakes.measure(JOIN_WAYS[contender], JOINS, JOINING_AT_ONCE)


def idle(contender: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    with ExitStack() as stack:
        broker, players, backend, _ = start_broker(stack, contender)
        assert broker is not None
        start_endpoint(stack, CONTENDERS[contender], "server", backend, calls=False)
        empty_mib = memory_mib(broker)
        processes = crowd.start_crowd(stack, contender, players, range(options.idle_players))
        share, mib = crowd.idle(broker, options.idle_seconds), memory_mib(broker)
        yield {
            "players": options.idle_players,
            "broker_mib": mib,
            "kib_a_player": 1024 * (mib - empty_mib) / options.idle_players,
            "idle_percent": share,
            "lost": crowd.count_lost(processes),
        }


BOTH = ("ringback.aio", "nats")
CPU = tuple(Column(f"{role} CPU us", f"cpu_{role}_us", 1) for role in ("broker", "server", "players"))
OPEN_LOOP = (
    Column("offered/s", "rate"),
    Column("achieved/s", "calls_per_s"),
    Column("p50 us", "p50_us"),
    Column("p99 us", "p99_us"),
    Column("p99.9 us", "p999_us"),
    Column("late %", "late_percent", 1),
    Column("held %", "held_percent", 1),
    Column("without result", "without_result", over=max),
    *CPU,
)
P99 = (("p99 against NATS", "p99_us", "nats"),)
SCENARIOS = {
    "open-loop-down": Scenario(
        f"the server calls {OPEN_LOOP_PLAYERS} players in turn, at a fixed rate",
        BOTH,
        partial(open_loop, Calls("", "server", OPEN_LOOP_PLAYERS, ())),
        OPEN_LOOP,
        P99,
    ),
    "open-loop-up": Scenario(
        f"{OPEN_LOOP_PLAYERS} players call the server in turn, at a fixed rate",
        BOTH,
        partial(open_loop, Calls("", "players", OPEN_LOOP_PLAYERS, ())),
        OPEN_LOOP,
        P99,
    ),
    "gather": Scenario(
        f"the server calls {GATHER_PLAYERS:,} players in {GATHER_PROCESSES} processes, and waits for all",
        BOTH,
        gather,
        (Column("median ms", "median_ms", 1), Column("worst ms", "worst_ms", 1, max), *CPU),
        (("time against NATS", "median_ms", "nats"),),
    ),
    "joins": Scenario(
        f"players join and leave, {JOINING_AT_ONCE} at once",
        tuple(JOIN_WAYS),
        joins,
        (Column("joins/s", "joins_per_s"), Column("broker CPU us a join", "cpu_broker_us")),
        (("rate against NATS", "joins_per_s", "nats"),),
    ),
    "idle": Scenario(
        "players that are connected and make no calls",
        ("ringback.aio", "proxy", "nats"),
        idle,
        (
            Column("players", "players"),
            Column("broker MiB", "broker_mib"),
            Column("KiB a player", "kib_a_player", 1),
            Column("broker CPU %", "idle_percent", 1),
            Column("down at the end", "lost", over=max),
        ),
        (),
        IDLE_ROUNDS,
    ),
}
GOALS = (
    Goal("open-loop-down", 5000, "p99_us", "p99", "nats", 0.8),
    Goal("open-loop-up", 5000, "p99_us", "p99", "nats", 0.8),
    Goal("gather", 0, "median_ms", "time", "nats", 0.5),
    Goal("idle", 0, "idle_percent", "broker CPU, % of a core", "proxy", 3.0, difference=True),
)
"""The project's own goals."""


def by_situation(rows: Iterable[dict[str, Any]]) -> Results:
    """Sort rows with "scenario" and "contender" into results."""
    results: Results = {}
    for row in rows:
        where = results.setdefault((row["scenario"], row.get("rate", 0)), {})
        where.setdefault(row["contender"], []).append(
            {key: value for key, value in row.items() if key not in ("scenario", "contender")}
        )
    return results


def table(name: str, results: Results) -> list[list[str]]:
    """Return the cells of the table of one scenario, with its heads in the first line."""
    scenario = SCENARIOS[name]
    lines = [["", *(column.head for column in scenario.columns), *(head for head, *_ in scenario.compared)]]
    for (found, _), contenders in results.items():
        for contender, rows in contenders.items() if found == name else ():
            cells = [
                f"{column.over([row[column.key] for row in rows]):.{column.digits}f}"
                for column in scenario.columns
            ]
            for _, key, other in scenario.compared:
                ratio = f"{against(rows, contenders[other], key)[0]:.2f}" if other in contenders else "-"
                cells.append(ratio)
            lines.append([contender, *cells])
    return lines


def judge(results: Results) -> list[Verdict]:
    """Return a verdict on each goal that was measured."""
    verdicts = []
    for goal in GOALS:
        contenders = results.get((goal.scenario, goal.rate), {})
        if "ringback.aio" not in contenders or goal.other not in contenders:
            continue
        ours, theirs = contenders["ringback.aio"], contenders[goal.other]
        if goal.difference:
            pairs = zip(ours, theirs, strict=True)
            found = statistics.median(row[goal.key] - other[goal.key] for row, other in pairs)
            wanted, measured = f"at most {goal.bound:g} more than {goal.other}", f"{found:.1f}"
        else:
            [found] = against(ours, theirs, goal.key)
            wanted, measured = f"at most {goal.bound:g} times {goal.other}", f"{found:.2f}"
        where = f"{goal.scenario}, {goal.rate:,}/s" if goal.rate else goal.scenario
        verdicts.append(Verdict(where, goal.words, wanted, measured, found <= goal.bound))
    return verdicts


def show(lines: Sequence[Sequence[str]]) -> None:
    """Print a table with aligned columns."""
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    for first, *others in lines:
        cells = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))
        print("  ".join([f"{first:{widths[0]}}", *cells]), flush=True)


def arguments() -> argparse.Namespace:
    parser = OneLineParser(description=__doc__.splitlines()[0])
    names = dict.fromkeys(name for scenario in SCENARIOS.values() for name in scenario.contenders)
    parser.add_argument("--scenarios", type=some_of(SCENARIOS), default=list(SCENARIOS))
    parser.add_argument("--contenders", type=some_of(names), default=list(names))
    parser.add_argument("--rounds", type=whole_number, default=5)
    parser.add_argument(
        "--seconds", type=seconds, default=3.0, help="seconds for each measurement of an open loop"
    )
    parser.add_argument(
        "--rates", type=whole_numbers, default=[1000, 5000, 10_000], help="calls per second of the open loops"
    )
    parser.add_argument("--idle-players", type=whole_number, default=10_000)
    parser.add_argument(
        "--idle-seconds", type=seconds, default=20.0, help="seconds to watch the broker of idle players"
    )
    parser.add_argument("--uvloop", action="store_true", help="use uvloop in all endpoints")
    parser.add_argument("--json", type=Path, help="append each measurement to this file, one per line")
    parser.add_argument("--check", action="store_true", help="end with exit code 1 if a goal is missed")
    options = parser.parse_args()
    if options.uvloop and importlib.util.find_spec("uvloop") is None:
        parser.error("--uvloop: uvloop is not installed")
    return options


def in_turns(options: argparse.Namespace, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Measure each contender in each round of each scenario. Print the table of each scenario."""
    for scenario_name in options.scenarios:
        scenario = SCENARIOS[scenario_name]
        rounds = min(options.rounds, scenario.most_rounds or options.rounds)
        measured = []
        for number in range(rounds):
            for contender in scenario.contenders:
                for figures in scenario.measure(contender, options) if contender in names else ():
                    row = {"scenario": scenario_name, "contender": contender, "round": number, **figures}
                    measured.append(row)
                    yield row
        print(f"\n{scenario_name}: {scenario.text}; medians of {rounds} rounds")
        show(table(scenario_name, by_situation(measured)))


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # and so stop the processes
    options = arguments()
    use_uvloop(options.uvloop)
    allow_many_connections()
    names = []
    for name in options.contenders:
        if what := missing(name):
            print(f"{name} is not measured: {what} is not installed")
        else:
            names.append(name)
    journal = Journal(options.json) if options.json else None
    print(f"{os.cpu_count()} cores; load {os.getloadavg()[0]:.1f} when this began", flush=True)
    rows = []
    for row in in_turns(options, names):
        rows.append(row)
        if journal is not None:
            journal.add(**row, uvloop=options.uvloop)
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")
    missed = []
    for verdict in judge(by_situation(rows)):
        line = f"{verdict.scenario}: {verdict.figure} {verdict.measured}, {verdict.wanted}"
        print(f"{line}: {'reached' if verdict.reached else 'missed'}")
        if not verdict.reached:
            missed.append(line)
    if options.check and missed:
        sys.exit(f"missed: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
