"""gRPC: a unary call up, and calls down on a stream that each player opens. Players connect to the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from itertools import count
from typing import Any

import grpc
import msgpack
from processes import free_port

from contenders import Middle
from ringback_cli.load import KEY, AsyncioEnd, player_id

NOTE = """grpc.aio with msgpack instead of protobuf, so that no code is generated. A call up is a unary call.
gRPC has no calls down. So each player opens a stream: the server sends numbered calls on it, and the player
replies. Each player has a channel with a connection of its own. No broker: one hop less each way. Unary calls
may have deadlines. The calls on the stream are written by hand, without."""
SERVICE = "bench"
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


def start_broker(stack: ExitStack) -> Middle:
    address = f"127.0.0.1:{free_port()}"
    return Middle(None, address, address)


class Stream:
    """The server's end of a player's stream: calls to send, and calls that wait for their replies."""

    def __init__(self) -> None:
        self.numbers = count()
        self.pending: dict[int, asyncio.Future[Any]] = {}
        self.outgoing: asyncio.Queue[tuple[int, str, Any]] = asyncio.Queue()

    async def call(self, payload: Any) -> Any:
        number = next(self.numbers)
        future = self.pending[number] = asyncio.get_running_loop().create_future()
        self.outgoing.put_nowait((number, KEY, payload))
        return await future

    async def read(self, replies: AsyncIterator[list[Any]]) -> None:
        async for number, result in replies:
            self.pending.pop(number).set_result(result)


class Server(AsyncioEnd):
    async def connect(self) -> None:
        self.streams: dict[str, Stream] = {}
        coders = {"request_deserializer": msgpack.unpackb, "response_serializer": msgpack.packb}
        methods = {
            KEY: grpc.unary_unary_rpc_method_handler(self.up, **coders),
            "Down": grpc.stream_stream_rpc_method_handler(self.down, **coders),
        }
        self.server = grpc.aio.server()
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        self.server.add_insecure_port(self.address)
        await self.server.start()

    async def up(self, payload: Any, context: grpc.aio.ServicerContext) -> Any:
        return self.work.handle(payload)

    async def down(
        self, replies: AsyncIterator[list[Any]], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[tuple[int, str, Any]]:
        stream = Stream()
        self.streams[dict(context.invocation_metadata())["id"]] = stream
        await context.send_initial_metadata(())  # the player waits for it: the server can call it now
        reading = asyncio.create_task(stream.read(replies))
        try:
            while True:
                yield await stream.outgoing.get()
        finally:
            reading.cancel()

    async def call(self, player: int, payload: Any) -> Any:
        return await self.streams[player_id(player)].call(payload)


class Players(AsyncioEnd):
    async def connect(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []
        self.up: list[grpc.aio.UnaryUnaryMultiCallable] = []
        for player in range(self.players):
            channel = grpc.aio.insecure_channel(self.address, options=OWN_CONNECTION)
            coders = {"request_serializer": msgpack.packb, "response_deserializer": msgpack.unpackb}
            self.up.append(channel.unary_unary(f"/{SERVICE}/{KEY}", **coders))
            down = channel.stream_stream(f"/{SERVICE}/Down", **coders)
            calls = down(metadata=(("id", player_id(player)),))
            await calls.initial_metadata()
            self.tasks.append(asyncio.create_task(self.reply(calls)))

    async def reply(self, calls: grpc.aio.StreamStreamCall) -> None:
        handlers = {KEY: self.work.handle}
        while (call := await calls.read()) is not grpc.aio.EOF:
            number, key, payload = call
            await calls.write((number, handlers[key](payload)))

    async def call(self, player: int, payload: Any) -> Any:
        return await self.up[player](payload)
