"""The windows: how many bytes may be on their way to a peer.

Now and then the broker sends a probe among the data: a PING. Its PONG says that the peer has read that far.
libzmq's own bound on a queue counts messages, whatever their size, and does not say whether the peer reads.
"""

from __future__ import annotations

from collections.abc import Callable

from ringback_broker.peers.connection import Side
from ringback_broker.peers.session import Session, Window
from ringback_broker.settings.schema import BrokerSettings

PROBES_A_WINDOW = 4

MOST_WINDOWS = 8
"""How many windows bounces and answers, which can't be refused, may use in all."""

PONG_WITHIN_S = 1.0
"""Bounces and answers may use two windows; and up to `MOST_WINDOWS` for the time that a PONG may take."""


class Windows:
    """The size of a window on each side, and what is counted in it.

    Args:
        nonce: returns bytes that nobody can guess.

    Attributes:
        size: the bytes of a window, by side.
        frame_bytes: what a frame takes of a window beside its own bytes, by side. So a window lasts for twice
            as many small frames as the queue holds.
    """

    def __init__(self, settings: BrokerSettings, nonce: Callable[[], bytes]) -> None:
        self._nonce = nonce
        self.reconfigure(settings)

    def reconfigure(self, settings: BrokerSettings) -> None:
        """Apply other sizes."""
        self.size = {Side.PLAYERS: settings.player_window, Side.BACKEND: settings.backend_window}
        queues = {Side.PLAYERS: settings.player_queue, Side.BACKEND: settings.backend_queue}
        self.frame_bytes = {side: max(1, self.size[side] // (2 * queues[side])) for side in Side}
        self._slow_s = settings.slow

    def begin(self, session: Session) -> None:
        """Give a peer that has just joined its window."""
        session.probe_at, session.window = self.size[session.side] // PROBES_A_WINDOW, Window()

    def probe(self, session: Session, now: float) -> bytes:
        """Return the body of a PING that asks how far the peer has read."""
        body = self._nonce()
        session.window.probes.append((session.spent, body, now))
        session.probe_at = session.spent + self.size[session.side] // PROBES_A_WINDOW
        self._measure(session)
        return body

    def confirm(self, session: Session, body: bytes, now: float) -> bool:
        """Take the body of a PONG. Return whether it belongs to a probe; earlier probes are confirmed too."""
        window = session.window
        if all(body != probe[1] for probe in window.probes):
            return False
        while True:
            spent, probed, _ = window.probes.popleft()
            if probed == body:
                window.confirmed, window.read_at = spent, now
                self._measure(session)
                return True

    def _measure(self, session: Session) -> None:
        session.exhausted = self.unread(session) >= self.size[session.side]

    def unread(self, session: Session) -> int:
        """Return how many bytes are on their way to a peer, as far as the broker knows."""
        return session.spent - session.window.confirmed

    def is_overrun(self, session: Session, now: float) -> bool:
        """Return whether too many bounces and answers wait for a peer.

        It gets time to send a PONG, and a bound even then.
        """
        window, size = session.window, self.size[session.side]
        unread = self.unread(session)
        if unread < 2 * size:
            return False
        since = max(window.read_at, window.probes[0][2]) if window.probes else now
        return unread >= MOST_WINDOWS * size or now - since > PONG_WITHIN_S

    def is_stuck(self, session: Session, now: float) -> bool:
        """Return whether a peer whose window is exhausted has read nothing for too long."""
        window = session.window
        return bool(window.probes) and now - max(window.read_at, window.probes[0][2]) > self._slow_s
