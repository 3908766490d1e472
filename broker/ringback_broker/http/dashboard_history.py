"""The last hour of the figures of calls, in a memory that is fixed whatever is called."""

from __future__ import annotations

import math
from array import array
from collections import OrderedDict
from typing import Any

from ringback.protocol.latencies import percentile_s
from ringback.protocol.significant import rounded
from ringback_broker.http.dashboard_operator import State
from ringback_broker.http.dashboard_totals import Callback, Latencies, Row

EVERY_S = 5.0
"""How often a point is added."""

POINTS = 720
"""An hour."""

MAX_SERIES = 200
"""How many callbacks have a series of their own: those that were called last. A series takes 11.25 KiB: all
of them and the one of all calls take 2.3 MiB."""

_FIGURES = ("rate", "errors", "p50_ms", "p99_ms")
"""Of one callback."""

_SIDES = ("server", "player")
_FIGURES_OF_ALL = ("rate", "errors", *(f"{side}_{name}" for side in _SIDES for name in ("p50_ms", "p99_ms")))
"""Of all calls. The latencies of the two sides are times of different things, so each has its own."""

Counts = dict[tuple[str, str, str], tuple[int, int]]
"""Calls and errors so far, by node, key and side."""


class Series:
    """The figures of one callback, or of all calls: a ring of points."""

    def __init__(self, names: tuple[str, ...] = _FIGURES) -> None:
        self.columns = {name: array("f", [math.nan]) * POINTS for name in names}

    def set(self, place: int, figures: tuple[float, ...]) -> None:
        """Replace the point at a place."""
        for column, figure in zip(self.columns.values(), figures, strict=True):
            column[place] = figure

    def clear(self, place: int) -> None:
        """Replace the point at a place by one without figures."""
        self.set(place, (math.nan,) * len(self.columns))


class History:
    """What the charts show."""

    def __init__(self) -> None:
        self._at = array("d", [math.nan]) * POINTS
        self._place = POINTS - 1
        self._all = Series(_FIGURES_OF_ALL)
        self._series: OrderedDict[Callback, Series] = OrderedDict()
        self._counts: Counts = {}
        self._nodes: set[str] = set()  # that answered the last time
        self._taken_at = 0.0

    def skip(self, now: float) -> None:
        """Add a point without figures: the broker did not answer.

        Args:
            now: the time on the monotonic clock, in seconds, here and in all other functions.
        """
        self._begin_point(now)

    def take(self, state: State, now: float) -> None:
        """Add a point."""
        self._begin_point(now)
        before, counts = self._counts, _counts(state.callbacks)
        there, self._nodes = self._nodes, set(state.totals.counters)
        elapsed_s, self._taken_at, self._counts = now - self._taken_at, now, counts
        if not there:
            return
        figures: dict[Callback, tuple[float, float, float, float]] = {}
        latencies = _latencies(state.callbacks)
        for (node, key, side), (calls, errors) in counts.items():
            old_calls, old_errors = before.get((node, key, side), (0, 0))
            if node not in there or calls < old_calls:  # the node was missing, or was started anew
                continue
            rate, failed, *_ = figures.get((key, side), (0.0, 0.0))
            rate += (calls - old_calls) / elapsed_s
            failed += max(0, errors - old_errors) / elapsed_s
            figures[key, side] = (rate, failed, *latencies.get((key, side), (math.nan, math.nan)))
        rate, failed = (sum(found[place] for found in figures.values()) for place in (0, 1))
        self._all.set(self._place, (rate, failed, *_percentiles_ms(state.latencies)))
        for callback, found in figures.items():
            if found[0] > 0 or callback in self._series:
                self._set(callback, found)

    def fields(self, now: float, callback: Callback | None = None) -> dict[str, Any]:
        """Return the points of a callback, or of all calls, the oldest first. An unknown figure is None.

        `age_s` is how long ago each point was added: no clock that jumps can change the order of the points.
        """
        series = self._all if callback is None else self._series.get(callback)
        first = self._place + 1
        order = [*range(first, POINTS), *range(first)]
        places = [place for place in order if not math.isnan(self._at[place])]
        columns = Series().columns if series is None else series.columns
        return {
            "every_s": EVERY_S,
            "age_s": [round(now - self._at[place], 1) for place in places],
            **{name: [_known(column[place]) for place in places] for name, column in columns.items()},
        }

    def _begin_point(self, now: float) -> None:
        self._place = (self._place + 1) % POINTS
        self._at[self._place] = now
        for series in (self._all, *self._series.values()):
            series.clear(self._place)

    def _set(self, callback: Callback, figures: tuple[float, ...]) -> None:
        series = self._series.get(callback)
        if series is None:
            if len(self._series) >= MAX_SERIES:
                self._series.popitem(last=False)
            series = self._series[callback] = Series()
        series.set(self._place, figures)
        if figures[0] > 0:
            self._series.move_to_end(callback)


def _counts(rows: list[Row]) -> Counts:
    return {(row.get("node", ""), row["key"], row["side"]): (row["calls"], row["errors"]) for row in rows}


def _latencies(rows: list[Row]) -> dict[Callback, tuple[float, float]]:
    """Return the percentiles of each callback. Of several nodes, take the one with the most calls."""
    found: dict[Callback, tuple[float, float]] = {}
    for row in sorted(rows, key=_rate):
        if row["p99_ms"] is not None:
            found[row["key"], row["side"]] = row["p50_ms"], row["p99_ms"]
    return found


def _rate(row: Row) -> float:
    rate: float = row["rate"]
    return rate


def _percentiles_ms(latencies: Latencies) -> list[float]:
    """Return p50 and p99 of each side, over all calls."""
    found = [percentile_s(latencies.get(side, {}), share) for side in _SIDES for share in (0.5, 0.99)]
    return [math.nan if one is None else 1000 * one for one in found]


def _known(figure: float) -> float | None:
    return None if math.isnan(figure) else rounded(figure)
