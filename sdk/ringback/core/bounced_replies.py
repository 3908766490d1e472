"""Bounced replies: replies that found their caller's queue full, and are sent again a little later."""

from __future__ import annotations

import math

from ringback.core.endpoint_state import EndpointState
from ringback.core.outbox import SHORT_REPLY_BYTES, Outbox, no_room
from ringback.core.peers import Peer
from ringback.errors import Executed
from ringback.protocol.envelopes import Encoder

FIRST_RESEND_S = 0.05
LONGEST_RESEND_S = 1.0
"""A bounced reply is sent again after the first delay. The delay doubles each time, up to the longest."""

MAX_RETURNED = 4096
"""How many replies may wait for one caller that does not read, once all together are over their bound."""


class BouncedReplies:
    """The bounced replies of one endpoint.

    Attributes:
        resend_at: when the next ones are sent again, on the monotonic clock, in seconds.
        peers: the peers that have some.
        size: the bytes of all of them.
    """

    def __init__(self, state: EndpointState, outbox: Outbox, encoder: Encoder) -> None:
        self.resend_at = math.inf
        self.peers: list[Peer] = []
        self.size = 0
        self._limits = state.limits
        self._counters = state.counters
        self._outbox = outbox
        self._encoder = encoder

    def keep(self, peer: Peer, call_id: int, envelope: bytes, executed: Executed, now: float) -> None:
        """Keep a reply to send it again. Over the bound keep a short error in its place.

        The reply is never just dropped: its call may have no time limit.
        """
        if self.size > self._limits.max_queued_bytes:
            if len(peer.returned) >= MAX_RETURNED:
                self._counters.late_replies += 1
                return
            if len(envelope) > SHORT_REPLY_BYTES:
                envelope = self._encoder.error(call_id, no_room(executed))
        if not peer.returned:
            _delay(peer, now)
            self.peers.append(peer)
        self.resend_at = min(self.resend_at, peer.resend_at)
        peer.returned.append(envelope)
        self.size += len(envelope)

    def forget(self, peer: Peer) -> list[bytes]:
        """Drop the replies that wait for a peer, and return them."""
        returned = peer.returned
        if returned:
            peer.returned = []
            self.peers.remove(peer)
            self.size -= sum(map(len, returned))
        return returned

    def resend(self, now: float) -> None:
        """Send the replies again whose time has come."""
        for peer in [peer for peer in self.peers if peer.resend_at <= now]:
            for envelope in self.forget(peer):
                self._outbox.add(peer, envelope)
        self.resend_at = min((peer.resend_at for peer in self.peers), default=math.inf)


def _delay(peer: Peer, now: float) -> None:
    """Set when the replies of a peer are sent again: all together, and after a longer delay each time."""
    quiet = now - peer.resend_at > 2 * LONGEST_RESEND_S
    longer = FIRST_RESEND_S if quiet else min(LONGEST_RESEND_S, 2 * peer.resend_delay_s)
    peer.resend_delay_s = max(FIRST_RESEND_S, longer)
    peer.resend_at = now + peer.resend_delay_s
