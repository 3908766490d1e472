"""Both faces behind one set of coroutines, so that a test is written once and runs with each face."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from typing import Any, Self

import pytest
from support.harness import PATIENCE_S

import ringback
import ringback.aio
from ringback.testing import LocalBroker

HereBroker = LocalBroker
"""The broker of most tests: users' tests have the same one."""


class Blocking:
    """The blocking face. Functions that block run in a thread, so that the loop of the test goes on."""

    name = "blocking"
    module: Any = ringback

    def handler(self, make: Callable[..., Any]) -> Callable[..., Any]:
        """Return a handler that replies with the result of the call that `make(*arguments)` triggers."""
        if make.__code__.co_argcount == 1:
            return lambda payload: make(payload).result()
        return lambda source, payload: make(source, payload).result()

    async def start(self, endpoint: Any) -> Any:
        return await asyncio.to_thread(endpoint.start)

    async def close(self, endpoint: Any) -> None:
        await asyncio.to_thread(endpoint.close)

    async def result(self, call: Any) -> Any:
        return await asyncio.to_thread(call.result)

    async def results(self, call: Any) -> tuple[Any, ...]:
        return await asyncio.to_thread(lambda: call.results)

    async def error(self, call: Any) -> Any:
        return await asyncio.to_thread(lambda: call.error)

    async def result_of_each(self, calls: list[Any]) -> list[Any]:
        return await asyncio.to_thread(lambda: [call.result() for call in calls])

    async def all(self, group: Any) -> Any:
        return await asyncio.to_thread(group.all)

    async def items(self, group: Any) -> list[Any]:
        return await asyncio.to_thread(lambda: list(group))


class Asyncio:
    """The asyncio face."""

    name = "asyncio"
    module: Any = ringback.aio

    def handler(self, make: Callable[..., Any]) -> Callable[..., Any]:
        if make.__code__.co_argcount == 1:

            async def client(payload: Any) -> Any:
                return await make(payload)

            return client

        async def server(source: Any, payload: Any) -> Any:
            return await make(source, payload)

        return server

    async def start(self, endpoint: Any) -> Any:
        return await endpoint.start()

    async def close(self, endpoint: Any) -> None:
        await endpoint.close()

    async def result(self, call: Any) -> Any:
        return await call

    async def results(self, call: Any) -> tuple[Any, ...]:
        await self.error(call)
        results: tuple[Any, ...] = call.results
        return results

    async def error(self, call: Any) -> Any:
        with suppress(ringback.CallbackError):
            await call
        return call.error

    async def result_of_each(self, calls: list[Any]) -> list[Any]:
        return [await call for call in calls]

    async def all(self, group: Any) -> Any:
        return await group.all()

    async def items(self, group: Any) -> list[Any]:
        return [item async for item in group]


Face = Blocking | Asyncio
FACES: list[Face] = [Blocking(), Asyncio()]


class Stage:
    """Endpoints of one face at one broker. They are closed at the end.

    The `settings` of an endpoint are arguments of its class. The asyncio face has no `workers`, so `make`
    leaves it out.
    """

    def __init__(self, face: Face, broker: Any) -> None:
        self.face = face
        self.broker = broker
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def server(self, **settings: Any) -> Any:
        return await self._start(self.make("Server", self.broker.backend, **settings))

    async def operator(self, **settings: Any) -> Any:
        return await self._start(self.make("Operator", self.broker.backend, **settings))

    async def player(self, player_id: Any = None, **settings: Any) -> Any:
        return await self._start(self.make("Player", self.broker.players, player_id, **settings))

    async def pair(self, **settings: Any) -> tuple[Any, Any]:
        """Return a server and player 7, which know of each other."""
        server = await self.server(**settings)
        return server, await self.player(7, **settings)

    def make(self, role: str, address: str, *arguments: Any, **settings: Any) -> Any:
        if self.face.name == "asyncio":
            settings.pop("workers", None)
        return getattr(self.face.module, role)(address, *arguments, **settings)

    async def _start(self, endpoint: Any) -> Any:
        await self.face.start(endpoint)
        self._stack.push_async_callback(self.face.close, endpoint)
        return endpoint

    async def failure(self, call: Any) -> Any:
        """Wait until a call fails, and return its error."""
        error = await self.within(self.face.error(call))
        assert isinstance(error, ringback.CallbackError), f"{call} did not fail"
        return error

    async def result(self, call: Any) -> Any:
        return await self.within(self.face.result(call))

    async def results(self, call: Any) -> tuple[Any, ...]:
        results: tuple[Any, ...] = await self.within(self.face.results(call))
        return results

    async def within(self, awaitable: Any) -> Any:
        """Await, but at most PATIENCE_S."""
        return await asyncio.wait_for(awaitable, PATIENCE_S)

    async def still_works(self, server: Any, player: Any) -> None:
        """Make a call each way, to check that both endpoints still work."""
        server.register_server_callback("still works", lambda source, payload: payload, replace=True)
        player.register_client_callback("still works", lambda payload: payload, replace=True)
        assert await self.result(player.trigger_server_callback("still works", "up")) == "up"
        down = server.trigger_client_callback("still works", player.player_id, "down")
        assert await self.result(down) == "down"

    async def until(self, player: Any, check: Callable[[], bool], what: str) -> None:
        """Wait until a check of an endpoint succeeds. Make a round trip before each new try."""
        for _ in range(5000):
            if check():
                return
            await self.face.error(player.trigger_server_callback("nothing has this key", timeout=PATIENCE_S))
        raise AssertionError(f"this did not happen in time: {what}")


class Seen:
    """A list of things that happened in other threads or tasks. A test can wait for them."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._condition = threading.Condition()

    def __call__(self, *arguments: Any) -> None:
        with self._condition:
            self.items.append(arguments[0] if len(arguments) == 1 else arguments)
            self._condition.notify_all()

    async def count(self, count: int) -> list[Any]:
        """Wait until at least `count` items have come, and return all."""
        await self.until(lambda items: len(items) >= count)
        return self.items

    async def until(self, check: Callable[[list[Any]], bool]) -> None:
        def wait() -> bool:
            with self._condition:
                return self._condition.wait_for(lambda: check(self.items), PATIENCE_S)

        assert await asyncio.to_thread(wait), f"only these came: {self.items}"


class LogLines(logging.Handler):
    """The lines of the logger "ringback.sdk". A test can wait for them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = Seen()

    def emit(self, record: logging.LogRecord) -> None:
        self.seen((record.levelname, record.getMessage(), record))

    async def wait_for(self, pattern: str) -> logging.LogRecord:
        await self.seen.until(lambda items: any(re.search(pattern, text) for _, text, _ in items))
        record: logging.LogRecord = next(item[2] for item in self.seen.items if re.search(pattern, item[1]))
        return record


@pytest.fixture
def sdk_log() -> Iterator[LogLines]:
    handler = LogLines()
    logger = logging.getLogger("ringback.sdk")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def played(body: Callable[[Stage], Any]) -> Callable[[Face, HereBroker], None]:
    """Make a test of a coroutine function with a stage. The test runs once with each face."""

    def test(face: Face, here: HereBroker) -> None:
        async def run() -> None:
            async with Stage(face, here) as stage:
                await body(stage)

        asyncio.run(run())

    test.__doc__ = body.__doc__
    test.__name__ = body.__name__
    return test
