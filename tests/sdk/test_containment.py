"""An exception that is planted at a seam ends no endpoint, and keeps nobody else waiting."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import pytest
from support.faces import HereBroker, Seen, Stage, played

from ringback import CallbackError, Code
from ringback._runtime import call_context


class Odd(BaseException):
    """Not an Exception: nothing catches it by chance."""


class Mute(Exception):
    """Nobody can ask it what it says."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class Exits(list[Any]):
    """A value whose own code raises while it is encoded."""

    def __iter__(self) -> Iterator[Any]:
        raise Odd


class OddCode(CallbackError):
    """An error of an application that cannot be read."""

    @property
    def code(self) -> Any:  # type: ignore[override]
        raise Mute

    @code.setter
    def code(self, value: Any) -> None:
        pass


RAISED: dict[str, Callable[[], BaseException]] = {
    "an Exception": lambda: ValueError("x"),
    "an Exception without words": Mute,
    "a BaseException": Odd,
    "StopIteration": StopIteration,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "RecursionError": RecursionError,
    "MemoryError": MemoryError,
}
"""What each seam raises. SystemExit and KeyboardInterrupt are apart: in asyncio they end the program."""

VALUES: dict[str, Callable[[], Any]] = {
    "a tuple as a key": lambda: {(1, 2): "tile"},
    "an extension type": lambda: msgpack.ExtType(5, b"x"),
    "an own class that raises": Exits,
    "a surrogate": lambda: "\ud800",
    "a set": lambda: {1},
    "too deep": lambda: _deep(70),
}


