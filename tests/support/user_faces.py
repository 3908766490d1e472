"""Both faces for `tests/sdk/user_program.py`, so that one text of a program runs on either, and on any loop.

In the blocking face, nothing waits for a loop: the coroutines of the program run to their end without one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import ringback
import ringback.aio

PATIENCE_S = 30.0


class BlockingFace:
    """The blocking face behind `async` and `await`."""

    module: Any = ringback

    async def enter(self, stack: AsyncExitStack, endpoint: Any) -> Any:
        return stack.enter_context(endpoint)

    async def close(self, endpoint: Any) -> None:
        endpoint.close()

    async def end(self, call: Any) -> Any:
        return call.result()

    async def ends_within(self, call: Any, seconds: float) -> bool:
        """Wait for some time, and let the call go on."""
        try:
            call.exception(timeout=seconds)
        except TimeoutError:
            return False
        return True

    async def ends(self, group: Any) -> list[tuple[Any, Any]]:
        return list(group)

    async def all(self, group: Any) -> dict[Any, Any]:
        calls: dict[Any, Any] = group.all()
        return calls

    async def each(self, progress: Any) -> AsyncIterator[Any]:
        for value in progress:
            yield value

    async def ready_to_call(self, endpoint: Any) -> None:
        endpoint.ready_to_call()

    async def hand_over(self, server: Any) -> None:
        server.hand_over()

    async def wait(self, event: threading.Event) -> bool:
        return event.wait(PATIENCE_S)

    def run(self, main: Awaitable[None]) -> None:
        with suppress(StopIteration):
            main.__await__().send(None)  # type: ignore[attr-defined]
            raise AssertionError("the blocking face waited for a loop")


class AsyncioFace:
    """The asyncio face, on a loop of some kind."""

    module: Any = ringback.aio

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._new_loop = new_loop

    async def enter(self, stack: AsyncExitStack, endpoint: Any) -> Any:
        return await stack.enter_async_context(endpoint)

    async def close(self, endpoint: Any) -> None:
        await endpoint.close()

    async def end(self, call: Any) -> Any:
        return await call

    async def ends_within(self, call: Any, seconds: float) -> bool:
        ended, _ = await asyncio.wait([call], timeout=seconds)
        return bool(ended)

    async def ends(self, group: Any) -> list[tuple[Any, Any]]:
        return [item async for item in group]

    async def all(self, group: Any) -> dict[Any, Any]:
        calls: dict[Any, Any] = await group
        return calls

    async def each(self, progress: Any) -> AsyncIterator[Any]:
        async for value in progress:
            yield value

    async def ready_to_call(self, endpoint: Any) -> None:
        await endpoint.ready_to_call()

    async def hand_over(self, server: Any) -> None:
        await server.hand_over()

    async def wait(self, event: threading.Event) -> bool:
        return await asyncio.to_thread(event.wait, PATIENCE_S)

    def run(self, main: Awaitable[None]) -> None:
        with asyncio.Runner(loop_factory=self._new_loop) as runner:
            runner.run(main)  # type: ignore[arg-type]


class AnyioFace(AsyncioFace):
    """The asyncio face in a program of anyio."""

    def __init__(self) -> None:
        super().__init__(asyncio.new_event_loop)

    def run(self, main: Awaitable[None]) -> None:
        import anyio

        async def program() -> None:
            await main

        anyio.run(program, backend="asyncio")


def face_of(name: str) -> BlockingFace | AsyncioFace:
    """Return a face: `blocking`, `anyio`, or the name of a loop in `tests/support/loops.py`."""
    if name == "blocking":
        return BlockingFace()
    if name == "anyio":
        return AnyioFace()
    from support.loops import LOOPS

    return AsyncioFace(LOOPS[name])
