"""The deadline of the call that is being handled here: a handler sees it, and its calls inherit it."""

from __future__ import annotations

import math
import time
from contextvars import ContextVar

DEFAULT_TIMEOUT_S = 15.0

deadline: ContextVar[float | None] = ContextVar("ringback_deadline", default=None)


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
    return timeout if timeout < 1e9 else None


def deadline_and_budget(timeout: float | None, now: float) -> tuple[float | None, int | None]:
    """Gives when a call that is made now is over, and the budget that it carries, in milliseconds."""
    timeout = check_timeout(timeout)
    inherited = deadline.get()
    at = None if timeout is None else now + timeout
    if inherited is not None and (at is None or inherited < at):
        at = inherited
    return at, None if at is None else max(0, math.ceil((at - now) * 1000))
