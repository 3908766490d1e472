"""How often one caller may call: a rate, and a bucket of it for each caller."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

MIN_CALLS, MAX_CALLS = 1e-6, 1e9
"""The number in a limit: what a float can count with."""

ROUNDING_S = 1e-6
"""Times are floats: a call that comes just when it was told to is not too early."""

_FORM = re.compile(r"([0-9]+(?:\.[0-9]+)?)/(s|min|h)")
_UNITS_S = {"s": 1.0, "min": 60.0, "h": 3600.0}


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


def make_rate(text: Any) -> Rate:
    """Gives the rate that a text like "5/s", "100/min" or "0.5/h" means, with a burst of its number, and of
    at least one call.

    Raises:
        TypeError: it is not a str.
        ValueError: it is not of that form, or the number is 0 or out of all range.
    """
    if type(text) is not str:
        raise TypeError(f"a limit is a str like '5/s', not {type(text).__name__}")
    form = _FORM.fullmatch(text)
    calls = float(form[1]) if form else 0.0
    if form is None or not MIN_CALLS <= calls <= MAX_CALLS:
        raise ValueError(f"a limit is a number above 0 and a unit, '5/s', '100/min' or '0.5/h', not {text!r}")
    return _rate(text, calls, _UNITS_S[form[2]])


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
