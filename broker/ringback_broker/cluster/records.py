"""Records: what the nodes of a realm agree on. This is the interface that the realm needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

RECORD_WITHIN_S = 2.0
"""An outcome comes at most this long after it was asked for. Then it is `Unknown`."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record is there: it was read, or just written.

    Attributes:
        value: what it says.
        revision: grows with each change of any record, and names this one. Never 0.
    """

    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Absent:
    """There is no such record: it was deleted just now, or before, or was never written."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Nothing was written: the record has another revision than the one named, or is not there."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may have happened or not, or may still happen: no answer came in time, or nothing was sent."""


Outcome = Record | Absent | Conflict | Unknown

Done = Callable[[Outcome, float], None]
"""Takes an outcome and the time, once, in a later step of the loop."""


class Records(Protocol):
    """The records of one realm. Each method returns at once.

    Keys have the characters A-Z, a-z, 0-9, `-`, `_`, `=` and `.`. What is asked for different keys may happen
    in any order. The realm asks for one thing of a key at a time. Only one that turned out `Unknown` may
    still happen behind its back, and what a compare-and-set names protects it from that.
    """

    def put(self, key: str, value: bytes, revision: int, done: Done) -> None:
        """Write a record if it has this revision. 0: if it is not there.

        `done` gets the `Record` as it is now, `Conflict`, or `Unknown`.
        """

    def delete(self, key: str, revision: int, done: Done) -> None:
        """Delete a record if it has this revision.

        `done` gets `Absent`, `Conflict`, or `Unknown`.
        """

    def read(self, key: str, done: Done) -> None:
        """Read a record, as all writes left it that had an outcome before this was asked for: no cache, and
        no copy that may lag behind.

        `done` gets the `Record`, `Absent`, or `Unknown`.
        """


class Watcher(Protocol):
    """What the records tell the realm by themselves."""

    def changed(self, key: str, now_is: Record | Absent, now: float) -> None:
        """Take note of a change of `seat` or of a record whose key begins with `node.`.

        All that are there are told once at the start. Changes of one key come in order; some may be left out,
        but never the last one.
        """

    def contact(self, is_there: bool, now: float) -> None:
        """Take note that the records can be reached, or not any more.

        Before the first and each later `contact(True)`, all watched records were told anew, also those that
        are gone as `Absent`.
        """
