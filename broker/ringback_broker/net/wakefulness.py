"""Whether the broker stays awake for the next frame."""

from __future__ import annotations

MOST_RESTS = 63
"""How many chances to stay awake the broker passes over at most, after it stayed awake in vain."""


class Wakefulness:
    """Learns whether staying awake pays.

    It pays if the next frame comes meanwhile. A call that comes alone has a frame soon after another too: its
    reply, and then nothing comes. So after each time in vain, the broker passes over twice as many chances
    before it tries again. Each time that it pays, that number is halved.

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
