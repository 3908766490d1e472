"""Let players come and go for a long time, and check that nothing grows.

    python bench/soak.py [--minutes 60] [--plot soak.png] [--json soak.jsonl]

There are a broker, a server and two processes of players. The players join, call and are called, and leave,
some with a BYE and some without, a few hundred in a minute. In the first half the broker is killed and
started again a few times. In the second half it runs on. Each second this program notes what each process
uses: memory, descriptors and threads from /proc, and tasks and table entries, which the process itself
prints. The verdict is about the second half: nothing may grow.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import defaultdict
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from options import OneLineParser
from processes import BROKER, memory_mib, start

from ringback_cli.load_processes import line_of

PLAYERS_A_PROCESS = 40
CHURNING_PROCESSES = 2
PACE_S = 0.1
LONGEST_LIFE_S = 30.0
RESTARTS = 6
GROWTH_MIB = 2.0
"""How much the memory of a process may grow in the second half. An allocator takes memory in large steps."""

MEASURES = ("memory_mib", "descriptors", "threads", "tasks", "entries")


# -- the processes of the crowd


def entries_of(endpoint: Any) -> int:
    """Return how many entries the tables of an endpoint have."""
    load = endpoint._endpoint.load()
    return int(load.peers + load.calls + load.executions)


async def print_figures(endpoints: list[Any]) -> None:
    """Print each second the figures that only the process itself knows."""
    while True:
        figures = {"tasks": len(asyncio.all_tasks()), "entries": sum(map(entries_of, endpoints))}
        figures["calls"] = sum(endpoint.counters.calls for endpoint in endpoints)
        print(json.dumps(figures), flush=True)
        await asyncio.sleep(1.0)


async def ended(call: Any) -> None:
    """Wait until a call has ended, with results or with an error."""
    from ringback import CallbackError

    with suppress(CallbackError):
        await call


def reply(payload: Any, cb: Any) -> None:
    """Reply to nine calls of ten. The tenth gets no reply."""
    if payload["number"] % 10:
        cb(payload["number"], payload["fill"])


def payload_of(number: int) -> dict[str, Any]:
    return {"number": number, "fill": bytes(number % 7000)}


async def server(address: str) -> None:
    from ringback.aio import Server

    async with Server(address) as endpoint:
        endpoint.register_server_callback("soak", lambda source, payload, cb: reply(payload, cb))
        printing = asyncio.create_task(print_figures([endpoint]))
        number = 0
        while True:
            number += 1
            players = endpoint.players
            if players:
                to, payload = random.choice(players), payload_of(number)
                await ended(endpoint.trigger_client_callback("soak", to, payload, timeout=0.5))
            await asyncio.sleep(PACE_S / 10)
            assert not printing.done()


async def churn(address: str, seed: int) -> None:
    from ringback import LinkError
    from ringback.aio import Player

    rng = random.Random(seed)
    living: list[Any] = []

    async def lives(place: int) -> None:
        for turn in range(1 << 62):
            player = Player(address, f"{seed}-{place}-{turn}")
            player.register_client_callback("soak", reply)
            try:
                await player.start()
            except LinkError:
                continue
            living.append(player)
            ends_at = time.monotonic() + rng.uniform(0.1, LONGEST_LIFE_S)
            number = 0
            while time.monotonic() < ends_at:
                number += 1
                payload = payload_of(rng.randrange(10_000))
                await ended(player.trigger_server_callback("soak", payload, timeout=0.5))
                await asyncio.sleep(rng.uniform(0, 2 * PACE_S))
            living.remove(player)
            if rng.random() < 0.3:
                player._shell.close_link()  # without a BYE
            await player.close()

    await asyncio.gather(print_figures(living), *(lives(place) for place in range(PLAYERS_A_PROCESS)))


# -- the process that measures


class Measured:
    """A process, and the figures that it printed last."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self.name = name
        self.process = process
        self.printed: dict[str, int] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                self.printed = json.loads(line)
            elif "Traceback" in line or "Error" in line:
                print(f"{self.name}: {line}", end="", file=sys.stderr)

    def figures(self) -> dict[str, float]:
        if self.process.poll() is not None:
            sys.exit(f"{self.name} has ended with {self.process.returncode}")
        folder = Path(f"/proc/{self.process.pid}")
        threads = re.search(r"Threads:\s+(\d+)", (folder / "status").read_text())
        assert threads is not None
        return {
            "memory_mib": memory_mib(self.process),
            "descriptors": len(list((folder / "fd").iterdir())),
            "threads": int(threads[1]),
            **self.printed,
        }


