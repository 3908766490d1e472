"""Redis with batches written by hand: what is to be sent at one moment goes in one command."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import msgpack

from contenders import redis_lists
from contenders.redis_lists import PROGRAM, Box, start_broker
from ringback_cli.load import Work

NOTE = """As redis, but a task of its own sends what has come together meanwhile: one RPUSH for each list, for
several lists in a pipeline. Nobody writes this at first; it shows what joining messages is worth."""

__all__ = ["NOTE", "PROGRAM", "Players", "Server", "start_broker"]


class BatchedBox(Box):
    """One side's list, and what waits to be sent."""

    def __init__(self, address: str, name: str, work: Work) -> None:
        super().__init__(address, name, work)
        self.outgoing: dict[str, list[bytes]] = defaultdict(list)
        self.something_to_send = asyncio.Event()
        self.tasks.add(asyncio.create_task(self.write()))

    async def send(self, name: str, message: tuple[Any, ...]) -> None:
        self.answer(name, message)

    def answer(self, name: str, message: tuple[Any, ...]) -> None:
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
                continue
            async with self.redis.pipeline(transaction=False) as pipeline:
                for name, messages in outgoing.items():
                    pipeline.rpush(name, *messages)
                await pipeline.execute()


class Server(redis_lists.Server):
    box_class = BatchedBox


class Players(redis_lists.Players):
    box_class = BatchedBox
