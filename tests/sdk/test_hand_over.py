"""One server after the other: tickets, servers that stand by, and servers that hand over."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import zmq
from support.faces import HereBroker, Seen, Stage, played
from support.harness import PATIENCE_S
from support.rawpeers import RawPeer

import ringback
from ringback import CallTimeout, Code, NoServer, RejectCode
from ringback.protocol import control
from ringback.protocol.frames import Role


@played
async def test_a_server_waits_until_the_one_before_is_gone(stage: Stage) -> None:
    first, player = await stage.pair()
    starting = asyncio.create_task(stage.server(connect_timeout=PATIENCE_S))
    counters = stage.broker.broker.switchboard.counters
    await stage.until(player, lambda: counters.refused_server_taken > 0, "the second server was refused")
    assert not starting.done()
    await stage.still_works(first, player)
    await stage.face.close(first)
    second = await stage.within(starting)
    await stage.still_works(second, player)


@played
async def test_a_ticket_takes_the_place_of_a_link_whose_loss_was_not_noticed(stage: Stage) -> None:
    """The raw peers stand for the links that the endpoints lost: they are open, and nobody reads them."""
    context: zmq.Context[Any] = zmq.Context()
    places = ((Role.SERVER, stage.broker.backend, ()), (Role.PLAYER, stage.broker.players, (7,)))
    made = []
    try:
        for role, address, name in places:
            with RawPeer(context, address) as old:
                ticket = old.join(role, *name, ticket=b"").ticket
                endpoint = stage.make(role.value.title(), address, *name)
                endpoint._endpoint._description.ticket = ticket
                made.append(await stage._start(endpoint))
                assert ticket not in (None, endpoint._endpoint._description.ticket)
                reject = old.told()
                assert isinstance(reject, control.Reject) and reject.code is RejectCode.REPLACED
        server, player = made
        await stage.until(player, lambda: server.players == [7], "the server knows of the player")
        await stage.still_works(server, player)
    finally:
        context.destroy(0)


def test_a_ticket_that_fits_nobody(here: HereBroker) -> None:
    context: zmq.Context[Any] = zmq.Context()
    try:
        with RawPeer(context, here.players) as first, RawPeer(context, here.players) as second:
            assert first.join(Role.PLAYER, 7, ticket=bytes(16)).ticket not in (None, bytes(16))
            second.hello(Role.PLAYER, 7, ticket=bytes(16))
            refusal = second.told()
            assert isinstance(refusal, control.Reject) and refusal.code is RejectCode.ID_TAKEN
    finally:
        context.destroy(0)


# -- standby


@played
async def test_a_server_stands_by_until_the_other_one_leaves(stage: Stage) -> None:
    first, player = await stage.pair()
    second = stage.make("Server", stage.broker.backend, standby=True)
    seen = Seen()
    second.on_acting(lambda acting: seen(acting))
    second.register_server_callback("who", lambda source, payload: "second")
    await stage._start(second)
    assert second.connected and not second.acting and first.acting
    assert repr(second).endswith(" connected, does not act>") and repr(first).endswith(" connected>")
    assert second.players == []
    for call in (second.trigger_client_callback("still works", 7), second.trigger_client_callback("k", 8)):
        error = await stage.failure(call)
        assert (error.code, error.executed) == (Code.NO_SERVER, "no") and "stands by" in str(error)
    assert await stage.result(second.trigger_callback("who", 7)) == "second"  # it needs no broker
    await stage.still_works(first, player)
    assert first.acting and not second.acting
    await stage.face.close(first)
    assert await seen.count(1) == [True]
    assert second.acting and not first.acting
    assert second.players == [7]
    assert await stage.result(player.trigger_server_callback("who")) == "second"
    await stage.still_works(second, player)
    third = await stage.server(standby=True)
    assert not third.acting
    await stage.face.close(second)
    assert (await seen.count(2))[1:] == [False]
    assert not second.acting


@played
async def test_the_first_server_to_stand_by_acts_at_once(stage: Stage) -> None:
    server = await stage.server(standby=True)
    assert server.acting
    player = await stage.player(7)
    await stage.still_works(server, player)


@played
async def test_too_many_servers_stand_by(stage: Stage) -> None:
    for _ in range(9):
        await stage.server(standby=True)
    with pytest.raises(ringback.Refused, match=r"FULL.*8 servers that stand by"):
        await stage.server(standby=True)


@played
async def test_standby_is_for_servers(stage: Stage) -> None:
    with pytest.raises(TypeError, match="only a server has it"):
        stage.make("Player", stage.broker.players, standby=True)
    with pytest.raises(TypeError, match="standby must be a bool"):
        stage.make("Server", stage.broker.backend, standby="yes")


# -- hand-over


@played
async def test_a_server_hands_over_and_finishes_what_it_has_begun(stage: Stage) -> None:
    """A handler calls the player that called it, and replies, after the other server acts already."""
    first, player = await stage.pair(workers=8)
    player.register_client_callback("double", lambda payload: 2 * payload)
    second = await stage.server(standby=True)
    begun, acting = Seen(), Seen()
    second.on_acting(lambda now: acting(now))
    for server, name in ((first, "first"), (second, "second")):
        server.register_server_callback("who", lambda source, payload, name=name: name)

    if stage.face.name == "blocking":

        def slow(source: Any, payload: Any) -> Any:
            begun(payload)
            asyncio.run(acting.count(1))
            return first.trigger_client_callback("double", source, payload).result()

    else:

        async def slow(source: Any, payload: Any) -> Any:
            begun(payload)
            await acting.count(1)
            return await first.trigger_client_callback("double", source, payload)

    first.register_server_callback("slow", slow)
    calls = [player.trigger_server_callback("slow", number) for number in range(3)]
    waits = first.trigger_client_callback("waits", 7, timeout=PATIENCE_S)
    assert (await stage.failure(waits)).code is Code.UNKNOWN_CALLBACK
    await begun.count(3)
    await stage.within(hand_over(stage, first))
    assert not first.connected and not first.acting and second.acting
    assert [await stage.result(call) for call in calls] == [0, 2, 4]
    assert await stage.result(player.trigger_server_callback("who")) == "second"
    await stage.still_works(second, player)
    assert first.counters.stray_replies == second.counters.stray_replies == player.counters.stray_replies == 0


async def hand_over(stage: Stage, server: Any, within_s: float | None = 30.0) -> None:
    """Call `hand_over` of a server of either face."""
    if stage.face.name == "blocking":
        await asyncio.to_thread(server.hand_over, within_s)
    else:
        await server.hand_over(within_s)


@played
async def test_nobody_stands_by(stage: Stage) -> None:
    server, player = await stage.pair()
    with pytest.raises(NoServer, match="no server stands by"):
        await hand_over(stage, server)
    assert server.acting
    await stage.still_works(server, player)
    second = await stage.server(standby=True)
    with pytest.raises(NoServer, match="this server stands by"):
        await hand_over(stage, second)


@played
async def test_what_was_begun_does_not_end_in_time(stage: Stage) -> None:
    """The server then closes, and the call ends: nobody waits for a server that has left."""
    first, player = await stage.pair()
    begun = Seen()
    first.register_server_callback("never", lambda source, payload, cb: begun(cb))
    await stage.server(standby=True)
    call = player.trigger_server_callback("never", timeout=None)
    await begun.count(1)
    with pytest.raises(CallTimeout):
        await hand_over(stage, first, 0.1)
    assert first.connected and not first.acting and not call.done()
    await stage.face.close(first)
    error = await stage.failure(call)
    assert (error.code, error.executed) == (Code.SERVER_LOST, "maybe")


@played
async def test_a_server_that_forever_runs_ends_when_it_hands_over(stage: Stage) -> None:
    first, player = await stage.pair()
    second = await stage.server(standby=True)
    run = asyncio.to_thread(first.run_forever) if stage.face.name == "blocking" else first.run_forever()
    running = asyncio.ensure_future(run)
    await stage.still_works(first, player)
    operator = await stage.operator()
    await stage.result(operator.hand_over())
    await stage.within(running)
    assert not first.connected
    await stage.still_works(second, player)
    error = await stage.failure(operator.hand_over())
    assert error.code is Code.NO_SERVER
