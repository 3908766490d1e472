"""Triggering a callback on many players."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from support.faces import Seen, Stage, played
from support.harness import PATIENCE_S

import ringback
from ringback import CallbackError, Code


async def crowd(stage: Stage, *player_ids: Any) -> tuple[Any, dict[Any, Any]]:
    """Return a server that knows these players. Each of them replies with its own ID."""
    server = await stage.server()
    joined = Seen()
    server.on_player_joined(joined)
    players = {}
    for player_id in player_ids:
        players[player_id] = player = await stage.player(player_id)
        player.register_client_callback("who", lambda payload, *, who=player_id: [who, payload])
    await joined.count(len(player_ids))
    return server, players


@played
async def test_all_at_once_and_as_they_arrive(stage: Stage) -> None:
    server, _ = await crowd(stage, 1, 2, "ann", "3")
    operator = await stage.operator()
    for trusted in (server, operator):
        calls = await stage.within(stage.face.all(trusted.trigger_all_client_callbacks("who", "p")))
        assert {player_id: call.result() for player_id, call in calls.items()} == {
            1: [1, "p"],
            2: [2, "p"],
            "ann": ["ann", "p"],
            "3": ["3", "p"],
        }
        items = await stage.within(stage.face.items(trusted.trigger_all_client_callbacks("who")))
        assert sorted(map(repr, dict(items))) == ["'3'", "'ann'", "1", "2"]
        assert all(call.result() == [player_id, None] for player_id, call in items)


@played
async def test_they_arrive_in_the_order_of_their_replies(stage: Stage) -> None:
    server, players = await crowd(stage, 1, 2, 3)
    kept = Seen()
    for player_id, player in players.items():
        player.register_client_callback("slow", lambda payload, cb, *, who=player_id: kept((who, cb)))
    group = server.trigger_all_client_callbacks("slow")
    callbacks = dict(await kept.count(3))
    order = [2, 3, 1]
    arrived: list[Any] = []

    def reply() -> None:
        callbacks[order[len(arrived)]]()

    reply()
    if stage.face.name == "blocking":
        import asyncio

        def iterate() -> None:
            for player_id, _ in group:
                arrived.append(player_id)
                if len(arrived) < 3:
                    reply()

        await stage.within(asyncio.to_thread(iterate))
    else:
        async for player_id, _ in group:
            arrived.append(player_id)
            if len(arrived) < 3:
                reply()
    assert arrived == order


@played
async def test_each_has_a_result_or_an_error_of_its_own(stage: Stage) -> None:
    server, players = await crowd(stage, 1, 2, 3, 4)
    operator = await stage.operator()
    kept = Seen()

    def broken(payload: Any) -> None:
        raise CallbackError("no", code="MINE")

    players[2].register_client_callback("who", broken, replace=True)
    players[3].register_client_callback("who", lambda payload, cb: kept(cb), replace=True)
    for trusted in (server, operator):
        group = trusted.trigger_all_client_callbacks("who", players=[1, 2, 3, 99, 1], timeout=0.2)
        calls = await stage.within(stage.face.all(group))
        assert set(calls) == {1, 2, 3, 99}
        assert calls[1].result() == [1, None]
        assert [calls[player_id].error.code for player_id in (2, 3, 99)] == [
            "MINE",
            Code.TIMEOUT,
            Code.UNKNOWN_PLAYER,
        ]
        with pytest.raises(CallbackError):
            calls[2].result()


@played
async def test_no_player_is_connected(stage: Stage) -> None:
    server = await stage.server()
    operator = await stage.operator()
    for trusted in (server, operator):
        for players in (None, []):
            group = trusted.trigger_all_client_callbacks("who", players=players)
            assert await stage.within(stage.face.all(group)) == {}
            group = trusted.trigger_all_client_callbacks("who", players=players)
            assert await stage.within(stage.face.items(group)) == []


@played
async def test_a_payload_that_cannot_be_encoded_fails_for_each(stage: Stage) -> None:
    server, _ = await crowd(stage, 1, 2)
    calls = await stage.within(stage.face.all(server.trigger_all_client_callbacks("who", object())))
    assert [call.error.code for call in calls.values()] == [Code.INVALID_PAYLOAD] * 2
    calls = await stage.within(stage.face.all(server.trigger_all_client_callbacks("who")))
    assert len(calls) == 2


@played
async def test_many_players(stage: Stage) -> None:
    server, players = await crowd(stage, *range(1, 31))
    operator = await stage.operator()
    calls = await stage.within(stage.face.all(operator.trigger_all_client_callbacks("who")))
    assert set(calls) == set(players)
    assert server.players == list(players)


@played
async def test_cancelling_a_group(stage: Stage) -> None:
    server, players = await crowd(stage, 1, 2)
    kept = Seen()
    players[1].register_client_callback("who", lambda payload, cb: kept(cb), replace=True)
    group = server.trigger_all_client_callbacks("who")
    await kept.count(1)
    if stage.face.name == "blocking":
        await stage.within(stage.face.result(group.calls[2]))
    else:
        await stage.within(group.calls[2])
    group.cancel()
    calls = await stage.within(stage.face.all(group))
    assert calls[1].error.code is Code.CANCELLED
    assert calls[2].result() == [2, None]


@played
async def test_a_group_ends_when_its_link_is_lost(stage: Stage) -> None:
    server, players = await crowd(stage, 1)
    operator = await stage.operator()
    kept = Seen()
    players[1].register_client_callback("who", lambda payload, cb: kept(cb), replace=True)
    groups = [trusted.trigger_all_client_callbacks("who", players=[1]) for trusted in (server, operator)]
    await kept.count(2)
    unknown = operator.trigger_all_client_callbacks("who")  # the operator does not know yet who is connected
    await stage.face.close(operator)
    await stage.face.close(server)
    for group in groups:
        calls = await stage.within(stage.face.all(group))
        assert calls[1].error.code is Code.CONNECTION_LOST
    try:
        calls = await stage.within(stage.face.all(unknown))
    except ringback.ConnectionLost:
        return
    assert calls[1].error.code is Code.CONNECTION_LOST


@played
async def test_from_within_a_handler(stage: Stage) -> None:
    server, _ = await crowd(stage, 1, 2)
    player = await stage.player(3, workers=1)
    player.register_client_callback("who", lambda payload: [3, payload])

    if stage.face.name == "blocking":

        def ask(source: Any, payload: Any) -> Any:
            return [call.result()[0] for _, call in server.trigger_all_client_callbacks("who")]

        server.register_server_callback("ask", ask)
    else:

        async def ask_all(source: Any, payload: Any) -> Any:
            calls = await server.trigger_all_client_callbacks("who").all()
            return [call.result()[0] for call in calls.values()]

        server.register_server_callback("ask", ask_all)
    assert sorted(await stage.result(player.trigger_server_callback("ask"))) == [1, 2, 3]
    assert threading.active_count() < 100 and PATIENCE_S
