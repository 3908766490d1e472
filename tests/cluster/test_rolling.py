"""All NATS servers and all nodes are restarted, one after the other, under load."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from faults.cluster import Cluster, WorkerProcess, ask_who_is_there
from support.histories import File, Recorder
from support.promises import Promise
from support.realm_processes import RealmOfProcesses

from ringback import CallbackError, Player
from ringback_cli.exits import Exit

IPS = {"a": "127.0.0.1", "b": "127.0.0.2", "c": "127.0.0.3"}
NAME = "realm.test"
PLAYERS = [1, 2, "ann", "bob", "cat", "dan"]
LEASE_S = 15.0
"""What `node_lease` is by default."""


class LoadedRealm(Cluster):
    """A realm of three nodes on three NATS servers, and workers that call each other through it.

    The workers know the nodes by one name. Each gets their IPs in an order of its own: all nodes have peers.
    """

    def __init__(self, folder: Path, realm: RealmOfProcesses) -> None:
        self.realm = realm
        super().__init__(folder, PLAYERS, broker=realm.brokers["a"])

    def begin_at(self, nodes: str, role: str, *names: Any, **options: Any) -> WorkerProcess:
        """Start a worker that dials these nodes in this order."""
        assert self.realm.ports is not None
        port = self.realm.ports[0 if role == "player" else 1]
        table = {NAME: [IPS[node] for node in nodes]}
        return self.begin(role, *names, address=f"tcp://{NAME}:{port}", table=table, **options)

    def start_at(self, nodes: str, role: str, *names: Any, **options: Any) -> WorkerProcess:
        """Start a worker that dials these nodes in this order. Wait until it is connected."""
        worker = self.begin_at(nodes, role, *names, **options)
        worker.wait_for_lives("connected")
        return worker

    def who_is_there(self) -> tuple[set[Any], int]:
        found = [ask_who_is_there(broker) for broker in self.realm.brokers.values()]
        return set[Any]().union(*(players for players, _ in found)), sum(count for _, count in found)

    def restart(self, name: str) -> float:
        """Have a node drain and end, and start it again. Return how long it takes until all work."""
        began_at = time.monotonic()
        process = self.realm.brokers[name].process
        process.signal(signal.SIGTERM)
        assert process.wait() == Exit.OK
        self.realm.restart(name)
        self.realm.brokers[name].process.wait_for("in contact with the realm")
        return self.wait_until_all_work(time.monotonic()) - began_at

    @contextmanager
    def calls_within(self, name: str) -> Iterator[list[float]]:
        """Have a player of a node call the server, which is there too. Each call must have a result.

        Yields:
            How long the calls take.
        """
        took: list[float] = []
        failed: list[CallbackError] = []
        record = Recorder("near", File(self.histories.folder / "near.jsonl"))
        over = threading.Event()

        def call() -> None:
            while not over.is_set():
                payload = {"call": f"near#{len(took)}", "kind": "echo", "s": 0.0, "fill": b""}
                began_at = time.monotonic()
                record.invoke(payload["call"], "server", "near", 30.0, payload)
                try:
                    result = player.trigger_server_callback("do", payload, timeout=30).result()
                except CallbackError as error:
                    record.error(payload["call"], error.code_name, error.executed)
                    failed.append(error)
                else:
                    record.result(payload["call"], [result])
                took.append(time.monotonic() - began_at)

        record.start("player", "near")
        with Player(self.realm.brokers[name].players, "near") as player:
            thread = threading.Thread(target=call)
            thread.start()
            try:
                yield took
            finally:
                over.set()
                thread.join()
                record.note("close")
        assert not failed, failed[:5]


@pytest.mark.faults
@pytest.mark.parametrize("calls", ["load", "storm"])
def test_everything_is_restarted_one_after_the_other(tmp_path: Path, timed: Promise, calls: str) -> None:
    """Each call has one outcome. Calls within a node go on while other nodes and NATS are restarted."""
    with (
        RealmOfProcesses(cluster=True, lease_s=LEASE_S, one_name=True) as realm,
        LoadedRealm(tmp_path, realm) as load,
    ):
        load.start_at("abc", "server")
        load.start_at("bca", "operator")
        load.start_at("abc", "player", 1, 2)
        load.start_at("bca", "player", "ann", "bob")
        load.start_at("cab", "player", "cat", "dan", face="blocking")
        since = time.monotonic()
        for worker in load.alive:
            worker.tell(calls, 2)
        load.wait_until_all_work(since)
        with load.calls_within("a") as took:
            for nats in realm.servers:
                stopped_at = time.monotonic()
                nats.stop()
                nats.start()
                realm.nats_cluster.wait_until_whole()
                works_s = load.wait_until_all_work(time.monotonic()) - stopped_at
                timed(f"{calls}: a NATS server is restarted: all have results", works_s, 20)
            for name in "cb":
                timed(f"{calls}: a node is restarted: all have results", load.restart(name), 20)
        assert len(took) > 200
        timed(f"{calls}: the longest call within a node meanwhile", max(took), 2)
        timed(f"{calls}: the node of the server is restarted: all have results", load.restart("a"), 20)
        load.rest()
        load.verdict()
        ends = Counter(line["code"] or "results" for line in load.histories.find(what="complete"))
        assert ends["results"] > 500, ends
