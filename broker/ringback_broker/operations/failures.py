"""The latest calls that failed, as trusted endpoints report them. They are kept without anybody asking."""

from __future__ import annotations

from collections import OrderedDict, deque
from itertools import islice
from typing import Any

from ringback.protocol.reports import FailedCall
from ringback_broker.operations.figures import Callback

MAX_EACH = 20
"""How many failed calls of one callback are kept. A callback that always fails leaves room for the others."""

MAX_FAILURES = 1000
PAGE = 500
"""Failed calls in one answer: with the longest keys, IDs and codes they take a quarter of a frame."""


class Failures:
    """The latest failed calls of each callback, and of all callbacks. What is over a bound is dropped, the
    oldest first."""

    def __init__(self) -> None:
        self._rows: OrderedDict[int, tuple[Callback, tuple[Any, ...]]] = OrderedDict()
        self._numbers: dict[Callback, deque[int]] = {}
        self._number = 0

    def take(self, call: FailedCall, callback: Callback, unix_s: float) -> None:
        """Keep a failed call.

        Args:
            callback: what it is counted as.
            unix_s: when it was reported, on the wall clock.
        """
        numbers = self._numbers.get(callback, deque())
        if len(numbers) >= MAX_EACH:
            self._drop(numbers[0])
        elif len(self._rows) >= MAX_FAILURES:
            self._drop(next(iter(self._rows)))
        self._number += 1
        self._rows[self._number] = callback, (self._number, round(unix_s - call.age_s, 6), *call[1:])
        self._numbers.setdefault(callback, deque()).append(self._number)

    def _drop(self, number: int) -> None:
        """Drop a failed call: the oldest one of its callback."""
        callback, _ = self._rows.pop(number)
        numbers = self._numbers[callback]
        numbers.popleft()
        if not numbers:
            del self._numbers[callback]

    def count(self, callback: Callback) -> int:
        """Return how many failed calls of a callback are kept."""
        return len(self._numbers.get(callback, ()))

    def rows(self, after: int) -> list[tuple[Any, ...]]:
        """Return the failed calls after a number: at most a page of them, the oldest first."""
        return list(islice((row for number, (_, row) in self._rows.items() if number > after), PAGE))
