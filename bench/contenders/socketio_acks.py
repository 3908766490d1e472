"""Socket.IO: events with acknowledgements. Players connect to the server."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any

import socketio
from aiohttp import web
from processes import free_port

from contenders import Middle
from ringback_cli.load import KEY, AsyncioEnd, player_id

NOTE = """python-socketio: AsyncServer on aiohttp, and AsyncClient. WebSocket only, events with `call`, and
the acknowledgement as the reply. Its serializer is "msgpack": JSON, its default, takes a little longer, and
half as long again for large payloads. No broker: one hop less each way. It has presence and time limits."""
MOST_BYTES = 4 * 1024 * 1024


def start_broker(stack: ExitStack) -> Middle:
    address = f"http://127.0.0.1:{free_port()}"
    return Middle(None, address, address)


class Server(AsyncioEnd):
    async def connect(self) -> None:
        self.sids: dict[str, str] = {}
        self.server = socketio.AsyncServer(
            async_mode="aiohttp",
            transports=["websocket"],
            serializer="msgpack",
            max_http_buffer_size=MOST_BYTES,
        )
        self.server.on("connect", self.joined)
        self.server.on(KEY, self.handle)
        app = web.Application()
        self.server.attach(app)
        runner = web.AppRunner(app)
        await runner.setup()
        host, port = self.address.removeprefix("http://").split(":")
        await web.TCPSite(runner, host, int(port)).start()

    async def joined(self, sid: str, environ: dict[str, Any], auth: dict[str, str]) -> None:
        self.sids[auth["id"]] = sid

    async def handle(self, sid: str, payload: Any) -> Any:
        return self.work.handle(payload)

    async def call(self, player: int, payload: Any) -> Any:
        return await self.server.call(KEY, payload, to=self.sids[player_id(player)])


class Players(AsyncioEnd):
    async def connect(self) -> None:
        names = [player_id(player) for player in range(self.players)]
        self.clients = await asyncio.gather(*map(self.joined, names))

    async def joined(self, name: str) -> socketio.AsyncClient:
        client = socketio.AsyncClient(serializer="msgpack")
        client.on(KEY, self.handle)
        await client.connect(self.address, transports=["websocket"], auth={"id": name})
        return client

    async def handle(self, payload: Any) -> Any:
        return self.work.handle(payload)

    async def call(self, player: int, payload: Any) -> Any:
        return await self.clients[player].call(KEY, payload)
