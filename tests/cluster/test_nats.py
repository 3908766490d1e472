"""NATS restarts, or is gone for longer than the lease."""

from __future__ import annotations

import time

import pytest
from support.harness import eventually
from support.promises import Promise
from support.realm_processes import LEASE_S, RealmOfProcesses, outcome, until_works


def test_nats_restarts_within_the_lease(realm: RealmOfProcesses, promise: Promise) -> None:
    """Calls within a node go on. Calls between nodes fail at once, and work again soon after."""
    server = realm.server("a")
    near, far = realm.player("a", 1), realm.player("b", 2)
    until_works(lambda: far.trigger_server_callback("node"), "a")
    pending = far.trigger_server_callback("never", timeout=60)
    held = near.trigger_server_callback("never", timeout=60)
    assert outcome(lambda: far.trigger_server_callback("echo", 1)) == [2, 1]
    realm.nats.kill()
    killed_at = time.monotonic()
    assert outcome(lambda: pending) in ("CONNECTION_LOST", "SERVER_LOST")
    failed = outcome(lambda: far.trigger_server_callback("echo", 1))
    assert failed in ("NO_SERVER", "SERVER_LOST", "CONNECTION_LOST")
    promise("calls between nodes fail without NATS", time.monotonic() - killed_at, 5)
    while time.monotonic() - killed_at < 4:
        assert outcome(lambda: near.trigger_server_callback("echo", 1)) == [1, 1]
        assert outcome(lambda: server.trigger_client_callback("echo", 1, 2)) == 2
    realm.nats.start()
    took_s = until_works(lambda: far.trigger_server_callback("node"), "a")
    promise("calls between nodes work when NATS is back", took_s, 8)
    until_works(lambda: server.trigger_client_callback("node", 2), "b")
    assert near.connected and far.connected and not held.done()
    late = realm.player("c", 3)
    until_works(lambda: late.trigger_server_callback("node"), "a")


@pytest.mark.faults
def test_nats_is_gone_for_longer_than_the_lease(short: RealmOfProcesses, timed: Promise) -> None:
    """All sessions end, since nobody may act. When NATS is back, all join again."""
    server = short.server("a")
    near, far = short.player("a", 1), short.player("b", 2)
    until_works(lambda: far.trigger_server_callback("node"), "a")
    held = near.trigger_server_callback("never", timeout=60)
    assert outcome(lambda: near.trigger_server_callback("echo", 1)) == [1, 1]
    short.nats.kill()
    killed_at = time.monotonic()
    assert outcome(lambda: held, 60) in ("SERVER_LOST", "CONNECTION_LOST", "DRAINING")
    eventually(lambda: not (near.connected or far.connected or server.connected), "all sessions end")
    timed("all sessions have ended without NATS", time.monotonic() - killed_at, LEASE_S)
    short.nats.start()
    back_at = time.monotonic()
    until_works(lambda: near.trigger_server_callback("node"), "a")
    until_works(lambda: far.trigger_server_callback("node"), "a")
    until_works(lambda: server.trigger_client_callback("node", 2), "b")
    timed("all work again after NATS is back", time.monotonic() - back_at, 20)


def test_nats_is_stopped_for_a_while(realm: RealmOfProcesses, promise: Promise) -> None:
    """SIGSTOP: no connection closes, and nothing comes. The nodes notice."""
    realm.server("a")
    near, far = realm.player("a", 1), realm.player("b", 2)
    until_works(lambda: far.trigger_server_callback("node"), "a")
    realm.nats.pause()
    stopped_at = time.monotonic()
    pending = far.trigger_server_callback("echo", 1, timeout=60)
    assert outcome(lambda: pending) in ("CONNECTION_LOST", "SERVER_LOST")
    promise("a NATS that is stopped is noticed", time.monotonic() - stopped_at, LEASE_S - 2)
    assert outcome(lambda: near.trigger_server_callback("echo", 1)) == [1, 1]
    realm.nats.resume()
    took_s = until_works(lambda: far.trigger_server_callback("node"), "a")
    promise("calls between nodes work when NATS goes on", took_s, 10)


@pytest.mark.faults
def test_the_server_of_nats_that_leads_is_killed(timed: Promise) -> None:
    with RealmOfProcesses("ab", cluster=True, lease_s=LEASE_S) as realm:
        server = realm.server("a")
        near, far = realm.player("a", 1), realm.player("b", 2)
        until_works(lambda: far.trigger_server_callback("node"), "a")
        realm.leader().kill()
        killed_at = time.monotonic()
        for _ in range(20):
            assert outcome(lambda: near.trigger_server_callback("echo", 1)) == [1, 1]
        until_works(lambda: far.trigger_server_callback("node"), "a")
        until_works(lambda: server.trigger_client_callback("node", 2), "b")
        timed("calls between nodes work after a new leader", time.monotonic() - killed_at, 15)
        late = realm.player("b", 3)  # the others have elected a leader
        timed("a player joins after a new leader", time.monotonic() - killed_at, 15)
        until_works(lambda: late.trigger_server_callback("node"), "a")
        assert near.connected
