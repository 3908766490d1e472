"""Measure what idle players cost the broker: memory, processor time, and the cost of a call beside them.

    python bench/crowd.py [--players 10000] [--seconds 20] [--heartbeat 1.0]

The players are `ringback.aio.Player` with their heartbeats, a few thousand in each process. One more player
makes the calls, as in run.py. The processor time is the broker's alone. The time for a call is without the
time that the idle broker takes. Values are medians of five rounds.

service_levels.py compares this with sockets of libzmq that send the same heartbeats to a bare `zmq.proxy`,
and with connections of nats-py that send as many pings.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import ExitStack
from statistics import median
from subprocess import Popen
from typing import Any

from options import OneLineParser, seconds, whole_number
from processes import (
    allow_many_connections,
    memory_mib,
    start,
    start_broker,
    start_endpoint,
    use_chosen_loop,
)

from ringback.protocol.limits import PLAYER_HEARTBEAT_S
from ringback_broker.settings.schema import BrokerSettings
from ringback_cli.load import Work
from ringback_cli.load_processes import cpu_s, line_of, measure_calls, send_line

PLAYERS_A_PROCESS = 2500
"""Each player takes four descriptors in its process. Many systems allow 20,000 for a process."""

JOINING_AT_ONCE = 50
JOIN_S = 60.0

ROUNDS = 5

Lost = Callable[[], int]
"""A function that counts the players that have lost their link."""


def heartbeat_s(number: int, heartbeat: float) -> float:
    """Return how often a player may send heartbeats: the broker lets the first ones do so frequently."""
    settings = BrokerSettings()
    return heartbeat if number < settings.crowd else max(heartbeat, settings.crowd_heartbeat)


async def join_ringback(address: str, numbers: range, heartbeat: float) -> Lost:
    """Have players of ringback.aio join."""
    from ringback.aio import Player

    players = [
        Player(address, f"crowd-{number}", connect_timeout=JOIN_S, heartbeat=heartbeat) for number in numbers
    ]
    await some_at_a_time(players, Player.start)
    return lambda: sum(not player.connected for player in players)


async def join_proxy(address: str, numbers: range, heartbeat: float) -> Lost:
    """Connect sockets with the options of a player's, and with nothing around them."""
    from ringback._runtime.link import Link

    links = [Link(address, False, int(1000 * heartbeat_s(number, heartbeat))) for number in numbers]
    for link in links:
        while not link.answered:
            loss = link.lost()
            if loss is not None or not (link.answered or link.monitor.poll(1000 * JOIN_S)):
                sys.exit(f"a socket could not connect: {loss.why if loss else 'no answer in time'}")
    return lambda: sum(link.lost() is not None for link in links)


async def join_nats(address: str, numbers: range, heartbeat: float) -> Lost:
    """Connect clients of nats-py, which ping as often."""
    from contenders.nats_requests import Client, joined

    links: list[Client] = []

    async def join(number: int) -> None:
        interval_s = heartbeat_s(number, heartbeat)
        links.append(await joined(address, f"crowd-{number}", Work(), ping_interval=interval_s))

    await some_at_a_time(numbers, join)
    return lambda: sum(not link.is_connected for link in links)


JOIN: dict[str, Callable[[str, range, float], Coroutine[Any, Any, Lost]]] = {
    "ringback.aio": join_ringback,
    "proxy": join_proxy,
    "nats": join_nats,
}
"""How the players of a contender join."""


async def some_at_a_time(items: Iterable[Any], function: Callable[[Any], Coroutine[Any, Any, Any]]) -> None:
    """Run a function for each item, for so many at once as may join at once."""
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await function(item)

    await asyncio.gather(*(worker() for _ in range(JOINING_AT_ONCE)))


async def crowd(contender: str, address: str, numbers: range, heartbeat: float) -> None:
    """Run the players of one process, until a line comes on standard input."""
    lost = await JOIN[contender](address, numbers, heartbeat)
    print("JOINED", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    print(json.dumps({"lost": lost()}), flush=True)
    sys.stdin.readline()


def start_crowd(
    stack: ExitStack, contender: str, address: str, numbers: range, heartbeat: float = PLAYER_HEARTBEAT_S
) -> list[Popen[str]]:
    """Start processes with idle players of a contender, and wait until all have joined."""
    processes = []
    for first in range(numbers.start, numbers.stop, PLAYERS_A_PROCESS):
        end = min(first + PLAYERS_A_PROCESS, numbers.stop)
        arguments = (f"--heartbeat={heartbeat}", "--crowd", contender, address, str(first), str(end))
        processes.append(start(stack, __file__, *arguments))
        line_of(processes[-1], "JOINED")
    return processes


def count_lost(processes: list[Popen[str]]) -> int:
    """Return how many players have lost their link."""
    lost = 0
    for process in processes:
        send_line(process)
        lost += json.loads(line_of(process, r"^\{.*\}$")[0])["lost"]
    return lost


def idle(broker: Popen[str], seconds: float) -> float:
    """Return the share of a core that an idle broker takes, in percent."""
    before, since = cpu_s(broker), time.monotonic()
    time.sleep(seconds)
    return 100 * (cpu_s(broker) - before) / (time.monotonic() - since)


def main() -> None:
    parser = OneLineParser(description=__doc__.splitlines()[0])
    parser.add_argument("--players", type=whole_number, default=10_000)
    parser.add_argument("--seconds", type=seconds, default=20.0, help="seconds to watch the idle broker")
    parser.add_argument(
        "--heartbeat",
        type=seconds,
        default=PLAYER_HEARTBEAT_S,
        help="interval of the players' heartbeats, in seconds",
    )
    parser.add_argument(
        "--crowd", nargs=4, metavar=("CONTENDER", "ADDRESS", "FIRST", "END"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    allow_many_connections()
    if options.crowd:
        use_chosen_loop()
        contender, address, first, end = options.crowd
        asyncio.run(crowd(contender, address, range(int(first), int(end)), options.heartbeat))
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
            processes += start_crowd(stack, "ringback.aio", players, range(joined, count), options.heartbeat)
            joined = count
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
        print(f"players that lost their link meanwhile: {count_lost(processes)}")


if __name__ == "__main__":
    main()
