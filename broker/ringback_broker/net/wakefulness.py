"""Whether the broker stays awake for the next frame."""

from __future__ import annotations

MOST_RESTS = 63
"""How many chances to stay awake the broker passes over at most, after it stayed awake in vain."""

MOST_SHARED = 0.5
"""The share of the time awake for which others may have the core. Above that, the endpoints wait."""

MEMORY_S = 0.03
"""That share is of about so much time awake."""

ALONE = 100
"""After more frames than this in a row that came one at a time, calls are taken to come one by one."""


class Wakefulness:
    """Learns whether staying awake pays.

    It pays if the next frame comes meanwhile. With several calls in flight, nobody else may need the core
    either. A call that comes alone has a frame soon after another too: its reply, and then nothing comes. So
    after each time in vain, the broker passes over twice as many chances before it tries again. Each time
    that it pays, that number is halved.

    Attributes:
        awake_until: until when to stay awake, on the monotonic clock, in seconds.
    """

    def __init__(self) -> None:
        self.awake_until = 0.0
        self._came_at = 0.0
        self._rests = 0
        self._rests_left = 0
        self._awake_s = self._shared_s = 0.0
        self._alone = 0

    def came(self, now: float, spin_s: float, several: bool) -> None:
        """Take note of frames. They are worth staying awake for if they come soon after others.

        Args:
            several: whether frames came from more than one side at a time.
        """
        self._alone = 0 if several else self._alone + 1
        if now - self._came_at < spin_s:
            if self._rests_left:
                self._rests_left -= 1
            else:
                self.awake_until = now + spin_s
        self._came_at = now

    def was_awake(self, awake_s: float, shared_s: float, met: bool) -> None:
        """Take note of a time awake.

        Args:
            awake_s: how long it was, in seconds.
            shared_s: for how long of it others had the core.
            met: whether a frame came.
        """
        self._awake_s += awake_s
        self._shared_s += shared_s
        pays = met and (self._alone > ALONE or self._shared_s <= MOST_SHARED * self._awake_s)
        if self._awake_s > MEMORY_S:
            self._awake_s, self._shared_s = self._awake_s / 2, self._shared_s / 2
        self._rests = self._rests // 2 if pays else min(2 * self._rests + 1, MOST_RESTS)
        if not pays:
            self._rests_left = self._rests
            self.awake_until = 0.0
