"""Leases: which sessions end because a peer is silent, does not read, or has a token that has ended."""

from __future__ import annotations

from ringback.errors import RejectCode
from ringback_broker.peers.session import Session
from ringback_broker.settings.schema import BrokerSettings
from ringback_broker.switchboard.state import State
from ringback_broker.switchboard.wire import Wire

HEARTBEATS_MISSED = 1.75
"""A player whose connection carries nothing for this many heartbeats is refused."""

STALLED_S = 1.0
"""If the broker did not tick for this long, it was stopped itself, or the whole machine was. Then a silence
says nothing about the peers, so they get as much time again."""


class Leases:
    """Checks all sessions at each tick."""

    def __init__(self, settings: BrokerSettings, wire: Wire, state: State) -> None:
        self._lease_s = settings.lease
        self._wire = wire
        self._roster = state.roster
        self._windows = state.windows
        self._endings = state.endings
        self._ticked_at, self._heartbeats_from = float("inf"), 0.0

    def tick(self, now: float) -> None:
        """Mark the sessions that end now."""
        if now - self._ticked_at > STALLED_S:
            self._heartbeats_from = now + STALLED_S
        self._ticked_at = now
        for session in self._roster.sessions():
            if session.due_at <= now or session.exhausted:  # for most, this is all
                self._check(session, now)

    def _check(self, session: Session, now: float) -> None:
        """Mark a session if it ends now, or find out when to check it again."""
        rights, presence = session.rights, session.presence
        silent_at = session.last_seen + self._lease_s
        if session.exhausted and self._windows.is_stuck(session, now):
            self._endings.too_slow(session, f"the {self._windows.unread(session)} bytes on their way")
        elif rights.ends_at <= now:
            self._endings.refuse(session, RejectCode.TOKEN_EXPIRED, "the token has expired")
        elif silent_at < now:
            reason = f"nothing came for {self._lease_s:g} s"
            self._endings.refuse(session, RejectCode.LEASE_EXPIRED, reason)
        else:
            if presence.heartbeat_ms and now >= max(presence.check_at, self._heartbeats_from):
                self._check_heartbeat(session, now, HEARTBEATS_MISSED * presence.heartbeat_ms / 1000)
            session.due_at = min(rights.ends_at, silent_at, max(presence.check_at, self._heartbeats_from))

    def _check_heartbeat(self, session: Session, now: float, limit_s: float) -> None:
        """Refuse a player whose connection carries no heartbeat, or find out when to check again."""
        if now - session.last_seen < limit_s:
            session.presence.check_at = session.last_seen + limit_s
            return
        silence_ms = self._wire.silence_ms(session.connection)
        if silence_ms is None:
            session.presence.check_at = float("inf")  # the system does not know, now or later
        elif silence_ms < limit_s * 1000:
            session.presence.check_at = now + limit_s - silence_ms / 1000
        else:
            self._endings.refuse(session, RejectCode.LEASE_EXPIRED, f"silent for {silence_ms} ms")
