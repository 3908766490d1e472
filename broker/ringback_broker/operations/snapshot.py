"""What the broker knows at one moment. Its loop takes a snapshot each second; a snapshot never changes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

from ringback_broker.operations.figures import Callback, Totals

LAG_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds of the classes in which lags are counted. One more class counts what is above."""


class Lags:
    """How late the ticks of the loop were, counted by class."""

    def __init__(self) -> None:
        self._counts = [0] * (len(LAG_BOUNDS_S) + 1)
        self._sum_s = 0.0

    def add(self, lag_s: float) -> None:
        self._counts[bisect_left(LAG_BOUNDS_S, lag_s)] += 1
        self._sum_s += lag_s

    def read(self) -> tuple[tuple[int, ...], float]:
        """Return the counts by class, and the sum of all lags in seconds."""
        return tuple(self._counts), self._sum_s


@dataclass(frozen=True, slots=True)
class RealmView:
    """How a broker stands in its realm.

    Attributes:
        has_seat: whether the server of the realm acts here, or may.
        others: how many other nodes live.
        linked: how many of them are linked to this one.
    """

    has_seat: bool
    others: int
    linked: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A broker at one moment.

    Attributes:
        at: the moment, on the monotonic clock.
        draining: whether the broker drains.
        in_realm: False: it is a node of a realm, and cannot act for it now.
        realm: None: it is alone.
        sessions: how many peers have a session, by role.
        standbys: how many servers stand by.
        retiring: how many servers have handed over and finish what they have begun.
        strangers: how many connections have no session.
        waiting_frames: how many control frames and bounces wait for room in a queue.
        full_windows: how many peers have a full window, by side.
        counters: the broker's counters, by name.
        callbacks: the figures of callbacks, as endpoints report them.
        lags: how late the ticks of the loop were: the counts by class, and the sum in seconds.
    """

    at: float
    draining: bool
    in_realm: bool
    realm: RealmView | None
    sessions: Mapping[str, int]
    standbys: int
    retiring: int
    strangers: int
    waiting_frames: int
    full_windows: Mapping[str, int]
    counters: Mapping[str, int]
    lags: tuple[tuple[int, ...], float]
    callbacks: Mapping[Callback, Totals]
