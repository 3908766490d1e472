"""The server of a realm is killed, or its node: a standby at another node takes over."""

from __future__ import annotations

import time

import pytest
from support.harness import eventually
from support.promises import Promise
from support.realm_processes import LEASE_S, RealmOfProcesses, outcome, until_works

TAKEN_OVER_S = 2.0


def test_a_server_is_killed_and_a_standby_at_another_node_takes_over(
    realm: RealmOfProcesses, promise: Promise
) -> None:
    first = realm.server_process("a", "first")
    players = {number: realm.player("abc"[number % 3], number) for number in range(1, 4)}
    standby = realm.server_process("b", "second", standby=True)
    for player in players.values():  # its node may hear of the server a little later
        until_works(lambda player=player: player.trigger_server_callback("who"), "first")
    # `never` is no callback of this server: those calls fail at once. Nothing waits for ever.
    refused = [player.trigger_server_callback("never", timeout=60) for player in players.values()]
    assert {outcome(lambda call=call: call) for call in refused} == {"UNKNOWN_CALLBACK"}
    killed_at = time.monotonic()
    first.kill()
    standby.wait_for("^acting$")
    for player in players.values():
        until_works(lambda player=player: player.trigger_server_callback("who"), "second")
    promise("a standby at another node has taken over", time.monotonic() - killed_at, TAKEN_OVER_S)
    known = players[1].trigger_server_callback("players").result(timeout=30)
    assert known == ["1", "2", "3"]


def test_the_server_of_a_killed_node_goes_before_one_that_stands_by(realm: RealmOfProcesses) -> None:
    """It shows its ticket at a node where another server stands by."""
    server = realm.server([realm.brokers[name].backend for name in "ab"])
    node = realm.node_of(server)
    assert node is not None
    [other] = {"a", "b"} - {node}
    realm.server_process(other, "second", standby=True)
    player = realm.player("c", 1)
    until_works(lambda: player.trigger_server_callback("echo", 1), [1, 1])
    realm.kill(node)
    until_works(lambda: player.trigger_server_callback("echo", 1), [1, 1])
    assert realm.node_of(server) == other
    assert outcome(lambda: player.trigger_server_callback("who")) == "UNKNOWN_CALLBACK"


def test_calls_that_the_killed_server_had_end_as_lost(realm: RealmOfProcesses, promise: Promise) -> None:
    server = realm.server("a")
    players = {number: realm.player("abc"[number % 3], number) for number in range(1, 4)}
    standby = realm.server_process("c", "second", standby=True)
    for player in players.values():
        until_works(lambda player=player: player.trigger_server_callback("node"), "a")
    pending = [player.trigger_server_callback("never", timeout=60) for player in players.values()]
    for number, player in players.items():
        assert outcome(lambda player=player: player.trigger_server_callback("echo", 1)) == [number, 1]
    closed_at = time.monotonic()
    server.close()
    assert {outcome(lambda call=call: call) for call in pending} == {"SERVER_LOST"}
    standby.wait_for("^acting$")
    for player in players.values():
        until_works(lambda player=player: player.trigger_server_callback("who"), "second")
    promise("a standby follows a server that was closed", time.monotonic() - closed_at, TAKEN_OVER_S)


@pytest.mark.faults
def test_the_node_of_the_server_is_killed_with_the_server(short: RealmOfProcesses, timed: Promise) -> None:
    """Nobody can know that they are dead, so the standby waits for the lease."""
    first = short.server_process("a", "first")
    player = short.player("b", 1)
    standby = short.server_process("c", "second", standby=True)
    until_works(lambda: player.trigger_server_callback("who"), "first")
    killed_at = time.monotonic()
    short.kill("a")
    first.kill()
    standby.wait_for("^acting$")
    took_s = time.monotonic() - killed_at
    assert took_s > LEASE_S - 3
    timed("a standby acts after server and node were killed", took_s, LEASE_S + 4)
    until_works(lambda: player.trigger_server_callback("who"), "second")
    eventually(lambda: outcome(lambda: player.trigger_server_callback("players")) == ["1"], "presence")
