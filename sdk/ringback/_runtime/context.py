"""What calls are made in: the deadline of the call that is being handled here, which a handler sees and its
calls inherit; and what traces them."""

from __future__ import annotations

import math
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ringback._runtime.tracer import Tracer

DEFAULT_TIMEOUT_S = 15.0
LONGEST_S = 1e9
"""Some thirty years: a longer timeout is none."""

deadline: ContextVar[float | None] = ContextVar("ringback_deadline", default=None)

tracer: Tracer | None = None
"""What makes spans of calls, of all endpoints in this process; set by `ringback.tracing`."""


def remaining() -> float | None:
    """Gives how long the caller of the present handler still waits, in seconds; None for no limit.

    Outside a handler there is no limit. Calls that a handler triggers have at most this long,
    whatever timeout they are given.
    """
    at = deadline.get()
    return None if at is None else max(0.0, at - time.monotonic())


def check_timeout(timeout: float | None) -> float | None:
    """Gives a timeout in seconds, None for no limit, or says what is wrong with it."""
    if timeout is None:
        return None
    if type(timeout) not in (int, float):
        raise TypeError(f"a timeout is a number of seconds or None, not {type(timeout).__name__}")
    if math.isnan(timeout) or timeout < 0:
        raise ValueError(f"a timeout is 0 or more seconds, or None for no limit, not {timeout}")
    return timeout if timeout < LONGEST_S else None


def deadline_and_budget(timeout: float | None, now: float) -> tuple[float | None, int | None]:
    """Gives when a call that is made now is over, and the budget that it carries, in milliseconds."""
    if type(timeout) is not float or not 0.0 <= timeout < LONGEST_S:
        timeout = check_timeout(timeout)
    inherited = deadline.get()
    if inherited is not None and (timeout is None or inherited < now + timeout):
        return inherited, max(0, math.ceil((inherited - now) * 1000))
    if timeout is None:
        return None, None
    return now + timeout, math.ceil(timeout * 1000)
