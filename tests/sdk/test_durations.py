"""How long a handler took, as operators see it: measured at its beginning and at its end, in both faces.

A handler notes itself when it begins and when it ends. What is shown must be between that and what the caller
sees.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from support.faces import Stage, played
from support.harness import PATIENCE_S

import ringback
from ringback.protocol.control import Subject, named

TOOK_S = 0.05
CLOCK_S = 1e-6


class Times:
    """When the handler of each key began and ended, by its own clock, and what its caller saw."""

    def __init__(self) -> None:
        self.own: dict[str, float] = {}
        self.caller: dict[str, float] = {}

    def blocking(self, key: str, then: Callable[[], Any] = lambda: None) -> Callable[[Any, Any], Any]:
        """Return a handler that takes TOOK_S."""

        def handle(source: Any, payload: Any) -> Any:
            began = time.monotonic()
            try:
                time.sleep(TOOK_S)
                return then()
            finally:
                self.own[key] = time.monotonic() - began

        return handle

    def waiting(self, key: str) -> Callable[[Any, Any], Any]:
        """Return the same as a coroutine function."""

        async def handle(source: Any, payload: Any) -> None:
            began = time.monotonic()
            await asyncio.sleep(TOOK_S)
            self.own[key] = time.monotonic() - began

        return handle

    def replying_later(self, key: str) -> Callable[[Any, Any, Any], None]:
        """Return a handler whose `cb` a thread calls."""

        def handle(source: Any, payload: Any, cb: Any) -> None:
            began = time.monotonic()

            def reply() -> None:
                time.sleep(TOOK_S)
                self.own[key] = time.monotonic() - began
                cb()

            threading.Thread(target=reply).start()

        return handle

    async def call(self, stage: Stage, key: str, make: Callable[[], Any]) -> None:
        began = time.monotonic()
        await stage.within(stage.face.error(make()))
        self.caller[key] = time.monotonic() - began


def fail() -> None:
    raise ringback.CallbackError("as it should", code="PLANTED")


async def watched(stage: Stage, operator: Any, count: int) -> dict[str, dict[str, Any]]:
    """Return the watched calls by key, once there are this many."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            rows, _ = await stage.result(operator.query("calls"))
            if len(rows) >= count:
                return {row["key"]: row for row in (named(Subject.CALLS, row) for row in rows)}
            await asyncio.sleep(0.05)


@played
async def test_every_kind_of_handler_shows_the_time_that_it_took(stage: Stage) -> None:
    server, player = await stage.pair()
    operator = await stage.operator()
    times = Times()
    register = server.register_server_callback
    register("plain", times.blocking("plain"))
    register("raises", times.blocking("raises", fail))
    register("async", times.waiting("async"))
    register("later", times.replying_later("later"))
    register("nobody", lambda source, payload: None, allow=[8])
    keys = ["plain", "raises", "async", "later"]
    if stage.face.name == "asyncio":
        register("threaded", times.blocking("threaded"), in_thread=True)
        keys.append("threaded")
    await stage.result(operator.watch())
    await stage.until(player, server_is_watched(server), "the server watches")
    for key in keys:
        await times.call(stage, key, lambda key=key: player.trigger_server_callback(key))  # type: ignore[misc]
    await times.call(stage, "nobody", lambda: player.trigger_server_callback("nobody"))
    shown = await watched(stage, operator, len(keys) + 1)
    for key in keys:
        assert shown[key]["outcome"] == ("PLANTED" if key == "raises" else "OK")
        assert times.own[key] - CLOCK_S <= shown[key]["took_s"] <= times.caller[key], key
    assert shown["nobody"]["outcome"] == "FORBIDDEN" and shown["nobody"]["took_s"] == 0.0


def server_is_watched(server: Any) -> Callable[[], bool]:
    def check() -> bool:
        recorder = server._endpoint._state.recorder
        return recorder is not None and bool(recorder.watches)

    return check


@played
async def test_local_and_nested_handlers_show_the_time_that_they_took(stage: Stage) -> None:
    server, player = await stage.pair()
    operator = await stage.operator()
    times = Times()
    server.register_server_callback("local", times.blocking("local"))
    server.register_server_callback("inner", times.blocking("inner"))
    nested = stage.face.handler(lambda source, payload: server.trigger_callback("inner", 7))
    server.register_server_callback("outer", nested)
    await stage.result(operator.watch())
    await stage.until(player, server_is_watched(server), "the server watches")
    await times.call(stage, "local", lambda: server.trigger_callback("local", 7))
    await times.call(stage, "outer", lambda: player.trigger_server_callback("outer"))
    shown = await watched(stage, operator, 3)
    assert times.own["local"] - CLOCK_S <= shown["local"]["took_s"] <= times.caller["local"]
    inner, outer = shown["inner"]["took_s"], shown["outer"]["took_s"]
    assert times.own["inner"] - CLOCK_S <= inner <= outer + CLOCK_S <= times.caller["outer"] + 2 * CLOCK_S


@played
async def test_handlers_that_run_one_after_the_other_do_not_add_up(stage: Stage) -> None:
    """Ten calls come at once, and their handlers run in turn. Each of them takes 50 ms, not up to 500 ms."""
    server = await stage.server(workers=1)
    player = await stage.player(7)
    operator = await stage.operator()
    own: list[float] = []

    def handle(source: Any, payload: Any) -> None:
        began = time.monotonic()
        time.sleep(TOOK_S)
        own.append(time.monotonic() - began)

    server.register_server_callback("in turn", handle)
    calls = [player.trigger_server_callback("in turn") for _ in range(10)]
    for call in calls:
        await stage.result(call)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            rows, _ = await stage.result(operator.query("callbacks"))
            found = [named(Subject.CALLBACKS, one) for one in rows]
            [row] = [one for one in found if one["key"] == "in turn"]
            if row["calls"] == 10:
                break
            await asyncio.sleep(0.05)
    own.sort()
    assert 1000 * own[4] * 0.98 <= row["p50_ms"] <= 1000 * own[4] * 1.02 + 5.0
    assert 1000 * own[9] * 0.98 <= row["p99_ms"] <= 1000 * own[9] * 1.02 + 5.0


@played
async def test_a_handler_that_is_cancelled_shows_how_long_it_ran(stage: Stage) -> None:
    server, player = await stage.pair()
    operator = await stage.operator()
    began, may_end = asyncio.Event(), threading.Event()
    loop, at = asyncio.get_running_loop(), []

    def handle(source: Any, payload: Any, cb: Any) -> None:
        at.append(time.monotonic())
        loop.call_soon_threadsafe(began.set)
        threading.Thread(target=may_end.wait, args=(PATIENCE_S,)).start()

    server.register_server_callback("cancelled", handle)
    await stage.result(operator.watch())
    await stage.until(player, server_is_watched(server), "the server watches")
    called_at = time.monotonic()
    call = player.trigger_server_callback("cancelled")
    await stage.within(began.wait())
    cancelled_at = time.monotonic()
    call.cancel()
    with suppress(ringback.CallbackError):
        await stage.result(call)
    shown = (await watched(stage, operator, 1))["cancelled"]
    may_end.set()
    assert shown["outcome"] == "CANCELLED"
    assert cancelled_at - at[0] <= shown["took_s"] <= time.monotonic() - called_at
