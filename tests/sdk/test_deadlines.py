"""Timeouts, inherited budgets, and cancelling."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import msgpack
import pytest
import zmq
from support.faces import Asyncio, HereBroker, Seen, Stage, played
from support.harness import PATIENCE_S
from support.rawpeers import RawPeer

from ringback import CallTimeout, Code, Limits, remaining
from ringback.protocol.envelopes import ERROR, Encoder
from ringback.protocol.frames import FrameType, Role, header


@played
async def test_a_silent_handler_times_out(stage: Stage) -> None:
    server, player = await stage.pair()
    server.register_server_callback("silent", lambda source, payload, cb: None)
    player.register_client_callback("silent", lambda payload, cb: None)
    for trigger in (
        lambda: player.trigger_server_callback("silent", timeout=0.1),
        lambda: server.trigger_client_callback("silent", 7, timeout=0.1),
        lambda: server.trigger_callback("silent", 7, timeout=0.1),
    ):
        began = time.monotonic()
        error = await stage.failure(trigger())
        assert 0.1 <= time.monotonic() - began < 5
        assert isinstance(error, CallTimeout) and error.executed == "maybe"
        assert error.message == "no reply to the call of 'silent' came within 0.1 s"
    await stage.still_works(server, player)


@played
async def test_a_caller_without_a_timer_is_told_that_its_time_is_over(stage: Stage) -> None:
    server, player = await stage.pair()
    kept = Seen()
    server.register_server_callback("silent", lambda source, payload, cb: kept(cb))

    def call() -> list[Any]:
        with zmq.Context() as context, RawPeer(context, stage.broker.players) as peer:
            peer.join(Role.PLAYER, "raw")
            peer.send(header(FrameType.DATA) + b"\x91" + Encoder(Limits()).call(5, "silent", None, 300))
            while (frame := peer.receive()[0])[1] != FrameType.DATA:
                pass
            envelopes: list[Any] = msgpack.unpackb(frame[8:])
            return envelopes

    [reply] = await asyncio.to_thread(call)
    assert [*reply[:3], reply[4]] == [ERROR, 5, Code.TIMEOUT, 1]
    (cb,) = await kept.count(1)
    assert cb.cancelled
    cb("too late")
    await stage.until(player, lambda: server.counters.late_replies == 1, "the reply was dropped")
    await stage.still_works(server, player)


@played
async def test_each_timeout_ends_on_time(stage: Stage) -> None:
    """A call with a short timeout does not wait for an earlier one with a long timeout."""
    server, player = await stage.pair()
    server.register_server_callback("silent", lambda source, payload, cb: None)
    seen = Seen()
    for timeout in (60.0, 0.3, 0.05, 0.2, None):
        player.trigger_server_callback("silent", on_error=lambda _, t=timeout: seen(t), timeout=timeout)
    assert await seen.count(3) == [0.05, 0.2, 0.3]


@played
async def test_a_timeout_of_zero(stage: Stage) -> None:
    server, player = await stage.pair()
    ran = Seen()
    server.register_server_callback("k", lambda source, payload: ran(payload))
    for timeout in (0, 0.0):
        error = await stage.failure(player.trigger_server_callback("k", timeout=timeout))
        assert error.code is Code.TIMEOUT and error.executed == "no"
    await stage.still_works(server, player)
    assert ran.items == []


BAD_TIMEOUTS: list[Any] = [-1, -0.001, float("nan"), float("-inf"), True, "1", b"1", [1], 1j]


@pytest.mark.parametrize("timeout", BAD_TIMEOUTS, ids=repr)
def test_timeouts_that_are_refused(face: Any, here: HereBroker, timeout: Any) -> None:
    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair()
        operator = await stage.operator()
        wrong = ValueError if type(timeout) in (int, float) else TypeError
        for function in (
            lambda: player.trigger_server_callback("k", timeout=timeout),
            lambda: server.trigger_client_callback("k", 7, timeout=timeout),
            lambda: server.trigger_callback("k", 7, timeout=timeout),
            lambda: server.trigger_all_client_callbacks("k", timeout=timeout),
            lambda: operator.trigger_all_client_callbacks("k", timeout=timeout),
            lambda: operator.query("players", timeout=timeout),
            lambda: operator.ping(timeout=timeout),
            lambda: stage.make("Server", here.backend, connect_timeout=timeout),
        ):
            with pytest.raises(wrong, match="timeout"):
                function()
        await stage.still_works(server, player)

    scene(face, here)


@pytest.mark.parametrize("timeout", [None, float("inf"), 1e300, 10**30, 10**400, 5])
def test_timeouts_that_are_accepted(face: Any, here: HereBroker, timeout: Any) -> None:
    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair()
        left = Seen()

        def handler(source: Any, payload: Any) -> None:
            left(remaining())

        server.register_server_callback("k", handler)
        await stage.result(player.trigger_server_callback("k", timeout=timeout))
        (value,) = await left.count(1)
        assert (value is None) == (timeout != 5)
        assert value is None or 0 < value <= 5

    scene(face, here)


@played
async def test_nested_calls_inherit_the_time_that_is_left(stage: Stage) -> None:
    """In a chain of handlers, each has less time, whatever timeout it gives its own call."""
    server, player = await stage.pair()
    left = Seen()

    def up(source: Any, payload: Any) -> Any:
        left(remaining())
        return server.trigger_client_callback("down", 7, timeout=None)

    def down(payload: Any) -> Any:
        left(remaining())
        return player.trigger_server_callback("end", timeout=1000)

    async def end(source: Any, payload: Any) -> None:
        await asyncio.sleep(0)
        left(remaining())

    server.register_server_callback("up", stage.face.handler(up))
    player.register_client_callback("down", stage.face.handler(down))
    server.register_server_callback("end", end)
    await stage.result(player.trigger_server_callback("up", timeout=9.0))
    items = await left.count(3)
    # A budget travels in milliseconds, rounded up: each hop may add one.
    assert 9.001 >= items[0] >= items[1] - 0.001 >= items[2] - 0.002 > 0
    assert remaining() is None


@played
async def test_a_nested_call_ends_with_the_budget_of_the_outer_one(stage: Stage) -> None:
    server, player = await stage.pair()
    nested = Seen()

    def up(source: Any, payload: Any) -> Any:
        return server.trigger_client_callback("silent", 7, on_error=nested, timeout=1000)

    server.register_server_callback("up", stage.face.handler(up))
    player.register_client_callback("silent", lambda payload, cb: None)
    error = await stage.failure(player.trigger_server_callback("up", timeout=0.2))
    assert error.code in (Code.TIMEOUT, Code.HANDLER_ERROR)
    (error,) = await nested.count(1)
    # The deadline ends the coroutine and the call that it awaits. Either may be first.
    ways = {Code.TIMEOUT} if stage.face.name == "blocking" else {Code.TIMEOUT, Code.CANCELLED}
    assert error.code in ways


@played
async def test_callbacks_do_not_inherit_the_deadline_of_a_handler(stage: Stage) -> None:
    """A call that a handler triggers and does not await goes on after the deadline of the handler."""
    server, player = await stage.pair()
    seen = Seen()

    def handler(source: Any, payload: Any) -> None:
        server.trigger_client_callback("k", 7, None, callback)

    def callback(_: Any) -> None:
        seen(remaining())
        server.trigger_client_callback("k", 7, None, lambda _: seen("triggered"), on_error=seen)

    def local(source: Any, payload: Any) -> None:
        server.trigger_callback("k", 7, None, callback)

    server.register_server_callback("begin", handler)
    server.register_server_callback("begin here", local)
    server.register_server_callback("k", lambda source, payload: None)
    player.register_client_callback("k", lambda payload: None)
    await stage.result(player.trigger_server_callback("begin", timeout=5.0))
    assert await seen.count(2) == [None, "triggered"]
    await stage.result(player.trigger_server_callback("begin here", timeout=5.0))
    assert (await seen.count(4))[2:] == [None, "triggered"]


@played
async def test_a_spent_budget_runs_no_handler(stage: Stage) -> None:
    """The worker, or the loop, is busy until the deadline of the call has passed."""
    server, player = await stage.pair(workers=1)
    began, may_end = threading.Event(), threading.Event()
    ran = Seen()

    def blocks(source: Any, payload: Any) -> None:
        began.set()
        may_end.wait(PATIENCE_S)

    server.register_server_callback("runs", lambda source, payload: ran(payload))
    if stage.face.name == "blocking":
        server.register_server_callback("blocks", blocks)
        blocked = player.trigger_server_callback("blocks", timeout=PATIENCE_S)
        assert await asyncio.to_thread(began.wait, PATIENCE_S)
        error = await stage.failure(player.trigger_server_callback("runs", 1, timeout=0.1))

        def handled() -> int:
            return int(server._endpoint.load().executions)

        # The server counts the budget from the arrival of the call, so a little later than the caller.
        await stage.until(player, lambda: handled() == 1, "the server has given it up too")
        may_end.set()
        await stage.result(blocked)
    else:

        def busy(source: Any, payload: Any) -> None:
            until = time.monotonic() + 0.1
            while time.monotonic() < until:
                pass

        server.register_server_callback("busy", busy)
        calls = [
            player.trigger_server_callback("busy", timeout=PATIENCE_S),
            player.trigger_server_callback("runs", 1, timeout=0.05),
        ]
        error = await stage.failure(calls[1])
        await stage.result(calls[0])
    assert error.code is Code.TIMEOUT
    await stage.still_works(server, player)
    assert ran.items == []


# -- cancelling


@played
async def test_cancelling_a_call(stage: Stage) -> None:
    server, player = await stage.pair()
    kept = Seen()
    server.register_server_callback("silent", lambda source, payload, cb: kept(cb))
    failed = Seen()
    call = player.trigger_server_callback("silent", on_error=failed)
    (cb,) = await kept.count(1)
    assert not call.done() and not cb.cancelled
    call.cancel()
    error = await stage.failure(call)
    assert error.code is Code.CANCELLED and error.executed == "maybe"
    call.cancel()  # the call has ended: this does nothing
    [told] = await failed.count(1)  # each raise and each on_error gets a copy of its own
    assert told is not error and type(told) is type(error)
    assert (told.code, told.message, told.executed) == (error.code, error.message, error.executed)
    await stage.until(player, lambda: cb.cancelled, "the handler is told")
    cb("nobody waits")
    await stage.until(player, lambda: server.counters.late_replies == 1, "the reply was dropped")
    assert player.counters.stray_replies == 0
    await stage.still_works(server, player)


@played
async def test_cancelling_before_the_handler_starts(stage: Stage) -> None:
    if stage.face.name == "asyncio":
        return  # in asyncio, a handler starts as soon as its call arrives
    server, player = await stage.pair(workers=1)
    began, may_end = threading.Event(), threading.Event()

    def blocks(source: Any, payload: Any) -> None:
        began.set()
        may_end.wait(PATIENCE_S)

    ran = Seen()
    server.register_server_callback("blocks", blocks)
    server.register_server_callback("runs", lambda source, payload: ran(payload))
    blocked = player.trigger_server_callback("blocks")
    assert await asyncio.to_thread(began.wait, PATIENCE_S)
    call = player.trigger_server_callback("runs", 1)
    await stage.until(player, lambda: server.counters.executions == 2, "the call has come")
    call.cancel()
    assert (await stage.failure(call)).code is Code.CANCELLED
    # A call that is sent after the CANCEL arrives after it.
    after = await stage.failure(player.trigger_server_callback("nothing has this key"))
    assert after.code is Code.UNKNOWN_CALLBACK
    may_end.set()
    await stage.result(blocked)
    await stage.still_works(server, player)
    assert ran.items == []


def test_a_coroutine_of_a_cancelled_call_is_cancelled(here: HereBroker) -> None:
    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair()
        began, ended = asyncio.Event(), asyncio.Event()

        async def forever(source: Any, payload: Any) -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ended.set()
                raise

        server.register_server_callback("forever", forever)
        # Once by the call, once by the task that awaits it.
        call = player.trigger_server_callback("forever")
        await stage.within(began.wait())
        call.cancel()
        await stage.within(ended.wait())
        began.clear()
        ended.clear()

        async def waits() -> Any:
            return await player.trigger_server_callback("forever")

        task = asyncio.create_task(waits())
        await stage.within(began.wait())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await stage.within(ended.wait())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(player.trigger_server_callback("forever"), 0.05)
        assert player.counters.errors == 3
        await stage.still_works(server, player)

    scene(Asyncio(), here)


def test_a_coroutine_is_cancelled_when_its_caller_no_longer_waits(here: HereBroker) -> None:
    """The call times out, the caller leaves, or the link of the handler is lost."""

    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair()
        operator = await stage.operator()
        began, ended = asyncio.Event(), asyncio.Event()

        async def forever(payload: Any) -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ended.set()
                raise

        async def is_stopped() -> None:
            await stage.within(ended.wait())
            began.clear()
            ended.clear()

        server.register_server_callback("forever", lambda source, payload: forever(payload))
        player.register_client_callback("forever", forever)
        timed = player.trigger_server_callback("forever", timeout=0.05)
        await is_stopped()
        assert (await stage.failure(timed)).code is Code.TIMEOUT
        of_player = player.trigger_server_callback("forever", timeout=None)
        await stage.within(began.wait())
        await stage.face.close(player)
        await is_stopped()
        assert (await stage.failure(of_player)).code is Code.CONNECTION_LOST
        await stage.face.start(player)
        of_operator = operator.trigger_client_callback("forever", 7, timeout=None)
        await stage.within(began.wait())
        here.drain()
        await is_stopped()
        assert (await stage.failure(of_operator)).code is Code.CONNECTION_LOST

    scene(Asyncio(), here)


def test_awaiting_in_all_ways(here: HereBroker) -> None:
    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair()
        server.register_server_callback("k", lambda source, payload: payload)
        calls = [player.trigger_server_callback("k", number) for number in range(3)]
        with pytest.raises(asyncio.InvalidStateError):
            calls[0].result()
        assert await asyncio.gather(*calls) == [0, 1, 2]
        assert await calls[0] == 0
        call = player.trigger_server_callback("k", 5)
        assert await asyncio.gather(call, call, asyncio.wait_for(call, PATIENCE_S)) == [5, 5, 5]

    scene(Asyncio(), here)


@played
async def test_waiting_from_many_threads(stage: Stage) -> None:
    if stage.face.name == "asyncio":
        return
    server, player = await stage.pair()
    kept = Seen()
    server.register_server_callback("k", lambda source, payload, cb: kept(cb))
    call = player.trigger_server_callback("k")
    results = Seen()
    threads = [threading.Thread(target=lambda: results(call.result())) for _ in range(8)]
    for thread in threads:
        thread.start()
    (cb,) = await kept.count(1)
    cb("for all")
    assert await results.count(8) == ["for all"] * 8
    for thread in threads:
        thread.join()


def test_many_timeouts_at_once_leave_nothing_behind(face: Any, here: HereBroker) -> None:
    @played
    async def scene(stage: Stage) -> None:
        server = await stage.server(limits=Limits(max_in_flight=10_000))
        player = await stage.player(7)
        server.register_server_callback("silent", lambda source, payload, cb: None)
        calls = [player.trigger_server_callback("silent", timeout=0.3) for _ in range(3000)]
        errors = [await stage.failure(call) for call in calls]
        assert {error.code for error in errors} == {Code.TIMEOUT}
        counters = player.counters
        assert counters.calls == counters.errors == 3000
        assert player._endpoint.load().pending == 0

    scene(face, here)
