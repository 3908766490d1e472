"""NATS: nats-server as the broker, and the request and reply of nats-py."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any

import msgpack
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from processes import program, start_program

from contenders import Middle
from ringback_cli.load import KEY, AsyncioEnd, Work, player_id
from ringback_cli.load_processes import line_of

NOTE = """nats-server (Go) and nats-py with its defaults: `request`, and `subscribe` with a function that
responds. A connection and a subject for each player, msgpack. A request fails if nobody has subscribed, and
it has a time limit. No presence. nats-server uses several cores."""
PROGRAM = "nats-server"
TIMEOUT_S = 30.0


def start_broker(stack: ExitStack) -> Middle:
    server = start_program(stack, str(program(PROGRAM)), "-a", "127.0.0.1", "-p", "-1")
    port = line_of(server, r"Listening for client connections on 127\.0\.0\.1:(\d+)")[1]
    line_of(server, "Server is ready")
    address = f"nats://127.0.0.1:{port}"
    return Middle(server, address, address)


async def joined(address: str, name: str, work: Work, **options: Any) -> Client:
    """Return a connection that replies to calls to this name."""
    link = await nats.connect(address, **options)

    async def reply(message: Msg) -> None:
        await message.respond(msgpack.packb(work.handle(msgpack.unpackb(message.data))))

    await link.subscribe(f"{name}.{KEY}", cb=reply)
    await link.flush()  # until nats-server has the subscription
    return link


async def request(link: Client, name: str, packed: bytes) -> Any:
    message = await link.request(f"{name}.{KEY}", packed, timeout=TIMEOUT_S)
    return msgpack.unpackb(message.data)


class Server(AsyncioEnd):
    async def connect(self) -> None:
        self.link = await joined(self.address, "server", self.work)

    async def call(self, player: int, payload: Any) -> Any:
        return await request(self.link, player_id(player), msgpack.packb(payload))

    async def gather(self, payload: Any) -> list[Any]:
        packed = msgpack.packb(payload)
        numbers = range(self.players)
        return await asyncio.gather(*(request(self.link, player_id(number), packed) for number in numbers))


class Players(AsyncioEnd):
    async def connect(self) -> None:
        names = [player_id(player) for player in range(self.first, self.first + self.players)]
        self.links = await asyncio.gather(*(joined(self.address, name, self.work) for name in names))

    async def call(self, player: int, payload: Any) -> Any:
        return await request(self.links[player], "server", msgpack.packb(payload))
