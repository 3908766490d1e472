"""How long a wait of the blocking face lasts, and how often it looks whether it can still end."""

from __future__ import annotations

import time

from ringback._runtime.call_context import check_timeout

WATCH_S = 1.0
"""How often a thread that waits looks whether something can still end its wait."""


def moment(timeout: float | None) -> float | None:
    """Return when a wait with a timeout ends, on the monotonic clock; None for never.

    Raises:
        TypeError, ValueError: the timeout has the wrong type, or is below 0.
    """
    timeout = check_timeout(timeout)
    return None if timeout is None else time.monotonic() + timeout


def pause(give_up_at: float | None) -> float:
    """Return how long to wait before the next look at the clock, and at whether the wait can end."""
    return WATCH_S if give_up_at is None else max(0.0, min(WATCH_S, give_up_at - time.monotonic()))


def is_over(give_up_at: float | None) -> bool:
    """Return whether a wait is over that ends at this moment."""
    return give_up_at is not None and time.monotonic() >= give_up_at
