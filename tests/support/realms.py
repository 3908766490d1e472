"""Fakes around a realm: records and messages that a test moves by hand."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import count

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
        outcome: how sends end from now on.
        boots: what was listened for.
    """

    max_bytes = 2**20

    def __init__(self) -> None:
        self.sent: deque[tuple[str, bytes, tuple[bytes, ...]]] = deque()
        self.outcome = Sent.YES
        self.boots: list[bytes] = []

    def listen(self, boot: bytes) -> None:
        self.boots.append(boot)

    def send(self, node: str, boot: bytes, parts: tuple[bytes, ...]) -> Sent:
        if self.outcome is Sent.YES:
            self.sent.append((node, boot, parts))
        return self.outcome


def boots() -> Callable[[], bytes]:
    """Return a function that gives another boot each time."""
    numbers = count(1)
    return lambda: b"%08d of boot" % next(numbers)
