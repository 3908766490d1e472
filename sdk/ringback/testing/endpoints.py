"""Endpoints of both faces that close themselves at the end of a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeVar, Unpack

from ringback import aio, blocking
from ringback.protocol.frames import Role
from ringback.protocol.player_ids import PlayerID

if TYPE_CHECKING:
    from ringback._runtime.options import (
        BlockingArguments,
        BlockingServerArguments,
        EndpointArguments,
        ServerArguments,
    )
    from ringback.testing.local_broker import LocalBroker

BlockingEndpoint = TypeVar("BlockingEndpoint", blocking.Server, blocking.Player, blocking.Operator)
AioEndpoint = TypeVar("AioEndpoint", aio.Server, aio.Player, aio.Operator)

CLOSED_WITHIN_S = 10.0


class Endpoints:
    """Makes endpoints of the blocking face at one broker.

    Each function returns a started endpoint; with `start=False`, one to be started by the test, for example
    after its callbacks are registered. All other arguments are those of the class, without the address.
    """

    def __init__(self, broker: LocalBroker) -> None:
        self._broker = broker
        self._stack = ExitStack()

    def server(self, *, start: bool = True, **options: Unpack[BlockingServerArguments]) -> blocking.Server:
        """Make the server."""
        return self._take(blocking.Server(self._broker.address_for(Role.SERVER), **options), start)

    def player(
        self, player_id: PlayerID | None = None, *, start: bool = True, **options: Unpack[BlockingArguments]
    ) -> blocking.Player:
        """Make a player. Without an ID, the broker chooses one."""
        return self._take(blocking.Player(self._broker.address_for(Role.PLAYER), player_id, **options), start)

    def operator(self, *, start: bool = True, **options: Unpack[BlockingArguments]) -> blocking.Operator:
        """Make an operator."""
        return self._take(blocking.Operator(self._broker.address_for(Role.OPERATOR), **options), start)

    def close(self) -> None:
        """Close all endpoints that were made, the latest first."""
        self._stack.close()

    def _take(self, endpoint: BlockingEndpoint, start: bool) -> BlockingEndpoint:
        self._stack.callback(endpoint.close)
        if start:
            endpoint.start()
        return endpoint


class AioEndpoints:
    """Makes endpoints of the asyncio face at one broker. They belong to the loop that they are made on.

    Each function is a coroutine, and returns a started endpoint; with `start=False`, one to be started by the
    test, for example after its callbacks are registered. All other arguments are those of the class, without
    the address.
    """

    def __init__(self, broker: LocalBroker) -> None:
        self._broker = broker
        self._homes: dict[asyncio.AbstractEventLoop, _Home] = {}

    async def server(self, *, start: bool = True, **options: Unpack[ServerArguments]) -> aio.Server:
        """Make the server."""
        return await self._take(aio.Server(self._broker.address_for(Role.SERVER), **options), start)

    async def player(
        self, player_id: PlayerID | None = None, *, start: bool = True, **options: Unpack[EndpointArguments]
    ) -> aio.Player:
        """Make a player. Without an ID, the broker chooses one."""
        return await self._take(
            aio.Player(self._broker.address_for(Role.PLAYER), player_id, **options), start
        )

    async def operator(self, *, start: bool = True, **options: Unpack[EndpointArguments]) -> aio.Operator:
        """Make an operator."""
        return await self._take(aio.Operator(self._broker.address_for(Role.OPERATOR), **options), start)

    async def close(self) -> None:
        """Close all endpoints that were made on this loop, the latest first."""
        home = self._homes.pop(asyncio.get_running_loop(), None)
        if home is not None:
            await home.keeper.aclose()

    def close_all(self) -> None:
        """Close all endpoints on their loops, which need not run any more. Not for coroutines."""
        for loop, home in list(self._homes.items()):
            if loop.is_running():  # in another thread
                closing = asyncio.run_coroutine_threadsafe(home.keeper.aclose(), loop)
                closing.result(CLOSED_WITHIN_S)
            elif not loop.is_closed():
                loop.run_until_complete(home.keeper.aclose())
            for endpoint in home.endpoints:  # some are left only if the loop was closed under them
                endpoint._shell.stop()
        self._homes.clear()

    async def _take(self, endpoint: AioEndpoint, start: bool) -> AioEndpoint:
        loop = asyncio.get_running_loop()
        home = self._homes.get(loop)
        if home is None:
            home = self._homes[loop] = _Home()
            await anext(home.keeper)
        home.endpoints.append(endpoint)
        if start:
            await endpoint.start()
        return endpoint


class _Home:
    """The endpoints of one loop.

    Whoever ends a loop, such as `asyncio.run` and the plugins of pytest, first ends its asynchronous
    generators, and runs their `finally` there. So the endpoints are closed on their own loop, although
    nobody awaits that.

    Attributes:
        endpoints: in the order in which they were made.
        keeper: closes them at its end. It must have begun on the loop.
    """

    def __init__(self) -> None:
        self.endpoints: list[aio.Server | aio.Player | aio.Operator] = []
        self.keeper: AsyncGenerator[None, None] = self._keep()

    async def _keep(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            while self.endpoints:
                await self.endpoints.pop().close()
