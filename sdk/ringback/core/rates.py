"""How often one caller may call: a rate, and a bucket of it for each caller."""

from __future__ import annotations

import math
from dataclasses import dataclass

ROUNDING_S = 1e-6
"""Times are floats: a call that comes just when it was told to is not too early."""


@dataclass(frozen=True, slots=True, eq=False)
class Rate:
    """So many calls in a time. Each registration has one of its own, also where the text is the same.

    Attributes:
        text: as people write it, "5/s".
        interval_s: how long one call takes to be given back.
        burst_s: how long an empty bucket takes to be full.
    """

    text: str
    interval_s: float
    burst_s: float


def per_second(calls: float) -> Rate:
    """Gives the rate of so many calls a second."""
    return _rate(f"{calls}/s", calls, 1.0)


def _rate(text: str, calls: float, unit_s: float) -> Rate:
    interval_s = unit_s / calls
    return Rate(text, interval_s, max(interval_s, unit_s))


class Bucket:
    """What is left to one caller: a token bucket, kept as the time at which it is full again."""

    __slots__ = ("full_at", "rate")

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.full_at = -math.inf

    def take(self, now: float) -> float:
        """Counts a call; gives 0.0 when it may run, else after how many seconds it may. That one counts
        nothing."""
        full_at = max(self.full_at, now) + self.rate.interval_s
        wait_s = full_at - now - self.rate.burst_s
        if wait_s > ROUNDING_S:
            return wait_s
        self.full_at = full_at
        return 0.0
