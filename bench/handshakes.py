"""Measure how many players can join in a second, plain and with CURVE, and what each costs the broker.

    python bench/handshakes.py [--joins 2000] [--at-once 32]

A join is a new connection, the handshake, HELLO and WELCOME, and BYE. The players are
`ringback.aio.Player`, all in one process. They share the machine's cores with the broker.

service_levels.py compares this with NATS. There, a join is a connection, its INFO and CONNECT, a
subscription, a PING that waits for its PONG, and the end of the connection.
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
from subprocess import Popen
from tempfile import TemporaryDirectory

from options import OneLineParser, whole_number
from processes import make_keys, start, start_broker, use_chosen_loop

from ringback_cli.load import Work, player_id
from ringback_cli.load_processes import cpu_s, line_of, send_line

WAYS = ("plain", "CURVE", "nats")


async def join(way: str, address: str, number: int) -> None:
    """Have a player join and leave."""
    if way == "nats":
        from contenders.nats_requests import joined

        link = await joined(address, player_id(number), Work())
        await link.close()
        return
    from ringback.aio import Player

    # With a key file all are the same player: each takes the place of the one before.
    key_file = f"{os.environ['BENCH_KEYS']}/player.key" if way == "CURVE" else None
    player = Player(address, None, key_file=key_file, connect_timeout=60)
    await player.start()
    await player.close()


async def joins(way: str, address: str, count: int, at_once: int) -> None:
    """Have players join and leave, and print how long that took."""
    numbers = iter(range(count))

    async def worker(first: bool) -> None:
        for number in numbers:
            await join(way, address, number)
            if first:
                return

    await worker(True)  # the first player imports modules
    print("START", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    begun_at = time.perf_counter()
    await asyncio.gather(*(worker(False) for _ in range(at_once)))
    print(json.dumps({"elapsed_s": time.perf_counter() - begun_at}), flush=True)
    sys.stdin.readline()


def start_broker_for(stack: ExitStack, way: str) -> tuple[Popen[str], str, dict[str, str]]:
    """Start a broker. Return it with its address for players, and the environment of the players."""
    if way == "nats":
        from contenders import nats_requests

        broker, players, *_ = nats_requests.start_broker(stack)
        assert broker is not None
        return broker, players, {}
    options: tuple[str, ...] = ("--ip-handshakes", "1e6")
    keys = {}
    if way == "CURVE":
        folder = stack.enter_context(TemporaryDirectory())
        options, keys = (*options, *make_keys(Path(folder), 7)), {"BENCH_KEYS": folder}
    broker, players, _ = start_broker(stack, *options)
    return broker, players, keys


def measure(way: str, count: int, at_once: int) -> dict[str, float]:
    """Return the joins per second, and the broker's processor time for one join, in microseconds."""
    with ExitStack() as stack:
        broker, players, keys = start_broker_for(stack, way)
        arguments = ("--join", way, players, "--joins", str(count), "--at-once", str(at_once))
        crowd = start(stack, __file__, *arguments, environment=keys)
        line_of(crowd, "START")
        before = cpu_s(broker)
        send_line(crowd)
        elapsed_s = json.loads(line_of(crowd, r"^\{.*\}$")[0])["elapsed_s"]
        spent_s = cpu_s(broker) - before
        send_line(crowd)
    return {"joins_per_s": (count - 1) / elapsed_s, "cpu_broker_us": 1e6 * spent_s / (count - 1)}


def main() -> None:
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument("--joins", type=whole_number, default=2000)
    parser.add_argument("--at-once", type=whole_number, default=32)
    parser.add_argument("--join", nargs=2, metavar=("WAY", "ADDRESS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.join:
        use_chosen_loop()
        asyncio.run(joins(*options.join, options.joins, options.at_once))
        return
    print(f"{'':8}{'joins/s':>10}{'broker CPU us each':>22}")
    for way in WAYS[:2]:
        found = measure(way, options.joins, options.at_once)
        print(f"{way:8}{found['joins_per_s']:>10.0f}{found['cpu_broker_us']:>22.0f}")


if __name__ == "__main__":
    main()
