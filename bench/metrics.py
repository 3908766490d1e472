"""What counting calls and telling of them costs: processor time a call, with and without, in turns.

    python bench/metrics.py [--rounds 11] [--seconds 2]

Without: the broker wants no reports and serves no HTTP. With: reports each second, as is the default, and
`/metrics`, which is fetched each second. 64 calls in flight; all processes together.
"""

from __future__ import annotations

import argparse
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import median

from contenders.ringback_aio import ANY_RATE
from processes import free_port, start_broker, start_endpoint
from run import SCENARIOS, Scenario

from ringback_cli.load_processes import measure_calls

IN_FLIGHT = 64
SCRAPE_S = 1.0


@contextmanager
def scraped(url: str) -> Iterator[None]:
    """Has metrics fetched again and again, as Prometheus does."""
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(SCRAPE_S):
            with urllib.request.urlopen(url, timeout=10) as answer:
                assert b"ringback_calls_total{" in answer.read()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def cpu_us(scenario: Scenario, seconds: float, counted: bool) -> float:
    """Gives the processor time of one call, in microseconds."""
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
        measure_calls(caller, processes, IN_FLIGHT, 1.5 * SCRAPE_S)  # until there is something to fetch
        if counted:
            stack.enter_context(scraped(f"http://127.0.0.1:{port}/metrics"))
        figures = measure_calls(caller, processes, IN_FLIGHT, seconds)
    return float(sum(figures[f"cpu_{role}_us"] for role in processes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    wanted = parser.parse_args()
    for name in ("up", "down", "down-100"):
        scenario = SCENARIOS[name]
        pairs = []
        for number in range(wanted.rounds):
            order = (False, True) if number % 2 else (True, False)
            found = {counted: cpu_us(scenario, wanted.seconds, counted) for counted in order}
            pairs.append((found[False], found[True]))
        without, counted = (median(pair[index] for pair in pairs) for index in (0, 1))
        ratio = median(counted / without for without, counted in pairs)
        print(f"{name:10} {scenario.text}: {without:.1f} us without, {counted:.1f} us with, x{ratio:.3f}")


if __name__ == "__main__":
    main()
