"""Whom an endpoint exchanges calls with: one `Peer` for each route.

A route is an address and the 8 header bytes of a frame. An answer goes back on the route that its
call came on, and counts only when it comes on the route that the call went out on.
"""

from __future__ import annotations

from ringback.core.calls import Execution, PendingCall
from ringback.core.rate_limits import Bucket, Rate
from ringback.protocol.frames import FrameType
from ringback.protocol.player_ids import PlayerID, decode_player_id
from ringback.protocol.reports import PlayerFigures

FIRST_RESEND_S = 0.05
LONGEST_RESEND_S = 1.0
"""An answer that found its caller's queue full is sent again after the first delay, which doubles each
time up to the longest."""

_DATA = bytes((FrameType.DATA,))


class Peer:
    """One route, with what is in flight on it.

    Attributes:
        address, header: the route.
        local: whether this is the endpoint itself, called by a name that it gave. It has no header.
        of_operator: whether it is an operator. All others have the link number 0.
        is_player: whether it is a player, as the trusted side sees it.
        source: the player ID that handlers of its calls are given; None on players.
        outgoing: encoded envelopes that wait to be sent, `outgoing_bytes` in all.
        calls: calls to it that wait for an answer, by id.
        executions: its calls that are being handled, by id; they came in `execution_bytes`.
        returned: answers that found its queue at the broker full, to be sent again at `resend_at`.
        buckets: what is left to it of rates, by the callback's key; by "" of the endpoint's own.
        ended, failed: calls that ended since the last report, both ways, and those of them with an error.
    """

    __slots__ = (
        "address",
        "buckets",
        "calls",
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
        "source",
    )

    def __init__(self, address: bytes, header: bytes, source: PlayerID | None) -> None:
        self.address = address
        self.header = header
        self.source = source
        self.local = not header and bool(address)
        self.of_operator = header[4:] not in (b"", b"\0\0\0\0")
        self.is_player = bool(address) and header[1:2] == _DATA
        self.outgoing: list[bytes] = []
        self.outgoing_bytes = 0
        self.calls: dict[int, PendingCall] = {}
        self.executions: dict[int, Execution] = {}
        self.execution_bytes = 0
        self.returned: list[bytes] = []
        self.resend_at = 0.0
        self.resend_delay_s = 0.0
        self.buckets: dict[str, Bucket] = {}
        self.ended = 0
        self.failed = 0

    @property
    def key(self) -> bytes:
        """The route as one value. No two routes share one: msgpack tells where an address ends."""
        return self.address + self.header

    @property
    def player_id(self) -> PlayerID:
        """The ID in its address: of a player, or a source that an operator names."""
        return decode_player_id(self.address) if self.source is None else self.source

    def take_figures(self) -> PlayerFigures:
        """Gives what there is to report of it, and begins anew."""
        figures = PlayerFigures(self.player_id, self.ended, self.failed)
        self.ended = self.failed = 0
        return figures

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight on it."""
        return not (self.calls or self.executions or self.outgoing or self.returned)

    def wait_to_resend(self, now: float) -> float:
        """Gives when what came back is sent again: together, and after a longer wait each time."""
        if not self.returned:
            quiet = now - self.resend_at > 2 * LONGEST_RESEND_S
            longer = FIRST_RESEND_S if quiet else min(LONGEST_RESEND_S, 2 * self.resend_delay_s)
            self.resend_delay_s = max(FIRST_RESEND_S, longer)
            self.resend_at = now + self.resend_delay_s
        return self.resend_at

    def take(self, key: str, rate: Rate, now: float) -> float:
        """Counts a call against a rate; gives 0.0 when it may run, else after how many seconds it may."""
        bucket = self.buckets.get(key)
        if bucket is None or bucket.rate is not rate:  # what was counted for another registration is over
            bucket = self.buckets[key] = Bucket(rate)
        return bucket.take(now)
