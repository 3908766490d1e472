"""The rate limit: how many frames and bytes a player may send a second.

A player has a credit of time. Each frame costs the time that it takes at the allowed rates, and the credit
fills up as time passes.
"""

from __future__ import annotations

from ringback_broker.peers.session import Credit, Session
from ringback_broker.settings.schema import BrokerSettings

BURST_S = 1.0
"""How much credit a player can save: what it may send in a second."""

EXCESS_S = 5.0
"""A player that sends this much over its rate, and does not slow down, is refused."""


class RateLimit:
    """The rates that the settings allow each player.

    Attributes:
        frame_s, byte_s: what a frame and a byte cost, in seconds of credit.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self.reconfigure(settings)

    def reconfigure(self, settings: BrokerSettings) -> None:
        """Apply other rates. Players keep their credit."""
        self.frame_s = 1 / settings.player_frames
        self.byte_s = 1 / settings.player_bytes

    def begin(self, session: Session, now: float) -> None:
        """Give a player that has just joined its credit."""
        session.credit_s, session.credit = BURST_S, Credit(refilled_at=now)

    def refill(self, session: Session, cost_s: float, now: float) -> bool:
        """Refill the credit that a frame has overdrawn. Return whether the frame may pass now.

        Args:
            cost_s: what the frame costs; it was taken from the credit already.
        """
        credit = session.credit
        elapsed = now - credit.refilled_at
        credit.refilled_at = now
        credit.excess_s = max(0.0, credit.excess_s - elapsed)
        session.credit_s = min(BURST_S, session.credit_s + elapsed)
        # A single frame may cost more than a player can save.
        if session.credit_s >= 0.0 or session.credit_s + cost_s >= BURST_S:
            return True
        session.credit_s += cost_s
        credit.excess_s += cost_s
        return False

    def is_exceeded(self, session: Session) -> bool:
        """Return whether a player goes on sending more than its rate allows."""
        return session.credit.excess_s > EXCESS_S
