"""The lives of a node: it is stopped past its lease, its clock jumps, it comes a second time, or drains."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.harness import ENVIRONMENT, PATIENCE_S, BrokerProcess, Process, eventually
from support.nats_servers import NatsServer, administer, credentials_file, make_realm, record
from support.promises import Promise
from support.realm_processes import LEASE_S, RealmOfProcesses, outcome, until_works

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
    short.stop("c")
    eventually(lambda: 2 not in server.players, "the server is told")
    again = short.player("b", 2)  # its ID is free
    until_works(lambda: server.trigger_client_callback("node", 2), "b")
    short.go_on("c")
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


@pytest.mark.faults
def test_wall_clocks_that_jump(tmp_path: Path, timed: Promise) -> None:
    """Nothing happens: leases are measured on monotonic clocks, each by the one who waits."""
    clock = Clock(tmp_path)
    with RealmOfProcesses("ab", lease_s=LEASE_S, environment=clock.environment) as realm:
        server = realm.server("a")
        near, far = realm.player("a", 1), realm.player("b", 2)
        until_works(lambda: far.trigger_server_callback("node"), "a")
        held = [player.trigger_server_callback("never", timeout=90) for player in (near, far)]
        longest_s = 0.0
        for jump_s in (86_400, -365 * 86_400):
            clock.set(jump_s)
            jumped_at = time.monotonic()
            while time.monotonic() - jumped_at < LEASE_S + 3:
                began_at = time.monotonic()
                assert outcome(lambda: far.trigger_server_callback("echo", 1)) == [2, 1]
                assert outcome(lambda: server.trigger_client_callback("node", 2)) == "b"
                longest_s = max(longest_s, time.monotonic() - began_at)
            player = realm.player("b", 3)
            rows, _ = realm.operator("b").query("events").result(timeout=30)
            assert abs(rows[-1][1] - time.time() - jump_s) < 600  # the clock of the node has jumped
            player.close()
        timed("the wall clocks jump: the longest call", longest_s, 2)
        assert near.connected and far.connected and server.connected
        assert not any(call.done() for call in held)


class Clock:
    """The wall clock of processes that are started with `environment`."""

    PROGRAM = """
import os, time
system, path = time.time, os.environ["TESTS_CLOCK"]

def jumped():
    with open(path) as file:
        return system() + float(file.read())

time.time = jumped
"""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "clock"
        (folder / "sitecustomize.py").write_text(self.PROGRAM)
        path = os.pathsep.join((str(folder), ENVIRONMENT["PYTHONPATH"]))
        self.environment = {"PYTHONPATH": path, "TESTS_CLOCK": str(self._path)}
        self.set(0)

    def set(self, jump_s: float) -> None:
        """Have the clocks go that much before the one of this machine."""
        new = self._path.with_suffix(".new")
        new.write_text(str(jump_s))
        new.replace(self._path)  # in one step: a process reads a whole number


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
