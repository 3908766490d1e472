"""A node is killed, and perhaps started again."""

from __future__ import annotations

import time

import pytest
from support.harness import eventually
from support.promises import Promise
from support.realm_processes import LEASE_S, RealmOfProcesses, outcome, until_works

from ringback import IDTaken


def test_a_node_is_killed(short: RealmOfProcesses, promise: Promise) -> None:
    """Its players are told to the server as left. Their IDs are free once nobody can act for it."""
    server = short.server("a")
    stays, lost = short.player("b", 1), short.player("c", 2)
    eventually(lambda: set(server.players) == {1, 2}, "presence")
    for player in (stays, lost):  # its node may hear of the server a little later
        until_works(lambda player=player: player.trigger_server_callback("node"), "a")
    to_lost = server.trigger_client_callback("never", 2, timeout=60)
    from_lost = lost.trigger_server_callback("never", timeout=60)
    assert outcome(lambda: server.trigger_client_callback("echo", 2, 1)) == 1
    killed_at = time.monotonic()
    short.kill("c")
    assert outcome(lambda: from_lost) == "CONNECTION_LOST"
    # Others notice nothing.
    assert outcome(lambda: stays.trigger_server_callback("echo", 1)) == [1, 1]
    assert outcome(lambda: to_lost, timeout=60) == "PLAYER_LEFT"
    promise("a player of a killed node is told as left", time.monotonic() - killed_at, 3)
    eventually(lambda: server.players == [1], "presence")

    def joins_elsewhere() -> bool:
        try:
            short.player("b", 2)
        except IDTaken:
            return False
        return True

    lost.close()
    eventually(joins_elsewhere, "the ID is free")
    promise("the ID of a player of a killed node is free", time.monotonic() - killed_at, LEASE_S + 3)
    until_works(lambda: server.trigger_client_callback("node", 2), "b")


@pytest.mark.faults
def test_a_node_that_is_killed_and_started_again(short: RealmOfProcesses, timed: Promise) -> None:
    """Its players come back with their tickets, as soon as it is a member again."""
    server = short.server("a")
    player = short.player("c", 2)
    until_works(lambda: server.trigger_client_callback("node", 2), "c")
    killed_at = time.monotonic()
    short.kill("c")
    short.restart("c")
    until_works(lambda: server.trigger_client_callback("node", 2), "c")
    timed("calls to players of a restarted node work", time.monotonic() - killed_at, LEASE_S + 8)
    until_works(lambda: player.trigger_server_callback("node"), "a")


@pytest.mark.faults
def test_the_node_of_the_server_is_killed(short: RealmOfProcesses, timed: Promise) -> None:
    """The server finds its node again when that is started again."""
    server = short.server("a")
    players = [short.player("b", 1), short.player("c", 2)]
    for player in players:
        until_works(lambda player=player: player.trigger_server_callback("node"), "a")
    pending = [player.trigger_server_callback("never", timeout=60) for player in players]
    killed_at = time.monotonic()
    short.kill("a")
    short.restart("a")
    assert {outcome(lambda call=call: call, 60) for call in pending} <= {"SERVER_LOST", "CONNECTION_LOST"}
    for player in players:
        until_works(lambda player=player: player.trigger_server_callback("node"), "a")
    timed("calls to the server of a restarted node work", time.monotonic() - killed_at, LEASE_S + 8)
    until_works(lambda: server.trigger_client_callback("node", 2), "c")
