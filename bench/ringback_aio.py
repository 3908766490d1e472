"""The work by ringback's asyncio face: a coroutine for each call in flight, as a program would do it."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

from work import KEY, Stopwatch, check, handle, payload_of

from ringback.aio import Player, Server


def key_of(role: str) -> str | None:
    """Gives the file of a key, where the links are to be encrypted."""
    folder = os.environ.get("BENCH_KEYS")
    return None if folder is None else f"{folder}/{role}.key"


async def server(address: str) -> None:
    async with Server(address, key_file=key_of("server")) as endpoint:

        @endpoint.register_server_callback(KEY)
        def items(source: int | str, payload: Any) -> Any:
            return handle(payload)

        print("ready", flush=True)
        await asyncio.Event().wait()


async def player(address: str, in_flight: int, warm_up: int, calls: int) -> None:
    watch = Stopwatch()
    async with Player(address, 7, key_file=key_of("player")) as endpoint:

        async def run(first: int, count: int, latencies: list[float]) -> None:
            numbers = iter(range(first, first + count))

            async def worker() -> None:
                for number in numbers:
                    started = time.perf_counter()
                    result = await endpoint.trigger_server_callback(KEY, payload_of(number))
                    latencies.append(time.perf_counter() - started)
                    check(number, result)

            await asyncio.gather(*(worker() for _ in range(in_flight)))

        await run(0, warm_up, [])
        watch.start()
        await run(warm_up, calls, watch.latencies_s)
        watch.report()


if __name__ == "__main__":
    role, address, *rest = sys.argv[1:]
    asyncio.run(server(address) if role == "server" else player(address, *map(int, rest)))
