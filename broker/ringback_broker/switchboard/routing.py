"""Routing: where a frame of a welcomed peer goes. This is the broker's hot path.

`from_player` and `from_backend` never look into a body, and they are written flat: one slice and one look-up
decide whether a frame is sound data for a peer that is there. Everything else is decided off that path.
"""

from __future__ import annotations

from typing import Protocol

from ringback.errors import Code, ProtocolError
from ringback.protocol.bundles import BUNDLE, unbundle
from ringback.protocol.frames import HEADER_BYTES, FrameType, Role, header
from ringback.protocol.limits import BATCH_BYTES, BUNDLE_FRAMES
from ringback_broker.operations.events import PeerEvent
from ringback_broker.operations.operations import Operations
from ringback_broker.peers.connection import LARGE_BYTES, Frame, Sent, Side
from ringback_broker.peers.session import Session
from ringback_broker.switchboard.control_frames import ControlFrames
from ringback_broker.switchboard.sending import SENDER, TO_PLAYER, Sending
from ringback_broker.switchboard.sessions import Sessions
from ringback_broker.switchboard.state import State
from ringback_broker.switchboard.wire import Wire

_DATA_START = header(FrameType.DATA)[:4]
_RELAY_START = header(FrameType.RELAY)[:4]
_PONG = header(FrameType.PONG)
_SERVER_HEADER = header(FrameType.DATA)


class Nodes(Protocol):
    """The other nodes of the realm, to which frames are passed on."""

    def of_link(self, frame: Frame) -> Session | None:
        """Return the node that has given the link number of a frame."""

    def of_player(self, encoded_id: bytes) -> Session | None:
        """Return the node that has a player, as far as a server has to know."""

    def from_operator(self, operator: Session, encoded_id: bytes, frame: Frame, now: float) -> None:
        """Take a frame of an operator to a player that is not here."""


