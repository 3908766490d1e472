"""The rate limit: how many frames and bytes a player may send a second.

Each frame takes the time that it needs at the allowed rates: as a frame or by its bytes, whichever is longer.
These times add up to `Session.full_at`, which is as far ahead of the clock as the player has used of its
burst. So N frames pass at once, then one more each 1/N s. In a time T, never more than N + N * T pass.
"""

from __future__ import annotations

from ringback_broker.peers.session import Excess, Session
from ringback_broker.settings.schema import BrokerSettings

BURST_S = 1.0
"""What a player may send at once: what its rate allows in this time."""

EXCESS_S = 5.0
"""A player that sends this much over its rate, and does not slow down, is refused."""

ROUNDING_S = 1e-6
"""Times are floats: the last frame of a burst is not over it by a rounding error."""


class RateLimit:
    """The rates that the settings allow each player.

    Attributes:
        frame_s, byte_s: the time that a frame and a byte take.
        burst_s: how far ahead of the clock a player may be. Half a frame above the burst, because sums of
            floats are not exact.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self.reconfigure(settings)

    def reconfigure(self, settings: BrokerSettings) -> None:
        """Apply other rates. What players have used of their burst stays used."""
        self.frame_s = 1 / settings.player_frames
        self.byte_s = 1 / settings.player_bytes
        self.burst_s = BURST_S + max(ROUNDING_S, min(self.frame_s, BURST_S) / 2)

    def begin(self, session: Session, now: float) -> None:
        """Give a player that has just joined its whole burst."""
        session.full_at, session.excess = now, Excess(excess_at=now)

    def passes(self, session: Session, cost_s: float, now: float) -> bool:
        """Return whether a frame that goes over the burst may pass. If not, count it as excess.

        One that is larger than a whole burst may pass when nothing of the burst is used.
        """
        if session.full_at <= now + ROUNDING_S:
            return True
        excess = session.excess
        excess.excess_s = max(0.0, excess.excess_s - (now - excess.excess_at)) + cost_s
        excess.excess_at = now
        return False

    def is_exceeded(self, session: Session) -> bool:
        """Return whether a player goes on sending more than its rate allows."""
        return session.excess.excess_s > EXCESS_S
