"""Sending: data in bundles or alone, control frames, bounces, and what waits for room.

Nothing overtakes what was sent to the same peer before it: not what waits in its bundle, nor a control frame
or a bounce that waits in its backlog.
"""

from __future__ import annotations

import struct

from ringback.errors import Code
from ringback.protocol import control
from ringback.protocol.bounces import bounce
from ringback.protocol.bundles import bundle
from ringback.protocol.control import encode
from ringback.protocol.frames import HEADER_BYTES, Role
from ringback.protocol.limits import BATCH_BYTES, BUNDLE_FRAMES
from ringback_broker.peers.connection import LARGE_BYTES, Frame, Sent, Side
from ringback_broker.peers.session import Away, Bundle, Origin, Session
from ringback_broker.switchboard.state import State
from ringback_broker.switchboard.wire import Wire

TO_PLAYER = b"\xc1"
"""An ID part between nodes that begins with this byte names a player to whom the frame goes. No msgpack value
does. Behind it are the number of the sender's session, for a bounce, and the player ID. Without it, the frame
comes from the player."""

SENDER = struct.Struct("!cQ")

CALLEE_SHIFT = 40
"""The bits from this one on of the number of a sender are the number of the callee, if it is an operator that
calls a player. It comes back with a bounce if the player has no session."""

SESSION_BITS = 2**CALLEE_SHIFT - 1

MAX_BACKLOG = {Role.PLAYER: 64, Role.SERVER: 50_000, Role.OPERATOR: 50_000}
"""How many control frames and bounces may wait for a peer whose queue is full. One more ends its session."""


