"""Waiting until endpoints are connected, and until a server knows who is there.

Each function works with both faces: it blocks for an endpoint of the blocking face, and returns a coroutine
to await for one of `ringback.aio`. When it returns, the listeners of the program have run too. A listener
that is a coroutine function has begun.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Self, overload

from ringback import aio, blocking
from ringback._roles.base import RoleBase
from ringback._runtime.blocking_shell import BlockingShell
from ringback.core.shell import EndpointEvent
from ringback.errors import UsageError
from ringback.protocol.player_ids import PlayerID, check_player_id
from ringback.testing.arguments import check_endpoint, check_server
from ringback.testing.waiting import PATIENCE_S, Changes, too_late

Endpoint = RoleBase[Any, Any]
Waiting = Coroutine[Any, Any, None]


@overload
def until_joined(server: blocking.Server, *player_ids: PlayerID, timeout: float = PATIENCE_S) -> None: ...
@overload
def until_joined(server: aio.Server, *player_ids: PlayerID, timeout: float = PATIENCE_S) -> Waiting: ...


def until_joined(
    server: blocking.Server | aio.Server, *player_ids: PlayerID, timeout: float = PATIENCE_S
) -> Waiting | None:
    """Wait until a server knows that all these players are connected.

    Raises:
        TypeError: it is not a server.
        TimeoutError: not all of them joined in time.
    """
    check_server(server)
    wanted = _checked(player_ids)

    def missing() -> str:
        return f"{_named(wanted - {*server.players})} did not join"

    return _until(server, lambda: wanted <= {*server.players}, timeout, missing)


@overload
def until_left(server: blocking.Server, *player_ids: PlayerID, timeout: float = PATIENCE_S) -> None: ...
@overload
def until_left(server: aio.Server, *player_ids: PlayerID, timeout: float = PATIENCE_S) -> Waiting: ...


def until_left(
    server: blocking.Server | aio.Server, *player_ids: PlayerID, timeout: float = PATIENCE_S
) -> Waiting | None:
    """Wait until a server knows that none of these players is connected.

    Raises:
        TypeError: it is not a server.
        TimeoutError: not all of them left in time.
    """
    check_server(server)
    unwanted = _checked(player_ids)

    def missing() -> str:
        return f"{_named(unwanted & {*server.players})} did not leave"

    return _until(server, lambda: not unwanted & {*server.players}, timeout, missing)


@overload
def until_connected(endpoint: blocking.BlockingFace, *, timeout: float = PATIENCE_S) -> None: ...
@overload
def until_connected(endpoint: aio.AsyncioFace, *, timeout: float = PATIENCE_S) -> Waiting: ...


def until_connected(
    endpoint: blocking.BlockingFace | aio.AsyncioFace, *, timeout: float = PATIENCE_S
) -> Waiting | None:
    """Wait until an endpoint has a link.

    Raises:
        TypeError: it is not an endpoint.
        TimeoutError: it has none in time.
    """
    check_endpoint(endpoint)
    return _until(endpoint, lambda: endpoint.connected, timeout, lambda: f"{endpoint!r} has no link")


@overload
def until_disconnected(endpoint: blocking.BlockingFace, *, timeout: float = PATIENCE_S) -> None: ...
@overload
def until_disconnected(endpoint: aio.AsyncioFace, *, timeout: float = PATIENCE_S) -> Waiting: ...


def until_disconnected(
    endpoint: blocking.BlockingFace | aio.AsyncioFace, *, timeout: float = PATIENCE_S
) -> Waiting | None:
    """Wait until an endpoint has no link.

    An endpoint soon connects again if it can: where it can, use `reconnected`.

    Raises:
        TypeError: it is not an endpoint.
        TimeoutError: it still has one.
    """
    check_endpoint(endpoint)
    return _until(endpoint, lambda: not endpoint.connected, timeout, lambda: f"{endpoint!r} kept its link")


@overload
def until_acting(server: blocking.Server, *, timeout: float = PATIENCE_S) -> None: ...
@overload
def until_acting(server: aio.Server, *, timeout: float = PATIENCE_S) -> Waiting: ...


def until_acting(server: blocking.Server | aio.Server, *, timeout: float = PATIENCE_S) -> Waiting | None:
    """Wait until a server is the one that acts, and no longer stands by.

    Raises:
        TypeError: it is not a server.
        TimeoutError: it does not act in time.
    """
    check_server(server)
    return _until(server, lambda: server.acting, timeout, lambda: f"{server!r} does not act")


class reconnected:  # noqa: N801 - it reads as a function, such as contextlib.suppress
    """A block at whose end endpoints have lost their links, and have new ones.

    Use it around what breaks the links: `with reconnected(server, player): broker.restart()`. For endpoints
    of `ringback.aio`: `async with`.

    Raises:
        TypeError: one of them is not an endpoint.
        TimeoutError: not all of them have a new link in time.
    """

    def __init__(self, *endpoints: Endpoint, timeout: float = PATIENCE_S) -> None:
        for endpoint in endpoints:
            check_endpoint(endpoint)
        self._endpoints = endpoints
        self._timeout = timeout

    def __enter__(self) -> Self:
        for endpoint in self._endpoints:
            if isinstance(endpoint, aio.AsyncioFace):
                raise UsageError(f"{endpoint!r} needs `async with reconnected(...)`")
        self._begin()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None:
            for endpoint, again, missing in self._waits:
                _wait(endpoint, again, self._timeout, missing)

    async def __aenter__(self) -> Self:
        self._begin()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None:
            for endpoint, again, missing in self._waits:
                if isinstance(endpoint, aio.AsyncioFace):
                    await _wait_async(endpoint, again, self._timeout, missing)
                else:
                    await asyncio.to_thread(_wait, endpoint, again, self._timeout, missing)

    def _begin(self) -> None:
        self._waits = [(endpoint, *_new_link(endpoint)) for endpoint in self._endpoints]


def _new_link(endpoint: Endpoint) -> tuple[Callable[[], bool], Callable[[], str]]:
    """Return a check whether an endpoint has another link than now, and what to say if it has not."""
    before = endpoint._shell._link

    def again() -> bool:
        return endpoint._shell._link is not before and endpoint.connected

    return again, lambda: f"{endpoint!r} has no new link"


class _Watcher:
    """A listener that wakes those who wait for an endpoint. Each endpoint has at most one."""

    def __init__(self) -> None:
        self.changes = Changes()

    def __call__(self, _argument: object) -> None:
        self.changes.notify()


def _changes(endpoint: Endpoint) -> Changes:
    for listener in endpoint._shell.listeners[EndpointEvent.CONNECTED]:
        if isinstance(listener, _Watcher):
            return listener.changes
    watcher = _Watcher()
    for event in EndpointEvent:
        endpoint._listen(event, watcher)
    return watcher.changes


def _until(
    endpoint: Endpoint, check: Callable[[], bool], timeout: float, missing: Callable[[], str]
) -> Waiting | None:
    if isinstance(endpoint, aio.AsyncioFace):
        return _wait_async(endpoint, check, timeout, missing)
    _wait(endpoint, check, timeout, missing)
    return None


def _wait(endpoint: Endpoint, check: Callable[[], bool], timeout: float, missing: Callable[[], str]) -> None:
    _changes(endpoint).wait(check, timeout, missing)
    shell = endpoint._shell
    assert isinstance(shell, BlockingShell)
    told = threading.Event()
    # Listeners run one after another. The I/O thread first finishes the step that changed something.
    shell.submit(shell._lane.submit, Context(), told.set)
    if not told.wait(timeout):
        raise too_late(lambda: f"a listener of {endpoint!r} does not return", timeout)


async def _wait_async(
    endpoint: Endpoint, check: Callable[[], bool], timeout_s: float, missing: Callable[[], str]
) -> None:
    await _changes(endpoint).wait_async(check, timeout_s, missing)
    await asyncio.sleep(0)  # the loop has the listeners to run by now


def _checked(player_ids: tuple[PlayerID, ...]) -> set[PlayerID]:
    return {check_player_id(player_id) for player_id in player_ids}


def _named(player_ids: set[PlayerID]) -> str:
    names = ", ".join(sorted(map(repr, player_ids)))
    return f"player{'s' * (len(player_ids) > 1)} {names}"