class Routing:
    """Takes the frames of welcomed peers.

    Attributes:
        nodes: the other nodes; None: this broker is alone.
    """

    def __init__(
        self,
        wire: Wire,
        state: State,
        sending: Sending,
        sessions: Sessions,
        control_frames: ControlFrames,
        operations: Operations,
    ) -> None:
        self._wire = wire
        self._roster = state.roster
        self._players = state.roster.players
        self._links = state.roster.links
        self._counters = state.counters
        self._rate_limit = state.rate_limit
        self._windows = state.windows
        self._endings = state.endings
        self._sending = sending
        self._bundled = sending.bundled
        self._sessions = sessions
        self._control_frames = control_frames
        self._operations = operations
        self.nodes: Nodes | None = None
        self.reconfigure()

    def reconfigure(self) -> None:
        """Take the rates and sizes that hold now: the hot path reads them here."""
        self._frame_s, self._byte_s = self._rate_limit.frame_s, self._rate_limit.byte_s
        self._burst_s = self._rate_limit.burst_s
        self._player_frame_bytes = self._windows.frame_bytes[Side.PLAYERS]
        self._backend_frame_bytes = self._windows.frame_bytes[Side.BACKEND]

    def from_player(self, session: Session, frame: Frame, now: float) -> None:
        """Take a frame of a player."""
        session.last_seen = now
        size = len(frame)
        # The rate limit, flat: `session.full_at` is when the player's whole burst is free again.
        cost_s = size * self._byte_s
        if cost_s < self._frame_s:
            cost_s = self._frame_s
        full_at = session.full_at
        full_at = full_at + cost_s if full_at > now else now + cost_s
        if full_at - now > self._burst_s and not self._rate_limit.passes(session, cost_s, now):
            self._limit(session, frame)
            self._sessions.end_marked()
            return
        session.full_at = full_at
        target = self._links.get(frame[:HEADER_BYTES])
        if target is not None:
            bundle = target.bundle
            # Nothing overtakes a control frame that waits.
            if target.backlog or target.exhausted:
                sent = Sent.FULL
            elif bundle is not None and size <= LARGE_BYTES:
                frames = bundle.frames
                if not frames:
                    self._bundled.append(target)
                frames.append((session, frame))
                bundle.size += size
                if bundle.size < BATCH_BYTES and len(frames) < BUNDLE_FRAMES:
                    return
                self._sending.send_bundle(target, now)
                self._sessions.end_marked()
                return
            else:
                sent = self._sending.send(target, session.encoded_id, frame)
            if sent is Sent.YES:
                counters = self._counters
                counters.frames_up += 1
                counters.bytes_up += size
                target.spent += size + self._backend_frame_bytes
                if target.spent < target.probe_at:
                    return
                self._sending.probe(target, now)
            else:
                self._sending.undelivered(session, b"", frame, target, sent)
        elif frame[:4] == _DATA_START and len(frame) >= HEADER_BYTES:
            self._pass_to_node(session, frame, now)
        else:
            self._control_frames.take(session, frame, now)
        self._sessions.end_marked()

    def from_backend(self, session: Session, encoded_id: bytes, frame: Frame, now: float) -> None:
        """Take a frame of the server or an operator.

        Args:
            encoded_id: the ID part of the message.
        """
        session.last_seen = now
        if encoded_id and frame[:HEADER_BYTES] in session.data_headers:
            target = self._players.get(encoded_id)
            if target is None:
                self._pass_elsewhere(session, encoded_id, frame, now)
                self._sessions.end_marked()
                return
            if target.backlog or target.exhausted:
                sent = Sent.FULL
            else:
                sent = self._wire.send_player(target.routing_id, frame)
            if sent is Sent.YES:
                size = len(frame)
                counters = self._counters
                counters.frames_down += 1
                counters.bytes_down += size
                target.spent += size + self._player_frame_bytes
                if target.spent < target.probe_at:
                    return
                self._sending.probe(target, now)
            else:
                self._sending.undelivered(session, encoded_id, frame, target, sent)
        elif encoded_id:
            self._relay(session, encoded_id, frame, now)
        elif frame[:HEADER_BYTES] == BUNDLE:
            self._take_bundle(session, frame, now)
        else:
            self._control_frames.take(session, frame, now)
        self._sessions.end_marked()

    def _pass_to_node(self, session: Session, frame: Frame, now: float) -> None:
        """Pass a player's frame on to the node that has its receiver, if there is one."""
        node = None if self.nodes is None else self.nodes.of_link(frame)
        if node is None:
            self._sending.bounce(session, b"", frame, Code.NO_SERVER)
        else:
            self._sending.pass_up(session, frame, node, now)

    def _pass_elsewhere(self, session: Session, encoded_id: bytes, frame: Frame, now: float) -> None:
        """Pass a frame on to the node that has its player, if there is one."""
        if self.nodes is not None and session.duty is None:
            self.nodes.from_operator(session, encoded_id, frame, now)
            return
        node = None if self.nodes is None else self.nodes.of_player(encoded_id)
        if node is None:
            self._sending.bounce(session, encoded_id, frame, Code.UNKNOWN_PLAYER)
        else:
            self._sending.pass_down(session, encoded_id, frame, node, now)

    def _take_bundle(self, session: Session, frame: Frame, now: float) -> None:
        """Take each frame of a bundle, which is a step of its own."""
        if session.bundle is None:
            why = "a BUNDLE comes only from a peer that said in HELLO that it takes bundles too"
            self._control_frames.violation(session, why)
            return
        try:
            parts = unbundle(bytes(frame))
        except ProtocolError as error:
            self._control_frames.violation(session, str(error))
            return
        for encoded_id, carried in zip(parts[::2], parts[1::2], strict=True):
            if session.ended:
                return
            if not encoded_id:
                self._control_frames.violation(
                    session, "a BUNDLE carries DATA and RELAY frames, each with an ID part"
                )
                return
            self.from_backend(session, encoded_id, carried, now)

    def _relay(self, session: Session, encoded_id: bytes, frame: Frame, now: float) -> None:
        """Relay a frame between an operator and the server. The ID part is the source that was named."""
        link = frame[4:HEADER_BYTES]
        named = self._links.get(_DATA_START + link)
        if frame[:4] != _RELAY_START or len(frame) < HEADER_BYTES:
            why = "a frame with an ID part must be a RELAY, or DATA with the sender's link number"
            self._control_frames.violation(session, why)
            return
        if session.role is Role.OPERATOR:
            target, sound = self._links.get(_SERVER_HEADER), named is session
        else:
            target, sound = named, bool(session.data_headers) and (named is None or named.duty is None)
            if target is None and self.nodes is not None:
                target = self.nodes.of_link(frame)
        if not sound:
            self._control_frames.violation(session, "a RELAY must have the link number of its operator")
        elif not session.rights.may_relay:
            identity = session.rights.identity
            why = f"the operator {'' if identity is None else identity.name!r} may not name sources"
            self._operations.log(PeerEvent("refused", why, session, session.connection.ip, "FORBIDDEN"))
            self._sending.bounce(session, encoded_id, frame, Code.FORBIDDEN)
        elif target is None:
            self._sending.bounce(session, encoded_id, frame, Code.NO_SERVER)
        else:
            full = target.backlog or target.exhausted
            where = encoded_id
            if target.node and session.duty is not None:
                where = SENDER.pack(TO_PLAYER, session.number) + encoded_id
            sent = Sent.FULL if full else self._sending.send(target, where, frame)
            if sent is Sent.YES:
                self._counters.frames_relayed += 1
                self._sending.spend(target, frame, now)
            else:
                self._sending.undelivered(session, encoded_id, frame, target, sent)

    def _limit(self, session: Session, frame: Frame) -> None:
        """Take a frame that is over a player's rate limit: data bounces, a control frame is dropped.

        A PONG still counts: otherwise a player that reads would look like one that does not.
        """
        if self._rate_limit.is_exceeded(session):
            self._endings.too_fast(session)
        elif frame[:4] == _DATA_START and len(frame) >= HEADER_BYTES:
            self._sending.bounce(session, b"", frame, Code.RATE_LIMITED)
        elif frame[:HEADER_BYTES] == _PONG:
            self._control_frames.take(session, frame, session.last_seen)
        else:
            self._counters.dropped += 1
