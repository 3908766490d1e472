"""The lives of a node: it is stopped past its lease, comes a second time, or drains."""

from __future__ import annotations

import json
import re
import signal
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.harness import PATIENCE_S, BrokerProcess, Process, eventually
from support.nats_servers import NatsServer, administer, credentials_file, make_realm, record
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


def readiness(url: str) -> tuple[int, str | None]:
    """Return the status of /readyz, and why the broker is not ready."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=PATIENCE_S) as answer:
            return answer.status, None
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["why"]


def test_a_node_is_ready_when_it_is_in_its_realm(tmp_path: Path) -> None:
    """NATS is there later than the broker."""
    with ExitStack() as stack:
        nats = stack.enter_context(NatsServer())
        make_realm(nats.address)
        nats.kill()
        options = (
            *("--cluster", nats.address, "--nats-credentials", credentials_file(tmp_path)),
            *("--http", "127.0.0.1:0"),
        )
        process = stack.enter_context(BrokerProcess(options=options)).process
        [url] = re.findall(r" http=(\S+)", "".join(process.lines))
        process.wait_for(f"no contact with the realm main: {nats.address}: Connection refused; trying again")
        assert readiness(url) == (503, "not in its realm")
        nats.start()
        eventually(lambda: readiness(url)[0] == 200, "the broker is in its realm")


def test_two_live_nodes_of_one_name(realm: RealmOfProcesses) -> None:
    server, player = realm.server("a"), realm.player("b", 1)
    addresses = ("--players", "tcp://127.0.0.1:0", "--backend", "tcp://127.0.0.1:0")
    arguments = ("-m", "ringback_cli", "broker", *addresses, *realm.options, "--node", "b")
    with Process(*arguments) as second:
        second.wait_for("another broker had the name of this node .*: waiting for at most node_lease")
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
