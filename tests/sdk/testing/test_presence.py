"""Waiting for presence and links, in both faces."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from ringback import UsageError
from ringback.core.shell import EndpointEvent
from ringback.testing import (
    AioEndpoints,
    Endpoints,
    LocalBroker,
    reconnected,
    until_acting,
    until_connected,
    until_disconnected,
    until_joined,
    until_left,
)


def test_players_that_come_later(ringback_endpoints: Endpoints) -> None:
    server = ringback_endpoints.server()
    players = [ringback_endpoints.player(player_id, start=False) for player_id in (7, "ann")]
    starting = threading.Thread(target=lambda: [player.start() for player in players])
    starting.start()
    until_joined(server, 7, "ann")
    assert set(server.players) == {7, "ann"}
    starting.join()
    leaving = threading.Thread(target=players[0].close)
    leaving.start()
    until_left(server, 7, 99)
    assert server.players == ["ann"]
    leaving.join()


def test_players_that_come_later_in_asyncio(ringback_aio_endpoints: AioEndpoints) -> None:
    async def run() -> None:
        server = await ringback_aio_endpoints.server()
        joined = asyncio.create_task(until_joined(server, 7, "ann"))
        player = await ringback_aio_endpoints.player(7)
        assert not joined.done()
        await ringback_aio_endpoints.player("ann")
        await joined
        left = asyncio.create_task(until_left(server, 7))
        await player.close()
        await left
        assert server.players == ["ann"]

    asyncio.run(run())


def test_what_does_not_happen(ringback_endpoints: Endpoints) -> None:
    server, player = ringback_endpoints.server(), ringback_endpoints.player(7)
    until_joined(server, 7)
    with pytest.raises(
        TimeoutError, match=r"^players 'ann', 8 did not join, although the test waited 0.05 s"
    ):
        until_joined(server, 7, "ann", 8, timeout=0.05)
    with pytest.raises(TimeoutError, match=r"^player 7 did not leave"):
        until_left(server, 7, timeout=0.05)
    with pytest.raises(TimeoutError, match=r"^<ringback.Player.* kept its link"):
        until_disconnected(player, timeout=0.05)
    with (
        pytest.raises(TimeoutError, match=r"^<ringback.Player.* has no new link"),
        reconnected(player, timeout=0.05),
    ):
        pass
    player.close()
    with pytest.raises(TimeoutError, match=r"^<ringback.Player.* has no link"):
        until_connected(player, timeout=0.05)
    with pytest.raises(ValueError, match="player ID"):
        until_joined(server, 0)


def test_what_is_waited_for_must_be_an_endpoint(
    ringback_endpoints: Endpoints, ringback_aio_endpoints: AioEndpoints
) -> None:
    player: Any = ringback_endpoints.player(7)
    for wait in (until_joined, until_left, until_acting):
        with pytest.raises(TypeError, match=r"^the server must be a Server, not Player$"):
            wait(player)
    for waiting in (until_connected, until_disconnected, reconnected):
        with pytest.raises(TypeError, match=r"^an endpoint must be a Server, a Player or .*, not int$"):
            waiting(7)  # type: ignore[call-overload,arg-type]
    not_awaited: Any = ringback_aio_endpoints.server()
    with pytest.raises(TypeError, match="not coroutine: await it first"):
        until_joined(not_awaited, 7)
    not_awaited.close()


def test_what_does_not_happen_in_asyncio(ringback_aio_endpoints: AioEndpoints) -> None:
    async def run() -> None:
        server = await ringback_aio_endpoints.server()
        player = await ringback_aio_endpoints.player(7)
        with pytest.raises(TimeoutError, match=r"^player 8 did not join"):
            await until_joined(server, 8, timeout=0.05)
        with pytest.raises(TimeoutError, match="has no new link"):
            async with reconnected(player, timeout=0.05):
                pass
        with pytest.raises(UsageError, match="needs `async with"), reconnected(player):
            pass

    asyncio.run(run())


def test_an_endpoint_has_one_listener_for_all_waits(ringback_endpoints: Endpoints) -> None:
    server = ringback_endpoints.server()
    for _ in range(3):
        until_connected(server)
        until_left(server, 7)
    assert [len(listeners) for listeners in server._shell.listeners.values()] == [1] * len(EndpointEvent)


def test_links_in_asyncio(ringback_broker: LocalBroker, ringback_aio_endpoints: AioEndpoints) -> None:
    async def run() -> None:
        server = await ringback_aio_endpoints.server()
        player = await ringback_aio_endpoints.player(7)
        async with reconnected(server, player):
            ringback_broker.restart()
        await until_joined(server, 7)
        ringback_broker.kill()
        await until_disconnected(player)
        ringback_broker.start()
        await until_connected(player)

    asyncio.run(run())


def test_a_block_that_fails_does_not_wait(ringback_endpoints: Endpoints) -> None:
    player = ringback_endpoints.player(7)
    with pytest.raises(ZeroDivisionError), reconnected(player):
        _ = 1 / 0


def test_the_listeners_of_the_program_have_run(
    ringback_broker: LocalBroker, ringback_endpoints: Endpoints, ringback_aio_endpoints: AioEndpoints
) -> None:
    told: list[Any] = []

    def listen(server: Any) -> None:
        server.on_player_joined(lambda player_id: told.append(("joined", player_id)))
        server.on_player_left(lambda player_id: told.append(("left", player_id)))

    server = ringback_endpoints.server()
    listen(server)
    for player_id in range(1, 21):
        player = ringback_endpoints.player(player_id)
        until_joined(server, player_id)
        assert told[-1] == ("joined", player_id)
        player.close()
        until_left(server, player_id)
        assert told[-1] == ("left", player_id)
    server.close()

    async def run() -> None:
        server = await ringback_aio_endpoints.server()
        listen(server)
        for player_id in range(1, 21):
            player = await ringback_aio_endpoints.player(player_id)
            await until_joined(server, player_id)
            assert told[-1] == ("joined", player_id)
            await player.close()
            await until_left(server, player_id)
            assert told[-1] == ("left", player_id)

    asyncio.run(run())


def test_a_listener_that_blocks(ringback_endpoints: Endpoints) -> None:
    server = ringback_endpoints.server()
    release = threading.Event()
    server.on_player_joined(lambda player_id: release.wait())
    ringback_endpoints.player(7)
    with pytest.raises(TimeoutError, match=r"^(a listener of <.* does not return|player 7 did not join)"):
        until_joined(server, 7, timeout=0.1)
    release.set()
    until_joined(server, 7)


def test_both_faces_at_once(
    ringback_broker: LocalBroker, ringback_endpoints: Endpoints, ringback_aio_endpoints: AioEndpoints
) -> None:
    async def run() -> None:
        server, player = ringback_endpoints.server(), await ringback_aio_endpoints.player(7)
        async with reconnected(server, player):
            ringback_broker.restart()
        until_joined(server, 7)

    asyncio.run(run())


def test_a_server_that_stands_by(
    ringback_endpoints: Endpoints, ringback_aio_endpoints: AioEndpoints, ringback_broker: LocalBroker
) -> None:
    server = ringback_endpoints.server()
    standby = ringback_endpoints.server(standby=True)
    until_acting(server)
    with pytest.raises(TimeoutError, match=r"^<ringback.Server.* does not act"):
        until_acting(standby, timeout=0.05)
    acting: list[bool] = []
    standby.on_acting(acting.append)
    ringback_endpoints.player(7)
    server.close()
    until_acting(standby)
    assert acting == [True]
    until_joined(standby, 7)

    async def run() -> None:
        third = await ringback_aio_endpoints.server(standby=True)
        waiting = asyncio.create_task(until_acting(third))
        await asyncio.to_thread(standby.close)
        await waiting
        await until_joined(third, 7)

    asyncio.run(run())
