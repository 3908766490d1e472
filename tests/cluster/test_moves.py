"""Endpoints dial the nodes of a realm by one name. When their node is killed, they go on at another one."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from support.harness import eventually
from support.names import Names
from support.promises import Promise
from support.realm_processes import LEASE_S, RealmOfProcesses, outcome, until_works

from ringback.testing.proxy import NONE, STALLED, Proxy

IPS = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
MOVED_S = 3.0
"""How long the players of a killed node may take to move."""

SERVER_MOVED_S = 3.0
"""How long calls may take to work after the node of the server was killed. Nodes ask once a second whether
anybody is there."""

SILENT_S = 8.0
"""The same if it was stopped. Heartbeats of endpoints find that out after two seconds, nodes after five."""


HOW = ["killed", pytest.param("stopped", marks=pytest.mark.faults)]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    """Let `realm.test`, `others.test` and `last.test` be known, and nothing else."""
    known = Names(realm_test=IPS, others_test=IPS[1:], last_test=IPS[::-1])
    monkeypatch.setattr(socket, "getaddrinfo", known.getaddrinfo)
    yield known


@pytest.fixture
def realm(names: Names) -> Iterator[RealmOfProcesses]:
    with RealmOfProcesses(one_name=True) as realm:
        yield realm


@pytest.mark.parametrize("how", HOW)
def test_players_of_a_node_that_is_gone_move(realm: RealmOfProcesses, promise: Promise, how: str) -> None:
    """Their tickets take their IDs over at once, although nobody knows yet that their node is dead."""
    assert realm.ports is not None
    server = realm.server("c")
    players = [realm.player(f"tcp://realm.test:{realm.ports[0]}", number) for number in (1, 2, 3)]
    stays = realm.player("b", 4)
    eventually(lambda: set(server.players) == {1, 2, 3, 4}, "presence")
    for player in players:
        until_works(lambda player=player: player.trigger_server_callback("node"), "c")
    assert {player.link_address for player in players} == {realm.brokers["a"].players}
    pending = [player.trigger_server_callback("never", timeout=60) for player in players]
    down = [server.trigger_client_callback("never", number, timeout=60) for number in (1, 2, 3)]
    for player in players:
        assert outcome(lambda player=player: player.trigger_server_callback("node")) == "c"
    gone_at = time.monotonic()
    take_away(realm, "a", how)
    assert {outcome(lambda call=call: call) for call in pending} == {"CONNECTION_LOST"}
    for number, player in enumerate(players, 1):
        until_works(lambda player=player: player.trigger_server_callback("node"), "c")
        until_works(lambda number=number: server.trigger_client_callback("echo", number, 5), 5)
    within_s = MOVED_S if how == "killed" else SILENT_S
    promise(f"the players of a {how} node work at another one", time.monotonic() - gone_at, within_s)
    assert {outcome(lambda call=call: call) for call in down} == {"PLAYER_LEFT"}
    assert outcome(lambda: stays.trigger_server_callback("echo", 1)) == [4, 1]
    assert set(server.players) == {1, 2, 3, 4}
    if how == "stopped":
        realm.go_on("a")  # within its lease: it learns that others have its players
        for _ in range(20):
            for number, player in enumerate(players, 1):
                assert outcome(lambda player=player: player.trigger_server_callback("node")) == "c"
                assert outcome(lambda number=number: server.trigger_client_callback("echo", number, 5)) == 5


@pytest.mark.parametrize("how", HOW)
def test_the_server_of_a_node_that_is_gone_moves(realm: RealmOfProcesses, promise: Promise, how: str) -> None:
    """Its ticket takes the seat over at once. All calls that it had end, each once."""
    assert realm.ports is not None
    server = realm.server(f"tcp://realm.test:{realm.ports[1]}")
    server.register_server_callback("where", lambda source, payload: "here")
    players = [realm.player("b", 1), realm.player("c", 2)]
    assert server.link_address == realm.brokers["a"].backend
    for player in players:  # its node may hear of the server a little later
        until_works(lambda player=player: player.trigger_server_callback("where"), "here")
    pending = [player.trigger_server_callback("never", timeout=60) for player in players]
    for number, player in enumerate(players, 1):
        assert outcome(lambda player=player: player.trigger_server_callback("echo", 1)) == [number, 1]
    within_s = SERVER_MOVED_S if how == "killed" else SILENT_S
    gone_at = time.monotonic()
    take_away(realm, "a", how)
    ended = {outcome(lambda call=call: call) for call in pending}
    promise(f"the node of the server {how}: its calls end", time.monotonic() - gone_at, within_s)
    assert ended <= {"SERVER_LOST", "CONNECTION_LOST"}
    for player in players:
        until_works(lambda player=player: player.trigger_server_callback("where"), "here")
    for number in (1, 2):
        until_works(lambda number=number: server.trigger_client_callback("echo", number, 5), 5)
    promise(f"the node of the server {how}: calls work", time.monotonic() - gone_at, within_s)
    assert server.link_address in (realm.brokers["b"].backend, realm.brokers["c"].backend)
    assert set(server.players) == {1, 2}
    if how == "stopped":
        realm.go_on("a")  # within its lease: it learns that it has the seat no more
        for _ in range(20):
            for player in players:
                assert outcome(lambda player=player: player.trigger_server_callback("where")) == "here"


@pytest.mark.faults
def test_a_node_that_is_cut_off_from_nats(names: Names, timed: Promise) -> None:
    """Its players stay while its lease lasts. Then they go on at another node."""
    with RealmOfProcesses("ab", lease_s=LEASE_S, one_name=True) as realm:
        assert realm.ports is not None
        with Proxy(realm.nats.address.replace("nats", "tcp")) as proxy:
            realm.start("c", "--cluster", proxy.address.replace("tcp", "nats"))
            server = realm.server("a")
            realm.player("c", 2).close()  # peers may join there by now
            player = realm.player(f"tcp://last.test:{realm.ports[0]}", 1)
            until_works(lambda: server.trigger_client_callback("echo", 1, 5), 5)
            assert player.link_address == realm.brokers["c"].players
            up = player.trigger_server_callback("never", timeout=60)
            down = server.trigger_client_callback("never", 1, timeout=60)
            assert outcome(lambda: player.trigger_server_callback("echo", 1)) == [1, 1]
            proxy.set_faults(STALLED)
            cut_at = time.monotonic()
            assert outcome(lambda: up) in ("SERVER_LOST", "CONNECTION_LOST")
            assert outcome(lambda: down) == "PLAYER_LEFT"
            timed("a node is cut off from NATS: calls end", time.monotonic() - cut_at, SILENT_S)
            until_works(lambda: player.trigger_server_callback("node"), "a")
            until_works(lambda: server.trigger_client_callback("echo", 1, 5), 5)
            timed("a node is cut off from NATS: its players move", time.monotonic() - cut_at, LEASE_S + 3)
            assert player.link_address == realm.brokers["b"].players
            proxy.set_faults(NONE)
            late = realm.player("c", 2)  # it has joined the realm again
            until_works(lambda: late.trigger_server_callback("node"), "a")


def take_away(realm: RealmOfProcesses, name: str, how: str) -> None:
    if how == "killed":
        realm.kill(name)
    else:
        realm.stop(name)
