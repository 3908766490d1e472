"""Redis: a list for each side, in which others put calls and answers."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import ExitStack
from itertools import count
from typing import Any

import msgpack
from processes import free_port, program, start_program
from redis.asyncio import Redis

from contenders import Middle
from ringback_cli.load import KEY, AsyncioEnd, Work, player_id
from ringback_cli.measuring import line_of

NOTE = """redis-server that writes nothing to disk, redis-py with hiredis. Each side has a list, and blocks
in BLMPOP on it, up to 100 messages at a time; answers go to the caller's list, with the number of the
call. What is to be sent at one moment goes in one RPUSH for each list, for several lists in a pipeline:
with a command for each message it is several times slower. Two connections for each side, msgpack. No time
limits, no presence."""
PROGRAM = "redis-server"
MOST_AT_ONCE = 100


def start_broker(stack: ExitStack) -> Middle:
    port = str(free_port())
    volatile = ("--save", "", "--appendonly", "no")
    server = start_program(stack, str(program(PROGRAM)), "--bind", "127.0.0.1", "--port", port, *volatile)
    line_of(server, "Ready to accept connections")
    address = f"redis://127.0.0.1:{port}"
    return Middle(server, address, address)


class Box:
    """One side's list: what comes there is answered, or is an answer."""

    def __init__(self, address: str, name: str, work: Work) -> None:
        self.name = name
        self.redis = Redis.from_url(address, socket_timeout=None)
        self.handlers = {KEY: work.handle}
        self.numbers = count()
        self.pending: dict[int, asyncio.Future[Any]] = {}
        self.outgoing: dict[str, list[bytes]] = defaultdict(list)
        self.something_to_send = asyncio.Event()
        self.tasks = [asyncio.create_task(self.read()), asyncio.create_task(self.write())]

    async def call(self, name: str, payload: Any) -> Any:
        number = next(self.numbers)
        future = self.pending[number] = asyncio.get_running_loop().create_future()
        self.send(name, (number, self.name, KEY, payload))
        return await future

    def send(self, name: str, message: tuple[Any, ...]) -> None:
        self.outgoing[name].append(msgpack.packb(message))
        self.something_to_send.set()

    async def write(self) -> None:
        while True:
            await self.something_to_send.wait()
            self.something_to_send.clear()
            outgoing, self.outgoing = self.outgoing, defaultdict(list)
            if len(outgoing) == 1:
                [(name, messages)] = outgoing.items()
                await self.redis.rpush(name, *messages)
            else:
                await self.push_all(outgoing)

    async def push_all(self, outgoing: dict[str, list[bytes]]) -> None:
        async with self.redis.pipeline(transaction=False) as pipeline:
            for name, messages in outgoing.items():
                pipeline.rpush(name, *messages)
            await pipeline.execute()

    async def read(self) -> None:
        while True:
            popped = await self.redis.blmpop(0, 1, self.name, direction="LEFT", count=MOST_AT_ONCE)
            for message in popped[1]:
                number, *rest = msgpack.unpackb(message)
                if len(rest) == 1:
                    self.pending.pop(number).set_result(rest[0])
                else:
                    source, key, payload = rest
                    self.send(source, (number, self.handlers[key](payload)))


class Server(AsyncioEnd):
    async def connect(self) -> None:
        self.box = Box(self.address, "server", self.work)

    async def call(self, player: int, payload: Any) -> Any:
        return await self.box.call(player_id(player), payload)


class Players(AsyncioEnd):
    async def connect(self) -> None:
        self.boxes = [Box(self.address, player_id(player), self.work) for player in range(self.players)]

    async def call(self, player: int, payload: Any) -> Any:
        return await self.boxes[player].call("server", payload)
