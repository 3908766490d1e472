"""IDs: the ints that a node gives to players who name no ID, from blocks that no other node has."""

from __future__ import annotations

from collections.abc import Callable

import msgpack

from ringback_broker.cluster.records import Absent, Conflict, Outcome, Record, Records

IDS = "ids"
BLOCK = 1000
MAX_WAITING = 10_000
MAX_ATTEMPTS = 8


class IDs:
    """The ints of this node's block."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._free = iter(range(0))
        self._waiting: list[Callable[[int | None, float], None]] = []
        self._attempts = 0

    def take(self, give: Callable[[int | None, float], None], now: float) -> None:
        """Give the next int, now or later; None if there is none."""
        number = next(self._free, None)
        if number is not None:
            give(number, now)
        elif len(self._waiting) >= MAX_WAITING:
            give(None, now)
        else:
            self._waiting.append(give)
            if not self._attempts:
                self._ask()

    def _ask(self) -> None:
        self._attempts += 1
        self._records.read(IDS, self._was_read)

    def _was_read(self, outcome: Outcome, now: float) -> None:
        if not isinstance(outcome, Record | Absent):
            self._end(now)
            return
        first, revision = 1, 0
        if isinstance(outcome, Record):
            first, revision = _decode(outcome.value), outcome.revision
        value = msgpack.packb(first + BLOCK)
        self._records.put(IDS, value, revision, lambda came, then: self._was_put(first, came, then))

    def _was_put(self, first: int, outcome: Outcome, now: float) -> None:
        if isinstance(outcome, Record):
            self._free = iter(range(first, first + BLOCK))
        elif isinstance(outcome, Conflict) and self._attempts < MAX_ATTEMPTS:
            self._ask()  # another node was faster
            return
        self._end(now)

    def _end(self, now: float) -> None:
        waiting, self._waiting, self._attempts = self._waiting, [], 0
        for give in waiting:
            give(next(self._free, None), now)


def _decode(value: bytes) -> int:
    """Return the first int of the next block. It begins anew if the record cannot be read."""
    try:
        first = msgpack.unpackb(value)
    except Exception:  # only nodes may write here, but one of another version may
        return 1
    return first if type(first) is int and 0 < first < 2**62 else 1
