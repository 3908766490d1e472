"""Control frames: what a welcomed peer says to the broker itself."""

from __future__ import annotations

from dataclasses import replace

from ringback.errors import Code, ProtocolError, RejectCode
from ringback.protocol import control
from ringback.protocol.control import decode, encode
from ringback.protocol.frames import BROKER_ACCEPTS, HEADER_BYTES, Role
from ringback_broker.operations.operations import Operations
from ringback_broker.peers.connection import Frame, Side
from ringback_broker.peers.session import Duty, Registered, Session
from ringback_broker.switchboard.asking import Asking
from ringback_broker.switchboard.far_reports import FarReports
from ringback_broker.switchboard.kicks import Kicks
from ringback_broker.switchboard.sending import Sending
from ringback_broker.switchboard.sessions import Sessions
from ringback_broker.switchboard.state import State


class ControlFrames:
    """Takes control frames, and frames that break a rule.

    Attributes:
        asking: asks the other nodes; None: this broker is alone.
        kicks: takes orders to kick a player of another node; None: this broker is alone.
        far_reports: takes reports of players of other nodes; None: this broker is alone.
    """

    def __init__(self, state: State, sending: Sending, sessions: Sessions, operations: Operations) -> None:
        self._roster = state.roster
        self._counters = state.counters
        self._registered_keys = state.registered_keys
        self._strangers = state.strangers
        self._windows = state.windows
        self._endings = state.endings
        self._sending = sending
        self._sessions = sessions
        self._operations = operations
        self.asking: Asking | None = None
        self.kicks: Kicks | None = None
        self.far_reports: FarReports | None = None

    def take(self, session: Session, frame: Frame, now: float) -> None:
        """Take a frame that is not data. If its sender may not send it, the session ends."""
        data = bytes(frame)
        if len(data) >= HEADER_BYTES and data[1] not in BROKER_ACCEPTS[session.role]:
            self.violation(session, f"a {session.role} does not send frames of type {data[1]}")
            return
        try:
            said = decode(data)
        except ProtocolError as error:
            self.violation(session, str(error))
            return
        match said:
            case control.Ping():
                if session.duty is Duty.RETIRING:
                    # It counts on having what came back before: also what waits in bundles of other peers.
                    self._sending.send_bundles(now)
                    session.given_back.clear()
                self._sending.notify(session, encode(control.Pong(said.body)))
            case control.Pong():
                self._counters.violations += not self._windows.confirm(session, said.body, now)
            case control.Bye():
                # A server that closes before it knows that it retires says BYE too.
                finished = session.duty is not Duty.RETIRING or said.finished is True
                self._endings.mark(session, "it said BYE", finished=finished)
                self._strangers.refuse(session.side, session.connection, session.routing_id)
            case control.Keys():
                keys = self._registered_keys.replace(
                    session.role, session.registered.keys, said.keys, said.schemas
                )
                session.registered = Registered(keys, said.terms if session.role is Role.SERVER else None)
            case control.Report():
                self._operations.take(session, said, now)
                if self.far_reports is not None:
                    self.far_reports.pass_on(session, said, now)
            case _:
                assert isinstance(said, control.Query | control.Order)  # BROKER_ACCEPTS has no other
                answer = self._ask(session, said, now)
                self._sessions.end_marked()  # a session that an order ends has ended before the answer leaves
                if answer is not None:
                    self.reply(session, encode(answer), now)

    def answer(self, session: Session, said: control.Query | control.Order, now: float) -> control.Answer:
        """Answer a question about this broker, or obey an order, if its sender has the right to it."""
        return self._operations.answer(session, said, self._windows.size[Side.PLAYERS], now)

    def _ask(
        self, session: Session, said: control.Query | control.Order, now: float
    ) -> control.Answer | None:
        """Ask the node that it concerns. Return the answer if there is one now."""
        if self.kicks is not None and isinstance(said, control.Order) and self.kicks.takes(said):
            return self._operations.forbid(session, said) or self.kicks.obey(session, said, now)
        if said.node is None:
            acting = self._roster.acting_elsewhere()
            if acting is None or not _is_hand_over(session, said):
                return self.answer(session, said, now)
            said = replace(said, node=acting.node)
        if self.asking is None:
            why = f"there is no node {said.node!r}: this broker is alone"
            return control.Answer(said.id, None, code=Code.UNKNOWN_NODE, reason=why)
        return self._operations.forbid(session, said) or self.asking.ask(session, said, now)

    def reply(self, session: Session, frame: bytes, now: float) -> None:
        """Send an ANSWER, unless its receiver does not read what it asks for."""
        self._sending.notify(session, frame)
        self._sending.spend(session, frame, now)
        if self._windows.is_overrun(session, now):
            self._endings.too_slow(session, "the answers to its queries")

    def malformed(self, session: Session, parts: int) -> None:
        """Note a message with a wrong number of parts, none of which was kept."""
        self._counters.malformed += 1
        self._endings.refuse(session, RejectCode.PROTOCOL_ERROR, f"a message of {parts} parts")

    def violation(self, session: Session, reason: str) -> None:
        """Refuse a peer that broke a rule of the protocol."""
        self._counters.violations += 1
        self._endings.refuse(session, RejectCode.PROTOCOL_ERROR, reason)


def _is_hand_over(session: Session, said: control.Query | control.Order) -> bool:
    """Return whether an operator orders the server that acts to hand over, wherever that is."""
    is_hand_over = isinstance(said, control.Order) and said.what is control.What.HAND_OVER
    return is_hand_over and session.duty is None
