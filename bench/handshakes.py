"""Measure how many players can join in a second, plain and with CURVE, and what each costs the broker.

    python bench/handshakes.py [--joins 2000] [--at-once 32]

A join is a new connection, the handshake, HELLO and WELCOME, and BYE. The players are
`ringback.aio.Player`, all in one process. They share the machine's cores with the broker.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from processes import make_keys, start, start_broker

from ringback_cli.load_processes import cpu_s, line_of, send_line


async def joins(address: str, count: int, at_once: int) -> None:
    """Have players join and leave, and print how long that took."""
    from ringback.aio import Player

    folder = os.environ.get("BENCH_KEYS")
    key_file = None if folder is None else f"{folder}/player.key"
    numbers = iter(range(count))

    async def worker(first: bool) -> None:
        for _ in numbers:
            # With a key file all are the same player: each takes the place of the one before.
            player = Player(address, None, key_file=key_file, connect_timeout=60)
            await player.start()
            await player.close()
            if first:
                return

    await worker(True)  # the first player imports modules
    print("START", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    begun_at = time.perf_counter()
    await asyncio.gather(*(worker(False) for _ in range(at_once)))
    print(json.dumps({"elapsed_s": time.perf_counter() - begun_at}), flush=True)
    sys.stdin.readline()


def measure(count: int, at_once: int, curve: bool) -> tuple[float, float]:
    """Return the joins per second, and the broker's processor time for one join, in microseconds."""
    with ExitStack() as stack:
        options, keys = (), {}
        if curve:
            folder = stack.enter_context(TemporaryDirectory())
            options, keys = make_keys(Path(folder), 7), {"BENCH_KEYS": folder}
        broker, players, _ = start_broker(stack, "--ip-handshakes", "1e6", *options)
        crowd = start(stack, __file__, "--join", players, "--joins", str(count), environment=keys)
        line_of(crowd, "START")
        before = cpu_s(broker)
        send_line(crowd)
        elapsed_s = json.loads(line_of(crowd, r"^\{.*\}$")[0])["elapsed_s"]
        spent_s = cpu_s(broker) - before
        send_line(crowd)
    return count / elapsed_s, 1e6 * spent_s / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--joins", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=32)
    parser.add_argument("--join", metavar="ADDRESS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.join:
        asyncio.run(joins(options.join, options.joins, options.at_once))
        return
    print(f"{'':8}{'joins/s':>10}{'broker CPU us each':>22}")
    for name, curve in (("plain", False), ("CURVE", True)):
        rate, cost_us = measure(options.joins, options.at_once, curve)
        print(f"{name:8}{rate:>10.0f}{cost_us:>22.0f}")


if __name__ == "__main__":
    main()
