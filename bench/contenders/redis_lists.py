"""Redis: a list for each side. Others append their calls and replies to it."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from itertools import count
from typing import Any

import msgpack
from processes import free_port, program, start_program
from redis.asyncio import BlockingConnectionPool, Redis

from contenders import Middle
from ringback_cli.load import KEY, AsyncioEnd, Work, player_id
from ringback_cli.load_processes import line_of

NOTE = """redis-server that stores nothing on disk, redis-py with hiredis and its BlockingConnectionPool.
Each side has a list, and reads it with BLMPOP, up to 100 messages at a time. A call or a reply is an RPUSH to
the other side's list, which is awaited, as redis-py's documentation shows it. msgpack. No time limits, no
presence."""
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
    """One side's list: calls to handle come there, and replies to its own calls."""

    def __init__(self, address: str, name: str, work: Work) -> None:
        self.name = name
        # The default pool raises an error when all its connections are in use. This one waits for one.
        pool = BlockingConnectionPool.from_url(address, timeout=None, socket_timeout=None)
        self.redis = Redis(connection_pool=pool)
        self.handlers = {KEY: work.handle}
        self.numbers = count()
        self.pending: dict[int, asyncio.Future[Any]] = {}
        self.tasks = {asyncio.create_task(self.read())}

    async def call(self, name: str, payload: Any) -> Any:
        number = next(self.numbers)
        future = self.pending[number] = asyncio.get_running_loop().create_future()
        await self.send(name, (number, self.name, KEY, payload))
        return await future

    async def send(self, name: str, message: tuple[Any, ...]) -> None:
        await self.redis.rpush(name, msgpack.packb(message))

    async def read(self) -> None:
        while True:
            popped = await self.redis.blmpop(0, 1, self.name, direction="LEFT", count=MOST_AT_ONCE)
            for message in popped[1]:
                number, *rest = msgpack.unpackb(message)
                if len(rest) == 1:
                    self.pending.pop(number).set_result(rest[0])
                else:
                    source, key, payload = rest
                    self.reply(source, (number, self.handlers[key](payload)))

    def reply(self, name: str, message: tuple[Any, ...]) -> None:
        task = asyncio.create_task(self.send(name, message))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


class Server(AsyncioEnd):
    box_class = Box

    async def connect(self) -> None:
        self.box = self.box_class(self.address, "server", self.work)

    async def call(self, player: int, payload: Any) -> Any:
        return await self.box.call(player_id(player), payload)


class Players(AsyncioEnd):
    box_class = Box

    async def connect(self) -> None:
        names = map(player_id, range(self.players))
        self.boxes = [self.box_class(self.address, name, self.work) for name in names]

    async def call(self, player: int, payload: Any) -> Any:
        return await self.boxes[player].call("server", payload)
