"""Figures of callbacks, as trusted endpoints report them: since the broker started, and in the last
minute."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ringback.protocol.frames import Role
from ringback.protocol.latencies import percentile_s
from ringback.protocol.reports import CLASSES, MAX_CALLBACKS, OTHERS, CallbackFigures, LatencyCounts
from ringback_broker.peers.session import Session

SLOT_S = 10.0
SLOTS = 6
"""The last minute is at most this many slots. The latest slot is not over."""

Callback = tuple[str, Role]
"""A key and the role that handles it. The key is empty for all callbacks that are not counted apart."""


class Totals(NamedTuple):
    """One callback since the broker started.

    Attributes:
        in_flight: calls that wait for a reply now.
        took_s: the sum of the latencies of calls with results.
        answered: how many calls had results, by class of latency.
        failed: how many calls had an error, by the name of its code.
    """

    in_flight: int
    took_s: float
    answered: tuple[int, ...]
    failed: dict[str, int]

    @property
    def errors(self) -> int:
        return sum(self.failed.values())

    @property
    def calls(self) -> int:
        """How many calls have ended."""
        return sum(self.answered) + self.errors


class Recent(NamedTuple):
    """One callback in the last minute.

    Attributes:
        rate: calls that ended, per second.
        p50_s, p99_s: the 50th and 99th percentile of the latency; None if no call had results, or their
            endpoint reports no fine classes.
    """

    rate: float
    p50_s: float | None
    p99_s: float | None


class _Sum:
    """The sum of what was reported of one callback."""

    __slots__ = ("answered", "failed", "fine", "took_s")

    def __init__(self) -> None:
        self.took_s = 0.0
        self.fine: dict[int, int] = {}
        self.answered = [0] * CLASSES
        self.failed: dict[str, int] = {}

    def add(self, took_s: float, answered: Iterable[int], failed: dict[str, int]) -> None:
        self.took_s += took_s
        self.answered = [a + b for a, b in zip(self.answered, answered, strict=True)]
        for code, count in failed.items():
            self.failed[code] = self.failed.get(code, 0) + count

    def add_fine(self, counts: Iterable[tuple[int, int]]) -> None:
        """Add counts of calls by fine class of latency."""
        for number, count in counts:
            self.fine[number] = self.fine.get(number, 0) + count


class _Slot(NamedTuple):
    """What was reported in ten seconds.

    Attributes:
        opened_at: when its first report came.
        since: since when the calls of that report have ended, about.
        fine: the calls of all callbacks of a side, by fine class of latency.
    """

    opened_at: float
    since: float
    sums: dict[Callback, _Sum]
    fine: dict[Role, Counter[int]]


class ReportedFigures:
    """The figures that were reported. Their size is bounded, whatever endpoints call and however long they
    run.

    Args:
        report_s: how often endpoints report. A report may be of calls that ended this long before it came.
    """

    def __init__(self, report_s: float = 1.0) -> None:
        self._report_s = report_s
        self._taken_at = 0.0
        self._sums: dict[Callback, _Sum] = {}
        self._in_flight: dict[Session, dict[Callback, int]] = {}
        self._slots: deque[_Slot] = deque()

    def take(
        self,
        session: Session,
        figures: Iterable[CallbackFigures],
        now: float,
        latencies: Iterable[LatencyCounts] = (),
    ) -> None:
        """Add what an endpoint reports."""
        slot = self._slot(now)
        self._taken_at = now
        in_flight = self._in_flight.setdefault(session, {})
        for found in figures:
            callback = (found.key, found.side)
            if callback not in self._sums and len(self._sums) >= MAX_CALLBACKS:
                callback = (OTHERS, found.side)
            for table in (self._sums, slot.sums):
                table.setdefault(callback, _Sum()).add(found.took_s, found.succeeded, found.failed)
            if callback == (found.key, found.side):  # else one callback would stand for another
                in_flight[callback] = found.in_flight
        for row in latencies:
            callback = self.counted_as(row.key, row.side)
            counts = dict(zip(row.classes, row.counts, strict=True))
            slot.sums.setdefault(callback, _Sum()).add_fine(counts.items())
            slot.fine.setdefault(row.side, Counter()).update(counts)

    def counted_as(self, key: str, side: Role) -> Callback:
        """Return the callback that calls of a key are counted as: itself, or the one for all others."""
        callback = (key, side)
        return callback if callback in self._sums else (OTHERS, side)

    def forget(self, session: Session) -> None:
        """Forget what is in flight at an endpoint that is gone."""
        self._in_flight.pop(session, None)

    def _slot(self, now: float) -> _Slot:
        """Return the slot of this time."""
        self._drop_old(now)
        slots = self._slots
        if not slots or now - slots[-1].opened_at >= SLOT_S:
            slots.append(_Slot(now, now - self._report_s, {}, {}))
        return slots[-1]

    def _drop_old(self, now: float) -> None:
        """Drop slots that are older than a minute."""
        slots = self._slots
        while slots and now - slots[0].opened_at >= SLOT_S * SLOTS:
            slots.popleft()

    def totals(self) -> dict[Callback, Totals]:
        """Return the figures since the broker started."""
        in_flight: dict[Callback, int] = {}
        for reported in self._in_flight.values():
            for callback, count in reported.items():
                in_flight[callback] = in_flight.get(callback, 0) + count
        return {
            callback: Totals(
                in_flight.get(callback, 0), found.took_s, tuple(found.answered), dict(found.failed)
            )
            for callback, found in self._sums.items()
        }

    def latencies(self, now: float) -> dict[Role, Counter[int]]:
        """Return the calls with results of the last minute: of each side, by fine class of latency."""
        self._drop_old(now)
        found: dict[Role, Counter[int]] = {}
        for slot in self._slots:
            for side, counts in slot.fine.items():
                found.setdefault(side, Counter()).update(counts)
        return found

    def recent(self, now: float) -> dict[Callback, Recent]:
        """Return the figures of the last minute, for callbacks that were called in it."""
        self._drop_old(now)
        if not self._slots:
            return {}
        sums: dict[Callback, _Sum] = {}
        for slot in self._slots:
            for callback, found in slot.sums.items():
                total = sums.setdefault(callback, _Sum())
                total.add(found.took_s, found.answered, found.failed)
                total.add_fine(found.fine.items())
        # The latest report is of calls until it came. If none came for longer than one is due after, no calls
        # have ended since.
        until = max(self._taken_at, now - self._report_s)
        elapsed_s = max(until - self._slots[0].since, self._report_s, 0.1)
        return {callback: _recent(found, elapsed_s) for callback, found in sums.items()}


def _recent(found: _Sum, elapsed_s: float) -> Recent:
    ended = sum(found.answered) + sum(found.failed.values())
    fine: Mapping[int, int] = found.fine
    return Recent(ended / elapsed_s, percentile_s(fine, 0.5), percentile_s(fine, 0.99))
