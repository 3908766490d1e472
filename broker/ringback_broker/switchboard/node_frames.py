"""Frames of other nodes: where they go. Each goes to a session of this broker, or back to its node.

Nothing that comes from a node is passed on to another one, so nothing is ever sent twice, or in a circle.
"""

from __future__ import annotations

from collections.abc import Callable

from ringback.errors import Code, ProtocolError
from ringback.protocol import control
from ringback.protocol.bundles import BUNDLE, unbundle
from ringback.protocol.control import encode
from ringback.protocol.frames import FIRST_OWN_LINK, HEADER, HEADER_BYTES, FrameType, header
from ringback_broker.cluster.elsewhere import Elsewhere
from ringback_broker.cluster.messages import START, Message, Unanswered
from ringback_broker.cluster.messages import decode as decode_message
from ringback_broker.cluster.messages import encode as encode_message
from ringback_broker.peers.connection import Sent
from ringback_broker.peers.session import Away, Duty, Session
from ringback_broker.switchboard.operator_calls import OperatorCalls
from ringback_broker.switchboard.sending import CALLEE_SHIFT, SENDER, SESSION_BITS, TO_PLAYER, Sending
from ringback_broker.switchboard.state import State

_DATA_START = header(FrameType.DATA)[:4]
_RELAY_START = header(FrameType.RELAY)[:4]


