"""What is recorded of the calls of one callback, until the next report to the broker."""

from __future__ import annotations

import math
from bisect import bisect_right

from ringback.errors import CallbackError, Code
from ringback.protocol.frames import Role
from ringback.protocol.latencies import count_latencies
from ringback.protocol.reports import (
    APPLICATION,
    CLASSES,
    LATENCY_BOUNDS_S,
    CallbackFigures,
    LatencyCounts,
)


class CallbackRecord:
    """The calls of one callback that have ended since the last report.

    Attributes:
        key: the key of the callback; `OTHERS` for all callbacks that are not recorded apart.
        side: the role that handles the calls.
        in_flight: how many calls are in flight, as counted for the last report.
        listed: how many failed calls the next report has one by one.
        succeeded: record a call with results, by its latency in seconds. This only keeps the number: to
            sort all latencies at once takes half as long as to find the class of each one as it comes.
    """

    __slots__ = (
        "_classes",
        "_failures",
        "_fine",
        "_latencies",
        "_reported",
        "_took_s",
        "in_flight",
        "key",
        "listed",
        "side",
        "succeeded",
    )

    def __init__(self, key: str, side: Role) -> None:
        self.key = key
        self.side = side
        self.in_flight = 0
        self._reported = 0
        self._latencies: list[float] = []
        self.succeeded = self._latencies.append
        self._reset()

    def _reset(self) -> None:
        self._took_s = 0.0
        self._classes = [0] * CLASSES
        self._fine: dict[int, int] = {}
        self._failures: dict[str, int] = {}
        self.listed = 0

    def failed(self, error: CallbackError) -> None:
        """Record a call that failed."""
        code = error.code.name if isinstance(error.code, Code) else APPLICATION
        self._failures[code] = self._failures.get(code, 0) + 1

    def fold(self) -> None:
        """Sort the latencies into their classes. Call this every ten seconds, so that few are kept."""
        latencies = self._latencies
        if not latencies:
            return
        latencies.sort()
        if latencies[0] < 0.0:  # a call that is made in a step may begin after the time of that step
            latencies[:] = [max(0.0, latency) for latency in latencies]
        count_latencies(latencies, self._fine)
        below = 0
        for number, bound in enumerate((*LATENCY_BOUNDS_S, math.inf)):
            within = bisect_right(latencies, bound, below)
            self._classes[number] += within - below
            below = within
        self._took_s += sum(latencies)
        latencies.clear()

    def begin_session(self) -> None:
        """Report the calls in flight again: the broker of a new session knows nothing of them."""
        self._reported = 0

    def take_latencies(self) -> LatencyCounts | None:
        """Return the latencies in fine classes, or None if there are none. Call this before `take`."""
        self.fold()
        if not self._fine:
            return None
        numbers = sorted(self._fine)
        counts = tuple(self._fine[number] for number in numbers)
        return LatencyCounts(self.key, self.side, tuple(numbers), counts)

    def take(self) -> CallbackFigures | None:
        """Return the figures for a report, or None if nothing has changed, and begin anew."""
        self.fold()
        if self.in_flight == self._reported and not self._failures and not any(self._classes):
            return None
        figures = CallbackFigures(
            self.key, self.side, self.in_flight, self._took_s, tuple(self._classes), self._failures
        )
        self._reported = self.in_flight
        self._reset()
        return figures
