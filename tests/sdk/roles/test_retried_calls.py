"""Calls that are tried again, with a real broker."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from support.faces import Seen, Stage, played
from support.harness import PATIENCE_S

from ringback import Code, Limits, Retry
from ringback.core.receipts import MAX_LATER


def drop_link(endpoint: Any) -> None:
    """Have an endpoint lose its link. It connects again by itself."""
    endpoint._submit(endpoint._endpoint.link_lost, time.monotonic(), "the test cut it")
    endpoint._shell.want_flush()  # ends the step, as after a message


@played
async def test_a_call_waits_for_the_server(stage: Stage) -> None:
    player = await stage.player(7)
    call = player.trigger_server_callback("echo", "hello", timeout=PATIENCE_S, retry=True)
    at_once = player.trigger_server_callback("echo", timeout=PATIENCE_S)
    assert (await stage.failure(at_once)).code is Code.NO_SERVER
    server = stage.make("Server", stage.broker.backend)
    server.register_server_callback("echo", lambda source, payload: payload)
    await stage.face.start(server)
    assert await stage.result(call) == "hello"
    await stage.face.close(server)


@played
async def test_a_rate_limit_is_waited_for(stage: Stage) -> None:
    server, player = await stage.pair()
    server.register_server_callback("count", lambda source, payload: payload, limit="20/s")
    calls = [
        player.trigger_server_callback("count", number, timeout=PATIENCE_S, retry=Retry(attempts=100))
        for number in range(30)
    ]
    assert await stage.within(stage.face.result_of_each(calls)) == list(range(30))


@played
async def test_a_busy_server_is_waited_for(stage: Stage) -> None:
    server = await stage.server(limits=Limits(max_running=2))
    player = await stage.player(7)
    started = Seen()
    server.register_server_callback("slow", lambda source, payload, cb: started(cb))
    often = Retry(attempts=1000, longest_delay=0.05)
    calls = [
        player.trigger_server_callback("slow", number, timeout=PATIENCE_S, retry=often) for number in range(8)
    ]
    for number in range(8):
        (await started.count(number + 1))[number]("done")
    assert await stage.within(stage.face.result_of_each(calls)) == 8 * ["done"]
    assert len(started.items) == 8


@played
async def test_more_calls_than_a_player_s_share_of_the_memory(stage: Stage) -> None:
    """The server forgets each outcome when the player has it."""
    server, player = await stage.pair()
    server.register_server_callback("double", lambda source, payload: 2 * payload)
    calls = [
        player.trigger_server_callback("double", number, timeout=60.0, retry=True, wait_for_room=True)
        for number in range(10_000)
    ]
    results = await asyncio.wait_for(stage.face.result_of_each(calls), 2 * PATIENCE_S)
    assert results == [2 * number for number in range(10_000)]
    load = server._endpoint.load
    await stage.until(player, lambda: load().remembered < MAX_LATER, "the receipts have come")


@played
async def test_progress_goes_on_after_a_lost_link(stage: Stage) -> None:
    server, player = await stage.pair()
    started, values, joined = Seen(), Seen(), Seen()
    server.register_server_callback("slow", lambda source, payload, cb: started(cb))
    call = player.trigger_server_callback("slow", timeout=PATIENCE_S, retry=True, on_progress=values)
    [cb] = await started.count(1)
    cb.progress("before")
    await values.count(1)
    server.on_player_joined(joined)
    drop_link(player)
    await joined.count(1)
    memory = server._endpoint._once.memory

    def repeated() -> bool:
        return any(known.repeats for known in list(memory.calls.values()))

    await stage.until(player, repeated, "the repeat waits")
    cb.progress("after")
    assert await values.count(2) == ["before", "after"]
    cb("done")
    assert await stage.result(call) == "done"
    assert len(started.items) == 1


@played
async def test_a_lost_answer_does_not_run_the_handler_again(stage: Stage) -> None:
    server, player = await stage.pair()
    runs, started = [], Seen()

    def slow(source: Any, payload: Any, cb: Any) -> None:
        runs.append(payload)
        started(cb)

    server.register_server_callback("slow", slow)
    call = player.trigger_server_callback("slow", "one", timeout=PATIENCE_S, retry=True)
    [cb] = await started.count(1)
    left = Seen()
    server.on_player_left(left)
    drop_link(player)
    await left.count(1)
    assert not cb.cancelled
    cb("done")
    assert await stage.result(call) == "done"
    assert runs == ["one"]
    load = server._endpoint.load()
    assert (load.remembered, load.executions) == (1, 0)


@played
async def test_the_server_loses_its_link(stage: Stage) -> None:
    server, player = await stage.pair()
    runs, started = [], Seen()

    def slow(source: Any, payload: Any, cb: Any) -> None:
        runs.append(payload)
        started(cb)

    server.register_server_callback("slow", slow)
    call = player.trigger_server_callback("slow", "one", timeout=PATIENCE_S, retry=True)
    [cb] = await started.count(1)
    drop_link(server)
    cb("done")
    assert await stage.result(call) == "done"
    assert runs == ["one"]


@played
async def test_calls_to_players_are_tried_again_too(stage: Stage) -> None:
    server, player = await stage.pair()
    runs, started = [], Seen()

    def slow(payload: Any, cb: Any) -> None:
        runs.append(payload)
        started(cb)

    player.register_client_callback("slow", slow)
    one = server.trigger_client_callback("slow", 7, "one", timeout=PATIENCE_S, retry=True)
    await started.count(1)
    group = server.trigger_all_client_callbacks("slow", "all", timeout=PATIENCE_S, retry=True)
    cbs = await started.count(2)
    drop_link(player)
    for cb in cbs:
        cb("done")
    assert await stage.result(one) == "done"
    calls = await stage.within(stage.face.all(group))
    assert calls[7].result() == "done"
    assert sorted(runs) == ["all", "one"]


@played
async def test_a_server_that_began_later_runs_only_what_is_idempotent(stage: Stage) -> None:
    player = await stage.player(7)
    started = Seen()
    first = stage.make("Server", stage.broker.backend)
    for key in ("once", "safe"):
        first.register_server_callback(key, lambda source, payload, cb: started(cb))
    await stage.face.start(first)
    once, safe = (
        player.trigger_server_callback(key, timeout=PATIENCE_S, retry=True) for key in ("once", "safe")
    )
    await started.count(2)
    await stage.face.close(first)
    second = stage.make("Server", stage.broker.backend)
    second.register_server_callback("once", lambda source, payload: "again")
    second.register_server_callback("safe", lambda source, payload: "again", idempotent=True)
    await stage.face.start(second)
    assert await stage.result(safe) == "again"
    error = await stage.failure(once)
    assert (error.code, error.executed) == (Code.CONNECTION_LOST, "maybe")
    await stage.face.close(second)


@played
async def test_an_operator_s_call_is_tried_again(stage: Stage) -> None:
    server = await stage.server()
    operator = await stage.operator()
    started = Seen()
    server.register_server_callback("slow", lambda source, payload, cb: started(cb))
    call = operator.trigger_callback("slow", "ann", timeout=PATIENCE_S, retry=True)
    [cb] = await started.count(1)
    drop_link(operator)
    cb("done")
    assert await stage.result(call) == "done"
    assert len(started.items) == 1


@played
async def test_all_tries_fail(stage: Stage) -> None:
    player = await stage.player(7)
    call = player.trigger_server_callback("echo", retry=Retry(attempts=3, first_delay=0.01))
    error = await stage.failure(call)
    assert (error.code, error.executed) == (Code.NO_SERVER, "no")
    assert error.message == "no server is connected (tried 3 times)"


@played
async def test_a_cancel_between_two_tries(stage: Stage) -> None:
    player = await stage.player(7)
    call = player.trigger_server_callback("echo", timeout=None, retry=Retry(first_delay=60.0))
    await stage.until(player, lambda: player._endpoint.load().waiting == 1, "it waits for its next try")
    call.cancel()
    assert (await stage.failure(call)).code is Code.CANCELLED
    assert player._endpoint.load().waiting == 0


@played
async def test_callbacks_of_a_call_that_is_tried_again(stage: Stage) -> None:
    server, player = await stage.pair(limits=Limits(max_in_flight=1))
    server.register_server_callback("echo", lambda source, payload: payload)
    results, errors = Seen(), Seen()
    for number in range(5):
        player.trigger_server_callback(
            "echo", number, results, on_error=errors, timeout=PATIENCE_S, retry=True, wait_for_room=True
        )
    player.trigger_server_callback("nothing", None, results, on_error=errors, retry=True)
    assert sorted(await results.count(5)) == [0, 1, 2, 3, 4]
    [error] = await errors.count(1)
    assert error.code in (Code.UNKNOWN_CALLBACK, Code.OVERLOADED)


@played
async def test_wrong_arguments(stage: Stage) -> None:
    server, player = await stage.pair()
    with pytest.raises(TypeError, match="retry must be True, False, None or a Retry, not str"):
        player.trigger_server_callback("echo", retry="yes")
    with pytest.raises(TypeError, match="retry must be"):
        server.trigger_all_client_callbacks("echo", retry=3)
    with pytest.raises(ValueError, match="reserved"):
        server.register_server_callback("ringback:repeat", lambda source, payload: None)
    call = player.trigger_server_callback("nothing", retry=False)
    assert (await stage.failure(call)).code is Code.UNKNOWN_CALLBACK