class Sending:
    """Sends frames to welcomed peers.

    Attributes:
        bundled: sessions with frames in their bundle. They leave at the end of the loop's step.
        backlogged: sessions with frames in their backlog.
    """

    def __init__(self, wire: Wire, state: State) -> None:
        self.bundled: list[Session] = []
        self.backlogged: dict[Session, None] = {}
        self._wire = wire
        self._counters = state.counters
        self._windows = state.windows
        self._endings = state.endings
        self._admission = state.admission

    # -- data

    def send(self, target: Session, encoded_id: bytes, frame: Frame) -> Sent:
        """Send a DATA or RELAY frame to a trusted peer, and not in its bundle."""
        if target.bundle is None:
            return self._wire.send_backend(target.routing_id, encoded_id, frame)
        if target.bundle.frames:
            self.send_bundle(target, target.last_seen)
            if target.backlog:  # the PING behind the bundle
                return Sent.FULL
        return target.bundle.send(target.routing_id, encoded_id, frame)

    def send_bundle(self, target: Session, now: float) -> None:
        """Send the frames that wait in a peer's bundle."""
        bundled = target.bundle
        if bundled is None or not bundled.frames:
            return
        frames, size = bundled.frames, bundled.size
        down_frames, down_size = bundled.down_frames, bundled.down_size
        bundled.frames, bundled.size, bundled.down_frames, bundled.down_size = [], 0, 0, 0
        if len(frames) == 1:
            sender, frame = frames[0]
            sent = bundled.send(target.routing_id, sender.encoded_id, frame)
        else:
            message = bundle((sender.encoded_id, bytes(frame)) for sender, frame in frames)
            sent = bundled.send(target.routing_id, b"", message)
        if sent is not Sent.YES:
            for sender, frame in frames:
                self.undelivered(sender, b"", frame, target, sent)
            return
        counters = self._counters
        counters.frames_up += len(frames) - down_frames
        counters.bytes_up += size - down_size
        counters.frames_down += down_frames
        counters.bytes_down += down_size
        target.spent += size + len(frames) * self._windows.frame_bytes[Side.BACKEND]
        if target.spent >= target.probe_at:
            self.probe(target, now)

    def send_bundles(self, now: float) -> None:
        """Send all bundles."""
        while self.bundled:
            self.send_bundle(self.bundled.pop(), now)

    def undelivered(
        self, sender: Session | Away | Origin, encoded_id: bytes, frame: Frame, target: Session, sent: Sent
    ) -> None:
        """Bounce a frame that was not sent to its target.

        Args:
            encoded_id: the ID part that the frame came with; an `Away` or an `Origin` knows it.
            sent: how the send ended.
        """
        absent = Code.UNKNOWN_PLAYER if target.role is Role.PLAYER else Code.NO_SERVER
        if isinstance(sender, Away):
            sender, encoded_id = sender.node, SENDER.pack(TO_PLAYER, 0) + sender.encoded_id
        elif isinstance(sender, Origin):
            absent = Code.OVERLOADED if sender.is_callee else Code.UNKNOWN_PLAYER
            encoded_id, sender = sender.id_part, sender.sender
        if sent is Sent.FULL:
            self.bounce(sender, encoded_id, frame, Code.OVERLOADED)
            return
        self.bounce(sender, encoded_id, frame, absent)
        self._endings.not_found(target)

    def pass_up(self, sender: Session | Away, frame: Frame, target: Session, now: float) -> None:
        """Pass a DATA frame of a player on to a trusted peer, as the hot path does it."""
        size, bundled = len(frame), target.bundle
        if target.backlog or target.exhausted:
            sent = Sent.FULL
        elif bundled is not None and size <= LARGE_BYTES:
            self._add(target, bundled, sender, frame, now)
            return
        else:
            sent = self.send(target, sender.encoded_id, frame)
        if sent is Sent.YES:
            self._counters.frames_up += 1
            self._counters.bytes_up += size
            self.spend(target, frame, now)
        else:
            self.undelivered(sender, b"", frame, target, sent)

    def _add(
        self, target: Session, bundled: Bundle, sender: Session | Away | Origin, frame: Frame, now: float
    ) -> None:
        """Add a frame to a bundle, and send the bundle if it is full."""
        if not bundled.frames:
            self.bundled.append(target)
        bundled.frames.append((sender, frame))
        bundled.size += len(frame)
        if bundled.size >= BATCH_BYTES or len(bundled.frames) >= BUNDLE_FRAMES:
            self.send_bundle(target, now)

    def pass_down(
        self, sender: Session, encoded_id: bytes, frame: Frame, node: Session, now: float, callee: int = 0
    ) -> None:
        """Pass a DATA frame on to the node of its player.

        Args:
            callee: the number of the player as a callee, or 0.
        """
        there = SENDER.pack(TO_PLAYER, callee << CALLEE_SHIFT | sender.number) + encoded_id
        origin = Origin(there, sender, encoded_id, callee != 0)
        size, bundled = len(frame), node.bundle
        if node.backlog or node.exhausted:
            sent = Sent.FULL
        elif bundled is not None and bundled.takes_down and size <= LARGE_BYTES:
            bundled.down_frames += 1
            bundled.down_size += size
            self._add(node, bundled, origin, frame, now)
            return
        else:
            sent = self.send(node, there, frame)
        if sent is Sent.YES:
            self._counters.frames_down += 1
            self._counters.bytes_down += size
            self.spend(node, frame, now)
        else:
            self.undelivered(origin, encoded_id, frame, node, sent)

    def pass_to_player(
        self, target: Session, sender: Session, id_part: bytes, frame: Frame, now: float
    ) -> None:
        """Pass a DATA frame on to a player here.

        Args:
            id_part: the ID part for a bounce.
        """
        full = target.backlog or target.exhausted
        sent = Sent.FULL if full else self._wire.send_player(target.routing_id, frame)
        if sent is Sent.YES:
            self._counters.frames_down += 1
            self._counters.bytes_down += len(frame)
            self.spend(target, frame, now)
        else:
            self.undelivered(sender, id_part, frame, target, sent)

    # -- control frames and bounces

    def notify(self, session: Session, frame: bytes) -> None:
        """Send a control frame. It is never lost while the session lasts."""
        self._send_or_keep(session, b"", frame)

    def bounce(self, session: Session, encoded_id: bytes, frame: Frame, code: Code) -> None:
        """Send a frame back to its sender, with a code that says why it was not delivered.

        A bounce is never lost while the session lasts: a call without a timeout would never end.
        """
        if session.ended:
            return
        if self._admission.draining and code in (Code.NO_SERVER, Code.UNKNOWN_PLAYER):
            code = Code.DRAINING
        self.pass_bounce(session, encoded_id, bounce(code, bytes(frame)), code)

    def pass_bounce(self, session: Session, encoded_id: bytes, bounced: bytes, code: Code) -> None:
        """Send a BOUNCE, made here or at another node."""
        if session.ended:
            return
        self._counters.count_bounce(code)
        if self._windows.is_overrun(session, session.last_seen):
            if code is Code.RATE_LIMITED:
                self._endings.too_fast(session)
            else:
                self._endings.too_slow(session, "its bounces")
            return
        if self._send_or_keep(session, encoded_id, bounced) is Sent.GONE:
            self._counters.dropped += 1
        else:
            self.spend(session, bounced[HEADER_BYTES:], session.last_seen)

    def _send_or_keep(self, session: Session, encoded_id: bytes, frame: bytes) -> Sent:
        """Send a frame, or keep it until there is room."""
        self.send_bundle(session, session.last_seen)
        if session.ended:
            return Sent.GONE
        if not session.backlog:
            sent = self._send_to(session, encoded_id, frame)
            if sent is Sent.GONE:
                self._endings.not_found(session)
            if sent is not Sent.FULL:
                return sent
        self._keep(session, encoded_id, frame)
        return Sent.FULL

    def _keep(self, session: Session, encoded_id: bytes, frame: bytes) -> None:
        """Keep a frame until there is room. If too many are kept, the session ends."""
        backlog = session.backlog
        if len(backlog) >= MAX_BACKLOG[session.role]:
            self._endings.too_slow(session, f"{len(backlog)} control frames and bounces")
        else:
            backlog.append((encoded_id, frame))
            self.backlogged[session] = None

    def flush(self) -> bool:
        """Send control frames and bounces that found a queue full. Return whether any still wait."""
        for session in list(self.backlogged):
            backlog = session.backlog
            while backlog:
                sent = self._send_to(session, *backlog[0])  # its bundle is empty while it has a backlog
                if sent is Sent.FULL:
                    break
                if sent is Sent.GONE:
                    self._endings.not_found(session)
                    backlog.clear()
                else:
                    backlog.popleft()
            if not backlog:
                del self.backlogged[session]
        return bool(self.backlogged)

    def forget(self, session: Session) -> None:
        """Forget what waits for a session that has ended."""
        session.backlog.clear()
        self.backlogged.pop(session, None)
        session.bundle = None

    # -- windows

    def spend(self, session: Session, frame: Frame, now: float) -> None:
        """Count a frame that was sent in its receiver's window."""
        session.spent += len(frame) + self._windows.frame_bytes[session.side]
        if session.spent >= session.probe_at:
            self.probe(session, now)

    def probe(self, session: Session, now: float) -> None:
        """Ask a peer how far it has read."""
        self.notify(session, encode(control.Ping(self._windows.probe(session, now))))

    def _send_to(self, session: Session, encoded_id: bytes, frame: Frame) -> Sent:
        if session.side is Side.PLAYERS:
            return self._wire.send_player(session.routing_id, frame)
        if session.bundle is not None:
            return session.bundle.send(session.routing_id, encoded_id, frame)
        return self._wire.send_backend(session.routing_id, encoded_id, frame)
