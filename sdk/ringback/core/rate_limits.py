"""Rate limits: how often one caller may call. A `Rate` is a limit; each caller has a `Bucket` of it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from ringback.errors import RateLimited

MIN_CALLS, MAX_CALLS = 1e-6, 1e9
"""The bounds of the number in a limit: within them a float counts exactly enough."""

ROUNDING_S = 1e-6
"""Times are floats: a call that comes exactly when it was told to is not too early."""

_FORM = re.compile(r"([0-9]+(?:\.[0-9]+)?)/(s|min|h)")
_UNITS_S = {"s": 1.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True, eq=False)
class Rate:
    """A number of calls in a time. Each registration has a rate of its own, even if the text is the same.

    Attributes:
        text: the limit as people write it, for example "5/s".
        interval_s: how many seconds it takes until one more call may run.
        burst_s: how many seconds an empty bucket takes to be full.
    """

    text: str
    interval_s: float
    burst_s: float


def make_rate(text: Any) -> Rate:
    """Return the rate that a text like "5/s", "100/min" or "0.5/h" means.

    The burst is the number in the text, and at least one call.

    Raises:
        TypeError: the limit is not a str.
        ValueError: the limit has another form, or its number is out of range.
    """
    if type(text) is not str:
        raise TypeError(f"limit must be a str like '5/s', not {type(text).__name__}")
    form = _FORM.fullmatch(text)
    calls = float(form[1]) if form else 0.0
    if form is None or not MIN_CALLS <= calls <= MAX_CALLS:
        raise ValueError(
            f"limit must be a number above 0 and a unit, like '5/s', '100/min' or '0.5/h', not {text!r}"
        )
    return _rate(text, calls, _UNITS_S[form[2]])


def per_second(calls: float) -> Rate:
    """Return the rate of a number of calls per second."""
    return _rate(f"{calls}/s", calls, 1.0)


def _rate(text: str, calls: float, unit_s: float) -> Rate:
    interval_s = unit_s / calls
    return Rate(text, interval_s, max(interval_s, unit_s))


class Bucket:
    """What is left to one caller: a token bucket, kept as the time at which it is full again.

    Attributes:
        rate: the rate limit.
        full_at: when the bucket is full again, on the monotonic clock, in seconds.
    """

    __slots__ = ("full_at", "rate")

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.full_at = -math.inf

    def take(self, now: float) -> float:
        """Count a call, and return 0.0 if it may run. If not, count nothing, and return the seconds until
        one may."""
        full_at = max(self.full_at, now) + self.rate.interval_s
        wait_s = full_at - now - self.rate.burst_s
        if wait_s > ROUNDING_S:
            return min(wait_s, self.rate.interval_s)  # a sum of floats may be a hair above it
        self.full_at = full_at
        return 0.0


def rate_limited(what: str, rate: Rate, wait_s: float) -> RateLimited:
    """Return the error of a call that comes too early.

    Args:
        what: what has the rate limit.
        wait_s: how many seconds are left until one more call may run.
    """
    return RateLimited(f"{what} takes {rate.text} from one caller", data={"retry_after": wait_s})
