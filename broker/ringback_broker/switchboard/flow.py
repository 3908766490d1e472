"""How much may come from a peer, and how much may wait for it.

Upwards a player has a credit of time: each frame costs what it takes at the rates allowed, and the credit
fills up as time passes. Downwards a peer has a window of bytes: now and then it is sent a PING among the
data, and its PONG says that it has read so far. libzmq's own bound on a queue counts messages, whatever
their size, and says nothing of whether the peer reads.
"""

from __future__ import annotations

from collections.abc import Callable

from ringback_broker.peers.connection import Side
from ringback_broker.peers.session import Session
from ringback_broker.settings.schema import BrokerSettings

BURST_S = 1.0
"""How much credit a player can save up: what it may send in a second."""

EXCESS_S = 5.0
"""A player that sent so much over its rate, and did not slow down, is ended."""

PROBES_A_WINDOW = 4

MOST_WINDOWS = 8
ANSWERED_WITHIN_S = 1.0
"""What can't be refused, bounces and answers, may use a window up twice; and more, up to the bound, for so
long as a peer may need to answer a PING."""


class Flow:
    """The rates and windows of a broker.

    Attributes:
        frame_s, byte_s: what a frame and a byte of a player cost, in seconds of its credit.
        frame_bytes: what a frame takes of its receiver's window beside its bytes, by side; a window lasts for
            twice as many small frames as the queue.
    """

    def __init__(self, config: BrokerSettings, nonce: Callable[[], bytes]) -> None:
        self.frame_s = 1 / config.player_frames
        self.byte_s = 1 / config.player_bytes
        queues = {Side.PLAYERS: config.player_queue, Side.BACKEND: config.backend_queue}
        self.windows = {Side.PLAYERS: config.player_window, Side.BACKEND: config.backend_window}
        self.frame_bytes = {side: max(1, self.windows[side] // (2 * queues[side])) for side in Side}
        self._slow_s = config.slow
        self._nonce = nonce

    def begin(self, session: Session, now: float) -> None:
        """A session has begun."""
        session.credit_s, session.credit_at = BURST_S, now
        session.probe_at = self.windows[session.side] // PROBES_A_WINDOW

    # -- from players

    def refill(self, session: Session, cost_s: float, now: float) -> bool:
        """Tells whether a frame that its credit did not suffice for may pass now. Its cost was taken."""
        elapsed = now - session.credit_at
        session.credit_at = now
        session.excess_s = max(0.0, session.excess_s - elapsed)
        session.credit_s = min(BURST_S, session.credit_s + elapsed)
        # A frame may cost more than the most that can be saved.
        if session.credit_s >= 0.0 or session.credit_s + cost_s >= BURST_S:
            return True
        session.credit_s += cost_s
        session.excess_s += cost_s
        return False

    def too_fast(self, session: Session) -> bool:
        return session.excess_s > EXCESS_S

    # -- to all

    def probe(self, session: Session, now: float) -> bytes:
        """Gives the body of a PING that asks how far a peer has read. It can't be guessed."""
        window = self.windows[session.side]
        body = self._nonce()
        session.probes.append((session.spent, body, now))
        session.probe_at = session.spent + window // PROBES_A_WINDOW
        self._measure(session)
        return body

    def confirm(self, session: Session, body: bytes, now: float) -> bool:
        """Takes the body of a PONG; False if it answers no PING. Those before it count as answered."""
        if all(body != probe[1] for probe in session.probes):
            return False
        while True:
            spent, answered, _ = session.probes.popleft()
            if answered == body:
                session.confirmed, session.read_at = spent, now
                self._measure(session)
                return True

    def _measure(self, session: Session) -> None:
        session.exhausted = session.spent - session.confirmed >= self.windows[session.side]

    def overrun(self, session: Session, now: float) -> bool:
        """Tells whether so much that can't be refused waits for a peer that it has to be ended. It is given
        time to answer a PING, and a bound even then."""
        unread, window = session.spent - session.confirmed, self.windows[session.side]
        if unread < 2 * window:
            return False
        since = max(session.read_at, session.probes[0][2]) if session.probes else now
        return unread >= MOST_WINDOWS * window or now - since > ANSWERED_WITHIN_S

    def stuck(self, session: Session, now: float) -> bool:
        """Tells whether a peer whose window is used up has read nothing for long."""
        return bool(session.probes) and now - max(session.read_at, session.probes[0][2]) > self._slow_s
