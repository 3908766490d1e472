"""Who is connected: players that join and leave, and a broker that stops and returns."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from support.faces import Asyncio, Blocking, HereBroker, Seen, Stage, played

from ringback import Code


@played
async def test_players_that_join_and_leave(stage: Stage) -> None:
    early = await stage.player("early")
    server = stage.make("Server", stage.broker.backend)
    joined, left = Seen(), Seen()
    assert server.on_player_joined(joined) is joined
    server.on_player_left(left)
    await stage._start(server)
    assert server.players == ["early"]
    assert await joined.count(1) == ["early"]
    late = await stage.player(7)
    assert await joined.count(2) == ["early", 7]
    assert server.players == ["early", 7]
    await stage.face.close(early)
    assert await left.count(1) == ["early"]
    assert server.players == [7]
    await stage.still_works(server, late)
    again = await stage.player("early")
    await joined.count(3)
    assert server.players == [7, "early"]
    await stage.still_works(server, again)


@played
async def test_a_listener_may_trigger_on_the_player_that_joined(stage: Stage) -> None:
    server = await stage.server()
    greeted = Seen()

    @server.on_player_joined
    def greet(player_id: Any) -> None:
        server.trigger_client_callback("greet", player_id, "hello", greeted)

    player = stage.make("Player", stage.broker.players)
    player.register_client_callback("greet", lambda payload: f"{payload} back")
    await stage._start(player)
    assert await greeted.count(1) == ["hello back"]


@played
async def test_an_id_that_the_broker_chooses(stage: Stage) -> None:
    server = await stage.server()
    server.register_server_callback("who", lambda source, payload: source)
    players = [await stage.player() for _ in range(3)]
    ids = [player.player_id for player in players]
    assert all(type(player_id) is int for player_id in ids) and len(set(ids)) == 3
    for player in players:
        # The source is the ID that the broker knows, whatever the payload says.
        claim = {"source": 99, "player_id": 99}
        assert await stage.result(player.trigger_server_callback("who", claim)) == player.player_id
    assert (await stage.player("9")).player_id == "9"


@played
async def test_a_player_that_closes_during_a_call(stage: Stage) -> None:
    server, player = await stage.pair()
    operator = await stage.operator()
    kept = Seen()
    player.register_client_callback("silent", lambda payload, cb: kept(cb))
    server.register_server_callback("silent", lambda source, payload, cb: kept(cb))
    calls = [trusted.trigger_client_callback("silent", 7, timeout=None) for trusted in (server, operator)]
    own = player.trigger_server_callback("silent", timeout=None)
    callbacks = await kept.count(3)
    await stage.face.close(player)
    for call in calls:
        error = await stage.failure(call)
        assert error.code is Code.PLAYER_LEFT and error.executed == "maybe" and "7" in error.message
    error = await stage.failure(own)
    assert error.code is Code.CONNECTION_LOST and error.executed == "maybe"
    await stage.result(operator.ping())
    again = await stage.player(7)
    await stage.until(again, lambda: all(cb.cancelled for cb in callbacks), "all handlers are told")
    for cb in callbacks:
        cb("nobody waits")
    await stage.still_works(server, again)
    assert server.counters.stray_replies == again.counters.stray_replies == 0


@played
async def test_a_server_that_closes_during_a_call(stage: Stage) -> None:
    server, player = await stage.pair()
    operator = await stage.operator()
    kept = Seen()
    server.register_server_callback("silent", lambda source, payload, cb: kept(cb))
    calls = [
        player.trigger_server_callback("silent", timeout=None),
        operator.trigger_callback("silent", 99, timeout=None),
    ]
    local = server.trigger_callback("silent", 5, timeout=None)
    await kept.count(3)
    await stage.face.close(server)
    for call in calls:
        error = await stage.failure(call)
        assert error.code is Code.SERVER_LOST and error.executed == "maybe"
    assert (await stage.failure(local)).code is Code.CONNECTION_LOST
    again = await stage.server()
    await stage.still_works(again, player)


def test_a_broker_that_drains(face: Blocking | Asyncio) -> None:
    """Calls in flight end, new calls are refused, and the broker stops as soon as it can."""
    with HereBroker(grace=20) as here:

        @played
        async def scene(stage: Stage) -> None:
            server, player = await stage.pair()
            kept, gone = Seen(), Seen()
            server.register_server_callback("slow", lambda source, payload, cb: kept(cb))
            server.on_disconnected(gone)
            player.on_disconnected(gone)
            call = player.trigger_server_callback("slow", timeout=None)
            (cb,) = await kept.count(1)
            here.drain()
            for _ in range(5000):
                error = await stage.failure(player.trigger_server_callback("unknown"))
                if error.code is Code.DRAINING:
                    break
            assert error.code is Code.DRAINING and error.executed == "no"
            assert not call.done()
            cb("finished")
            assert await stage.result(call) == "finished"
            await gone.count(2)
            error = await stage.failure(player.trigger_server_callback("slow"))
            assert error.code is Code.CONNECTION_LOST and error.executed == "no"

        scene(face, here)


@played
async def test_a_lost_link_is_opened_again(stage: Stage) -> None:
    """Events come in order, the ID stays, the players are known again, and calls in flight end."""
    server, player = await stage.pair()
    auto = await stage.player()
    number = auto.player_id
    events, presence, kept, back = Seen(), Seen(), Seen(), Seen()
    auto.on_connected(back)
    server.on_connected(back)
    player.on_connected(lambda address: events(("connected", address)))
    player.on_disconnected(lambda reason: events(("disconnected",)))
    server.on_player_joined(lambda player_id: presence(("joined", player_id)))
    server.on_player_left(lambda player_id: presence(("left", player_id)))
    server.register_server_callback("silent", lambda source, payload, cb: kept(cb))
    call = player.trigger_server_callback("silent", timeout=None)
    await kept.count(1)

    def lose(endpoint: Any) -> None:
        """Make the endpoint find its link lost, on its own thread."""
        import time

        endpoint._endpoint.link_lost(time.monotonic(), "the test cut it")

    for endpoint in (player, server, auto):
        endpoint._submit(lose, endpoint)
    if stage.face.name == "asyncio":
        for endpoint in (player, server, auto):
            endpoint._shell._settle()
    error = await stage.failure(call)
    assert error.code in (Code.CONNECTION_LOST, Code.SERVER_LOST) and error.executed == "maybe"
    items = await events.count(2)
    assert items == [("disconnected",), ("connected", stage.broker.players)]
    await presence.until(
        lambda items: (
            {("left", 7), ("left", number), ("joined", 7), ("joined", number)} <= set(items)
            and items.index(("left", 7)) < len(items) - items[::-1].index(("joined", 7))
        )
    )
    await back.count(2)
    assert auto.player_id == number
    # The broker welcomes a player before it tells the server.
    await presence.until(lambda items: sorted(server.players) == sorted([7, number]))
    await stage.still_works(server, player)
    await stage.still_works(server, auto)
    assert server.connected and player.connected


def test_listeners_may_fail_and_wait(face: Blocking | Asyncio, here: HereBroker, sdk_log: Any) -> None:
    @played
    async def scene(stage: Stage) -> None:
        server = await stage.server(workers=1)
        server.register_server_callback("k", lambda source, payload: payload)
        seen = Seen()

        def broken(player_id: Any) -> None:
            raise ValueError("in a listener")

        server.on_player_joined(broken)
        if stage.face.name == "blocking":
            server.on_player_joined(lambda player_id: seen(server.trigger_callback("k", player_id).result()))
        else:

            async def waits(player_id: Any) -> None:
                seen(await server.trigger_callback("k", player_id, None))

            server.on_player_joined(waits)
        player = await stage.player(7)
        await seen.count(1)
        await sdk_log.wait_for(f"server: the listener {broken.__qualname__} failed")
        await stage.still_works(server, player)

    scene(face, here)


@pytest.mark.parametrize("role", ["Server", "Player", "Operator"])
def test_connected_follows_the_link(face: Blocking | Asyncio, here: HereBroker, role: str) -> None:
    @played
    async def scene(stage: Stage) -> None:
        address = here.players if role == "Player" else here.backend
        endpoint = stage.make(role, address)
        seen = Seen()
        endpoint.on_connected(seen)
        assert not endpoint.connected
        await stage.face.start(endpoint)
        assert endpoint.connected
        assert await seen.count(1) == [address]
        await stage.face.close(endpoint)
        assert not endpoint.connected
        assert threading.active_count() < 100

    scene(face, here)
