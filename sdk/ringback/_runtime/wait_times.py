"""How long a wait of the blocking face lasts, and how often it looks whether it can still end."""

from __future__ import annotations

import time

from ringback._runtime.call_context import check_timeout

WATCH_S = 1.0
"""How often a thread that waits looks whether something can still end its wait."""

GRACE_S = 5.0
"""How long a thread waits for the I/O thread beyond the moment at which its wait is over."""


class Wait:
    """One wait of one thread.

    Args:
        timeout: how long it lasts at most, in seconds; None for as long as it takes.

    Attributes:
        give_up_at: when it ends by itself, on the monotonic clock; None for never.

    Raises:
        TypeError, ValueError: the timeout has the wrong type, or is below 0.
    """

    __slots__ = ("_was_late", "give_up_at")

    def __init__(self, timeout: float | None = None) -> None:
        timeout = check_timeout(timeout)
        self.give_up_at = None if timeout is None else time.monotonic() + timeout
        self._was_late = False

    def pause(self) -> float:
        """Return how long to wait before the next look at the clock, and at whether the wait can end."""
        if self.give_up_at is None:
            return WATCH_S
        return max(0.0, min(WATCH_S, self.give_up_at - time.monotonic()))

    def is_over(self) -> bool:
        """Return whether it ends by itself at this moment."""
        return self.give_up_at is not None and time.monotonic() >= self.give_up_at

    def is_late(self, deadline: float | None) -> bool:
        """Return whether the I/O thread should have ended the wait long ago. Call this once at each look.

        It must have been late at the look before, too. If a process was stopped, all its deadlines are over
        once it goes on, and this thread may run before the I/O thread.

        Args:
            deadline: when the I/O thread ends it at the latest; None for never.
        """
        was_late = self._was_late
        self._was_late = deadline is not None and time.monotonic() > deadline + GRACE_S
        return was_late and self._was_late
