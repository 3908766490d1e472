"""Latencies, counted in fine classes: percentiles that are right to 1 %, in little space.

Each class is 2 % wide. Counts of any number of endpoints and intervals add up, and a percentile stays as
exact as it was. (This is the idea of DDSketch: Masson, Rim, Lee, VLDB 2019.)
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from math import ceil

RATIO = 1.02
"""The upper bound of a class, divided by its lower bound."""

LEAST_S = 1e-6
"""The upper bound of class 0."""

FINE_CLASSES = 1024
"""How many there are. An array in a control frame has at most this many items."""

FINE_BOUNDS_S = tuple(LEAST_S * RATIO**number for number in range(FINE_CLASSES - 1))
"""The upper bounds of all classes but the last one, which has all that is above: 10 minutes and more."""

ERROR = (RATIO - 1) / (RATIO + 1)
"""By how much a percentile may be wrong, as a share of it: 1 %, between 1 µs and 10 minutes."""


def count_latencies(latencies_s: Sequence[float], counts: dict[int, int]) -> None:
    """Count latencies in their classes.

    Args:
        latencies_s: in ascending order.
        counts: the counts by class, to which they are added.
    """
    first, total = 0, len(latencies_s)
    while first < total:
        number = bisect_left(FINE_BOUNDS_S, latencies_s[first])
        last = number == len(FINE_BOUNDS_S)
        following = total if last else bisect_right(latencies_s, FINE_BOUNDS_S[number], first)
        counts[number] = counts.get(number, 0) + following - first
        first = following


def percentile_s(counts: Mapping[int, int], share: float) -> float | None:
    """Return the latency that this share of calls did not exceed, at most 1 % wrong; None without calls.

    Latencies of class 0 count as its upper bound, those of the last class as its lower bound.
    """
    wanted = ceil(share * sum(counts.values()))
    seen = 0
    for number in sorted(counts):
        seen += counts[number]
        if seen >= wanted:
            return _middle_s(number)
    return None


def _middle_s(number: int) -> float:
    """Return the latency that is nearest to all of a class, in proportion."""
    if number == 0:
        return LEAST_S
    if number >= len(FINE_BOUNDS_S):
        return FINE_BOUNDS_S[-1]
    return FINE_BOUNDS_S[number] * 2 / (1 + RATIO)
