"""Operators at any node call players at any node. No server is needed."""

from __future__ import annotations

import signal
import socket
import time
from typing import Any

import pytest
from support.harness import PATIENCE_S, eventually
from support.names import Names
from support.promises import Promise
from support.realm_processes import LEASE_S, RealmOfProcesses, outcome, until_works

from ringback import Operator, Player

GONE = ("PLAYER_LEFT", "UNKNOWN_PLAYER", "OVERLOADED")
PAIR_LOST_S = 9.0
"""How long a call may wait for a player whose node was killed: the pair is silent for five seconds."""


def holds(player: Player) -> list[Any]:
    """Let a player have a callback that takes calls and does not reply. Return the calls that it has."""
    taken: list[Any] = []
    player.register_client_callback("holds", lambda payload, cb: taken.append(cb))
    return taken


def works(operator: Operator, player: Player) -> None:
    """Wait until the nodes of an operator and a player are linked."""
    until_works(lambda: operator.trigger_client_callback("echo", player.player_id, 1), 1)


def pending(operator: Operator, player: Player) -> Any:
    """Return a call that waits for a player, without end."""
    taken = holds(player)
    works(operator, player)
    call = operator.trigger_client_callback("holds", player.player_id, timeout=None)
    eventually(lambda: bool(taken), "the player has the call")
    return call


def test_operators_at_any_node_call_players_at_any_node(shared: RealmOfProcesses) -> None:
    players = {node: shared.player(node) for node in "abc"}
    operators = [shared.operator(node) for node in "abc"]
    for operator in operators:
        for node, player in players.items():
            works(operator, player)
            assert outcome(lambda: operator.trigger_client_callback("node", player.player_id)) == node  # noqa: B023
    for operator in operators:
        calls = [
            (step, operator.trigger_client_callback("echo", player.player_id, step))
            for step in range(300)
            for player in players.values()
        ]
        assert [call.result(timeout=60) for _, call in calls] == [step for step, _ in calls]


def test_a_call_to_all_players_reaches_all_nodes(shared: RealmOfProcesses) -> None:
    players = {node: shared.player(node) for node in "abc"}
    for node in "abc":
        operator = shared.operator(node)
        for player in players.values():
            works(operator, player)
        found = operator.trigger_all_client_callbacks("node").all(timeout=PATIENCE_S)
        for there, player in players.items():
            assert found[player.player_id].result() == there


def test_large_frames_arrive(shared: RealmOfProcesses) -> None:
    operator, player = shared.operator("a"), shared.player("b")
    works(operator, player)
    payload = b"x" * 500_000
    assert outcome(lambda: operator.trigger_client_callback("echo", player.player_id, payload)) == payload


def test_a_player_that_leaves_ends_the_calls_to_it(shared: RealmOfProcesses) -> None:
    operator, player = shared.operator("a"), shared.player("b", "leaves")
    call = pending(operator, player)
    assert outcome(lambda: operator.trigger_client_callback("echo", "leaves", 1)) == 1
    player.close()
    assert outcome(lambda: call) == "PLAYER_LEFT"
    eventually(
        lambda: outcome(lambda: operator.trigger_client_callback("echo", "leaves")) == "UNKNOWN_PLAYER",
        "nobody has the player",
    )
    shared.player("c", "leaves")
    # The record may have named "b" for a moment after the player had left, so its operator's node may still
    # take it to be there. Then the first call ends with PLAYER_LEFT once that node hears better.
    until_works(lambda: operator.trigger_client_callback("node", "leaves"), "c")


def test_calls_in_flight_have_one_outcome_while_a_player_goes_from_node_to_node(
    shared: RealmOfProcesses,
) -> None:
    operators = [shared.operator(node) for node in "abc"]
    runs: dict[int, int] = {}
    calls: dict[int, Any] = {}

    def count(payload: int) -> int:
        runs[payload] = runs.get(payload, 0) + 1
        return payload

    for round_ in range(9):
        player = Player(shared.brokers["abc"[round_ % 3]].players, "goes", connect_timeout=60)
        player.register_client_callback("count", count)
        with player:
            for step in range(50):
                for operator in operators:
                    calls[len(calls)] = operator.trigger_client_callback("count", "goes", len(calls))
                    if step == 25:
                        until_works(lambda: operator.trigger_client_callback("count", "goes", -1), -1)  # noqa: B023
    found = {number: outcome(lambda call=call: call) for number, call in calls.items()}
    assert {kind for kind in found.values() if type(kind) is str} <= {*GONE}
    for number, kind in found.items():
        if kind == number:
            assert runs[number] == 1
        else:
            assert runs.get(number, 0) <= (kind == "PLAYER_LEFT"), (number, kind)
    assert sum(kind == number for number, kind in found.items()) > 200


def test_a_player_is_kicked_wherever_it_is(shared: RealmOfProcesses) -> None:
    operator = shared.operator("a")
    for node in "abc":
        player = shared.player(node, "kicked")
        works(operator, player)
        operator.kick("kicked", "for a test").result(timeout=PATIENCE_S)
        eventually(lambda: not player.connected, "the player was kicked")  # noqa: B023
        player.close()
        eventually(
            lambda: outcome(lambda: operator.trigger_client_callback("echo", "kicked")) == "UNKNOWN_PLAYER",
            "nobody has the player",
        )
    assert outcome(lambda: operator.kick("kicked")) == "UNKNOWN_PLAYER"


