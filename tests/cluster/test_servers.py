"""The server of a realm is killed, or its node: a standby at another node takes over."""

from __future__ import annotations

import time

from support.harness import eventually
from support.realm_processes import LEASE_S, RealmOfProcesses, outcome, until_works


def test_a_server_is_killed_and_a_standby_at_another_node_takes_over(realm: RealmOfProcesses) -> None:
    first = realm.server_process("a", "first")
    players = {number: realm.player("abc"[number % 3], number) for number in range(1, 4)}
    standby = realm.server_process("b", "second", standby=True)
    pending = [player.trigger_server_callback("never", timeout=60) for player in players.values()]
    for player in players.values():
        until_works(lambda player=player: player.trigger_server_callback("who"), "first", 5)
    first.kill()
    standby.wait_for("^acting$")
    for player in players.values():
        until_works(lambda player=player: player.trigger_server_callback("who"), "second", 5)
    # `never` is no callback of this server: those calls failed at once. Nothing waits for ever.
    assert {outcome(lambda call=call: call) for call in pending} == {"UNKNOWN_CALLBACK"}
    known = players[1].trigger_server_callback("players").result(timeout=30)
    assert known == ["1", "2", "3"]


def test_calls_that_the_killed_server_had_end_as_lost(realm: RealmOfProcesses) -> None:
    server = realm.server("a")
    players = {number: realm.player("abc"[number % 3], number) for number in range(1, 4)}
    standby = realm.server_process("c", "second", standby=True)
    pending = [player.trigger_server_callback("never", timeout=60) for player in players.values()]
    for player in players.values():
        assert outcome(lambda player=player: player.trigger_server_callback("echo", 1))
    server.close()
    assert {outcome(lambda call=call: call) for call in pending} == {"SERVER_LOST"}
    standby.wait_for("^acting$")
    for player in players.values():
        until_works(lambda player=player: player.trigger_server_callback("who"), "second", 5)


def test_the_node_of_the_server_is_killed_with_the_server(realm: RealmOfProcesses) -> None:
    """Nobody can know that they are dead, so the standby waits for the lease."""
    first = realm.server_process("a", "first")
    player = realm.player("b", 1)
    standby = realm.server_process("c", "second", standby=True)
    until_works(lambda: player.trigger_server_callback("who"), "first", 5)
    killed_at = time.monotonic()
    realm.kill("a")
    first.kill()
    standby.wait_for("^acting$")
    assert LEASE_S - 3 < time.monotonic() - killed_at < LEASE_S + 5
    until_works(lambda: player.trigger_server_callback("who"), "second", 5)
    eventually(lambda: outcome(lambda: player.trigger_server_callback("players")) == ["1"], "presence")
