"""Calls that wait until the limits of their own endpoint have room for them."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import Any

import pytest
from support.faces import Seen, Stage, played
from support.harness import PATIENCE_S

import ringback
from ringback import Code, Limits, aio


@played
async def test_an_option_that_is_no_bool(stage: Stage) -> None:
    _, player = await stage.pair()
    with pytest.raises(TypeError, match="wait_for_room must be a bool, not str"):
        player.trigger_server_callback("k", wait_for_room="no")
    with pytest.raises(TypeError, match="wait_for_room must be a bool, not int"):
        player.trigger_server_callback("k", wait_for_room=1, retry=True)


@played
async def test_ten_thousand_calls_at_once(stage: Stage) -> None:
    server, player = await stage.pair()
    server.register_server_callback("double", lambda source, payload: 2 * payload)

    def trigger_all() -> list[Any]:
        return [
            player.trigger_server_callback("double", number, timeout=PATIENCE_S, wait_for_room=True)
            for number in range(10_000)
        ]

    results = await asyncio.wait_for(stage.face.result_of_each(trigger_all()), 2 * PATIENCE_S)
    assert results == [2 * number for number in range(10_000)]
    assert player._endpoint.load().waiting == 0


@played
async def test_without_it_calls_over_the_limit_fail(stage: Stage) -> None:
    server, player = await stage.pair(limits=Limits(max_in_flight=2))
    kept = Seen()
    server.register_server_callback("keep", lambda source, payload, cb: kept(cb))
    calls = [player.trigger_server_callback("keep") for _ in range(2)]
    assert (await stage.failure(player.trigger_server_callback("keep"))).code is Code.OVERLOADED
    waits = player.trigger_server_callback("keep", wait_for_room=True)
    for cb in (await kept.count(2))[:2]:
        cb("kept")
    for call in calls:
        assert await stage.result(call) == "kept"
    (await kept.count(3))[2]("at last")
    assert await stage.result(waits) == "at last"


@played
async def test_a_wait_ends_in_time_and_can_be_cancelled(stage: Stage) -> None:
    server, player = await stage.pair(limits=Limits(max_in_flight=1))
    kept = Seen()
    player.register_client_callback("keep", lambda payload, cb: kept(cb))
    first = server.trigger_client_callback("keep", 7)
    late = server.trigger_client_callback("keep", 7, timeout=0.05, wait_for_room=True)
    waits = server.trigger_client_callback("keep", 7, wait_for_room=True)
    error = await stage.failure(late)
    assert (error.code, error.executed) == (Code.TIMEOUT, "no")
    waits.cancel()
    error = await stage.failure(waits)
    assert (error.code, error.executed) == (Code.CANCELLED, "no")
    (await kept.count(1))[0]()
    assert await stage.result(first) is None
    await stage.still_works(server, player)


@played
async def test_a_closed_endpoint_ends_the_waits(stage: Stage) -> None:
    server, player = await stage.pair(limits=Limits(max_in_flight=1))
    kept = Seen()
    server.register_server_callback("keep", lambda source, payload, cb: kept(cb))
    player.trigger_server_callback("keep")
    waits = player.trigger_server_callback("keep", wait_for_room=True)
    await kept.count(1)
    await stage.face.close(player)
    error = await stage.failure(waits)
    assert (error.code, error.executed) == (Code.CONNECTION_LOST, "no")


@played
async def test_a_group_never_overloads_its_own_endpoint(stage: Stage) -> None:
    server = await stage.server(limits=Limits(max_pending=2))
    operator = await stage.operator(limits=Limits(max_pending=2))
    joined = Seen()
    server.on_player_joined(joined)
    for player_id in range(1, 13):
        player = await stage.player(player_id)
        player.register_client_callback("who", lambda payload, *, who=player_id: [who, payload])
    await joined.count(12)
    for trusted in (server, operator):
        group = trusted.trigger_all_client_callbacks("who", "all")
        calls = await stage.within(stage.face.all(group))
        assert {who: call.result() for who, call in calls.items()} == {n: [n, "all"] for n in range(1, 13)}


@played
async def test_a_call_of_an_operator_and_one_to_oneself_wait_too(stage: Stage) -> None:
    server = await stage.server(limits=Limits(max_in_flight=1))
    operator = await stage.operator(limits=Limits(max_in_flight=1))
    server.register_server_callback("echo", lambda source, payload: [source, payload])
    for trusted in (server, operator):
        calls = [trusted.trigger_callback("echo", "ann", n, wait_for_room=True) for n in range(20)]
        assert await stage.within(stage.face.result_of_each(calls)) == [["ann", n] for n in range(20)]


# -- ready_to_call


async def wait_until_ready(endpoint: Any, within_s: float | None = None) -> None:
    """Wait until an endpoint of either face is ready for a call."""
    if inspect.iscoroutinefunction(endpoint.ready_to_call):
        await endpoint.ready_to_call(within_s)
    else:
        await asyncio.to_thread(endpoint.ready_to_call, within_s)


@played
async def test_a_program_that_makes_calls_without_end(stage: Stage) -> None:
    server, player = await stage.pair(limits=Limits(max_pending=8, max_in_flight=8))
    server.register_server_callback("double", lambda source, payload: 2 * payload)
    calls = []
    for number in range(200):
        await wait_until_ready(player)
        calls.append(player.trigger_server_callback("double", number))
    assert await stage.within(stage.face.result_of_each(calls)) == [2 * number for number in range(200)]


@played
async def test_no_room_in_time(stage: Stage) -> None:
    server, player = await stage.pair(limits=Limits(max_in_flight=1))
    kept = Seen()
    server.register_server_callback("keep", lambda source, payload, cb: kept(cb))
    await wait_until_ready(player)
    call = player.trigger_server_callback("keep")
    with pytest.raises(TimeoutError):
        await wait_until_ready(player, 0.05)
    (await kept.count(1))[0]("kept")
    await wait_until_ready(player)
    assert await stage.result(call) == "kept"


@played
async def test_a_wait_for_room_ends_when_the_endpoint_is_closed(stage: Stage) -> None:
    server, player = await stage.pair(limits=Limits(max_in_flight=1))
    kept = Seen()
    server.register_server_callback("keep", lambda source, payload, cb: kept(cb))
    player.trigger_server_callback("keep").seen()
    waits = asyncio.ensure_future(wait_until_ready(player))
    await kept.count(1)
    await stage.until(player, lambda: player._endpoint._room.busy, "it waits for room")
    await stage.face.close(player)
    with pytest.raises(ringback.ConnectionLost):
        await stage.within(waits)
    with pytest.raises(ringback.UsageError):
        await wait_until_ready(player)


@played
async def test_no_wait_outlasts_a_kick(stage: Stage) -> None:
    """A kicked player does not connect again by itself. So a call with `retry` and a wait for room end,
    although none has a timeout."""
    server, player = await stage.pair(limits=Limits(max_in_flight=1))
    operator = await stage.operator()
    kept = Seen()
    server.register_server_callback("keep", lambda source, payload, cb: kept(cb))
    call = player.trigger_server_callback("keep", timeout=None, retry=True)
    waits = asyncio.ensure_future(wait_until_ready(player))
    await kept.count(1)
    await stage.until(player, lambda: player._endpoint._room.busy, "it waits for room")
    await stage.result(operator.kick(player.player_id, reason="it cheats"))
    assert (await stage.failure(call)).executed == "maybe"
    with pytest.raises(ringback.ConnectionLost):
        await stage.within(waits)
    wanted = "KICKED: it cheats; this endpoint does not connect again until you start it$"
    with pytest.raises(ringback.ConnectionLost, match=wanted):
        await stage.within(wait_until_ready(player))
    error = await stage.failure(player.trigger_server_callback("keep", timeout=None, retry=True))
    assert isinstance(error, ringback.ConnectionLost) and error.executed == "no"
    assert repr(player).endswith(" ended: KICKED: it cheats>")


def test_a_cancelled_task_no_longer_waits(here: Any) -> None:
    async def run() -> None:
        limits = Limits(max_in_flight=1)
        async with aio.Server(here.backend) as server, aio.Player(here.players, limits=limits) as player:
            seen = asyncio.Event()
            server.register_server_callback("keep", lambda source, payload, cb: seen.set())
            call = player.trigger_server_callback("keep")
            await seen.wait()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await player.ready_to_call()
            assert not player._endpoint._room.busy
            call.cancel()
            await player.ready_to_call()

    asyncio.run(run())


def test_threads_that_wait_for_room(here: Any) -> None:
    limits = Limits(max_in_flight=4)
    with ringback.Server(here.backend) as server, ringback.Player(here.players, limits=limits) as player:
        server.register_server_callback("double", lambda source, payload: 2 * payload)
        results: list[int] = []

        def work(first: int) -> None:
            for number in range(first, first + 50):
                player.ready_to_call()
                call = player.trigger_server_callback("double", number, wait_for_room=True)
                results.append(call.result())

        threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 400, 50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert sorted(results) == [2 * number for number in range(400)]
