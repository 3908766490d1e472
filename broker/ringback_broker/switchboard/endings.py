"""Endings: which sessions end at the end of this step, and why.

A step is one frame, one event of a connection, or what falls due at one moment. A send that fails in the
middle of a step can end a session. It is only marked then: it leaves the roster, so that no frame finds it,
and nothing is sent. `sessions` ends the marked ones at the end of the step.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from ringback.errors import RejectCode
from ringback_broker.admission.hello import Refusal
from ringback_broker.peers.roster import Roster
from ringback_broker.peers.session import Session


class Ending(NamedTuple):
    """A session that ends.

    Attributes:
        reason: for the log.
        refusal: why the broker ends it, and what its peer is told; None if the peer has left.
        finished: whether the peer said BYE, and nobody waits for a reply of it.
    """

    session: Session
    reason: str
    refusal: Refusal | None
    finished: bool


class Endings:
    """Marks sessions to end. It sends nothing, so it can be called in the middle of anything.

    Attributes:
        marked: the sessions that end at the end of this step, in order.
        gone: sessions whose peer a send did not find, each with whether a tick has passed since.
    """

    def __init__(self, roster: Roster) -> None:
        self.marked: deque[Ending] = deque()
        self.gone: dict[Session, bool] = {}
        self._roster = roster

    def mark(
        self, session: Session, reason: str, refusal: Refusal | None = None, finished: bool = False
    ) -> None:
        """Mark a session to end. The first reason counts."""
        if session.ended:
            return
        session.ended = True
        self._roster.remove(session)
        self.gone.pop(session, None)
        self.marked.append(Ending(session, reason, refusal, finished))

    def refuse(self, session: Session, code: RejectCode, reason: str) -> None:
        """Mark a session to end, and have its peer told why. Its connection is closed a little later."""
        self.mark(session, f"{code.name}: {reason}", Refusal(code, reason))

    def too_slow(self, session: Session, what: str) -> None:
        """Refuse a peer that does not read."""
        self.refuse(session, RejectCode.TOO_SLOW, f"the peer does not read {what}")

    def too_fast(self, session: Session) -> None:
        """Refuse a player that goes on sending more than its rate limit allows."""
        self.refuse(session, RejectCode.RATE_LIMITED, "the player sends more than its rate limit allows")

    def not_found(self, session: Session) -> None:
        """Note that a send did not find a peer.

        What the peer sent before may still be queued here. The event that its connection closed comes after
        that. If the event was missed, the session ends two ticks later.
        """
        if not session.ended:
            self.gone.setdefault(session, False)

    def tick(self) -> None:
        """Mark the sessions whose peer was not found two ticks ago."""
        for session, ticked in list(self.gone.items()):
            if ticked:
                self.mark(session, "its connection is gone")
            else:
                self.gone[session] = True
