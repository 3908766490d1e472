"""An endpoint: its link to the broker, who is connected, and the calls over the link.

The core has no socket, clock, thread or loop: time is an argument, and effects are calls on a `Shell`.
Everything here runs on one thread, the I/O thread of the shell.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from ringback.core.bounced_replies import BouncedReplies
from ringback.core.calls_in import CallsIn
from ringback.core.calls_out import CallsOut
from ringback.core.deadlines import Deadlines
from ringback.core.dispatch import Dispatcher
from ringback.core.duty import Duty
from ringback.core.endpoint_load import Load
from ringback.core.endpoint_state import EndpointState
from ringback.core.link_keeper import LinkKeeper
from ringback.core.outbox import Outbox
from ringback.core.peers import Peer
from ringback.core.pending_call import PendingCall
from ringback.core.presence import Presence
from ringback.core.questions import Questions
from ringback.core.registry import Registry
from ringback.core.reporter import Reporter
from ringback.core.retries import Retries
from ringback.core.shell import Shell
from ringback.core.waiting_room import WaitingRoom
from ringback.errors import CallbackError, Code, ConnectionLost, ProtocolError, RejectCode
from ringback.protocol import control
from ringback.protocol.bundles import unbundle
from ringback.protocol.control import ControlFrame, decode, encode
from ringback.protocol.envelopes import OWN, Encoder
from ringback.protocol.frames import HEADER, HEADER_BYTES, FrameType, Role, SessionState, header
from ringback.protocol.limits import PLAYER_HEARTBEAT_S, Limits
from ringback.protocol.player_ids import PlayerID

_CARRIERS = frozenset({int(FrameType.DATA), int(FrameType.RELAY)})
_BOUNCE, _BUNDLE = int(FrameType.BOUNCE), int(FrameType.BUNDLE)
_CODES = frozenset(Code)

_TAKES_CALLS = (SessionState.READY, SessionState.RETIRING)

RETRY_S = 1.0
"""When something that was due is tried again after it failed."""

HANDLER_ARGUMENTS: dict[Role, tuple[str, ...]] = {
    Role.SERVER: ("source", "payload"),
    Role.PLAYER: ("payload",),
    Role.OPERATOR: ("payload",),
}


class Endpoint:
    """The core of a server, a player or an operator.

    Attributes:
        registry: the callbacks.
        counters: what this endpoint has counted so far.
        players: on a server, the IDs of the connected players, in the order in which they joined.
        reply: send the reply of a handler; see `CallsIn.reply`.
        report: send what a handler reports of its progress; see `CallsIn.report`.
        cancel: end a call because its caller says so; see `CallsOut.cancel`.
        fail_unsent: end a call that was not sent, with an error; see `CallsOut.fail_unsent`.
        call_when_room: send a call as soon as the limits have room; see `WaitingRoom.add`.
        wait_for_room: end a call once there is room for calls; see `WaitingRoom.watch`.
        call_with_retry: send a call, and try it again if need be; see `Retries.add`.
    """

    def __init__(
        self,
        role: Role,
        shell: Shell,
        *,
        broker: str,
        player_id: PlayerID | None = None,
        limits: Limits | None = None,
        software: str = "",
        heartbeat_ms: int = int(1000 * PLAYER_HEARTBEAT_S),
        needs_token: bool = False,
        standby: bool = False,
        keys_changed: Callable[[], None] = lambda: None,
        random: Callable[[], float] = random.random,
    ) -> None:
        self.registry = Registry(HANDLER_ARGUMENTS[role], keys_changed)
        self._role = role
        self._shell = shell
        self._software = software
        self._keys_dirty = False
        state = self._state = EndpointState(
            limits or Limits(), named_sources=role is Role.SERVER, contain=shell.contain
        )
        outbox = self._outbox = Outbox(shell, self._deliver_local)
        encoder = Encoder(OWN)  # refusals and cancels leave, however small the limits are
        calls_out = self._calls_out = CallsOut(state, outbox, shell, encoder)
        calls_in = self._calls_in = CallsIn(state, outbox, shell, encoder, self.registry.handlers)
        self._deadlines = Deadlines(state, calls_out, calls_in)
        self._bounced = BouncedReplies(state, outbox, encoder)
        self._dispatcher = Dispatcher(
            state, outbox, encoder, calls_out, calls_in, self._deadlines, self._bounced
        )
        self._presence = Presence(role, state, shell, self._dispatcher.drop_peer)
        self._questions = Questions(state, outbox, calls_out)
        self._reporter = Reporter(state, outbox)
        self._link = LinkKeeper(
            role,
            shell,
            outbox,
            broker=broker,
            player_id=player_id,
            heartbeat_ms=heartbeat_ms,
            needs_token=needs_token,
            standby=standby,
            random=random,
            hello=self._hello,
            drop_peers=self._drop_peers,
        )
        self._room = WaitingRoom(
            state, outbox, calls_out, shell, self.call, self._problem, one_peer=role is Role.PLAYER
        )
        self._once = calls_in.once
        self._retries = Retries(
            state,
            calls_out,
            self._room,
            shell,
            self.call,
            self._problem,
            closed=lambda: self._link_state.closed,
            random=random,
        )
        calls_out.cancel_elsewhere = self._cancel_elsewhere
        self._deadlines.others += [self._room, self._retries, self._once]
        self._standby = standby
        self._duty = Duty(
            *(role, state, shell, outbox, calls_out),
            *(self._questions, self._reporter, self._link),
        )
        self.counters = state.counters
        self.players = self._presence.players
        # Bound once, not forwarded and not looked up: each of these is used for every call.
        self.reply = calls_in.reply
        self.report = calls_in.report
        self.cancel = calls_out.cancel
        self.fail_unsent = calls_out.fail_unsent
        self.call_when_room, self.wait_for_room = self._room.add, self._room.watch
        self.call_with_retry = self._retries.add
        self._link_state = self._link.link_state
        self._peers, self._headers = state.peers, state.headers
        self._send_call, self._take_body = calls_out.call, self._dispatcher.take

    @property
    def player_id(self) -> PlayerID | None:
        """The ID of a player: the one that it named, or the one that the broker gave it."""
        return self._link.player_id

    @property
    def acting(self) -> bool:
        """Whether this is a server to which the calls of players come."""
        return self._duty.acting

    @property
    def connected(self) -> bool:
        """Whether the broker has welcomed this endpoint, and the link stands."""
        return self._link_state.up

    @property
    def link_address(self) -> str | None:
        """The numeric address at which the broker welcomed this endpoint; None while there is no link."""
        return self._link.address

    def load(self) -> Load:
        """Return what this endpoint holds now. For tests and diagnosis; any thread may call it."""
        peers = list(self._peers.values())
        return Load(
            pending=self._calls_out.pending,
            running=self._calls_in.running,
            calls=sum(len(peer.calls) for peer in peers),
            executions=sum(len(peer.executions) for peer in peers) + self._once.waiting,
            peers=len(peers),
            queued=sum(len(peer.outgoing) for peer in peers),
            queued_bytes=self._outbox.queued_bytes,
            returned=sum(len(peer.returned) for peer in peers),
            waiting=self._room.calls + self._retries.waiting,
            remembered=len(self._once.calls),
        )

    # -- the link

    def start(self, now: float, timeout_s: float) -> None:
        """Open the link; `shell.started` tells how it went."""
        self._once.begin(now)
        self._link.start(now, timeout_s)
        self.tick(now)

    def close(self) -> None:
        """Say BYE and end everything that is in flight."""
        if self._link_state.up:
            retiring = self._link_state.state is SessionState.RETIRING
            try:
                self._reporter.report(self._state.now)
                self._outbox.flush()
                if not retiring:  # it has not finished: without BYE, the broker tells those who wait
                    self._shell.send(b"", encode(control.Bye()))
            except BaseException as error:  # the calls in flight must end all the same
                self._state.contain("saying BYE", error)
        self._link.close()

    def link_lost(self, now: float, why: str) -> None:
        """Take note that the connection is closed or could not be made. Another link is opened later."""
        self._state.now = now
        self._link.lost(now, why)

    def link_refused(self, now: float, why: str) -> None:
        """Take note that the connection was refused for its keys, before there was a session."""
        self._link.rejected(control.Reject(RejectCode.UNAUTHORIZED, why), now)

    def link_answered(self) -> None:
        """Take note that the other end of the link has answered the handshake."""
        self._link_state.answered()

    def take_addresses(self, number: int, addresses: tuple[str, ...], problem: str, now: float) -> None:
        """Take the addresses that `shell.find_broker` asked for, or the reason why there are none."""
        self._link.take_addresses(number, addresses, problem, now)

    def take_token(self, number: int, token: str, error: BaseException | None, now: float) -> None:
        """Take the token that `shell.fetch_token` asked for, or the error that took its place."""
        self._link.take_token(number, token, error, now)

    def _hello(self, token: str | None) -> control.Hello:
        is_player = self._role is Role.PLAYER
        self._keys_dirty = False
        return control.Hello(
            self._role,
            self._link.player_id,
            self.registry.keys(),
            self._software,
            heartbeat_ms=self._link.heartbeat_ms if is_player else None,
            token=token,
            bundles=None if is_player else True,
            terms=self._terms(),
            ticket=None if self._role is Role.OPERATOR else self._link.ticket,
            schemas=self.registry.schemas(),
            standby=self._standby or None,
            server_links=None if self._role is Role.OPERATOR else True,
        )

    def _drop_peers(self, why: str, everything: bool) -> None:
        self._reporter.stop()
        self._outbox.forget_control()
        for peer in list(self._peers.values()):
            if everything or not peer.local:
                self._dispatcher.drop_peer(peer, Code.CONNECTION_LOST, why)
        self._presence.clear()
        self._duty.lost()
        error = ConnectionLost(why, executed="no")
        if everything:
            self._room.close(error)
            self._retries.close(error)
            self._once.close()
        else:
            self._room.end_calls(lambda kind: None if kind is None else error)

    # -- calls

    def call(self, call: PendingCall, kind: FrameType | None, encoded_id: bytes, envelope: bytes) -> None:
        """Send a call.

        Args:
            kind: DATA to a player or the server, RELAY to the server in the name of a source, None to
                this endpoint itself in the name of a source.
            encoded_id: the ID of the player or source; empty on a player.
            envelope: the encoded call.
        """
        if kind is None and not self._link_state.closed:
            self._send_call(call, self._state.peer(encoded_id, b""), envelope)
        elif kind is not None and self._link_state.state is SessionState.READY:
            head = self._headers[kind]
            peer = self._peers.get(encoded_id + head) or self._state.peer(encoded_id, head)
            self._send_call(call, peer, envelope)
        else:
            problem = self._problem(kind)
            if problem is not None or kind is None:
                self.fail_unsent(call, problem or self._link.not_ready())
            else:  # this server has handed over, and its handlers still call
                self._send_call(call, self._state.peer(encoded_id, self._headers[kind]), envelope)

    def _problem(self, kind: FrameType | None) -> CallbackError | None:
        """Return why calls of a kind cannot leave now; None if they can."""
        if self._link_state.closed:
            return ConnectionLost("the endpoint was closed", executed="no")
        if kind is None or self._link_state.state in _TAKES_CALLS:
            return None
        return self._link.not_ready()

    def _cancel_elsewhere(self, call: PendingCall) -> None:
        if not self._retries.cancel(call):
            self._room.cancel(call)

    def query(self, call: PendingCall, subject: control.Subject, after: int) -> None:
        """Ask the broker for a page of rows. The results of the call are the rows and the next page."""
        self._ask(call, control.Query(call.id, subject, after))

    def order(self, call: PendingCall, order: control.Order) -> None:
        """Have the broker do something. The call has no result."""
        self._ask(call, order)

    def hand_over(self, call: PendingCall) -> None:
        """Have the next server act. The call ends when this one has finished what it has begun, and left."""
        self._duty.hand_over(call)

    def ping(self, call: PendingCall) -> None:
        """Send a PING. The call ends when it comes back."""
        self._ask(call, control.Ping(call.id.to_bytes(8, "big")))

    def _ask(self, call: PendingCall, question: control.Query | control.Order | control.Ping) -> None:
        if self._link_state.up:
            self._questions.ask(call, question)
        else:
            self.fail_unsent(call, self._link.not_ready())

    def _deliver_local(self, peer: Peer, body: bytes) -> None:
        self._take_body(peer, body, self._state.now)

    # -- what comes

    def receive(self, encoded_id: bytes, frame: bytes, now: float) -> None:
        """Handle a message of the broker: its ID part, empty on a player, and its frame."""
        kind = frame[1] if len(frame) >= HEADER_BYTES else -1
        if not self._link_state.accept(kind, now):
            self.counters.invalid += 1
            if kind == FrameType.HELLO and self._link_state.state is SessionState.GREETING:
                self.link_lost(now, "the program at the address is no broker: it sent HELLO back")
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
            self.counters.invalid += 1
            if self._link_state.state is SessionState.ENDED or kind == FrameType.WELCOME:
                self.link_lost(now, str(error))

    def _take_bundle(self, frame: bytes, now: float) -> None:
        parts = unbundle(frame)
        for encoded_id, carried in zip(parts[::2], parts[1::2], strict=True):
            if len(carried) < HEADER_BYTES or carried[1] not in _CARRIERS:
                self.counters.invalid += 1
                continue
            try:
                peer = self._state.peer(encoded_id, carried[:HEADER_BYTES])
            except ProtocolError:  # its ID part; the frames behind it are sound
                self.counters.invalid += 1
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
                    self._once.begin(now)
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
            self._once.begin(now)  # until now another server got the calls, or it does from now on
        else:
            self._link.welcomed(welcome, now)

    # -- callbacks

    def keys_changed(self) -> None:
        """Take note that a callback was registered or taken back."""
        self._keys_dirty = True
        self._shell.want_flush()

    def _terms(self) -> dict[str, str] | None:
        return self.registry.terms() if self._role is Role.SERVER else None

    # -- time

    def due_at(self) -> float | None:
        """Return when `tick` has something to do next; None for never."""
        # No min() of a list: a shell asks after each step.
        earliest = self._state.sweep_at
        if self._bounced.resend_at < earliest:
            earliest = self._bounced.resend_at
        link_at = self._link_state.due_at()
        if link_at is not None and link_at < earliest:
            earliest = link_at
        start_by = self._link.start_by
        if start_by is not None and start_by < earliest:
            earliest = start_by
        # Without peers, then as now, nothing can have changed.
        if self._reporter.report_at < earliest and (self._peers or self._state.forgot_peers):
            earliest = self._reporter.report_at
        return None if earliest == math.inf else earliest

    def tick(self, now: float) -> None:
        """Do what is due. If one thing fails, the others are done all the same."""
        state = self._state
        state.now = now
        if now >= state.sweep_at:
            try:
                self._deadlines.sweep(now)
            except BaseException as error:
                state.sweep_at = now + RETRY_S
                state.contain("looking for deadlines", error)
        if now >= self._bounced.resend_at:
            try:
                self._bounced.resend(now)
            except BaseException as error:
                self._bounced.resend_at = now + RETRY_S
                state.contain("sending replies again", error)
        if now >= self._reporter.report_at and (self._peers or state.forgot_peers):
            try:
                self._reporter.report(now)
            except BaseException as error:
                state.contain("reporting calls", error)
        self._link.tick(now)

    def flush(self, now: float) -> bool:
        """Send what waits. Return False if the link takes no more now; call again when it does."""
        self._state.now = now
        if self._keys_dirty and self._link_state.up:
            self._keys_dirty = False
            self._outbox.add_control(
                encode(control.Keys(self.registry.keys(), self._terms(), self.registry.schemas()))
            )
        if not self._outbox.flush():
            return False
        while self._room.busy and self._room.admit():
            if not self._outbox.flush():
                return False
        if self._link_state.state is SessionState.READY:
            return True
        return self._leave_if_done(now)

    def _leave_if_done(self, now: float) -> bool:
        """Leave the broker if it stops, or if this server has handed over, once nothing is in flight.

        Return False if the link takes no more now.
        """
        if self._link_state.state is SessionState.RETIRING:
            waiting = self._room.calls or self._retries.waiting or self._once.running
            return bool(waiting) or self._duty.leave_if_done(now)
        if self._link_state.state is SessionState.DRAINING and not self._in_flight():
            self._shell.send(b"", encode(control.Bye()))
            self.link_lost(now, "the broker is stopping")
        return True

    def _in_flight(self) -> bool:
        return not all(peer.idle or peer.local for peer in self._peers.values())
