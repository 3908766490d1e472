"""Measure calls between two nodes of a realm, beside calls within one node and beside nats-py alone.

    python bench/realm.py [--rounds 5] [--seconds 1] [--scenarios up,down] [--in-flight 1,64] [--uvloop]
        [--json FILE] [--check]

All three use the same nats-server, in turns, in one run. Between two nodes ("crossing"), the server is at
one node and the players are at the other one. Within one node ("local"), both are at the same one. nats-py
alone ("nats") makes requests, as in run.py. Processor time is that of each process, as the kernel counts it.
Quote ratios: the speed of a shared machine drifts, for all three alike.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen
from typing import Any, NamedTuple

from options import OneLineParser, seconds, some_of, whole_number, whole_numbers
from processes import start_endpoint, use_uvloop
from realm_processes import make_realm, start_nats, start_node, wait_for_calls
from run import SCENARIOS, Journal, Rows, Scenario, against, medians

from ringback_cli.load_processes import measure_calls

ANY_RATE = ("--player-bytes", "inf", "--player-frames", "inf")
WAYS = ("local", "crossing", "nats")
MEASURED = {
    **{name: SCENARIOS[name] for name in ("up", "down", "down-100")},
    "up-100": Scenario("100 players call the server in turn", "players", 100, (64, 512)),
}
BROKERS = ("a", "b")


class Goal(NamedTuple):
    """A bound on calls between two nodes.

    Attributes:
        scenarios, in_flight: what it is about.
        figure: which figure.
        other: the way that it is compared with; "": the figure itself is bounded.
        at_most: whether the ratio, or the figure, should be at most `bound`, rather than at least.
    """

    scenarios: tuple[str, ...]
    in_flight: tuple[int, ...]
    figure: str
    other: str
    bound: float
    at_most: bool


ONE = "up", "down"
GOALS = (
    Goal((*ONE, "down-100", "up-100"), (64, 512), "calls_per_s", "nats", 1.0, at_most=False),
    Goal(ONE, (1,), "p50_us", "local", 3.0, at_most=True),
    Goal(ONE, (64,), "brokers_us", "", 15.0, at_most=True),
)
"""The project's own goals."""

WORDS = {"calls_per_s": "rate", "p50_us": "p50", "brokers_us": "CPU of both brokers, us a call"}


