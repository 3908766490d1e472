"""Redis with batches written by hand: messages that are ready at one moment leave in one command."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import msgpack

from contenders import redis_lists
from contenders.redis_lists import PROGRAM, Box, start_broker
from ringback_cli.load import Work

NOTE = """As redis, but a task sends together the messages that have come: one RPUSH for each list, in a
pipeline for several lists. Nobody writes this at first. It shows what joining messages gains."""

__all__ = ["NOTE", "PROGRAM", "Players", "Server", "start_broker"]


class BatchedBox(Box):
    """One side's list, and the messages that wait to be sent."""

    def __init__(self, address: str, name: str, work: Work) -> None:
        super().__init__(address, name, work)
        self.outgoing: dict[str, list[bytes]] = defaultdict(list)
        self.something_to_send = asyncio.Event()
        self.tasks.add(asyncio.create_task(self.write()))

    async def send(self, name: str, message: tuple[Any, ...]) -> None:
        self.reply(name, message)

    def reply(self, name: str, message: tuple[Any, ...]) -> None:
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
