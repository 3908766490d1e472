"""Receiver: what the broker sends to an endpoint, and who handles it."""

from __future__ import annotations

from ringback.core.dispatch import Dispatcher
from ringback.core.duty import Duty
from ringback.core.endpoint_state import EndpointState
from ringback.core.link_keeper import LinkKeeper
from ringback.core.outbox import Outbox
from ringback.core.presence import Presence
from ringback.core.questions import Questions
from ringback.core.remembered_calls import RememberedCalls
from ringback.core.reporter import Reporter
from ringback.errors import Code, ProtocolError, RejectCode
from ringback.protocol import control
from ringback.protocol.bundles import unbundle
from ringback.protocol.control import ControlFrame, decode, encode
from ringback.protocol.frames import HEADER, HEADER_BYTES, FrameType, Role, SessionState, header

_CARRIERS = frozenset({int(FrameType.DATA), int(FrameType.RELAY)})
_BOUNCE, _BUNDLE = int(FrameType.BOUNCE), int(FrameType.BUNDLE)
_CODES = frozenset(Code)


class Receiver:
    """The side of one endpoint at which frames arrive."""

    def __init__(
        self,
        role: Role,
        state: EndpointState,
        outbox: Outbox,
        dispatcher: Dispatcher,
        link: LinkKeeper,
        duty: Duty,
        presence: Presence,
        questions: Questions,
        reporter: Reporter,
        memory: RememberedCalls,
    ) -> None:
        self._role = role
        self._state = state
        self._peers, self._headers, self._counters = state.peers, state.headers, state.counters
        self._outbox = outbox
        self._dispatcher = dispatcher
        self._take_body = dispatcher.take
        self._link, self._link_state = link, link.link_state
        self._duty = duty
        self._presence = presence
        self._questions = questions
        self._reporter = reporter
        self._memory = memory

    def receive(self, encoded_id: bytes, frame: bytes, now: float) -> None:
        """Handle a message of the broker: its ID part, empty on a player, and its frame."""
        kind = frame[1] if len(frame) >= HEADER_BYTES else -1
        if not self._link_state.accept(kind, now):
            self._counters.invalid += 1
            if kind == FrameType.HELLO and self._link_state.state is SessionState.GREETING:
                self._lost(now, "the program at the address is no broker: it sent HELLO back")
            return
        try:
            if kind in _CARRIERS:
                head = frame[:HEADER_BYTES]
                peer = self._peers.get(encoded_id + head) or self._state.peer(encoded_id, head)
                self._take_body(peer, frame[HEADER_BYTES:], now)
            elif kind == _BUNDLE:
                self._take_bundle(frame, now)
            elif kind == _BOUNCE:
                self._take_bounce(encoded_id, frame, now)
            else:
                self._take_control(decode(frame), now)
        except ProtocolError as error:
            self._counters.invalid += 1
            if self._link_state.state is SessionState.ENDED or kind == FrameType.WELCOME:
                self._lost(now, str(error))

    def _take_bundle(self, frame: bytes, now: float) -> None:
        parts = unbundle(frame)
        for encoded_id, carried in zip(parts[::2], parts[1::2], strict=True):
            if len(carried) < HEADER_BYTES or carried[1] not in _CARRIERS:
                self._counters.invalid += 1
                continue
            try:
                peer = self._state.peer(encoded_id, carried[:HEADER_BYTES])
            except ProtocolError:  # its ID part; the frames behind it are sound
                self._counters.invalid += 1
                continue
            self._take_body(peer, carried[HEADER_BYTES:], now)

    def _take_bounce(self, encoded_id: bytes, frame: bytes, now: float) -> None:
        self._state.now = now
        _, _, number, _ = HEADER.unpack_from(frame)
        original = frame[HEADER_BYTES:]
        if len(original) < HEADER_BYTES:
            raise ProtocolError("a BOUNCE carries a whole frame")
        # A route on which only a reply went out may have been forgotten meanwhile; this makes it anew.
        peer = self._state.peer(encoded_id, original[:HEADER_BYTES])
        # A newer broker may have a reason that is unknown here: the frame could not be delivered.
        code = Code(number) if number in _CODES else Code.OVERLOADED
        self._dispatcher.take_back(peer, original[HEADER_BYTES:], code, now)

    def _take_control(self, frame: ControlFrame, now: float) -> None:
        self._state.now = now
        match frame:
            case control.Welcome():
                self._welcomed(frame, now)
            case control.Reject():
                if frame.code is RejectCode.SERVER_TAKEN:  # another one gets the calls meanwhile
                    self._memory.begin(now)
                self._link.rejected(frame, now)
            case control.Joined():
                self._presence.joined(frame.player_ids)
            case control.Left():
                self._presence.left(frame.player_ids)
            case control.ServerDown():
                self._presence.server_left(frame.link)
            case control.Answer():
                if not self._duty.answered(frame):
                    self._questions.answered(frame)
            case control.Watch():
                self._reporter.watch(frame, now)
            case control.Ping():
                self._outbox.add_control(encode(control.Pong(frame.body)))
            case control.Pong():
                if not self._duty.ponged(frame.body):
                    self._questions.ponged(frame.body)
            case _:  # SERVER_UP and DRAINING: the link's state has changed, and that is all
                pass

    def _welcomed(self, welcome: control.Welcome, now: float) -> None:
        if not self._link.is_welcomed:
            is_player = self._role is Role.PLAYER
            self._outbox.bundles = bool(welcome.bundles) and not is_player
            self._headers.update({kind: header(kind, welcome.link) for kind in self._headers})
            self._reporter.begin(0 if is_player else welcome.report_ms or 0, now)
        self._duty.welcomed(welcome)
        if self._link.is_welcomed:
            self._memory.begin(now)  # until now another server got the calls, or it does from now on
        else:
            if self._link.description.standby:  # over another link, another server may have had the calls
                self._memory.begin(now)
            self._link.welcomed(welcome, now)

    def _lost(self, now: float, why: str) -> None:
        self._state.now = now
        self._link.lost(now, why)
