"""Dispatch: which part handles each envelope that comes from a peer, or comes back."""

from __future__ import annotations

import msgpack

from ringback.core.bounced_replies import BouncedReplies
from ringback.core.calls_in import CallsIn
from ringback.core.calls_out import CallsOut
from ringback.core.deadlines import Deadlines
from ringback.core.endpoint_state import EndpointState
from ringback.core.outbox import Outbox
from ringback.core.peers import Peer
from ringback.errors import EXECUTED, Code, Executed, InvalidPayload, call_error
from ringback.protocol.envelope_decoding import Decoded, Unreadable, decode
from ringback.protocol.envelopes import (
    CALL,
    CANCEL,
    ERROR,
    OWN,
    PROGRESS,
    RESULT,
    Encoder,
    call_id_in,
    to_error,
)
from ringback.protocol.player_ids import PlayerID, decode_player_id


class Dispatcher:
    """Hands the envelopes of a body to calls out and calls in."""

    def __init__(
        self,
        state: EndpointState,
        outbox: Outbox,
        encoder: Encoder,
        calls_out: CallsOut,
        calls_in: CallsIn,
        deadlines: Deadlines,
        bounced_replies: BouncedReplies,
    ) -> None:
        self._state = state
        self._limits = state.limits
        self._outbox = outbox
        self._encoder = encoder
        self._finish = calls_out.finish
        self._take_progress = calls_out.take_progress
        self._take_call = calls_in.take
        self._refuse = calls_in.refuse
        self._abandon = calls_in.abandon
        self._waits_for_turn = calls_in.waits_for_turn
        self._tidy = deadlines.tidy
        self._bounced_replies = bounced_replies

    def take(self, peer: Peer, body: bytes, now: float) -> None:
        """Handle the body of a DATA or RELAY frame that came from a peer."""
        self._state.now = now
        decoded, unreadable, lost_bytes = decode(body, self._limits)
        size = len(body) // (len(decoded) or 1)  # the mean: to measure each one would cost on every call
        for envelope in decoded:
            kind = envelope[0]
            try:
                if kind == RESULT:
                    self._finish(peer, envelope[1], tuple(envelope[2]), None)
                elif kind == CALL:
                    self._take_call(peer, envelope, size, now)
                elif kind == CANCEL:
                    self._abandon(peer, envelope[1], Code.CANCELLED)
                elif kind == PROGRESS:
                    self._take_progress(peer, envelope[1], envelope[2], size)
                else:
                    self._finish(peer, envelope[1], (), to_error(envelope))
            except BaseException as fault:  # the envelopes behind this one are of other calls
                self._state.contain("handling an envelope", fault)
        for damaged in unreadable:
            self._take_unreadable(peer, damaged)
        if lost_bytes:
            self._state.counters.invalid += 1

    def _take_unreadable(self, peer: Peer, damaged: Unreadable) -> None:
        self._state.counters.invalid += 1
        if damaged.type == CALL:
            if damaged.id in peer.executions:  # an error would end the first call of this ID
                return
            self._refuse(peer, damaged.id, InvalidPayload(damaged.reason))
        elif damaged.type in (RESULT, ERROR):
            self._finish(peer, damaged.id, (), _unreadable_reply(damaged))

    def take_back(self, peer: Peer, body: bytes, code: Code, now: float) -> None:
        """Handle the body of a frame that bounced: end its calls, and keep its replies to send them again.

        What it carries of progress is dropped.
        """
        text = _BOUNCE_TEXTS.get(code, "the broker could not deliver it")
        if code is Code.UNKNOWN_PLAYER and peer.encoded_id:
            text = _not_connected(decode_player_id(peer.encoded_id))
        decoded = decode(body, OWN)
        data = {"retry_after": 1.0} if code is Code.RATE_LIMITED else None  # then a whole burst may pass
        for call_id in _calls_in(decoded):
            if call_id in peer.calls:  # it may have ended meanwhile
                self._finish(peer, call_id, (), call_error(code, text, "no", data))
        reports = sum(envelope[0] == PROGRESS for envelope in decoded.envelopes)
        self._state.counters.dropped_progress += reports
        if code in (Code.OVERLOADED, Code.RATE_LIMITED):
            self._keep_replies(peer, decoded, now)
        self._tidy(peer, now)

    def _keep_replies(self, peer: Peer, decoded: Decoded, now: float) -> None:
        keep = self._bounced_replies.keep
        for envelope in decoded.envelopes:
            if envelope[0] in (RESULT, ERROR):
                executed = "yes" if envelope[0] == RESULT else EXECUTED[envelope[4]]
                keep(peer, envelope[1], msgpack.packb(envelope), executed, now)
        for damaged in decoded.unreadable:  # its caller could not have read it either
            if damaged.type in (RESULT, ERROR):
                error = _unreadable_reply(damaged)
                keep(peer, damaged.id, self._encoder.error(damaged.id, error), error.executed, now)

    def drop_peer(self, peer: Peer, code: Code, message: str) -> None:
        """End all that is in flight with a peer that is gone, and forget the peer."""
        for unsent in self._outbox.forget(peer):
            call_id = call_id_in(unsent)
            if call_id is not None:
                self._finish(peer, call_id, (), call_error(code, message, "no"))
        self._bounced_replies.forget(peer)
        for call_id in list(peer.calls):
            executed: Executed = "no" if self._waits_for_turn(peer, call_id) else "maybe"
            self._finish(peer, call_id, (), call_error(code, message, executed))
        for execution_id in list(peer.executions):
            self._abandon(peer, execution_id, code)
        self._state.peers.pop(peer.route, None)
        self._state.forgot_peers = True


def _not_connected(player_id: PlayerID) -> str:
    """Return that no such player is connected. IDs that come out of JSON or a form are often str."""
    text = f"no player with the ID {player_id!r} is connected"
    if isinstance(player_id, str) and player_id.isascii() and player_id.isdecimal():
        text += f": it is a str, and the int {player_id} is another ID"
    return text


def _unreadable_reply(damaged: Unreadable) -> InvalidPayload:
    """Return the error that a caller gets when its RESULT or ERROR cannot be read."""
    executed: Executed = "yes" if damaged.type == RESULT else "maybe"
    return InvalidPayload(f"the reply cannot be read: {damaged.reason}", executed=executed)


def _calls_in(decoded: Decoded) -> list[int]:
    """Return the IDs of the calls in a body of this endpoint's own, those with odd payloads included."""
    return [envelope[1] for envelope in (*decoded.envelopes, *decoded.unreadable) if envelope[0] == CALL]


_BOUNCE_TEXTS: dict[Code, str] = {
    Code.NO_SERVER: "no server is connected",
    Code.OVERLOADED: "the receiver's queue at the broker is full, or its node is not reached now",
    Code.FORBIDDEN: "the broker's access list does not let this operator name a source",
    Code.DRAINING: "the broker is stopping",
    Code.RATE_LIMITED: "the player is over the broker's rate limit",
}
