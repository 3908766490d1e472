"""Random faults on the nodes, the NATS server and the endpoints of a realm under load. Then all faults end.

`make faults SECONDS=600 SEED=7` runs a longer schedule; see `tests/faults/test_schedule.py`.
"""

from __future__ import annotations

import signal
import time
from functools import partial
from pathlib import Path

import pytest
from cluster.test_rolling import LEASE_S, LoadedRealm
from faults.test_schedule import LONGEST_S, SECONDS, SEED, Schedule, Undo, Workers
from support.promises import Promise
from support.realm_processes import RealmOfProcesses

LOOKUP_S = 2.0
"""How long a node looks for a player whom an operator calls."""

DRAINED_S = 20.0
"""How long a node takes at most to drain. Its `grace` is shorter."""

RECOVERED_S = 20.0


class RealmSchedule(Schedule):
    """Faults of the workers, the nodes and the NATS server of a realm."""

    def __init__(self, workers: Workers, realm: RealmOfProcesses) -> None:
        super().__init__(workers)
        self._realm = realm

    def _things(self) -> list[object]:
        return [*super()._things(), *self._realm.brokers, *self._realm.brokers, "nats"]

    def _begin(self, thing: object) -> tuple[str, Undo]:
        if thing == "nats":
            return self._nats_fault()
        return self._node_fault(thing) if isinstance(thing, str) else super()._begin(thing)

    def _nats_fault(self) -> tuple[str, Undo]:
        nats = self._realm.nats
        if self._random.random() < 0.5:
            nats.pause()
            return "NATS stopped", nats.resume
        nats.kill()
        return "NATS killed", nats.start

    def _node_fault(self, name: str) -> tuple[str, Undo]:
        process = self._realm.brokers[name].process
        assert process.popen.poll() is None, process.output()  # no node ends by itself
        kind = self._random.choice(("kill", "stop", "drain"))
        if kind == "stop":
            self._cluster.note(f"node {name}", "stop")
            self._realm.stop(name)
            return f"node {name}: stop", partial(self._go_on, name)
        process.signal(signal.SIGKILL if kind == "kill" else signal.SIGTERM)
        return f"node {name}: {kind}", partial(self._restart, name)

    def _go_on(self, name: str) -> None:
        self._realm.go_on(name)
        self._cluster.note(f"node {name}", "continue")

    def _restart(self, name: str) -> None:
        process = self._realm.brokers[name].process
        process.wait(DRAINED_S)
        process.kill()  # this also closes the pipes
        self._realm.restart(name)


@pytest.mark.faults
@pytest.mark.timeout(2 * SECONDS + 240)
def test_random_faults(tmp_path: Path, timed: Promise) -> None:
    print(f"FAULTS_SEED={SEED} FAULTS_SECONDS={SECONDS:g}")
    with (
        RealmOfProcesses(lease_s=LEASE_S, one_name=True) as realm,
        LoadedRealm(tmp_path, realm) as load,
    ):
        begin = load.begin_at
        workers = Workers(
            SEED,
            load,
            [
                partial(begin, "abc", "server"),
                partial(begin, "bca", "operator"),
                partial(begin, "abc", "player", 1, 2),
                partial(begin, "bca", "player", "ann", "bob"),
                partial(begin, "cab", "player", "cat", "dan", face="blocking"),
            ],
        )
        workers.start()
        schedule = RealmSchedule(workers, realm)
        try:
            schedule.run(SECONDS)
        finally:
            print(*schedule.done, sep="\n")
        healed_at = time.monotonic()
        recovered_s = load.wait_until_all_work(healed_at) - healed_at
        timed(f"{len(schedule.done)} random faults in a realm: all have results", recovered_s, RECOVERED_S)
        load.rest()
        load.verdict(network_s=2 * LONGEST_S + LOOKUP_S)
