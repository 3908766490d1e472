"""Measure what idle players cost the broker: memory, processor time, and the cost of a call beside them.

    python bench/crowd.py [--players 10000] [--seconds 20] [--heartbeat 1.0]

The players are `ringback.aio.Player` with their heartbeats, a few thousand in each process. One more player
makes the calls, as in run.py. The processor time is the broker's alone. The time for a call is without the
time that the idle broker takes. Values are medians of five rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import sys
import time
from contextlib import ExitStack
from statistics import median
from subprocess import Popen

from processes import memory_mib, start, start_broker, start_endpoint

from ringback_cli.load_processes import cpu_s, line_of, measure_calls, send_line

PLAYERS_A_PROCESS = 2500
"""Each player takes four descriptors in its process. Many systems allow 20,000 for a process."""

JOINING_AT_ONCE = 50

ROUNDS = 5


async def crowd(address: str, count: int, heartbeat: float) -> None:
    """Run the players of one process, until a line comes on standard input."""
    from ringback.aio import Player

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    players = [
        Player(address, f"{os.getpid()}-{n}", connect_timeout=60, heartbeat=heartbeat) for n in range(count)
    ]
    for first in range(0, count, JOINING_AT_ONCE):
        await asyncio.gather(*(player.start() for player in players[first : first + JOINING_AT_ONCE]))
    print("JOINED", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    lost = sum(not player.connected for player in players)
    print(json.dumps({"lost": lost}), flush=True)
    sys.stdin.readline()


def idle(broker: Popen[str], seconds: float) -> float:
    """Return the share of a core that an idle broker takes, in percent."""
    before, since = cpu_s(broker), time.monotonic()
    time.sleep(seconds)
    return 100 * (cpu_s(broker) - before) / (time.monotonic() - since)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--players", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds to watch the idle broker")
    parser.add_argument(
        "--heartbeat", type=float, default=1.0, help="interval of the players' heartbeats, in seconds"
    )
    parser.add_argument("--crowd", nargs=2, metavar=("ADDRESS", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.crowd:
        asyncio.run(crowd(options.crowd[0], int(options.crowd[1]), options.heartbeat))
        return
    head = f"{'players':>8}{'broker MiB':>12}{'KiB each':>10}{'idle %':>8}"
    print(f"{head}   one more player, calls in flight: p50 us, broker CPU us a call")
    with ExitStack() as stack:
        broker, players, backend = start_broker(stack)
        start_endpoint(stack, "ringback_aio", "server", backend, calls=False)
        empty_mib = memory_mib(broker)
        processes: list[Popen[str]] = []
        joined = 0
        for count in sorted({10, min(1000, options.players), options.players}):
            while joined < count:
                some = min(PLAYERS_A_PROCESS, count - joined)
                heartbeat = f"--heartbeat={options.heartbeat}"
                processes.append(start(stack, __file__, heartbeat, "--crowd", players, str(some)))
                line_of(processes[-1], "JOINED")
                joined += some
            share, mib = idle(broker, options.seconds), memory_mib(broker)
            cells = []
            with ExitStack() as caller_stack:
                caller = start_endpoint(caller_stack, "ringback_aio", "players", players, calls=True)
                for in_flight in (1, 64):
                    rounds = [
                        measure_calls(caller, {"broker": broker}, in_flight=in_flight, seconds=1.0)
                        for _ in range(ROUNDS)
                    ]
                    p50_us = median(figures["p50_us"] for figures in rounds)
                    # Without the time that the broker takes when it is idle.
                    own_us = median(
                        figures["cpu_broker_us"] - 1e4 * share / figures["calls_per_s"] for figures in rounds
                    )
                    cells.append(f"{in_flight}: {p50_us:.0f}, {own_us:.1f}")
            each = 1024 * (mib - empty_mib) / joined
            print(f"{joined:>8}{mib:>12.1f}{each:>10.1f}{share:>8.1f}   {'; '.join(cells)}", flush=True)
        lost = 0
        for process in processes:
            send_line(process)
            lost += json.loads(line_of(process, r"^\{.*\}$")[0])["lost"]
        print(f"players that lost their link meanwhile: {lost}")


if __name__ == "__main__":
    main()
