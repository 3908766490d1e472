"""Measure what the dashboard costs the broker: while nobody looks, and while people look at many players.

    python bench/dashboard.py [--players 5000] [--seconds 20]

The players are idle `ringback.aio.Player`, as in crowd.py. Each page asks once a second for the state and for
a page of players, as the real page does. The pages sort and filter in different ways, so that the broker's
side must make a list for each. The processor time is the broker's alone, with its HTTP thread, as a share of
one core. The calls are made by one more player, one at a time.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import ExitStack
from statistics import median
from urllib.request import urlopen

from crowd import count_lost, idle, start_crowd
from options import OneLineParser, seconds, whole_number
from processes import allow_many_connections, line_of, memory_mib, start, start_endpoint

from ringback_cli.load_processes import measure_calls

COLUMNS = ("player", "connected_s", "callbacks", "calls", "errors", "rtt_ms", "heard_s", "window_percent")
ROUNDS = 5
FREE_PORTS = ("--players", "tcp://127.0.0.1:0", "--backend", "tcp://127.0.0.1:0")


class Pages(threading.Thread):
    """Pages that ask until they are stopped."""

    def __init__(self, url: str, count: int) -> None:
        super().__init__(daemon=True)
        self.took_ms: list[float] = []
        self._paths = [
            f"/api/players?sort={COLUMNS[number % len(COLUMNS)]}&match={number // len(COLUMNS) or ''}"
            for number in range(count)
        ]
        self._url = url
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(1.0):
            for path in self._paths:
                for asked in ("/api/state", path):
                    begun_at = time.monotonic()
                    with urlopen(self._url + asked, timeout=30) as response:
                        json.load(response)
                    self.took_ms.append(1000 * (time.monotonic() - begun_at))

    def stop(self) -> None:
        self._over.set()
        self.join()


def measure(players: int, seconds: float, pages: int | None) -> None:
    """Print one row. `pages` is how many pages are open; None: there is no dashboard."""
    options = ("--http", "127.0.0.1:0", *(() if pages is None else ("--dashboard",)))
    with ExitStack() as stack:
        broker = start(stack, "-m", "ringback_cli", "broker", *FREE_PORTS, *options)
        found = line_of(broker, r"ready players=(\S+) backend=(\S+) http=(\S+)")
        frontend, backend, url = found.groups()
        start_endpoint(stack, "ringback_aio", "server", backend, calls=False)
        crowd = start_crowd(stack, "ringback.aio", frontend, range(players))
        looking = Pages(url, pages or 0)
        looking.start()
        time.sleep(5)  # the first lists are there, and the joins are over: they are not what is measured
        share = idle(broker, seconds)
        caller = start_endpoint(stack, "ringback_aio", "players", frontend, calls=True)
        rounds = [measure_calls(caller, {"broker": broker}, in_flight=1, seconds=1.0) for _ in range(ROUNDS)]
        p50_us, p99_us = (median(figures[name] for figures in rounds) for name in ("p50_us", "p99_us"))
        looking.stop()
        lost = count_lost(crowd)
        assert not lost, f"{lost} players lost their link"
        what = "no dashboard" if pages is None else f"{pages} pages"
        row = f"{players:>8}{what:>14}{share:>9.2f}{memory_mib(broker):>9.1f}{p50_us:>10.0f}{p99_us:>10.0f}"
        took = sorted(looking.took_ms)
        if took:
            row += f"{median(took):>12.1f}{took[int(0.99 * len(took))]:>12.1f}"
        print(row, flush=True)


def main() -> None:
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument("--players", type=whole_number, default=5000)
    parser.add_argument("--seconds", type=seconds, default=20.0, help="seconds to watch the broker")
    options = parser.parse_args()
    allow_many_connections()
    head = f"{'players':>8}{'':>14}{'core %':>9}{'MiB':>9}{'call p50':>10}{'p99 us':>10}"
    print(f"{head}{'answer p50':>12}{'p99 ms':>12}")
    for players in (5, options.players):
        for pages in (None, 0, 1, 10):
            measure(players, options.seconds, pages)


if __name__ == "__main__":
    main()
