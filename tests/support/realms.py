"""Fakes around a realm: records and messages that a test moves by hand."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any

from support.switchboards import Desk, check_tables

from ringback_broker.cluster.cluster import Cluster
from ringback_broker.cluster.messages import Message, encode
from ringback_broker.cluster.records import Absent, Conflict, Done, Outcome, Record, Unknown
from ringback_broker.peers.connection import Sent


class FakeRecords:
    """Records in memory. What is asked for happens when a test says so.

    Attributes:
        there: the records.
        asked: what was asked for and has not happened: the name of the method, the key, and what happens.
        lose: whether all that happens has the outcome `Unknown`, and does not take place.
        forget: whether it has that outcome, and takes place.
    """

    def __init__(self) -> None:
        self.there: dict[str, Record] = {}
        self.asked: deque[tuple[str, str, Callable[[], Outcome], Done]] = deque()
        self.lose = self.forget = False
        self._revisions = count(1)

    def put(self, key: str, value: bytes, revision: int, done: Done) -> None:
        self.asked.append(("put", key, lambda: self.write(key, value, revision), done))

    def delete(self, key: str, revision: int, done: Done) -> None:
        self.asked.append(("delete", key, lambda: self._delete(key, revision), done))

    def read(self, key: str, done: Done) -> None:
        self.asked.append(("read", key, lambda: self.there.get(key, Absent()), done))

    def write(self, key: str, value: bytes, revision: int | None = None) -> Outcome:
        there = self.there.get(key)
        if revision is not None and revision != (there.revision if there else 0):
            return Conflict()
        self.there[key] = Record(value, next(self._revisions))
        return self.there[key]

    def _delete(self, key: str, revision: int) -> Outcome:
        there = self.there.get(key)
        if there is None or there.revision != revision:
            return Conflict()
        del self.there[key]
        return Absent()

    def step(self, now: float) -> tuple[str, str]:
        """Have the first thing that was asked for happen, and return what it was."""
        what, key, happen, done = self.asked.popleft()
        outcome = Unknown() if self.lose else happen()
        done(Unknown() if self.forget else outcome, now)
        return what, key

    def settle(self, now: float, most: int = 1000) -> list[tuple[str, str]]:
        """Have all happen, also what is asked for meanwhile."""
        done = []
        while self.asked and len(done) < most:
            done.append(self.step(now))
        return done


class FakeFrames:
    """Messages that were sent: the node, its boot and the parts.

    Attributes:
        sent: those that left.
        asked: those of them whose sender wants to know if nobody is there to take them, with its epoch.
        outcome: how sends end from now on.
        boots: what was listened for.
    """

    max_bytes = 2**20

    def __init__(self) -> None:
        self.sent: deque[tuple[str, bytes, tuple[bytes, ...]]] = deque()
        self.outcome = Sent.YES
        self.boots: list[bytes] = []
        self.asked: deque[tuple[str, bytes, int]] = deque()

    def listen(self, boot: bytes) -> None:
        self.boots.append(boot)

    def send(self, node: str, boot: bytes, parts: tuple[bytes, ...], epoch: int = 0) -> Sent:
        if self.outcome is Sent.YES:
            self.sent.append((node, boot, parts))
            if epoch:
                self.asked.append((node, boot, epoch))
        return self.outcome


def boots() -> Callable[[], bytes]:
    """Return a function that gives another boot each time."""
    numbers = count(1)
    return lambda: b"%08d of boot" % next(numbers)


LEASE_S = 15.0


class NodeDesk(Desk):
    """A switchboard that is a node of a realm.

    Attributes:
        frames: what it sends to other nodes.
        cut: whether nothing gets through to the records or to other nodes.
    """

    def __init__(self, realm: RealmDesks, name: str, **settings: Any) -> None:
        self.name = name
        self.frames = FakeFrames()
        self.cut = False
        super().__init__(
            cluster=Cluster(name, LEASE_S, _Cuttable(self, realm.records), self.frames), **settings
        )
        self.now = realm.now
        self.after = realm.settle

    @property
    def realm(self) -> Any:
        return self.switchboard.realm

    def say(self, name: str, message: Message) -> None:
        """Say something to another node."""
        self.switchboard.sending.notify(self.switchboard.roster.nodes[name], encode(message))

    def hold(self) -> deque[tuple[str, bytes, tuple[bytes, ...]]]:
        """End the step, and return what is on its way to other nodes. It does not arrive any more."""
        self.switchboard.send_bundles(self.now)
        held, self.frames.sent = self.frames.sent, deque()
        return held


class _Cuttable:
    """The records, as a node reaches them that may be cut off."""

    def __init__(self, desk: NodeDesk, records: FakeRecords) -> None:
        self._desk = desk
        self._records = records

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    def put(self, key: str, value: bytes, revision: int, done: Done) -> None:
        self._records.put(key, value, revision, done)
        self._cut()

    def delete(self, key: str, revision: int, done: Done) -> None:
        self._records.delete(key, revision, done)
        self._cut()

    def read(self, key: str, done: Done) -> None:
        self._records.read(key, done)
        self._cut()

    def _cut(self) -> None:
        if self._desk.cut:
            what, key, _, done = self._records.asked.pop()
            self._records.asked.append((what, key, Unknown, done))


class RealmDesks:
    """Several nodes, and all that is between them: it happens at once, or when a test says so.

    Attributes:
        nodes: by name.
        dead: the names of nodes that do nothing any more.
        holds: whether messages between nodes wait.
    """

    def __init__(self, *names: str, **settings: Any) -> None:
        self.now = 1000.0
        self.records = FakeRecords()
        self.dead: set[str] = set()
        self.holds = False
        self.nodes: dict[str, NodeDesk] = {}
        self._seen: dict[str, dict[str, Outcome]] = {}
        for name in names:
            self.start(name, **settings)
        self.pass_time(1.0)

    def start(self, name: str, **settings: Any) -> NodeDesk:
        self.dead.discard(name)
        self.nodes[name] = NodeDesk(self, name, **settings)
        self._seen[name] = {}
        return self.nodes[name]

    def __getitem__(self, name: str) -> NodeDesk:
        return self.nodes[name]

    def kill(self, name: str) -> None:
        """Have a node do nothing any more."""
        self.dead.add(name)
        self.nodes[name].frames.sent.clear()

    def tell_that_nobody_is_at(self, name: str) -> None:
        """Tell the other nodes what became of the messages to a dead one."""
        for node in self.alive():
            for asked in [asked for asked in node.frames.asked if asked[0] == name]:
                node.realm.other_nodes.nobody(*asked, self.now)
        self.settle()

    def alive(self) -> list[NodeDesk]:
        return [node for name, node in self.nodes.items() if name not in self.dead]

    def settle(self) -> None:
        """Let all happen that is under way."""
        while self._step():
            pass

    def _step(self) -> bool:
        busy = bool(self.records.settle(self.now))
        for node in self.alive():
            node.now = self.now
            node.switchboard.send_bundles(self.now)
            busy |= self._tell(node) | self._deliver(node)
        return busy

    def _tell(self, node: NodeDesk) -> bool:
        """Tell a node which watched records have changed."""
        if node.cut:
            return False
        seen, told = self._seen[node.name], False
        watched = {key for key in (*self.records.there, *seen) if key == "seat" or key.startswith("node.")}
        for key in sorted(watched):
            now_is = self.records.there.get(key, Absent())
            if seen.get(key, Absent()) != now_is:
                seen[key] = now_is
                node.realm.changed(key, now_is, self.now)
                told = True
        return told

    def _deliver(self, node: NodeDesk) -> bool:
        sent, node.frames.sent = node.frames.sent, deque()
        if self.holds:
            node.frames.sent = sent
            return False
        for name, boot, parts in sent:
            other = self.nodes.get(name)
            if other is None or name in self.dead or other.cut or node.cut:
                continue
            if other.frames.boots[-1] == boot:
                other.realm.other_nodes.from_node(node.name, node.frames.boots[-1], parts, self.now)
        return bool(sent)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, a tick after the other."""
        for _ in range(int(seconds * 4)):
            self.now += 0.25
            for node in self.alive():
                node.now = self.now
                node.realm.begin_step(self.now)
                node.switchboard.tick(self.now)
                node.switchboard.flush()
            self.settle()
            for node in self.alive():
                for session in node.switchboard.roster.sessions():
                    session.last_seen = self.now

    def check(self) -> None:
        for node in self.alive():
            check_tables(node)
