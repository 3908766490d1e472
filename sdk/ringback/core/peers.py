"""The peers of an endpoint: who calls it or is called by it, one `Peer` for each route.

A route is an ID part and the 8 header bytes of a frame. A reply goes back on the route that its call
came on, and it counts only if it comes on the route that the call was sent on.
"""

from __future__ import annotations

from ringback.core.execution import Execution
from ringback.core.pending_call import PendingCall
from ringback.core.rate_limits import Bucket, Rate
from ringback.errors import ProtocolError
from ringback.protocol.frames import FIRST_OWN_LINK, FrameType
from ringback.protocol.player_ids import PlayerID, decode_player_id
from ringback.protocol.reports import PlayerFigures

_DATA = bytes((FrameType.DATA,))
_FIRST_OWN_BYTE = FIRST_OWN_LINK >> 24
"""The first byte of the link number of a server, if it has one of its own."""


class _NoExecutions(dict[int, Execution]):
    """The executions of a route on which no calls may come. Each call looks like one that came before."""

    def __contains__(self, _call_id: object) -> bool:
        return True


class Peer:
    """One route, and what is in flight on it.

    Attributes:
        encoded_id: the ID part of the route; empty on a player, and for the broker itself.
        header: the header of the route.
        route: both as one value. No two routes share one: msgpack tells where an ID ends.
        source: the player ID that handlers of its calls are given; None on players.
        local: whether this is the endpoint itself, called in the name of a source. It has no header.
        of_operator: whether it is an operator. A server has the link number 0, or a high one of its own.
        is_player: whether it is a player, as the trusted side sees it.
        calls: the pending calls to it, by ID.
        executions: the executions of its calls, by ID.
        execution_bytes: how many bytes the calls of these executions took.
        outgoing: the encoded envelopes that wait to be sent to it.
        outgoing_bytes: the bytes of these envelopes.
        returned: replies that bounced because its queue was full. They are sent again at `resend_at`.
        resend_at: when they are sent again, on the monotonic clock, in seconds.
        resend_delay_s: the present delay until they are sent again.
        buckets: what is left to it of rate limits, by the key of the callback; under "" what is left of
            the endpoint's own limit.
        ended: how many calls ended since the last report, in both directions.
        failed: how many of these ended with an error.
    """

    __slots__ = (
        "buckets",
        "calls",
        "encoded_id",
        "ended",
        "execution_bytes",
        "executions",
        "failed",
        "header",
        "is_player",
        "local",
        "of_operator",
        "outgoing",
        "outgoing_bytes",
        "resend_at",
        "resend_delay_s",
        "returned",
        "route",
        "source",
    )

    def __init__(self, encoded_id: bytes, header: bytes, source: PlayerID | None) -> None:
        self.encoded_id = encoded_id
        self.header = header
        self.route = encoded_id + header
        self.source = source
        self.local = not header and bool(encoded_id)
        self.of_operator = header[4:] not in (b"", b"\0\0\0\0") and header[4] < _FIRST_OWN_BYTE
        self.is_player = bool(encoded_id) and header[1:2] == _DATA
        self.calls: dict[int, PendingCall] = {}
        self.executions: dict[int, Execution] = {}
        self.execution_bytes = 0
        self.outgoing: list[bytes] = []
        self.outgoing_bytes = 0
        self.returned: list[bytes] = []
        self.resend_at = 0.0
        self.resend_delay_s = 0.0
        self.buckets: dict[str, Bucket] = {}
        self.ended = 0
        self.failed = 0

    @property
    def player_id(self) -> PlayerID:
        """The player ID in its ID part: of a player, or a source that an operator names."""
        return decode_player_id(self.encoded_id) if self.source is None else self.source

    def take_figures(self) -> PlayerFigures | None:
        """Return the figures for a report, and begin anew. None: its ID part is no player ID."""
        ended, failed = self.ended, self.failed
        self.ended = self.failed = 0
        try:
            return PlayerFigures(self.player_id, ended, failed)
        except ProtocolError:
            return None

    def take_no_calls(self) -> None:
        """Ignore calls that come on this route. A player would get around its limits with them.

        That costs nothing for calls on other routes.
        """
        self.executions = _NoExecutions()

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight, and nothing waits to be sent."""
        return not (self.calls or self.executions or self.outgoing or self.returned)

    def take(self, key: str, rate: Rate, now: float) -> float:
        """Count a call against a rate limit. Return 0.0 if it may run, else the seconds until one may."""
        bucket = self.buckets.get(key)
        if bucket is None or bucket.rate is not rate:  # a new registration begins with a full bucket
            bucket = self.buckets[key] = Bucket(rate)
        return bucket.take(now)
