"""The realm of the demo, and its parts that are killed one after the other."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from cluster_demo.judging import CROWD, NATS, NODE, SEAT, SERVER, Group, Promise, judge, judge_time
from cluster_demo.workers import Joining, State, Worker
from support.harness import PATIENCE_S
from support.realm_processes import RealmOfProcesses

from ringback import Operator

NODES = "abc"
LEASE_S = 15.0
"""As the default of `node_lease`."""

LATER_S = 15.0
"""How much longer than promised to wait, to say when it came."""

LOOK_S = 0.1
"""The time between two looks at what the processes report. Nothing announces that all works."""

GOES_ON_S = 1.0
"""How long after a fault nothing is counted as over: calls that fail late must be seen."""


def say(text: str) -> None:
    print(text, flush=True)


def tell(who: str, what: str) -> None:
    say(f"  {who:<42} {what}")


class DemoRealm:
    """NATS, the nodes, and all processes with endpoints.

    Attributes:
        differences: how what happened differs from the promises, each in words.
    """

    def __init__(self, stack: ExitStack, promises: dict[str, Promise], players: int, processes: int) -> None:
        self._stack = stack
        self._promises = promises
        self._each = players // processes
        self.differences: list[str] = []
        self._ended: list[dict[str, Any]] = []
        self._servers: list[Worker] = []
        self._names = 0
        begun_at = time.monotonic()
        self._realm = stack.enter_context(
            RealmOfProcesses(NODES, cluster=True, lease_s=LEASE_S, shows_logs=False)
        )
        self._start_server(standby=False)
        self._start_server(standby=True)
        self._crowds = [self._start_crowd(number) for number in range(processes)]
        for crowd in self._crowds:
            crowd.wait_for("^joined$")
        everybody = [self._everybody()]
        state = self._wait_until_all_work(time.monotonic(), everybody, PATIENCE_S)
        self._show_beginning(state, time.monotonic() - begun_at)
        if everybody[0].works_after_s is None:
            self.differences.append("not all calls work at the beginning")

    def _show_beginning(self, state: State, took_s: float) -> None:
        servers = ", ".join(server.name for server in self._realm.servers)
        at = ", ".join(f"{len(group.players)} at node {group.node}" for group in self._by_node(state))
        say("A realm of three brokers, each part a process of its own:")
        tell(f"NATS servers {servers}", "each has all records")
        tell(f"nodes {', '.join(NODES)}", f"node_lease is {LEASE_S:g} s")
        tell(self._name_of_server(state), f"acts, at node {self._seat(state)}; another server stands by")
        tell(f"{self._each * len(self._crowds)} players in {len(self._crowds)} processes", at)
        say(f"Calls go both ways, all the time. It took {took_s:.0f} s to start.")

    # -- parts

    def _start_server(self, *, standby: bool) -> None:
        self._names += 1
        more = ("standby",) if standby else ()
        worker = self._begin(Worker("keeper.py", self._realm.backends, str(self._names), *more))
        self._servers.append(worker)
        worker.wait_for("^started$")

    def _start_crowd(self, number: int) -> Worker:
        first = 1 + number * self._each
        return self._begin(Worker("crowd.py", self._realm.players, str(first), str(self._each)))

    def _begin(self, worker: Worker) -> Worker:
        self._stack.callback(worker.kill)
        return worker

    def _start_node(self, name: str) -> None:
        """Start a node again. It waits until it is sure that its earlier life is over."""
        began_at = time.monotonic()
        self._realm.restart(name)
        with Operator(self._realm.brokers[name].backend, connect_timeout=PATIENCE_S):
            tell(
                f"node {name}",
                f"is started again, and is in the realm after {time.monotonic() - began_at:.0f} s",
            )
        self._look_back(f"node {name} is started again", began_at)

    def _lose(self, worker: Worker, workers: list[Worker]) -> None:
        """Kill a process. Keep what it has reported last."""
        self._ended.append(worker.ask("report", float("inf")))
        worker.kill()
        workers.remove(worker)

    def _node_at(self, address: str | None) -> str:
        """Return the node that listens at an address."""
        nodes = self._realm.brokers.items()
        return next((name for name, found in nodes if address in (found.players, found.backend)), "none")

    def _seat(self, state: State) -> str:
        """Return the node of the server that acts."""
        return "none" if state.acting is None else self._node_at(state.acting["at"])

    def _name_of_server(self, state: State) -> str:
        return "no server" if state.acting is None else f"server {state.acting['name']}"

    def _by_node(self, state: State) -> list[Group]:
        """Return the players of each node as a group."""
        found = [(self._node_at(address), players) for address, players in state.where().items()]
        return [Group(f"players at node {node}", players, node) for node, players in sorted(found, key=str)]

    def _everybody(self) -> Group:
        return Group("players at all nodes", set(range(1, 1 + self._each * len(self._crowds))))

    # -- waiting

    def _state(self, since: float | None = None) -> State:
        return State(self._crowds, self._servers, time.monotonic() if since is None else since)

    def _wait_until_all_work(self, since: float, groups: list[Group], within_s: float) -> State:
        """Wait until calls of all groups work, both ways, and none from before is open. Fill them in."""
        while True:
            state = self._state(since)
            for group in groups:
                state.fill(group)
            works = all(group.works_after_s is not None for group in groups)
            now = time.monotonic()
            if (works and min(state.oldest, now) > since + GOES_ON_S) or now > since + within_s:
                return state
            time.sleep(LOOK_S)

    def _wait_until(self, check: Callable[[State], bool], since: float, within_s: float) -> float | None:
        """Wait until something is reported. Return how long after a moment that was, or None."""
        while time.monotonic() < since + within_s:
            if check(self._state(since)):
                return time.monotonic() - since
            time.sleep(LOOK_S)
        return None

    # -- what is said

    def _begin_fault(self, what: str, title: str) -> Promise:
        say(f"\n{title}")
        return self._promises[what]

    def _show(self, groups: Iterable[Group]) -> None:
        for group in groups:
            tell(f"{len(group.players)} {group.who}", group.words())

    def _end_fault(self, promise: Promise, found: list[str]) -> None:
        say(f"  promised: {promise.words()}: {'kept' if not found else 'NOT KEPT'}")
        for difference in found:
            say(f"  DIFFERENT: {difference}")
        self.differences += [f"{promise.what}: {difference}" for difference in found]

    def _look_back(self, what: str, since: float) -> None:
        """Say what failed since a moment. Nothing should: nothing was killed."""
        everybody = self._everybody()
        state = self._state(since)
        state.fill(everybody)
        if everybody.failed.total():
            found = f"{everybody.failed.total()} calls failed{everybody.codes()}, and none should"
            tell("meanwhile", f"DIFFERENT: {found}; {self._name_of_server(state)} acts")
            self.differences.append(f"{what}: {found}")

    # -- the faults

    def kill_nats(self) -> None:
        state = self._state()
        leader, seat = self._realm.leader(), self._seat(state)
        promise = self._begin_fault(NATS, f"{leader.name} is killed, the server of NATS that leads.")
        near = [group for group in self._by_node(state) if group.node == seat]
        far = [group for group in self._by_node(state) if group.node != seat]
        for group in near:
            group.who += ", as the server is"
        since = time.monotonic()
        leader.kill()
        newcomer = Joining(self._realm.brokers[seat].players, 1 + self._each * len(self._crowds))
        self._wait_until_all_work(since, near + far, promise.within_s + LATER_S)
        took_s = newcomer.wait(promise.within_s + LATER_S)
        self._show(near + far)
        tell("a new player", "does not join" if took_s is None else f"joins after {took_s:.1f} s")
        self._end_fault(
            promise, judge(promise, near, far) + judge_time(promise, "a new player joins", took_s)
        )
        again_at = time.monotonic()
        leader.start()
        tell(leader.name, "is started again")
        self._look_back(f"{leader.name} is started again", again_at)

    def kill_node(self) -> None:
        state = self._state()
        seat = self._seat(state)
        name = next(name for name in reversed(NODES) if name != seat)
        promise = self._begin_fault(NODE, f"Node {name} is killed.")
        spared = [group for group in self._by_node(state) if group.node != name]
        touched = [group for group in self._by_node(state) if group.node == name]
        since = time.monotonic()
        self._realm.kill(name)
        self._wait_until_all_work(since, spared + touched, promise.within_s + LATER_S)
        self._show(touched + spared)
        self._end_fault(promise, judge(promise, spared, touched))
        self._start_node(name)

    def kill_seat(self) -> None:
        state = self._state()
        name, server = self._seat(state), self._name_of_server(state)
        promise = self._begin_fault(SEAT, f"Node {name} is killed, where the server is.")
        touched = self._by_node(state)
        since = time.monotonic()
        self._realm.kill(name)
        state = self._wait_until_all_work(since, touched, promise.within_s + LATER_S)
        self._show(touched)
        tell(self._name_of_server(state), f"acts, at node {self._seat(state)}")
        found = judge(promise, [], touched)
        if self._name_of_server(state) != server:
            found.append(f"{self._name_of_server(state)} acts, and {server} should go on")
        self._end_fault(promise, found)
        self._start_node(name)

    def kill_server(self) -> None:
        state = self._state()
        before = self._name_of_server(state)
        promise = self._begin_fault(
            SERVER, f"{before.capitalize()} is killed, which acts at node {self._seat(state)}."
        )
        [victim] = [
            worker for worker, found in zip(self._servers, state.servers, strict=True) if found["acting"]
        ]
        touched = [self._everybody()]
        since = time.monotonic()
        self._lose(victim, self._servers)
        state = self._wait_until_all_work(since, touched, promise.within_s + LATER_S)
        self._show(touched)
        tell(self._name_of_server(state), f"acts, at node {self._seat(state)}")
        self._end_fault(promise, judge(promise, [], touched))
        self._start_server(standby=True)
        tell(f"server {self._names}", "is started, and stands by")

    def kill_crowd(self) -> None:
        *others, last = self._state().crowds
        lost = Group("players that are lost", {player for player, _ in last["where"]})
        spared = Group("other players", {player for crowd in others for player, _ in crowd["where"]})
        promise = self._begin_fault(CROWD, f"A process with {len(lost.players)} players is killed.")
        since = time.monotonic()
        self._lose(self._crowds[-1], self._crowds)

        def is_known(state: State) -> bool:
            return state.acting is not None and lost.players.isdisjoint(state.acting["known"])

        known_s = self._wait_until(is_known, since, promise.within_s + LATER_S)
        state = self._wait_until_all_work(since, [spared], promise.within_s + LATER_S)
        state.fill(lost)
        tell(f"{len(lost.players)} {lost.who}", f"{lost.failed.total()} calls to them failed{lost.codes()}")
        self._show([spared])
        tell(
            "the server",
            "does not know" if known_s is None else f"knows after {known_s:.1f} s that they left",
        )
        found = judge_time(promise, "the server knows that they left", known_s)
        self._end_fault(promise, judge(promise, [spared], []) + found)
        self._start_crowd_again(lost)

    def _start_crowd_again(self, lost: Group) -> None:
        since = time.monotonic()
        self._crowds.append(self._start_crowd(len(self._crowds)))
        self._crowds[-1].wait_for("^joined$")
        self._wait_until_all_work(since, [lost], PATIENCE_S)
        took_s = lost.works_after_s
        tell(
            "the process",
            "is started again, and "
            + (
                "its players do not come back"
                if took_s is None
                else f"its players are back after {took_s:.1f} s"
            ),
        )
        if took_s is None:
            self.differences.append(f"{CROWD}: the players do not come back")

    # -- the end

    def count(self) -> None:
        """End the calls. Check that each has one outcome."""
        for worker in (*self._crowds, *self._servers):
            worker.ask("stop")
        self._wait_until(lambda state: state.oldest == float("inf"), time.monotonic(), PATIENCE_S)
        last = self._state(float("inf"))
        outcomes: Counter[str] = Counter()
        begun = 0
        for report in (*last.crowds, *last.servers):
            outcomes.update(report["outcomes"])
            begun += report["begun"]
        for report in self._ended:
            outcomes.update(report["outcomes"])
            begun += report["begun"] - report["open"]  # those calls ended with their process
        errors = outcomes.total() - outcomes["OK"]
        say(f"\n{begun} calls were made. {outcomes['OK']} got their result, {errors} an error.")
        if begun != outcomes.total():
            self.differences.append(f"{begun} calls have {outcomes.total()} outcomes")


FAULTS: dict[str, Callable[[DemoRealm], None]] = {
    NATS: DemoRealm.kill_nats,
    NODE: DemoRealm.kill_node,
    SEAT: DemoRealm.kill_seat,
    SERVER: DemoRealm.kill_server,
    CROWD: DemoRealm.kill_crowd,
}
"""The faults in the order in which they are tried."""
