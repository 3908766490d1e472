"""The lives of a node: it is stopped past its lease, comes a second time, or drains."""

from __future__ import annotations

import signal

import pytest
from support.harness import Process, eventually
from support.nats_servers import administer, record
from support.realm_processes import RealmOfProcesses, outcome, until_works

from ringback_broker.cluster.ownership import node_key
from ringback_broker.cluster.records import Absent
from ringback_cli.exits import Exit


@pytest.mark.faults
def test_a_node_that_was_stopped_past_its_lease(short: RealmOfProcesses) -> None:
    """It passes nothing when it is woken, ends its sessions, and begins again."""
    server = short.server("a")
    player = short.player("c", 2)
    until_works(lambda: server.trigger_client_callback("node", 2), "c")
    process = short.brokers["c"].process
    process.signal(signal.SIGSTOP)
    eventually(lambda: 2 not in server.players, "the server is told")
    again = short.player("b", 2)  # its ID is free
    until_works(lambda: server.trigger_client_callback("node", 2), "b")
    process.signal(signal.SIGCONT)
    process.wait_for("left player 2 .*this broker has lost its realm")
    for _ in range(20):
        assert outcome(lambda: server.trigger_client_callback("node", 2)) == "b"
    player.close()
    third = short.player("c", 3)
    until_works(lambda: third.trigger_server_callback("node"), "a")
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
    until_works(lambda: server.trigger_client_callback("node", 2), "c")
    player.close()
    realm.brokers["c"].process.signal(signal.SIGTERM)
    assert realm.brokers["c"].process.wait() == Exit.OK
    assert administer(realm.nats.address, lambda client: record(client, node_key("c"))) == Absent()
    realm.restart("c")
    realm.player("c", 2)
    until_works(lambda: server.trigger_client_callback("node", 2), "c")
