"""One server after the other: tickets, and a server that waits for the place of another one."""

from __future__ import annotations

import asyncio
from typing import Any

import zmq
from support.faces import HereBroker, Stage, played
from support.harness import PATIENCE_S
from support.rawpeers import RawPeer

from ringback import RejectCode
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
                endpoint._endpoint._link.ticket = ticket
                made.append(await stage._start(endpoint))
                assert ticket not in (None, endpoint._endpoint._link.ticket)
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
