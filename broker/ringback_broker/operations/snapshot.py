"""What a broker is doing, as others may see it: made by its loop each second, and never changed."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

from ringback_broker.operations.figures import Callback, Totals

LAG_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds of the classes that lags are counted in; one more class has what is above."""


class Lags:
    """How late the loop was for what was due, counted by size."""

    def __init__(self) -> None:
        self._counts = [0] * (len(LAG_BOUNDS_S) + 1)
        self._sum_s = 0.0

    def add(self, lag_s: float) -> None:
        self._counts[bisect_left(LAG_BOUNDS_S, lag_s)] += 1
        self._sum_s += lag_s

    def read(self) -> tuple[tuple[int, ...], float]:
        """Gives the counts by class, and the sum of all lags in seconds."""
        return tuple(self._counts), self._sum_s


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A broker at one moment.

    Attributes:
        at: the moment, by the monotonic clock.
        draining: whether nobody is let in any more.
        sessions: how many peers are there, by role.
        strangers: connections that have not said who they are, or were refused.
        waiting_frames: control frames and bounces for which there was no room.
        full_windows: peers that do not read fast enough to be sent more, by side.
        counters: what was counted since the start, by name.
        callbacks: what endpoints have reported of calls.
        lags: how late the loop was, counted by class, and their sum in seconds: see `Lags`.
    """

    at: float
    draining: bool
    sessions: Mapping[str, int]
    strangers: int
    waiting_frames: int
    full_windows: Mapping[str, int]
    counters: Mapping[str, int]
    lags: tuple[tuple[int, ...], float]
    callbacks: Mapping[Callback, Totals]
