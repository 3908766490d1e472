"""The lives of a node: it is stopped past its lease, comes a second time, or drains."""

from __future__ import annotations

import signal
import time

from support.harness import Process, eventually
from support.realm_processes import LEASE_S, RealmOfProcesses, outcome, until_works

from ringback_cli.exits import Exit


def test_a_node_that_was_stopped_past_its_lease(realm: RealmOfProcesses) -> None:
    """It passes nothing when it is woken, ends its sessions, and begins again."""
    server = realm.server("a")
    player = realm.player("c", 2)
    until_works(lambda: server.trigger_client_callback("node", 2), "c", 5)
    process = realm.brokers["c"].process
    process.signal(signal.SIGSTOP)
    eventually(lambda: 2 not in server.players, "the server is told")
    again = realm.player("b", 2)  # its ID is free
    until_works(lambda: server.trigger_client_callback("node", 2), "b", 5)
    process.signal(signal.SIGCONT)
    process.wait_for("left player 2 .*this broker has lost its realm")
    for _ in range(20):
        assert outcome(lambda: server.trigger_client_callback("node", 2)) == "b"
    player.close()
    third = realm.player("c", 3)
    until_works(lambda: third.trigger_server_callback("node"), "a", LEASE_S)
    again.close()


def test_two_live_nodes_of_one_name(realm: RealmOfProcesses) -> None:
    server, player = realm.server("a"), realm.player("b", 1)
    addresses = ("--players", "tcp://127.0.0.1:0", "--backend", "tcp://127.0.0.1:0")
    arguments = ("-m", "ringback_cli", "broker", *addresses, *realm.options, "--node", "b")
    with Process(*arguments) as second:
        assert second.wait() == Exit.REALM_FAILED
        assert second.output()[-1] == (
            "REALM_FAILED: another broker of this realm has the name of this node (--node), and is alive"
        )
    assert outcome(lambda: player.trigger_server_callback("echo", 1)) == [1, 1]
    assert server.players == [1]


def test_a_node_that_drains_leaves_at_once(realm: RealmOfProcesses) -> None:
    """Its record is gone, so a node of the same name begins without waiting for the lease."""
    server = realm.server("a")
    player = realm.player("c", 2)
    until_works(lambda: server.trigger_client_callback("node", 2), "c", 5)
    player.close()
    realm.brokers["c"].process.signal(signal.SIGTERM)
    assert realm.brokers["c"].process.wait() == Exit.OK
    began_at = time.monotonic()
    realm.restart("c")
    realm.player("c", 2)
    until_works(lambda: server.trigger_client_callback("node", 2), "c", 5)
    assert time.monotonic() - began_at < 8
