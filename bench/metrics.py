"""Measure what counting calls and reporting the counts costs: processor time a call, with and without it.

    python bench/metrics.py [--rounds 11] [--seconds 2]

Without: the broker wants no reports and serves no HTTP. With: reports each second, as is the default, and
`/metrics`, which is fetched each second. Both are measured in turns, with 64 calls in flight. The processor
time is the sum of all processes.
"""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import median

from contenders.ringback_aio import ANY_RATE
from options import OneLineParser, seconds, whole_number
from processes import free_port, start_broker, start_endpoint
from run import SCENARIOS, Scenario

from ringback_cli.load_processes import measure_calls

IN_FLIGHT = 64
SCRAPE_S = 1.0


@contextmanager
def scraped(url: str) -> Iterator[None]:
    """Fetch the metrics each second while the block runs, as Prometheus does."""
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(SCRAPE_S):
            with urllib.request.urlopen(url, timeout=10) as response:
                assert b"ringback_calls_total{" in response.read()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def cpu_us(scenario: Scenario, seconds: float, counted: bool) -> float:
    """Return the processor time of one call, in microseconds."""
    with ExitStack() as stack:
        port = free_port()
        options = ("--http", f"127.0.0.1:{port}") if counted else ("--report", "0")
        broker, players, backend = start_broker(stack, *ANY_RATE, *options)
        processes = {"broker": broker}
        for role, address in (("server", backend), ("players", players)):
            processes[role] = start_endpoint(
                stack, "ringback_aio", role, address, calls=role == scenario.caller, players=scenario.players
            )
        caller = processes[scenario.caller]
        measure_calls(caller, processes, IN_FLIGHT, 1.5 * SCRAPE_S)  # until there are metrics to fetch
        if counted:
            stack.enter_context(scraped(f"http://127.0.0.1:{port}/metrics"))
        figures = measure_calls(caller, processes, IN_FLIGHT, seconds)
    return float(sum(figures[f"cpu_{role}_us"] for role in processes))


def main() -> None:
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=whole_number, default=11)
    parser.add_argument("--seconds", type=seconds, default=2.0, help="seconds for each measurement")
    options = parser.parse_args()
    for name in ("up", "down", "down-100"):
        scenario = SCENARIOS[name]
        pairs = []
        for number in range(options.rounds):
            order = (False, True) if number % 2 else (True, False)
            found = {counted: cpu_us(scenario, options.seconds, counted) for counted in order}
            pairs.append((found[False], found[True]))
        without, counted = (median(pair[index] for pair in pairs) for index in (0, 1))
        ratio = median(counted / without for without, counted in pairs)
        print(f"{name:10} {scenario.text}: {without:.1f} us without, {counted:.1f} us with, x{ratio:.3f}")


if __name__ == "__main__":
    main()