def _deep(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def raising(make: Callable[[], BaseException]) -> Callable[..., Any]:
    def function(*_: Any, **__: Any) -> Any:
        raise make()

    return function


def raising_later(make: Callable[[], BaseException]) -> Callable[..., Any]:
    async def function(*_: Any) -> Any:
        await asyncio.sleep(0)
        raise make()

    return function


def with_arguments(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a handler of (source, payload)."""
    if inspect.iscoroutinefunction(function):

        async def later(source: Any, payload: Any) -> Any:
            return await function()

        return later
    return lambda source, payload: function()


def with_source(function: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda source: function()


@pytest.mark.parametrize("raised", RAISED)
def test_handlers_of_every_form_reply(face: Any, here: HereBroker, raised: str) -> None:
    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair()
        make = RAISED[raised]
        server.register_server_callback("plain", with_arguments(raising(make)))
        server.register_server_callback("async", with_arguments(raising_later(make)))
        server.register_server_callback("thread", with_arguments(raising(make)), in_thread=True)
        for key in ("plain", "async", "thread") * 2:
            first = player.trigger_server_callback(key, timeout=60.0)
            error = await stage.failure(first)
            assert (error.code, error.executed) == (Code.HANDLER_ERROR, "yes"), key
            await stage.still_works(server, player)

    scene(face, here)


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt])
def test_handlers_that_end_the_program_reply(
    face: Any, here: HereBroker, raised: type[BaseException]
) -> None:
    """In asyncio, a handler on the loop ends the program, as anything else on the loop does."""

    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair()
        server.register_server_callback("thread", with_arguments(raising(raised)), in_thread=True)
        keys = ["thread"]
        if stage.face.name == "blocking":
            server.register_server_callback("plain", with_arguments(raising(raised)))
            server.register_server_callback("async", with_arguments(raising_later(raised)))
            server.register_server_callback("allow", with_arguments(dict), allow=with_source(raising(raised)))
            server.on_player_joined(raising(raised))
            keys += ["plain", "async"]
            forbidden = await stage.failure(player.trigger_server_callback("allow", timeout=60.0))
            assert forbidden.code is Code.FORBIDDEN
        for key in keys * 2:
            error = await stage.failure(player.trigger_server_callback(key, timeout=60.0))
            assert (error.code, error.executed) == (Code.HANDLER_ERROR, "yes"), key
        joined = Seen()
        server.on_player_joined(joined)
        await stage.player(8)
        assert await joined.count(1) == [8]
        await stage.still_works(server, player)

    scene(face, here)


def test_in_asyncio_a_plain_handler_that_exits_ends_the_loop_once_the_step_is_done(here: HereBroker) -> None:
    """All callers have their replies before the loop ends."""
    from ringback.aio import Player, Server

    outcomes: list[Any] = []

    async def scene() -> None:
        async with Server(here.backend) as server, Player(here.players, 7) as player:
            server.register_server_callback("exit", with_arguments(raising(lambda: SystemExit(3))))
            server.register_server_callback("echo", lambda source, payload: payload)
            call = player.trigger_server_callback("exit", timeout=60.0)
            behind = player.trigger_server_callback("echo", 5, timeout=60.0)
            for one in (call, behind):
                try:
                    outcomes.append(await one)
                except CallbackError as error:
                    outcomes.append(error.code)

    loop = asyncio.new_event_loop()
    main = loop.create_task(scene())
    try:
        with pytest.raises(SystemExit):
            loop.run_until_complete(main)
        loop.run_until_complete(asyncio.wait_for(main, 60.0))
    finally:
        loop.close()
    assert outcomes == [Code.HANDLER_ERROR, 5]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("watched", [False, True], ids=["", "watched"])
def test_values_that_cannot_be_carried(face: Any, here: HereBroker, value: str, watched: bool) -> None:
    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair()
        if watched:
            operator = await stage.operator()
            await stage.result(operator.watch(payloads=True))
            await stage.still_works(server, player)
        make = VALUES[value]

        def fails(source: Any, payload: Any) -> None:
            raise CallbackError("no such tile", code="NO_TILE", data=make())

        async def async_result(source: Any, payload: Any) -> Any:
            return make()

        def from_a_thread(source: Any, payload: Any, cb: Any) -> None:
            threading.Thread(target=lambda: cb(1, make())).start()

        server.register_server_callback("result", lambda source, payload: make())
        server.register_server_callback("async result", async_result)
        server.register_server_callback("cb", from_a_thread)
        server.register_server_callback("data", fails)
        server.register_server_callback("in thread", lambda source, payload: make(), in_thread=True)
        player.register_client_callback("result", lambda payload: make())
        for key in ("result", "async result", "cb", "data", "in thread"):
            error = await stage.failure(player.trigger_server_callback(key, timeout=60.0))
            assert (error.code, error.executed) == (Code.HANDLER_ERROR, "yes"), key
        error = await stage.failure(server.trigger_client_callback("result", 7, timeout=60.0))
        assert (error.code, error.executed) == (Code.HANDLER_ERROR, "yes")
        for trigger in (
            lambda: player.trigger_server_callback("result", make(), timeout=60.0),
            lambda: server.trigger_client_callback("result", 7, make(), timeout=60.0),
            lambda: server.trigger_callback("result", 7, make(), timeout=60.0),
        ):
            if value == "an own class that raises":
                with pytest.raises(Odd):  # where the program encodes its own value
                    trigger()
                continue
            error = await stage.failure(trigger())
            assert (error.code, error.executed) == (Code.INVALID_PAYLOAD, "no")
        await stage.still_works(server, player)
        assert server.counters.faults == player.counters.faults == 0

    scene(face, here)


def test_a_handler_that_changes_a_watched_payload(face: Any, here: HereBroker) -> None:
    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair()
        operator = await stage.operator()
        await stage.result(operator.watch(payloads=True))
        await stage.still_works(server, player)

        def spoil(source: Any, payload: list[Any], cb: Any) -> None:
            payload.append(Exits())
            cb(1)

        server.register_server_callback("spoil", spoil)
        for _ in range(3):
            assert await stage.result(player.trigger_server_callback("spoil", [], timeout=60.0)) == 1
        await stage.still_works(server, player)

    scene(face, here)


@pytest.mark.parametrize("raised", RAISED)
def test_listeners_callbacks_and_allow(face: Any, here: HereBroker, raised: str) -> None:
    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair()
        begun = Seen()

        async def odd_later(_: Any) -> None:
            begun(1)
            raise RAISED[raised]()

        odd = raising(RAISED[raised])
        for name in ("on_player_joined", "on_player_left", "on_disconnected", "on_connected"):
            getattr(server, name)(odd)
        server.on_player_joined(odd_later)
        joined, left = Seen(), Seen()
        server.on_player_joined(joined)
        server.on_player_left(left)
        third = await stage.player(8)
        await joined.until(lambda items: 8 in items)
        server.register_server_callback("allow", lambda source, payload: 1, allow=lambda source: odd())
        error = await stage.failure(player.trigger_server_callback("allow", timeout=60.0))
        assert error.code is Code.FORBIDDEN
        server.register_server_callback("echo", lambda source, payload: payload)
        done = Seen()
        for function in (odd, odd_later):
            player.trigger_server_callback("echo", 1, function, timeout=60.0)
            player.trigger_server_callback("nope", 1, on_error=function, timeout=60.0)
        player.trigger_server_callback("echo", 2, done, timeout=60.0)
        assert await done.count(1) == [2]
        await begun.count(3)
        await stage.face.close(third)
        await left.until(lambda items: 8 in items)
        await stage.still_works(server, player)

    scene(face, here)


@pytest.mark.parametrize("returned", [1, None, "yes", object()])
def test_allow_that_returns_no_bool(face: Any, here: HereBroker, returned: Any) -> None:
    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair()
        server.register_server_callback("k", lambda source, payload: 1, allow=lambda source: returned)
        assert (await stage.failure(player.trigger_server_callback("k"))).code is Code.FORBIDDEN
        await stage.still_works(server, player)

    scene(face, here)


def test_errors_of_own_classes_that_cannot_be_read(face: Any, here: HereBroker) -> None:
    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair()
        server.register_server_callback("odd", with_arguments(raising(OddCode)))
        for attribute, value in (("code", 404), ("code", "\ud800"), ("message", [1]), ("executed", "x")):

            def fails(source: Any, payload: Any, attribute: str = attribute, value: Any = value) -> None:
                error = CallbackError("why", code="OWN")
                setattr(error, attribute, value)
                raise error

            server.register_server_callback("set", _two(fails), replace=True)
            error = await stage.failure(player.trigger_server_callback("set", timeout=60.0))
            assert error.executed == "yes"
            assert error.code is Code.HANDLER_ERROR or attribute == "executed"
        error = await stage.failure(player.trigger_server_callback("odd", timeout=60.0))
        assert (error.code, error.executed) == (Code.HANDLER_ERROR, "yes")
        await stage.still_works(server, player)

    scene(face, here)


def _two(function: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    return lambda source, payload: function(source, payload)


class BadLog(logging.Handler):
    def __init__(self, make: Callable[[], BaseException]) -> None:
        super().__init__()
        self._make = make

    def emit(self, record: logging.LogRecord) -> None:
        raise self._make()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        raise self._make()


@pytest.mark.parametrize("raised", ["an Exception", "a BaseException"])
def test_log_handlers_that_raise(
    face: Any, here: HereBroker, raised: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    handler, logger = BadLog(RAISED[raised]), logging.getLogger("ringback.sdk")

    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair(workers=1)
        server.register_server_callback("fail", with_arguments(raising(ValueError)))
        server.on_player_joined(raising(ValueError))
        server.register_server_callback("twice", lambda source, payload, cb: (cb(1), cb(2)))
        logger.addHandler(handler)
        try:
            await stage.player(8)
            for _ in range(3):
                error = await stage.failure(player.trigger_server_callback("fail", timeout=60.0))
                assert error.code is Code.HANDLER_ERROR
                assert await stage.result(player.trigger_server_callback("twice", timeout=60.0)) == 1
            await stage.still_works(server, player)
        finally:
            logger.removeHandler(handler)

    scene(face, here)


class OddTracer:
    """A tracer that raises at each of its steps."""

    def triggered(self, *_: Any) -> Any:
        return None

    def handles(self, *_: Any) -> Any:
        raise Odd

    def keep(self, function: Any) -> Any:
        return function


def test_a_tracer_that_raises(face: Any, here: HereBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair()
        server.register_server_callback("k", lambda source, payload: 1)
        with monkeypatch.context() as patch:
            patch.setattr(call_context, "tracer", OddTracer())
            error = await stage.failure(player.trigger_server_callback("k", timeout=60.0))
        assert error.code is Code.HANDLER_ERROR
        await stage.still_works(server, player)

    scene(face, here)


@pytest.mark.parametrize("name", ["receive", "tick", "flush", "link_answered", "_take_body", "_send"])
def test_a_step_of_the_core_that_raises(
    face: Any, here: HereBroker, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It is counted, and the next one works."""

    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair()
        core = server._endpoint
        part = {"_take_body": core._receiver, "_send": core._routes}.get(name, core)
        real = getattr(part, name)
        failures = []

        def fails_once(*arguments: Any) -> Any:
            if not failures:
                failures.append(name)
                raise Odd
            return real(*arguments)

        if name == "link_answered":
            third = stage.make("Player", stage.broker.players, 9)
            third._endpoint.link_answered = fails_once
            await stage._start(third)
            await stage.still_works(server, third)
            return
        setattr(part, name, fails_once)
        if name == "_send":
            if stage.face.name == "asyncio":
                with pytest.raises(Odd):  # in the program's own task, which triggers the call
                    server.trigger_client_callback("k", 7, timeout=0.2)
            else:
                server.trigger_client_callback("k", 7, timeout=0.2)
        else:
            # This call may get lost.
            await stage.face.error(player.trigger_server_callback("k", timeout=0.2))
        player.register_client_callback("hold", lambda payload, cb: None)
        error = await stage.failure(server.trigger_client_callback("hold", 7, timeout=0.05))
        assert error.code is Code.TIMEOUT
        for _ in range(3):
            await stage.still_works(server, player)
        assert failures
        expected = 0 if name == "_send" and stage.face.name == "asyncio" else 1
        assert server.counters.faults == expected

    scene(face, here)