def slope(points: list[tuple[float, float]]) -> float:
    """Return the growth per second, by least squares."""
    count = len(points)
    mean_t, mean_v = (sum(point[axis] for point in points) / count for axis in (0, 1))
    spread = sum((t - mean_t) ** 2 for t, _ in points)
    return sum((t - mean_t) * (v - mean_v) for t, v in points) / spread if spread else 0.0


def verdict(rows: list[dict[str, Any]], half_s: float, end_s: float) -> bool:
    """Print how each measure changed in the second half, and return whether nothing grew."""
    series: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        for measure in MEASURES:
            if measure in row and row["t"] >= half_s:
                series[row["who"], measure].append((row["t"], row[measure]))
    sound = True
    print(f"{'second half':12}{'':14}{'median':>9}{'most':>9}{'grew by':>10}")
    for (who, measure), points in series.items():
        values = sorted(value for _, value in points)
        grew = slope(points) * (end_s - half_s)
        allowed = GROWTH_MIB if measure == "memory_mib" else max(2.0, 0.1 * values[len(values) // 2])
        sound &= grew <= allowed
        mark = "" if grew <= allowed else "  GROWS"
        print(f"{who:12}{measure:14}{values[len(values) // 2]:>9.1f}{values[-1]:>9.1f}{grew:>10.2f}{mark}")
    return sound


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(MEASURES), 1, sharex=True, figsize=(9, 12))
    for axis, measure in zip(axes, MEASURES, strict=True):
        for number, who in enumerate(dict.fromkeys(row["who"] for row in rows)):
            points = [(row["t"] / 60, row[measure]) for row in rows if row["who"] == who and measure in row]
            if points:
                axis.plot(*zip(*points, strict=True), label=who, color=f"C{number}", linewidth=1)
        axis.set_ylabel(measure.replace("_", " "))
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize="small", ncols=4)
    axes[-1].set_xlabel("minutes")
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def run(minutes: float, rows: list[dict[str, Any]]) -> None:
    # With its defaults, glibc keeps freed memory and touches more and more of it: resident memory grew for
    # half an hour while the memory in use (mallinfo2) did not. These settings prevent that, so that growth
    # means a leak.
    os.environ.update({"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "131072"})
    length_s = 60 * minutes
    kills = [length_s / 2 * (number + 1) / (RESTARTS + 1) for number in range(RESTARTS)]
    with ExitStack() as stack:
        process = start(stack, *BROKER)
        players, backend = line_of(process, r"ready players=(\S+) backend=(\S+)").groups()
        broker = Measured("broker", process)
        crowd = [Measured("server", start(stack, __file__, "--role", "server", backend))]
        for seed in range(1, CHURNING_PROCESSES + 1):
            process = start(stack, __file__, "--role", "churn", players, str(seed))
            crowd.append(Measured(f"players {seed}", process))
        began = time.monotonic()
        while (t := time.monotonic() - began) < length_s:
            if kills and t >= kills[0]:
                kills.pop(0)
                broker.process.kill()
                broker.process.wait()
                process = start(stack, *BROKER[:3], f"--players={players}", f"--backend={backend}")
                line_of(process, "ready players")
                broker = Measured("broker", process)
            rows.extend({"t": t, "who": one.name, **one.figures()} for one in (broker, *crowd))
            time.sleep(1.0)


def main() -> None:
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--plot", type=Path, help="draw all figures into this PNG file")
    parser.add_argument(
        "--json", type=Path, help="write all figures to this file, a line per process and second"
    )
    parser.add_argument("--role", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        role, address, *seed = options.role
        asyncio.run(server(address) if role == "server" else churn(address, int(seed[0])))
        return
    rows: list[dict[str, Any]] = []
    try:
        run(options.minutes, rows)
    finally:
        if options.json:
            options.json.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if options.plot:
        plot(rows, options.plot)
    calls = sum({row["who"]: row.get("calls", 0) for row in rows}.values())
    print(
        f"{options.minutes:g} minutes, {calls} calls by processes that live at the end, {RESTARTS} restarts"
    )
    sound = verdict(rows, 30 * options.minutes + 30, 60 * options.minutes)
    print("nothing grows" if sound else "something grows")
    sys.exit(not sound)


if __name__ == "__main__":
    main()
