"""The broker's counters."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ringback.errors import Code, RejectCode

_ENDS = {
    RejectCode.LEASE_EXPIRED: "sessions_expired",
    RejectCode.TOO_SLOW: "sessions_too_slow",
    RejectCode.RATE_LIMITED: "sessions_too_fast",
    RejectCode.TOKEN_EXPIRED: "sessions_revoked",
    RejectCode.REVOKED: "sessions_revoked",
    RejectCode.REPLACED: "sessions_replaced",
    RejectCode.KICKED: "sessions_kicked",
    RejectCode.DRAINING: "sessions_moved",
}
"""The counter of sessions that the broker ended, by the code in their REJECT."""


@dataclass(slots=True)
class BrokerCounters:
    """Counters since the broker started.

    Attributes:
        frames_up, bytes_up: delivered from players to the backend.
        frames_down, bytes_down: delivered to players.
        frames_relayed: delivered between operators and the server.
        bounced_*: frames that were bounced, by reason.
        refused_*: peers that got a REJECT instead of a session, by reason; sessions_refused is the sum.
        joins_delayed: how often a player of a crowd had to come again: its connection came too early, or was
            given up, or its heartbeats were to be fewer. It is no error: the same player joins later.
        sessions_begun, sessions_ended: sessions that began, and that ended for whatever reason.
        sessions_expired: sessions that ended because nothing came for too long.
        sessions_too_slow, sessions_too_fast: sessions that ended because the peer did not read, or sent too
            much.
        sessions_revoked: sessions that ended because their key or token is not valid any more.
        sessions_replaced: sessions that ended because the same player came again.
        sessions_kicked: sessions that ended because an operator ordered it.
        sessions_moved: sessions that ended because the broker has lost its realm, or because a server at
            another node acts.
        hand_overs: how often a server handed over to the next one because it was ordered to.
        takeovers: how often a server that stood by took over because the one before was gone.
        handshakes_refused: connections whose key is not in the access list, or belongs to the other side.
        handshakes_failed: other connections that ended before HELLO: without encryption, with a wrong key for
            the broker, without ZeroMQ, or too slow.
        connections_refused: connections that were closed at once, because there were too many in all or from
            one IP.
        watched_calls_lost, failed_calls_lost: calls for which a report had no room.
        messages_unfinished: connections that were closed because too much of a message without an end came.
        malformed: messages with a wrong number of parts.
        violations: frames that the protocol does not allow from their sender.
        stranger_messages: messages from strangers that were dropped.
        dropped: bounces and refusals for which there was no room or no receiver.
        faults: messages, events, timers and requests whose handling failed with an exception. Each kind is
            logged. It is a fault of ringback: please report it.
    """

    frames_up: int = 0
    bytes_up: int = 0
    frames_down: int = 0
    bytes_down: int = 0
    frames_relayed: int = 0
    bounced_no_server: int = 0
    bounced_unknown_player: int = 0
    bounced_overloaded: int = 0
    bounced_draining: int = 0
    bounced_rate_limited: int = 0
    bounced_forbidden: int = 0
    refused_unsupported_version: int = 0
    refused_protocol_error: int = 0
    refused_id_taken: int = 0
    refused_server_taken: int = 0
    refused_full: int = 0
    refused_draining: int = 0
    refused_no_session: int = 0
    refused_rate_limited: int = 0
    refused_unauthorized: int = 0
    refused_token_expired: int = 0
    sessions_begun: int = 0
    sessions_refused: int = 0
    joins_delayed: int = 0
    sessions_ended: int = 0
    sessions_expired: int = 0
    sessions_too_slow: int = 0
    sessions_too_fast: int = 0
    sessions_revoked: int = 0
    sessions_replaced: int = 0
    sessions_kicked: int = 0
    sessions_moved: int = 0
    hand_overs: int = 0
    takeovers: int = 0
    handshakes_refused: int = 0
    handshakes_failed: int = 0
    connections_refused: int = 0
    watched_calls_lost: int = 0
    failed_calls_lost: int = 0
    messages_unfinished: int = 0
    malformed: int = 0
    violations: int = 0
    stranger_messages: int = 0
    dropped: int = 0
    faults: int = 0

    def count_bounce(self, code: Code) -> None:
        """Count a frame that is bounced."""
        name = f"bounced_{code.name.lower()}"
        setattr(self, name, getattr(self, name) + 1)

    def count_refusal(self, code: RejectCode) -> None:
        """Count a peer that is refused, or that has to come again with fewer heartbeats."""
        if code is RejectCode.HEARTBEAT_TOO_SHORT:
            self.joins_delayed += 1
            return
        self.sessions_refused += 1
        name = f"refused_{code.name.lower()}"
        setattr(self, name, getattr(self, name) + 1)

    def count_end(self, code: RejectCode) -> None:
        """Count a session that the broker has ended."""
        name = _ENDS.get(code)
        if name is not None:
            setattr(self, name, getattr(self, name) + 1)

    def rows(self) -> list[tuple[str, int]]:
        """Return all counters as names and values."""
        return [(field.name, getattr(self, field.name)) for field in fields(self)]
