"""What the broker counts."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ringback.errors import Code, RejectCode


@dataclass(slots=True)
class BrokerCounters:
    """Counts since the broker started.

    Attributes:
        frames_up, bytes_up: delivered from players to the trusted side.
        frames_down, bytes_down: delivered to players.
        frames_relayed: delivered between operators and the server.
        bounced_*: sent back, by reason.
        refused_*: peers that were not let in, by reason; sessions_refused is their sum.
        sessions_*: begun; refused; ended for whatever reason; of these ended by a lease, since they did
            not read, since they sent too much.
        sessions_kicked: of these ended by an operator's order.
        sessions_revoked, sessions_replaced: of these ended since their key or token holds no more, since the
            same player came again.
        handshakes_refused: connections whose key is not on the list, or is for the other side.
        handshakes_failed: other connections that ended before HELLO: no encryption, another key of the broker
            in mind, no ZeroMQ at all, too slow.
        connections_refused: closed at once, as there were as many as descriptors allow, or as one address
            may have or make.
        calls_untold: calls that are watched, and for which there was no room in a report.
        malformed: messages with a wrong number of parts.
        violations: frames that the protocol does not allow from their sender.
        strangers: frames from connections without a session.
        dropped: bounces and refusals for which there was no room or receiver.
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
    refused_lease_expired: int = 0
    refused_too_slow: int = 0
    refused_rate_limited: int = 0
    refused_heartbeat_too_short: int = 0
    refused_unauthorized: int = 0
    refused_token_expired: int = 0
    refused_revoked: int = 0
    refused_replaced: int = 0
    refused_kicked: int = 0
    sessions_begun: int = 0
    sessions_refused: int = 0
    sessions_ended: int = 0
    sessions_expired: int = 0
    sessions_too_slow: int = 0
    sessions_too_fast: int = 0
    sessions_revoked: int = 0
    sessions_replaced: int = 0
    sessions_kicked: int = 0
    handshakes_refused: int = 0
    handshakes_failed: int = 0
    connections_refused: int = 0
    calls_untold: int = 0
    malformed: int = 0
    violations: int = 0
    strangers: int = 0
    dropped: int = 0

    def count_bounce(self, code: Code) -> None:
        name = f"bounced_{code.name.lower()}"
        setattr(self, name, getattr(self, name) + 1)

    def count_refusal(self, code: RejectCode) -> None:
        self.sessions_refused += 1
        name = f"refused_{code.name.lower()}"
        setattr(self, name, getattr(self, name) + 1)

    def rows(self) -> list[tuple[str, int]]:
        return [(field.name, getattr(self, field.name)) for field in fields(self)]
