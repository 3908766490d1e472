"""Whether the broker stays awake for the next frame."""

from __future__ import annotations

MOST_RESTS = 63
"""How many times at most the broker does not stay awake after it has done so in vain."""


class Wakefulness:
    """Learns whether staying awake pays.

    It pays if the next frame comes meanwhile. Calls that come one by one have a frame soon after another too,
    but then nothing. So each time in vain, the broker leaves it be twice as often before it tries again. Once
    it pays, the broker goes on with it, and forgets half of that.

    Attributes:
        awake_until: until when to stay awake, on the monotonic clock, in seconds.
    """

    def __init__(self) -> None:
        self.awake_until = 0.0
        self._came_at = 0.0
        self._rests = 0
        self._rests_left = 0

    def came(self, now: float, spin_s: float) -> None:
        """Take note of frames. They are worth staying awake for if they come soon after others."""
        if now - self._came_at < spin_s:
            if self._rests_left:
                self._rests_left -= 1
            else:
                self.awake_until = now + spin_s
        self._came_at = now

    def paid(self) -> None:
        """Take note that a frame came while the broker was awake."""
        self._rests //= 2

    def in_vain(self) -> None:
        """Take note that none did."""
        self._rests = self._rests_left = min(2 * self._rests + 1, MOST_RESTS)