class NodeFrames:
    """Takes the frames of other nodes.

    Args:
        elsewhere: the players of other nodes.
        operator_calls: takes note of calls of operators, and takes frames of theirs that come back.
        told: takes what a node says to this one.
    """

    def __init__(
        self,
        state: State,
        sending: Sending,
        elsewhere: Elsewhere,
        operator_calls: OperatorCalls,
        told: Callable[[Session, Message, float], None],
    ) -> None:
        self._roster = state.roster
        self._counters = state.counters
        self._windows = state.windows
        self._sending = sending
        self._elsewhere = elsewhere
        self._operator_calls = operator_calls
        self._told = told

    def take(self, node: Session, id_part: bytes, frame: bytes, now: float) -> None:
        """Take a frame, or what a node says itself.

        Raises:
            ProtocolError: no node sends this.
        """
        node.last_seen = now
        if id_part:
            self._take_data(node, id_part, frame, now)
        elif frame[:HEADER_BYTES] == BUNDLE:
            parts = unbundle(frame)
            for encoded_id, carried in zip(parts[::2], parts[1::2], strict=True):
                if not node.ended:
                    self._take_data(node, encoded_id, carried, now)
        elif frame[:1] == START:
            message = decode_message(frame)
            if message is not None:
                self._told(node, message, now)
        else:
            self._take_control(node, frame, now)

    def _take_data(self, node: Session, id_part: bytes, frame: bytes, now: float) -> None:
        if id_part[:1] == TO_PLAYER:
            self._take_down(node, id_part, frame, now)
        else:
            self._take_up(node, id_part, frame, now)

    def _take_control(self, node: Session, frame: bytes, now: float) -> None:
        match control.decode(frame):
            case control.Ping(body):
                self._sending.notify(node, encode(control.Pong(body)))
            case control.Pong(body):
                self._counters.violations += not self._windows.confirm(node, body, now)
            case _:
                raise ProtocolError("a node sends no such control frame")

    # -- up: from a player or an operator, to a trusted peer of this broker

    def _take_up(self, node: Session, encoded_id: bytes, frame: bytes, now: float) -> None:
        if frame[:4] == _RELAY_START:
            self._take_relay(node, encoded_id, frame, now)
            return
        target = self._roster.links.get(frame[:HEADER_BYTES])
        sender = self._elsewhere.by_id.get(encoded_id)
        if target is not None and target.link and self._operator_calls.is_called(encoded_id, node):
            sender = Away(encoded_id, node, 0)  # it replies to an operator
        if target is None or target.node or sender is None or sender.node is not node:
            self._bounce(node, encoded_id, frame, Code.NO_SERVER)
        else:
            self._sending.pass_up(sender, frame, target, now)

    def _take_relay(self, node: Session, encoded_id: bytes, frame: bytes, now: float) -> None:
        """Take what an operator of another node relays to the server."""
        server = self._roster.server
        if server is None:
            self._bounce(node, encoded_id, frame, Code.NO_SERVER)
        elif server.backlog or server.exhausted:
            self._bounce(node, encoded_id, frame, Code.OVERLOADED)
        else:
            sent = self._sending.send(server, encoded_id, frame)
            if sent is Sent.YES:
                self._counters.frames_relayed += 1
                self._sending.spend(server, frame, now)
            else:
                self._sending.undelivered(Away(encoded_id, node, 0), b"", frame, server, sent)

    def _bounce(self, node: Session, encoded_id: bytes, frame: bytes, code: Code) -> None:
        """Bounce a frame to the player or operator of a node that has sent it."""
        self._sending.bounce(node, SENDER.pack(TO_PLAYER, 0) + encoded_id, frame, code)

    # -- down: from a trusted peer of another node, to a player or an operator of this broker

    def _take_down(self, node: Session, id_part: bytes, frame: bytes, now: float) -> None:
        if len(id_part) <= SENDER.size or len(frame) < HEADER_BYTES:
            raise ProtocolError("an ID part or a frame is too short")
        _, number = SENDER.unpack_from(id_part)
        encoded_id = id_part[SENDER.size :]
        if frame[1] == FrameType.BOUNCE:
            self._take_bounce(node, number, encoded_id, frame, now)
        elif frame[:4] == _RELAY_START:
            self._take_relayed_reply(node, id_part, frame, now)
        elif (player := self._roster.players.get(encoded_id)) is None:
            self._sending.bounce(node, id_part, frame, Code.UNKNOWN_PLAYER)
        else:
            if 0 < int.from_bytes(frame[4:HEADER_BYTES]) < FIRST_OWN_LINK:
                self._operator_calls.called(node, encoded_id)
                # If it comes back, it is not for want of a session: it may not be looked up once more.
                id_part = SENDER.pack(TO_PLAYER, number & SESSION_BITS) + encoded_id
            self._sending.pass_to_player(player, node, id_part, frame, now)

    def _take_relayed_reply(self, node: Session, id_part: bytes, frame: bytes, now: float) -> None:
        """Take what a server of another node replies to an operator of this one."""
        target = self._operator_of(frame)
        if target is None:
            self._sending.bounce(node, id_part, frame, Code.NO_SERVER)
            return
        full = target.backlog or target.exhausted
        sent = Sent.FULL if full else self._sending.send(target, id_part[SENDER.size :], frame)
        if sent is Sent.YES:
            self._counters.frames_relayed += 1
            self._sending.spend(target, frame, now)
        else:
            self._sending.undelivered(node, id_part, frame, target, sent)

    def _operator_of(self, frame: bytes) -> Session | None:
        """Return the operator of this broker whose link number a frame has."""
        found = self._roster.links.get(_DATA_START + frame[4:HEADER_BYTES])
        return found if found is not None and found.link else None

    def _take_bounce(self, node: Session, number: int, encoded_id: bytes, frame: bytes, now: float) -> None:
        """Pass a bounce on to who has sent the frame: a trusted peer, an operator or a player.

        A server that retires may have left by then, or be about to leave: it does not know that its reply
        came back. Then the caller is told that no reply will come.
        """
        code = Code(HEADER.unpack_from(frame)[2])
        bounced = frame[HEADER_BYTES:]
        if number:
            callee, number = number >> CALLEE_SHIFT, number & SESSION_BITS
            trusted = (session for session in self._roster.trusted() if session.number == number)
            sender = next(trusted, None)
            if sender is not None and self._operator_calls.take_back(
                sender, encoded_id, bounced, callee, code, now
            ):
                return
            link = int.from_bytes(bounced[4:HEADER_BYTES])
            if not link or bounced[:4] == _RELAY_START:  # a reply
                if sender is None:
                    self._sending.notify(node, encode_message(Unanswered(encoded_id, link)))
                elif sender.duty is Duty.RETIRING:
                    sender.given_back[node, encoded_id, link] = None
        elif bounced[:4] == _RELAY_START:
            sender = self._operator_of(bounced)
        else:
            sender, encoded_id = self._roster.players.get(encoded_id), b""
        if sender is not None:
            self._sending.pass_bounce(sender, encoded_id, frame, code)
