"""NATS restarts, is stopped, or is gone for longer than the lease; of three servers, one or two are gone."""

from __future__ import annotations

import time

import pytest
from support.harness import eventually
from support.nats_servers import REALM, administer, delete_bucket, make_realm, settle
from support.promises import Promise
from support.realm_processes import LEASE_S, RealmOfProcesses, outcome, until_works

from ringback import LinkError, Player
from ringback_broker.nats.client import Client
from ringback_broker.nats.names import RealmNames


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
    promise("calls between nodes work when NATS is back", took_s, 5)
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
    timed("all work again after NATS is back", time.monotonic() - back_at, 15)


def test_nats_is_stopped_for_a_while(realm: RealmOfProcesses, promise: Promise) -> None:
    """SIGSTOP: no connection closes, and nothing comes. The nodes notice."""
    realm.server("a")
    near, far = realm.player("a", 1), realm.player("b", 2)
    until_works(lambda: far.trigger_server_callback("node"), "a")
    realm.nats.pause()
    stopped_at = time.monotonic()
    pending = far.trigger_server_callback("echo", 1, timeout=60)
    assert outcome(lambda: pending) in ("CONNECTION_LOST", "SERVER_LOST")
    promise("a NATS that is stopped is noticed", time.monotonic() - stopped_at, 5)
    assert outcome(lambda: near.trigger_server_callback("echo", 1)) == [1, 1]
    realm.nats.resume()
    took_s = until_works(lambda: far.trigger_server_callback("node"), "a")
    promise("calls between nodes work when NATS goes on", took_s, 5)


@pytest.mark.faults
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_the_server_of_nats_that_leads_is_gone(timed: Promise, how: str) -> None:
    with RealmOfProcesses("ab", cluster=True, lease_s=LEASE_S) as realm:
        server = realm.server("a")
        near, far = realm.player("a", 1), realm.player("b", 2)
        until_works(lambda: far.trigger_server_callback("node"), "a")
        held = near.trigger_server_callback("never", timeout=60)
        pending = far.trigger_server_callback("echo", 1, timeout=60)
        leader = realm.leader()
        if how == "killed":
            leader.kill()
        else:
            leader.pause()
        gone_at = time.monotonic()
        for _ in range(20):
            assert outcome(lambda: near.trigger_server_callback("echo", 1)) == [1, 1]
        until_works(lambda: far.trigger_server_callback("node"), "a")
        until_works(lambda: server.trigger_client_callback("node", 2), "b")
        timed(f"the leader of NATS {how}: calls between nodes work", time.monotonic() - gone_at, 10)
        late = realm.player("b", 3)  # the others have elected a leader
        timed(f"the leader of NATS {how}: a player joins", time.monotonic() - gone_at, 10)
        until_works(lambda: late.trigger_server_callback("node"), "a")
        assert outcome(lambda: pending) in ([2, 1], "SERVER_LOST", "CONNECTION_LOST")
        assert near.connected and far.connected and server.connected and not held.done()


@pytest.mark.faults
def test_two_of_three_servers_of_nats_are_killed(timed: Promise) -> None:
    """Nobody can write a record. All that is there goes on, as long as the leases last."""
    with RealmOfProcesses("ab", cluster=True, lease_s=2 * LEASE_S) as realm:
        server = realm.server("a")
        near, far = realm.player("a", 1), realm.player("b", 2)
        until_works(lambda: far.trigger_server_callback("node"), "a")
        held = near.trigger_server_callback("never", timeout=60)
        for nats in realm.servers[1:]:
            nats.kill()
        killed_at = time.monotonic()
        assert outcome(lambda: near.trigger_server_callback("echo", 1)) == [1, 1]
        until_works(lambda: far.trigger_server_callback("node"), "a")
        until_works(lambda: server.trigger_client_callback("node", 2), "b")
        timed("two of three NATS killed: calls between nodes work", time.monotonic() - killed_at, 5)
        late = Player(realm.brokers["b"].players, 3, connect_timeout=2)
        with pytest.raises(LinkError):
            late.start()
        late.close()
        realm.servers[1].start()
        back_at = time.monotonic()
        again = realm.player("b", 4)
        timed("two of three NATS are there again: a player joins", time.monotonic() - back_at, 15)
        until_works(lambda: again.trigger_server_callback("node"), "a")
        until_works(lambda: server.trigger_client_callback("node", 2), "b")
        assert near.connected and far.connected and server.connected and not held.done()


async def use_revisions(client: Client) -> None:
    for _ in range(1000):
        await client.publish(f"{RealmNames(REALM).records}p.x", b"another revision")
    await settle(client)


@pytest.mark.faults
def test_the_bucket_is_lost(realm: RealmOfProcesses, timed: Promise) -> None:
    """All sessions end, since each node finds that its record is gone. All join again.

    The revisions of the new bucket begin anew, and so do the terms of the seat.
    """
    administer(realm.nats.address, use_revisions)
    server = realm.server("a")
    near, far = realm.player("a", 1), realm.player("b", 2)
    until_works(lambda: far.trigger_server_callback("node"), "a")
    pending = [player.trigger_server_callback("never", timeout=60) for player in (near, far)]
    down = server.trigger_client_callback("never", 2, timeout=60)
    assert outcome(lambda: near.trigger_server_callback("echo", 1)) == [1, 1]
    administer(realm.nats.address, delete_bucket)
    lost_at = time.monotonic()
    make_realm(realm.nats.address)
    ends = ("SERVER_LOST", "CONNECTION_LOST", "DRAINING")
    assert {outcome(lambda call=call: call) for call in pending} <= set(ends)
    assert outcome(lambda: down) in ("PLAYER_LEFT", "CONNECTION_LOST")
    until_works(lambda: near.trigger_server_callback("node"), "a")
    until_works(lambda: far.trigger_server_callback("node"), "a")
    until_works(lambda: server.trigger_client_callback("node", 2), "b")
    timed("the bucket was lost and made anew: all work", time.monotonic() - lost_at, 10)
