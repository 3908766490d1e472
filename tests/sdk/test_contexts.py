"""Context variables: each function of the user runs in a copy of a context that the user knows.

Handlers, listeners, `allow` and token functions run in a copy of the context of `start`; a callback in a copy
of the context of its call.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any

from support.faces import HereBroker, Seen, Stage, played
from support.harness import PATIENCE_S

from ringback import CallbackError, remaining
from ringback.aio import Player, Server

var: ContextVar[str] = ContextVar("var", default="nothing")


def look_and_leave(mark: Any = "left behind") -> str:
    """Return what is there, and leave a mark."""
    before = var.get()
    var.set(mark)
    return before


def in_context(value: str, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Call a function where the variable has a value."""

    def call() -> Any:
        var.set(value)
        return function(*arguments, **keywords)

    return copy_context().run(call)


class Answer:
    """An awaitable that is no coroutine."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        return self._function()


def handlers() -> dict[str, Callable[..., Any]]:
    """Return handlers of every form. Each looks and leaves a mark."""

    def plain(source: Any, payload: Any) -> Any:
        return look_and_leave()

    def replies(source: Any, payload: Any, cb: Any) -> None:
        cb(look_and_leave())

    async def coroutine(source: Any, payload: Any) -> Any:
        before = look_and_leave()
        await asyncio.sleep(0)
        return before if var.get() == "left behind" else "lost its own mark"

    def awaitable(source: Any, payload: Any) -> Any:
        before = look_and_leave()
        return Answer(lambda: before if var.get() == "left behind" else "lost its own mark")

    def raises(source: Any, payload: Any) -> Any:
        raise CallbackError(look_and_leave(), code="RAISED")

    return {
        "plain": plain,
        "replies": replies,
        "coroutine": coroutine,
        "awaitable": awaitable,
        "raises": raises,
    }


@played
async def test_handlers_run_in_the_context_of_start(stage: Stage) -> None:
    var.set("of start")
    server, player = await stage.pair(workers=1)
    var.set("of the program, later")
    for key, handler in handlers().items():
        server.register_server_callback(key, handler)
    server.register_server_callback("in a thread", handlers()["plain"], in_thread=True)
    for _ in range(3):
        for key in ("plain", "replies", "coroutine", "awaitable", "in a thread"):
            assert await stage.result(player.trigger_server_callback(key)) == "of start"
            assert await stage.result(server.trigger_callback(key, 7)) == "of start"
        error = await stage.failure(player.trigger_server_callback("raises"))
        assert error.message == "of start"


@played
async def test_a_callback_runs_in_the_context_of_its_call(stage: Stage) -> None:
    server, player = await stage.pair(workers=1)
    server.register_server_callback("echo", lambda source, payload: payload)
    seen = Seen()

    async def coroutine(_: Any) -> None:
        seen(look_and_leave())

    for callback in (lambda _: seen(look_and_leave()), coroutine):
        for number in range(2):
            in_context(f"call {number}", player.trigger_server_callback, "echo", 1, callback)
            in_context(f"failure {number}", player.trigger_server_callback, "no such key", on_error=callback)
    assert (
        sorted(await seen.count(8)) == ["call 0"] * 2 + ["call 1"] * 2 + ["failure 0"] * 2 + ["failure 1"] * 2
    )
    assert var.get() == "nothing"


@played
async def test_a_callback_of_a_handlers_call_sees_what_the_handler_set(stage: Stage) -> None:
    server, player = await stage.pair()
    seen = Seen()

    def handler(source: Any, payload: Any) -> None:
        var.set("of the handler")
        server.trigger_client_callback("echo", 7, 1, lambda _: seen(var.get(), remaining()))

    server.register_server_callback("ask", handler)
    player.register_client_callback("echo", lambda payload: payload)
    await stage.result(player.trigger_server_callback("ask", timeout=5.0))
    assert await seen.count(1) == [("of the handler", None)]


@played
async def test_listeners_run_in_the_context_of_start(stage: Stage) -> None:
    var.set("of start")
    server = stage.make("Server", stage.broker.backend, workers=1)
    seen = Seen()

    async def coroutine(_: Any) -> None:
        seen(look_and_leave())

    for listen in (server.on_connected, server.on_player_joined):
        for listener in (lambda _: seen(look_and_leave()), coroutine):
            in_context("of the registration", listen, listener)
    await stage._start(server)
    var.set("of the program, later")
    for player_id in (1, 2):
        await stage.player(player_id)
    assert await seen.count(6) == ["of start"] * 6


@played
async def test_allow_runs_in_the_context_of_start(stage: Stage) -> None:
    var.set("of start")
    server, player = await stage.pair()
    var.set("of the program, later")
    seen = []

    def allow(source: Any) -> bool:
        seen.append((look_and_leave(), remaining()))
        return True

    server.register_server_callback("k", lambda source, payload: var.get(), allow=allow)
    for number in range(3):
        # Calls of the server's own, so that a step begins in one of these contexts.
        in_context(f"call {number}", server.trigger_client_callback, "nothing", 7)
        assert await stage.result(player.trigger_server_callback("k")) == "of start"
    assert seen == [("of start", None)] * 3


def test_handlers_see_nothing_of_the_task_that_opened_the_link_again(here: HereBroker) -> None:
    async def scene() -> None:
        var.set("of start")
        async with Server(here.backend) as server, Player(here.players, 7) as player:
            seen, connected, joined = Seen(), Seen(), Seen()
            server.on_player_joined(joined)
            for key in ("plain", "coroutine"):
                server.register_server_callback(
                    key, handlers()[key], allow=lambda source: not seen(var.get())
                )
            for endpoint in (server, player):
                endpoint.on_connected(connected)
                in_context("of a task", lose_the_link, endpoint._shell)
            await connected.count(2)
            await joined.until(lambda _: 7 in server.players)
            for key in ("plain", "coroutine", "plain", "coroutine"):
                assert await player.trigger_server_callback(key) == "of start"
            assert seen.items == ["of start"] * 4

    asyncio.run(asyncio.wait_for(scene(), PATIENCE_S))


def lose_the_link(shell: Any) -> None:
    """Lose the link here, and begin to open a new one."""
    now = shell.endpoint._state.now
    shell.endpoint.link_lost(now, "for the test")
    shell.endpoint.tick(now + 1)
    shell._settle()


def test_a_task_factory_of_the_program(here: HereBroker) -> None:
    """A factory from before contexts could be passed takes two arguments."""

    def factory(loop: Any, coroutine: Any) -> Any:
        return asyncio.Task(coroutine, loop=loop)

    async def scene() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        var.set("of start")
        async with Server(here.backend) as server, Player(here.players, 7) as player:
            for key, handler in handlers().items():
                server.register_server_callback(key, handler)
            for key in ("plain", "coroutine", "awaitable"):
                assert await player.trigger_server_callback(key) == "of start"

    asyncio.run(asyncio.wait_for(scene(), PATIENCE_S))


@played
async def test_the_deadline_of_a_handler_is_where_its_code_runs(stage: Stage) -> None:
    server, player = await stage.pair()

    def plain(source: Any, payload: Any) -> Any:
        return remaining()

    async def coroutine(source: Any, payload: Any) -> Any:
        return remaining()

    async def other_thread(source: Any, payload: Any) -> Any:
        return await asyncio.to_thread(remaining)

    async def other_task(source: Any, payload: Any) -> Any:
        return await asyncio.create_task(coroutine(source, payload))

    def awaitable(source: Any, payload: Any) -> Any:
        return Answer(remaining)

    def copied(source: Any, payload: Any) -> Any:
        """Carry the context into a thread by hand."""
        context, results = copy_context(), Seen()
        thread = threading.Thread(target=context.run, args=(lambda: results(remaining()),))
        thread.start()
        thread.join()
        return results.items[0]

    for function in (plain, coroutine, other_thread, other_task, awaitable, copied):
        key = function.__name__
        server.register_server_callback(key, function)
        left = await stage.result(player.trigger_server_callback(key, timeout=5.0))
        assert left is not None and 0 < left <= 5.001, key
    for function in (plain, awaitable, copied):
        key = f"{function.__name__} in a thread"
        server.register_server_callback(key, function, in_thread=True)
        left = await stage.result(player.trigger_server_callback(key, timeout=5.0))
        assert left is not None and 0 < left <= 5.001, key
        assert await stage.result(player.trigger_server_callback(key, timeout=None)) is None
    assert remaining() is None


def test_an_endpoint_started_in_a_handler_has_no_deadline(here: HereBroker) -> None:
    async def scene() -> None:
        async with Server(here.backend) as server, Player(here.players, 7) as player:

            async def handler(source: Any, payload: Any) -> Any:
                async with Player(here.players, 8) as other:
                    other.register_client_callback("left", lambda payload: remaining())
                    while 8 not in server.players:
                        await player.trigger_server_callback("echo")
                    return await server.trigger_client_callback("left", 8, timeout=None)

            server.register_server_callback("echo", lambda source, payload: payload)
            server.register_server_callback("start", handler)
            # The inner call inherits the deadline by its budget, not by the context of the endpoint.
            assert await player.trigger_server_callback("start", timeout=None) is None
            left = await player.trigger_server_callback("start", timeout=5.0)
            assert left is not None and left <= 5.001

    asyncio.run(asyncio.wait_for(scene(), PATIENCE_S))
