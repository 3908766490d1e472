"""Measure what one bad player does to the others: their latencies with it and without it, in turns.

    python bench/neighbours.py [--rounds 3] [--seconds 4]

Twenty players call the server, a few hundred calls a second in all. There are four situations. The twenty are
alone. Or the server sends 400 calls of 64 KiB a second to one more player, which reads them, or which has
stopped reading. Or one more player sends calls as fast as it can, and the broker allows a player 500 frames a
second. That player's process has the lowest priority: in practice it runs on another machine, so here it must
not take the processor from the others.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import statistics
import sys
import time
from contextlib import ExitStack, suppress
from typing import Any

from options import OneLineParser, seconds, whole_number
from processes import memory_mib, start, start_broker

from ringback_cli.load_processes import cpu_s, line_of

PLAYERS = 20
CALLS_A_SECOND = 10
"""How many calls each player makes in a second."""

BULK = bytes(64 * 1024)
BULK_CALLS_A_SECOND = 400
FLOODED_FRAMES_PER_S = 500
SITUATIONS = {
    "alone": None,
    "a player that reads much": "reader",
    "a player that does not read": "deaf",
    "a player that floods": "flood",
}


async def server(address: str) -> None:
    """Serve "echo", and keep sending to the player "bulk" while it is there."""
    from ringback.aio import Server

    async with Server(address) as endpoint:
        endpoint.register_server_callback("echo", lambda source, payload: payload)

        async def feed() -> None:
            while "bulk" in endpoint.players:
                for _ in range(BULK_CALLS_A_SECOND // 20):
                    endpoint.trigger_client_callback("x", "bulk", BULK, on_error=lambda error: None)
                await asyncio.sleep(1 / 20)

        @endpoint.on_player_joined
        async def joined(player_id: int | str) -> None:
            if player_id == "bulk":
                await feed()

        print("ready", flush=True)
        await asyncio.Event().wait()


async def honest(address: str, seconds: float) -> None:
    """Run twenty players in one process, each with calls at its pace. Print the latencies in ms."""
    from ringback.aio import Player

    latencies: list[float] = []

    async def play(number: int) -> None:
        async with Player(address, f"honest-{number}") as player:
            player.register_client_callback("echo", lambda payload: payload)
            ends_at = time.monotonic() + seconds
            at = time.monotonic() + number / PLAYERS / CALLS_A_SECOND
            while at < ends_at:
                await asyncio.sleep(max(0.0, at - time.monotonic()))
                started = time.monotonic()
                await player.trigger_server_callback("echo", number)
                latencies.append(1000 * (time.monotonic() - started))
                at += 1 / CALLS_A_SECOND

    await asyncio.gather(*(play(number) for number in range(PLAYERS)))
    print(json.dumps(sorted(latencies)), flush=True)


async def reader(address: str) -> None:
    """Run a player that reads and handles what it is sent."""
    from ringback.aio import Player

    async with Player(address, "bulk") as player:
        player.register_client_callback("x", lambda payload: len(payload))
        print("ready", flush=True)
        await asyncio.Event().wait()


def deaf(address: str) -> None:
    """Join as a player, and never read again."""
    import zmq

    from ringback.protocol.control import Hello, encode
    from ringback.protocol.frames import Role

    context: zmq.Context[Any] = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.ROUTING_ID, secrets.token_bytes(16))
    socket.setsockopt(zmq.RCVHWM, 1)
    socket.connect(address)
    socket.send(encode(Hello(Role.PLAYER, "bulk")))
    socket.poll(30_000)
    print("ready", flush=True)
    sys.stdin.readline()


def flood(address: str) -> None:
    """Send frames of one call each as fast as the socket takes them. Join again after each REJECT."""
    import msgpack
    import zmq

    from ringback.protocol.control import Hello, encode
    from ringback.protocol.envelopes import CALL
    from ringback.protocol.frames import FrameType, Role, header

    os.nice(19)
    context: zmq.Context[Any] = zmq.Context()
    call = header(FrameType.DATA) + msgpack.packb([[CALL, 1, "echo", None, 1000]])
    ready = False
    while True:
        socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.ROUTING_ID, secrets.token_bytes(16))
        # From an IP of its own, so that the broker does not shut out its neighbours with it.
        socket.connect(address.replace("tcp://", "tcp://127.0.0.2:0;"))
        socket.send(encode(Hello(Role.PLAYER)))
        socket.poll(30_000)
        if not ready:
            print("ready", flush=True)
            ready = True
        while True:
            for _ in range(100):
                with suppress(zmq.Again):
                    socket.send(call, zmq.NOBLOCK)
            received = []
            with suppress(zmq.Again):
                while True:
                    received.append(socket.recv(zmq.NOBLOCK))
            if any(frame[1] == FrameType.REJECT for frame in received):
                break
        socket.close()


ROLES: dict[str, Any] = {
    "server": server,
    "honest": honest,
    "reader": reader,
    "deaf": deaf,
    "flood": flood,
}


def measure(situation: str, seconds: float) -> dict[str, float]:
    """Return the latencies of the honest players in ms, and the memory and processor time of the broker."""
    with ExitStack() as stack:
        broker, players, backend = start_broker(stack, f"--player-frames={FLOODED_FRAMES_PER_S}")
        line_of(start(stack, __file__, "--role", "server", backend), "ready")
        role = SITUATIONS[situation]
        if role is not None:
            line_of(start(stack, __file__, "--role", role, players), "ready")
        before, since = cpu_s(broker), time.monotonic()
        watched = start(stack, __file__, "--role", "honest", players, str(seconds))
        latencies = json.loads(line_of(watched, r"^\[.*\]$")[0])
        share = 100 * (cpu_s(broker) - before) / (time.monotonic() - since)
        return {
            "calls": len(latencies),
            "p50": latencies[len(latencies) // 2],
            "p99": latencies[len(latencies) * 99 // 100],
            "worst": latencies[-1],
            "broker_mib": memory_mib(broker),
            "broker_cpu": share,
        }


def main() -> None:
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=whole_number, default=3)
    parser.add_argument("--seconds", type=seconds, default=4.0)
    parser.add_argument("--role", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        role, address, *rest = options.role
        result = ROLES[role](address, *map(float, rest))
        if result is not None:
            asyncio.run(result)
        return
    rounds: dict[str, list[dict[str, float]]] = {situation: [] for situation in SITUATIONS}
    for _ in range(options.rounds):
        for situation in SITUATIONS:
            rounds[situation].append(measure(situation, options.seconds))
    print(f"{'':30}{'p50 ms':>8}{'p99 ms':>8}{'worst':>8}{'broker MiB':>12}{'CPU %':>7}   p99 against alone")
    for situation, figures in rounds.items():
        median = {key: statistics.median(one[key] for one in figures) for key in figures[0]}
        pairs = zip(figures, rounds["alone"], strict=True)
        ratio = statistics.median(ours["p99"] / alone["p99"] for ours, alone in pairs)
        print(
            f"{situation:30}{median['p50']:>8.2f}{median['p99']:>8.2f}{median['worst']:>8.1f}"
            f"{median['broker_mib']:>12.1f}{median['broker_cpu']:>7.1f}   x{ratio:.2f}"
        )


if __name__ == "__main__":
    main()
