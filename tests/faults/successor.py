"""A server that stands by, acts, and hands over when a line comes on standard input.

    python successor.py blocking|asyncio BACKEND NAME

While it acts, it calls all players all the time. At its end it prints what became of its calls, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import Any

import ringback
import ringback.aio
from ringback import CallbackError

AT_ONCE = 4
"""How many calls to players are in flight at a time."""


class Calls:
    """What became of the calls of this server."""

    def __init__(self) -> None:
        self.succeeded = 0
        self.failed: list[str] = []

    def show(self) -> None:
        print(json.dumps({"succeeded": self.succeeded, "failed": self.failed}), flush=True)


def serve_blocking(address: str, name: str) -> None:
    from concurrent.futures import ThreadPoolExecutor
    from threading import Event

    calls, retires = Calls(), Event()
    server = ringback.Server(address, standby=True, workers=32, connect_timeout=30)

    @server.register_server_callback("up")
    def up(source: Any, payload: Any) -> Any:
        time.sleep(0.05 * random.random())
        return [name, server.trigger_client_callback("down", source, payload).result()]

    @server.register_server_callback("slow")
    def slow(source: Any, payload: Any) -> None:
        time.sleep(payload)

    def call_players() -> None:
        while not retires.is_set():
            for player_id in server.players:
                try:
                    assert server.trigger_client_callback("down", player_id, name).result() == name
                    calls.succeeded += 1
                except CallbackError as error:
                    calls.failed.append(f"{error} {error.executed}")

    with ThreadPoolExecutor(AT_ONCE) as threads, server:
        loads: list[Any] = []

        @server.on_acting
        def acts(acting: bool) -> None:
            if acting:
                loads.extend(threads.submit(call_players) for _ in range(AT_ONCE))
                print("acts", flush=True)

        if server.acting and not loads:
            acts(True)
        print("ready", flush=True)
        sys.stdin.readline()
        retires.set()
        server.hand_over(timeout=30)
        for load in loads:
            load.result()
    calls.show()


async def serve_asyncio(address: str, name: str) -> None:
    calls, retires = Calls(), asyncio.Event()
    server = ringback.aio.Server(address, standby=True, connect_timeout=30)

    @server.register_server_callback("up")
    async def up(source: Any, payload: Any) -> Any:
        await asyncio.sleep(0.05 * random.random())
        return [name, await server.trigger_client_callback("down", source, payload)]

    @server.register_server_callback("slow")
    async def slow(source: Any, payload: Any) -> None:
        await asyncio.sleep(payload)

    async def call_players() -> None:
        while not retires.is_set():
            for player_id in server.players:
                try:
                    assert await server.trigger_client_callback("down", player_id, name) == name
                    calls.succeeded += 1
                except CallbackError as error:
                    calls.failed.append(f"{error} {error.executed}")
            await asyncio.sleep(0)

    loads: list[asyncio.Task[None]] = []

    @server.on_acting
    def acts(acting: bool) -> None:
        if acting:
            loads.extend(asyncio.create_task(call_players()) for _ in range(AT_ONCE))
            print("acts", flush=True)

    async with server:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        retires.set()
        await server.hand_over(timeout=30)
        await asyncio.gather(*loads)
    calls.show()


if __name__ == "__main__":
    face, address, name = sys.argv[1:]
    if face == "blocking":
        serve_blocking(address, name)
    else:
        asyncio.run(serve_asyncio(address, name))
