"""What the parts of one endpoint share: its peers, the time, and what it counts and records."""

from __future__ import annotations

import math
from collections.abc import Callable

from ringback.core.call_recorder import CallRecorder
from ringback.core.counters import EndpointCounters
from ringback.core.peers import Peer
from ringback.protocol.frames import SERVER_LINK, FrameType, header
from ringback.protocol.limits import Limits
from ringback.protocol.player_ids import decode_player_id

IDLE_S = 10.0
"""How often idle peers are looked for. A peer without rate limits is forgotten after this time at the
latest; one with rate limits after twice this time, or when nothing is left to remember."""


class EndpointState:
    """What the parts of one endpoint share.

    Attributes:
        limits: what the endpoint accepts from others.
        peers: all peers, by route.
        counters: what was counted since the endpoint was made.
        recorder: what observes calls for the broker; None if the broker wants no reports, as of a player.
        now: the time of the latest step, on the monotonic clock, in seconds.
        sweep_at: when deadlines are looked at next.
        sweep_after: the earliest time to look at deadlines again.
        headers: the headers of DATA and RELAY frames on the present link.
        own_header: the header of the calls of a server with a link number of its own; b"" for all others.
        forgot_peers: whether peers were forgotten since the last report. It may lack their last calls.
        contain: log and count an exception of one piece of work, so that all others go on.
    """

    __slots__ = (
        "_named_sources",
        "contain",
        "counters",
        "forgot_peers",
        "headers",
        "limits",
        "now",
        "own_header",
        "peers",
        "recorder",
        "sweep_after",
        "sweep_at",
    )

    def __init__(
        self, limits: Limits, named_sources: bool, contain: Callable[[str, BaseException], None]
    ) -> None:
        self.limits = limits
        self.peers: dict[bytes, Peer] = {}
        self.counters = EndpointCounters()
        self.recorder: CallRecorder | None = None
        self.now = 0.0
        self.sweep_at = math.inf
        self.sweep_after = -math.inf
        self.headers = {FrameType.DATA: header(FrameType.DATA, SERVER_LINK), FrameType.RELAY: b""}
        self.own_header = b""
        self.forgot_peers = False
        self._named_sources = named_sources
        self.contain = contain

    def header_of(self, kind: FrameType | None) -> bytes:
        """Return the header of calls of a kind that leave now. A call to this endpoint itself has none."""
        return b"" if kind is None else self.headers[kind]

    def peer(self, encoded_id: bytes, header: bytes) -> Peer:
        """Return the peer of a route. A new one is put into the table.

        Raises:
            ProtocolError: on a server, the ID part is not a player ID.
        """
        peer = self.peers.get(encoded_id + header)
        if peer is None:
            source = decode_player_id(encoded_id) if encoded_id and self._named_sources else None
            peer = self.peers[encoded_id + header] = Peer(encoded_id, header, source)
            if header and header == self.own_header:
                peer.take_no_calls()
            self.sweep_at = min(self.sweep_at, self.now + IDLE_S)
        return peer