def measure(
    way: str, scenario: Scenario, in_flight: tuple[int, ...], seconds: float, options: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """Start all processes of one way, and yield the figures for each number of calls in flight."""
    with ExitStack() as stack:
        nats, address = start_nats(stack)
        processes: dict[str, Popen[str]] = {"nats": nats}
        at = {"server": address, "players": address}
        if way != "nats":
            make_realm(address)
            names = BROKERS if way == "crossing" else BROKERS[:1]
            nodes = {name: start_node(stack, address, name, *ANY_RATE, *options) for name in names}
            processes |= {name: node.process for name, node in nodes.items()}
            at = {"server": nodes["a"].backend, "players": nodes[names[-1]].players}
        contender = "nats_requests" if way == "nats" else "ringback_aio"
        callee = "server" if scenario.caller == "players" else "players"
        for role in (callee, scenario.caller):
            if way != "nats" and role == "players" == scenario.caller:
                wait_for_calls(at["players"])
            processes[role] = start_endpoint(
                stack, contender, role, at[role], calls=role == scenario.caller, players=scenario.players
            )
        for number in in_flight:
            figures = measure_calls(processes[scenario.caller], processes, in_flight=number, seconds=seconds)
            figures["brokers_us"] = sum(figures.get(f"cpu_{name}_us", 0.0) for name in BROKERS)
            figures["cpu_us"] = sum(figures[f"cpu_{name}_us"] for name in processes)
            yield {"in_flight": number, **figures}


def table(scenario: Scenario, in_flight: int, results: dict[str, Rows]) -> None:
    rounds = max(map(len, results.values()))
    print(f"\n{scenario.text}, {in_flight} in flight, medians of {rounds} rounds")
    print(
        f"{'':10}{'calls/s':>9}{'p50 us':>9}{'p99 us':>9}   CPU us a call:"
        f"{'brokers':>9}{'nats':>8}{'server':>8}{'players':>9}{'all':>8}"
        "   rate against nats, p50 against local"
    )
    for way, rows in results.items():
        median = medians(rows)
        shares = f"{median['brokers_us']:>9.1f}{median['cpu_nats_us']:>8.1f}"
        shares += f"{median['cpu_server_us']:>8.1f}{median['cpu_players_us']:>9.1f}{median['cpu_us']:>8.1f}"
        line = f"{way:10}{median['calls_per_s']:>9.0f}{median['p50_us']:>9.0f}{median['p99_us']:>9.0f}"
        line += f"{'':17}{shares}"
        for other, figure in (("nats", "calls_per_s"), ("local", "p50_us")):
            if other in results:
                line += f"   x{against(rows, results[other], figure)[0]:.2f}"
        print(line, flush=True)


def judge(results: dict[tuple[str, int], dict[str, Rows]]) -> list[str]:
    """Print whether each goal is reached. Return a text for each that is not."""
    missed = []
    print()
    for (scenario, in_flight), ways in results.items():
        for goal in GOALS:
            if scenario not in goal.scenarios or in_flight not in goal.in_flight:
                continue
            if not {"crossing", goal.other or "crossing"} <= ways.keys():
                continue
            rows = ways["crossing"]
            found = medians(rows)[goal.figure]
            if goal.other:
                [found] = against(rows, ways[goal.other], goal.figure)
            reached = found <= goal.bound if goal.at_most else found >= goal.bound
            wanted = f"{'at most' if goal.at_most else 'at least'} {goal.bound:g}"
            wanted += f" times {goal.other}" if goal.other else ""
            line = f"{scenario}, {in_flight} in flight: {WORDS[goal.figure]} {found:.2f}, {wanted}"
            print(f"{line}: {'reached' if reached else 'missed'}")
            if not reached:
                missed.append(line)
    return missed


def arguments() -> argparse.Namespace:
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=whole_number, default=5)
    parser.add_argument("--seconds", type=seconds, default=1.0, help="seconds for each measurement")
    parser.add_argument("--scenarios", type=some_of(MEASURED), default=list(MEASURED))
    parser.add_argument("--ways", type=some_of(WAYS), default=list(WAYS))
    parser.add_argument(
        "--in-flight", type=whole_numbers, default=[], help="numbers of calls in flight, for all scenarios"
    )
    parser.add_argument("--options", default="", help="options for the brokers, with spaces between")
    parser.add_argument("--uvloop", action="store_true", help="use uvloop in all endpoints")
    parser.add_argument("--json", type=Path, help="append each measurement to this file, one per line")
    parser.add_argument("--check", action="store_true", help="end with exit code 1 if a goal is missed")
    return parser.parse_args()


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # and so stop the processes
    options = arguments()
    use_uvloop(options.uvloop)
    journal = Journal(options.json) if options.json else None
    results: dict[tuple[str, int], dict[str, Rows]] = {}
    print(f"{os.cpu_count()} cores; load {os.getloadavg()[0]:.1f} when this began")
    for name in options.scenarios:
        scenario = MEASURED[name]
        in_flight = tuple(options.in_flight) or scenario.in_flight
        for number in range(options.rounds):
            for way in options.ways:
                for row in measure(way, scenario, in_flight, options.seconds, tuple(options.options.split())):
                    results.setdefault((name, row["in_flight"]), {}).setdefault(way, []).append(row)
                    if journal is not None:
                        journal.add(scenario=name, way=way, round=number, seconds=options.seconds, **row)
        for calls in in_flight:
            table(scenario, calls, results[name, calls])
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")
    missed = judge(results)
    if options.check and missed:
        sys.exit(f"missed: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