def test_the_node_of_the_player_is_killed(realm: RealmOfProcesses, promise: Promise) -> None:
    operator, player, stays = realm.operator("a"), realm.player("b", 1), realm.player("c", 2)
    call, goes_on = pending(operator, player), pending(operator, stays)
    killed_at = time.monotonic()
    realm.kill("b")
    assert outcome(lambda: call) == "PLAYER_LEFT"
    promise("an operator knows of a player of a killed node", time.monotonic() - killed_at, PAIR_LOST_S)
    # On a busy machine, the operator may lose its own link.
    until_works(lambda: operator.trigger_client_callback("echo", 1), "OVERLOADED")
    until_works(lambda: operator.trigger_client_callback("echo", 2, 3), 3)
    assert not goes_on.done() or outcome(lambda: goes_on) == "CONNECTION_LOST"
    goes_on.cancel()


@pytest.mark.faults
def test_a_node_that_is_buried_has_no_players(short: RealmOfProcesses, timed: Promise) -> None:
    operator, player = short.operator("a"), short.player("b", 1)
    works(operator, player)
    assert outcome(lambda: operator.trigger_client_callback("node", 1)) == "b"
    killed_at = time.monotonic()
    short.kill("b")
    until_works(lambda: operator.trigger_client_callback("node", 1), "UNKNOWN_PLAYER")
    timed("the players of a killed node are nowhere", time.monotonic() - killed_at, LEASE_S + 6)
    player.close()


@pytest.mark.faults
def test_a_player_of_a_killed_node_is_found_where_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, timed: Promise
) -> None:
    known = Names(realm_test=["127.0.0.1", "127.0.0.2", "127.0.0.3"])
    monkeypatch.setattr(socket, "getaddrinfo", known.getaddrinfo)
    with RealmOfProcesses(one_name=True) as realm:
        assert realm.ports is not None
        player = realm.player(f"tcp://realm.test:{realm.ports[0]}", 1)
        assert player.link_address == realm.brokers["a"].players
        operator = realm.operator("c")
        call = pending(operator, player)
        killed_at = time.monotonic()
        realm.kill("a")
        until_works(lambda: operator.trigger_client_callback("echo", 1, 5), 5)
        timed("an operator reaches a player of a killed node again", time.monotonic() - killed_at, 9)
        assert outcome(lambda: call) == "PLAYER_LEFT"


@pytest.mark.faults
def test_nats_restarts(realm: RealmOfProcesses, timed: Promise) -> None:
    operator, far, near = realm.operator("a"), realm.player("b", 1), realm.player("a", 2)
    call, held = pending(operator, far), pending(operator, near)
    killed_at = time.monotonic()
    realm.nats.kill()
    assert outcome(lambda: call) == "PLAYER_LEFT"
    timed("an operator knows that its calls to other nodes are lost", time.monotonic() - killed_at, 6)
    until_works(lambda: operator.trigger_client_callback("echo", 1), "OVERLOADED")
    until_works(lambda: operator.trigger_client_callback("echo", 2, 3), 3)
    again = operator.trigger_client_callback("echo", 1, 4, retry=True, timeout=60)
    realm.nats.start()
    back_at = time.monotonic()
    assert outcome(lambda: again, 60) == 4
    timed("an operator reaches players of other nodes again", time.monotonic() - back_at, 8)
    assert not held.done()
    held.cancel()


@pytest.mark.faults
def test_a_node_drains_amid_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its players go on at another one. Each call has an outcome, and a call that says `no` has not run."""
    known = Names(realm_test=["127.0.0.1", "127.0.0.2", "127.0.0.3"])
    monkeypatch.setattr(socket, "getaddrinfo", known.getaddrinfo)
    with RealmOfProcesses(one_name=True) as realm:
        assert realm.ports is not None
        player = realm.player(f"tcp://realm.test:{realm.ports[0]}", 1)
        runs: list[int] = []
        player.register_client_callback("count", lambda payload: runs.append(payload) or payload)
        operator = realm.operator("c")
        until_works(lambda: operator.trigger_client_callback("count", 1, -1), -1)
        realm.brokers["a"].process.signal(signal.SIGTERM)
        calls = []
        until_s = time.monotonic() + 60
        while player.link_address == realm.brokers["a"].players or len(calls) < 500:
            calls.append(operator.trigger_client_callback("count", 1, len(calls), timeout=60))
            outcome(lambda: operator.ping())
            assert time.monotonic() < until_s
        found = [outcome(lambda call=call: call) for call in calls]
        for number, kind in enumerate(found):
            assert kind in (number, "PLAYER_LEFT", "UNKNOWN_PLAYER", "DRAINING", "OVERLOADED"), kind
            assert runs.count(number) <= 1 and (runs.count(number) == 1 or kind != number)
            assert kind in (number, "PLAYER_LEFT") or number not in runs
        until_works(lambda: operator.trigger_client_callback("count", 1, -1), -1)
