"""Which of the calls that failed the dashboard keeps, over all nodes: as many as one broker does."""

from __future__ import annotations

from collections import Counter

from ringback.protocol.reports import OTHERS
from ringback_broker.http.dashboard_totals import Callback, Row
from ringback_broker.operations.failures import MAX_EACH, MAX_FAILURES


def latest_failures(rows: list[Row], callbacks: list[Row]) -> list[Row]:
    """Return the latest rows of each callback, as many as may be kept, the latest first.

    Args:
        callbacks: the rows of all callbacks.
    """
    counted = counted_callbacks(callbacks)
    found: list[Row] = []
    counts: Counter[Callback] = Counter()
    for row in sorted(rows, key=lambda row: float(row["unix_s"]), reverse=True):
        callback = counted_as(row, counted)
        if counts[callback] < MAX_EACH:
            counts[callback] += 1
            found.append(row)
    return found[:MAX_FAILURES]


def counted_callbacks(callbacks: list[Row]) -> set[Callback]:
    """Return the callbacks that have rows of their own."""
    return {(row["key"], row["side"]) for row in callbacks}


def counted_as(row: Row, counted: set[Callback]) -> Callback:
    """Return the callback that a failed call is counted as. Unknown keys are counted together."""
    callback = (row["key"], row["side"])
    return callback if callback in counted else (OTHERS, row["side"])
