"""Endpoints dial the nodes of a realm by one name. When their node is killed, they go on at another one."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from support.harness import eventually
from support.names import Names
from support.promises import Promise
from support.realm_processes import RealmOfProcesses, outcome, until_works

IPS = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
MOVED_S = 5.0
"""How long the players of a killed node may take to move. On an idle machine they take less than a second."""

SERVER_MOVED_S = 9.0
"""How long calls may take to work after the node of the server was killed. A call that was made before the
others know ends when they have heard nothing from that node for five seconds."""


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    """Let `realm.test` and `others.test` be known, and nothing else."""
    known = Names(realm_test=IPS, others_test=IPS[1:])
    monkeypatch.setattr(socket, "getaddrinfo", known.getaddrinfo)
    yield known


@pytest.fixture
def realm(names: Names) -> Iterator[RealmOfProcesses]:
    with RealmOfProcesses(one_name=True) as realm:
        yield realm


def test_players_of_a_killed_node_go_on_at_another_one(realm: RealmOfProcesses, promise: Promise) -> None:
    """Their tickets take their IDs over at once, although nobody knows yet that their node is dead."""
    assert realm.ports is not None
    server = realm.server("c")
    players = [realm.player(f"tcp://realm.test:{realm.ports[0]}", number) for number in (1, 2, 3)]
    stays = realm.player("b", 4)
    eventually(lambda: set(server.players) == {1, 2, 3, 4}, "presence")
    assert {player.link_address for player in players} == {realm.brokers["a"].players}
    pending = [player.trigger_server_callback("never", timeout=60) for player in players]
    down = [server.trigger_client_callback("never", number, timeout=60) for number in (1, 2, 3)]
    for player in players:
        assert outcome(lambda player=player: player.trigger_server_callback("node")) == "c"
    killed_at = time.monotonic()
    realm.kill("a")
    assert {outcome(lambda call=call: call) for call in pending} == {"CONNECTION_LOST"}
    for number, player in enumerate(players, 1):
        until_works(lambda player=player: player.trigger_server_callback("node"), "c")
        until_works(lambda number=number: server.trigger_client_callback("echo", number, 5), 5)
    promise("players of a killed node work at another one", time.monotonic() - killed_at, MOVED_S)
    assert {outcome(lambda call=call: call) for call in down} == {"PLAYER_LEFT"}
    assert outcome(lambda: stays.trigger_server_callback("echo", 1)) == [4, 1]
    assert set(server.players) == {1, 2, 3, 4}


def test_the_server_of_a_killed_node_goes_on_at_another_one(
    realm: RealmOfProcesses, promise: Promise
) -> None:
    """Its ticket takes the seat over at once."""
    assert realm.ports is not None
    server = realm.server(f"tcp://realm.test:{realm.ports[1]}")
    server.register_server_callback("where", lambda source, payload: "here")
    players = [realm.player("b", 1), realm.player("c", 2)]
    assert server.link_address == realm.brokers["a"].backend
    pending = [player.trigger_server_callback("never", timeout=60) for player in players]
    for number, player in enumerate(players, 1):
        assert outcome(lambda player=player: player.trigger_server_callback("echo", 1)) == [number, 1]
    killed_at = time.monotonic()
    realm.kill("a")
    for player in players:
        until_works(lambda player=player: player.trigger_server_callback("where"), "here")
    for number in (1, 2):
        until_works(lambda number=number: server.trigger_client_callback("echo", number, 5), 5)
    promise("the server of a killed node works at another one", time.monotonic() - killed_at, SERVER_MOVED_S)
    assert server.link_address in (realm.brokers["b"].backend, realm.brokers["c"].backend)
    assert set(server.players) == {1, 2}
    assert {outcome(lambda call=call: call) for call in pending} <= {"SERVER_LOST", "CONNECTION_LOST"}
