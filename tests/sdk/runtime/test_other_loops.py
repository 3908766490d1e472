"""An asyncio endpoint belongs to one event loop: elsewhere it raises at once, and says what to do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from support.faces import HereBroker
from support.harness import PATIENCE_S
from support.loops import LOOPS

from ringback import UsageError
from ringback.aio import Player, Server

Loop = asyncio.AbstractEventLoop


@pytest.fixture(params=LOOPS.values(), ids=list(LOOPS))
def new_loop(request: pytest.FixtureRequest) -> Iterator[Callable[[], Loop]]:
    """Return a function that makes a loop. The loops are closed at the end."""
    made: list[Loop] = []

    def make() -> Loop:
        made.append(request.param())
        return made[-1]

    yield make
    for loop in made:
        loop.close()


def run(loop: Loop, awaitable: Awaitable[Any]) -> Any:
    """Run a coroutine on a loop, but at most PATIENCE_S."""

    async def bounded() -> Any:
        return await asyncio.wait_for(awaitable, PATIENCE_S)

    return loop.run_until_complete(bounded())


async def iterate(group: Any) -> None:
    async for _ in group:
        pass


async def on_this_loop(function: Callable[[], Any]) -> Any:
    return function()


def test_on_another_loop_each_function_refuses(here: HereBroker, new_loop: Callable[[], Loop]) -> None:
    first, second = new_loop(), new_loop()
    server, player = Server(here.backend), Player(here.players, 7)
    run(first, server.start())
    run(first, player.start())

    async def silent() -> None:
        await asyncio.Event().wait()

    player.register_client_callback("silent", lambda payload: silent())

    async def begin() -> tuple[Any, Any]:
        call = server.trigger_client_callback("silent", 7, timeout=PATIENCE_S)
        return call, server.trigger_all_client_callbacks("silent", players=[7], timeout=PATIENCE_S)

    call, group = run(first, begin())

    async def wait() -> Any:
        return await call

    elsewhere: list[Callable[[], Awaitable[Any]]] = [
        wait,
        group.all,
        lambda: iterate(group),
        player.start,
        player.close,
        player.run_forever,
        lambda: on_this_loop(lambda: player.trigger_server_callback("echo")),
        lambda: on_this_loop(lambda: server.trigger_all_client_callbacks("echo")),
        lambda: on_this_loop(call.cancel),
        lambda: asyncio.wait([call]),
        lambda: asyncio.wait([group]),
        lambda: on_this_loop(lambda: call.add_done_callback(print)),
    ]
    for make in elsewhere:
        with pytest.raises(UsageError, match="another event loop"):
            run(second, make())
    for function in (
        lambda: player.trigger_server_callback("echo"),
        call.cancel,
        lambda: call.add_done_callback(print),
        lambda: group.add_done_callback(print),
    ):
        with pytest.raises(UsageError, match="no event loop runs here"):
            function()
    problems: list[Exception] = []

    def in_thread(use: Callable[[], Any]) -> None:
        try:
            use()
        except UsageError as error:
            problems.append(error)

    for use in (
        lambda: player.trigger_server_callback("echo"),
        lambda: asyncio.run(asyncio.wait_for(asyncio.wait([call]), PATIENCE_S)),
        lambda: asyncio.run(asyncio.wait_for(asyncio.wait([group]), PATIENCE_S)),
    ):
        thread = threading.Thread(target=in_thread, args=(use,))
        thread.start()
        thread.join(2 * PATIENCE_S)
        assert "only from its loop's thread" in str(problems.pop())
    # At home all goes on.
    run(first, on_this_loop(call.cancel))
    run(first, on_this_loop(group.cancel))
    run(first, player.close())
    run(first, server.close())


@pytest.mark.parametrize("recover", ["close", "start", "trigger"])
def test_an_endpoint_whose_loop_is_closed_starts_again(
    here: HereBroker, new_loop: Callable[[], Loop], recover: str
) -> None:
    first, second = new_loop(), new_loop()
    player = Player(here.players, 7)
    run(first, player.start())
    link = player._shell._link
    assert link is not None and player.connected
    first.close()
    assert not player.connected and repr(player).endswith(" closed with its event loop>")
    if recover == "close":
        run(second, player.close())
    elif recover == "trigger":
        with pytest.raises(UsageError, match="is closed"):
            run(second, on_this_loop(lambda: player.trigger_server_callback("echo")))
    if recover != "start":
        assert link.socket.closed and link.monitor.closed
    run(second, player.start())
    assert link.socket.closed and link.monitor.closed and player.connected
    run(second, player.close())
