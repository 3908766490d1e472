"""An endpoint: its link to the broker, who is there, and the exchange of calls over it.

Without socket, clock, thread or loop: time is an argument, effects are calls on a `Shell`. Everything
here runs on one thread, the shell's I/O thread.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import NamedTuple

from ringback.core.calls import PendingCall
from ringback.core.exchange import Exchange
from ringback.core.link_state import Due, LinkState
from ringback.core.peers import Peer
from ringback.core.registry import Registry
from ringback.core.shell import EndpointEvent, Shell
from ringback.errors import (
    BrokerUnreachable,
    Code,
    ConnectionLost,
    Draining,
    LinkError,
    ProtocolError,
    RejectCode,
    call_error,
    refused,
)
from ringback.protocol import control
from ringback.protocol.bundles import unbundle
from ringback.protocol.control import ControlFrame, decode, encode
from ringback.protocol.frames import HEADER, HEADER_BYTES, SERVER_LINK, FrameType, Role, SessionState, header
from ringback.protocol.limits import MAX_HEARTBEAT_S, PLAYER_HEARTBEAT_S, Limits
from ringback.protocol.player_ids import PlayerID, decode_player_id, encode_player_id

_DATA, _RELAY, _BOUNCE = int(FrameType.DATA), int(FrameType.RELAY), int(FrameType.BOUNCE)
_BUNDLE = int(FrameType.BUNDLE)
_SERVER_ROUTE = header(FrameType.DATA, SERVER_LINK)
MIN_REPORT_S = 0.1
"""No broker has reports more often."""

_BROKER = b""
"""The route of questions to the broker."""

HANDLER_ARGUMENTS: dict[Role, tuple[str, ...]] = {
    Role.SERVER: ("source", "payload"),
    Role.PLAYER: ("payload",),
    Role.OPERATOR: ("payload",),
}


class Load(NamedTuple):
    """What an endpoint holds at one moment.

    Attributes:
        pending: calls that wait for a reply, as the limits count them.
        running: calls of others that are being handled, as the limits count them.
        calls: calls in the tables; as many as `pending`, unless there is a fault.
        executions: executions in the tables; as many as `running`, unless there is a fault.
        peers: routes in the table.
        queued: envelopes that wait to be sent.
        queued_bytes: the bytes of these envelopes.
        returned: replies that bounced and wait to be sent again.
    """

    pending: int
    running: int
    calls: int
    executions: int
    peers: int
    queued: int
    queued_bytes: int
    returned: int


class Endpoint:
    """The core of a server, a player or an operator.

    Attributes:
        player_id: the ID of a player, once the broker has welcomed it.
        players: on a server, the IDs of the connected players, in the order in which they joined.
        registry: the callbacks.
        counters: what this endpoint has counted so far.
        reply: send the reply of a handler: the execution, its encoded reply and the time.
        cancel: end a call because its caller says so.
        fail_unsent: end a call that was not sent, with an error.
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
        keys_changed: Callable[[], None] = lambda: None,
        random: Callable[[], float] = random.random,
    ) -> None:
        self.player_id = player_id
        self.players: dict[PlayerID, None] = {}
        self.registry = Registry(HANDLER_ARGUMENTS[role], keys_changed)
        self.exchange = Exchange(shell, self.registry.handlers, limits or Limits())
        self.counters = self.exchange.counters
        # Bound once, not forwarded: each of these is called for every call.
        self.reply = self.exchange.reply
        self.cancel = self.exchange.cancel
        self.fail_unsent = self.exchange.fail_unsent
        self._role = role
        self._shell = shell
        self._broker = broker
        self._software = software
        self._heartbeat_ms = heartbeat_ms
        self._needs_token = needs_token
        self._tokens_asked = 0
        self._named_itself = player_id is not None
        self._session = LinkState(role, random)
        self._headers = {FrameType.DATA: _SERVER_ROUTE, FrameType.RELAY: b""}
        self._keys_dirty = False
        self._start_by: float | None = None
        self._last_problem = ""
        self._last_refusal: LinkError | None = None
        self._announced = False
        self._report_s = math.inf
        self._report_at = math.inf

    @property
    def connected(self) -> bool:
        """Whether the broker has welcomed this endpoint, and the link stands."""
        return self._session.up

    def load(self) -> Load:
        """Return what this endpoint holds now. For tests and diagnosis; any thread may call it."""
        exchange = self.exchange
        peers = list(exchange.peers.values())
        return Load(
            pending=exchange.pending,
            running=exchange.running,
            calls=sum(len(peer.calls) for peer in peers),
            executions=sum(len(peer.executions) for peer in peers),
            peers=len(peers),
            queued=sum(len(peer.outgoing) for peer in peers),
            queued_bytes=exchange.outbox.queued_bytes,
            returned=sum(len(peer.returned) for peer in peers),
        )

    # -- the link

    def start(self, now: float, timeout_s: float) -> None:
        """Opens the link; `shell.started` tells how it went."""
        self._start_by = now + timeout_s
        self._last_problem, self._last_refusal = "", None
        self._session.start(now)
        self.tick(now)

    def close(self) -> None:
        """Says BYE and ends everything that is in flight."""
        if self._session.up:
            self._report(self.exchange.now)
            self.exchange.outbox.flush()
            self._shell.send(b"", encode(control.Bye()))
        if self._session.state is not None:
            self._shell.close_link()
        self._session.close()
        self._announced = False
        self._drop_peers("the endpoint was closed", everything=True)
        if self._start_by is not None:
            self._started(ConnectionLost("the endpoint was closed", executed="no"))

    def link_lost(
        self, now: float, why: str, refusal: LinkError | None = None, for_good: bool = False
    ) -> None:
        """The connection is closed, or could not be made, or the broker has refused it. Another one is opened
        a little later, unless this is for good."""
        session = self._session
        if session.state is None:
            return
        self._shell.close_link()
        session.lost(now)
        self._report_at = math.inf
        if for_good:
            session.waits()
        self._drop_peers(f"the link to the broker was lost: {why}")
        if self._start_by is None and why != self._last_problem:
            then = "this endpoint does not come back by itself" if for_good else "trying again"
            self._shell.warn(f"no link to the broker at {self._broker}: {why}; {then}")
        self._last_problem = why
        self._last_refusal = refusal
        if self._announced:
            self._announced = False
            self._shell.event(EndpointEvent.DISCONNECTED, why)

    def link_refused(self, now: float, why: str) -> None:
        """The connection was refused for its keys, before there was a session."""
        self._rejected(control.Reject(RejectCode.UNAUTHORIZED, why), now)

    def take_token(self, number: int, token: str, error: Exception | None, now: float) -> None:
        """The token that was asked for is there, or there is none."""
        if number != self._tokens_asked or self._session.closed:
            return
        self._tokens_asked += 1  # a second one is none
        if error is not None:
            self._session.opened(now)
            self.link_lost(now, f"no token: {type(error).__name__}: {error}")
        else:
            self._connect(now, token)

    def _open(self, now: float) -> None:
        if self._needs_token:
            self._tokens_asked += 1
            self._session.waits()
            self._shell.fetch_token(self._tokens_asked)
        else:
            self._connect(now, None)

    def _connect(self, now: float, token: str | None) -> None:
        heartbeat_ms = self._heartbeat_ms if self._role is Role.PLAYER else None
        keys = self.registry.keys()
        bundles = None if self._role is Role.PLAYER else True
        hello = control.Hello(
            *(self._role, self.player_id, keys, self._software, heartbeat_ms, token, bundles), self._terms()
        )
        self._keys_dirty = False
        try:
            self._shell.open_link(self._heartbeat_ms)
        except OSError as error:
            self._session.opened(now)
            self.link_lost(now, str(error))
            return
        self._session.opened(now)
        self._shell.send(b"", encode(hello))

    def _drop_peers(self, why: str, everything: bool = False) -> None:
        self.exchange.outbox.forget_control()
        for peer in list(self.exchange.peers.values()):
            if everything or not peer.local:
                self.exchange.fail_peer(peer, Code.CONNECTION_LOST, why)
        for player_id in list(self.players):
            self._player_left(player_id)

    def _started(self, error: Exception | None) -> None:
        self._start_by = None
        self._shell.started(error)

    # -- calls

    def call(self, call: PendingCall, kind: FrameType | None, address: bytes, envelope: bytes) -> None:
        """Sends a call to a route: DATA to a player or the server, RELAY to the server as a source,
        None to this endpoint itself."""
        if self._session.closed:
            self.exchange.fail_unsent(call, ConnectionLost("the endpoint was closed", executed="no"))
        elif kind is None:
            self.exchange.call(call, self._peer(address, b""), envelope)
        elif self._session.state is SessionState.READY:
            head = self._headers[kind]
            peer = self.exchange.peers.get(address + head)
            self.exchange.call(call, self._peer(address, head) if peer is None else peer, envelope)
        else:
            self.exchange.fail_unsent(call, self._not_ready())

    def query(self, call: PendingCall, subject: control.Subject, after: int) -> None:
        """Asks the broker for a page of rows; the results of the call are the rows and the next page."""
        self._ask(call, control.Query(call.id, subject, after))

    def order(self, call: PendingCall, order: control.Order) -> None:
        """Has the broker do something; the call has no result."""
        self._ask(call, order)

    def ping(self, call: PendingCall) -> None:
        """Sends a PING; the call ends when it comes back."""
        self._ask(call, control.Ping(call.id.to_bytes(8, "big")))

    def _ask(self, call: PendingCall, question: control.Query | control.Order | control.Ping) -> None:
        if self._session.up:
            self.exchange.expect(call, self._peer(_BROKER, b""))
            self.exchange.outbox.add_control(encode(question))
        else:
            self.exchange.fail_unsent(call, self._not_ready())

    def keys_changed(self) -> None:
        """A callback was registered or taken back."""
        self._keys_dirty = True
        self._shell.want_flush()

    def _not_ready(self) -> ConnectionLost | Draining:
        if self._session.state is SessionState.DRAINING:
            return Draining("the broker is stopping")
        return ConnectionLost(f"there is no link to the broker at {self._broker} now", executed="no")

    def _peer(self, address: bytes, head: bytes) -> Peer:
        peer = self.exchange.peers.get(address + head)
        if peer is None:
            source = decode_player_id(address) if address and self._role is Role.SERVER else None
            peer = self.exchange.open(Peer(address, head, source))
        return peer

    # -- what comes

    def receive(self, address: bytes, frame: bytes, now: float) -> None:
        """Takes a message of the broker."""
        kind = frame[1] if len(frame) >= HEADER_BYTES else -1
        if not self._session.accept(kind, now):
            self.exchange.counters.invalid += 1
            return
        try:
            if kind in (_DATA, _RELAY):
                self._take_data(address, frame, now)
            elif kind == _BUNDLE:
                self._take_bundle(frame, now)
            elif kind == _BOUNCE:
                self._take_bounce(address, frame, now)
            else:
                self._take_control(decode(frame), now)
        except ProtocolError as error:
            self.exchange.counters.invalid += 1
            if self._session.state is SessionState.ENDED or kind == FrameType.WELCOME:
                self.link_lost(now, str(error))

    def _take_data(self, address: bytes, frame: bytes, now: float) -> None:
        route = frame[:HEADER_BYTES]
        peer = self.exchange.peers.get(address + route)
        if peer is None:
            peer = self._peer(address, route)
        self.exchange.take(peer, frame[HEADER_BYTES:], now)

    def _take_bundle(self, frame: bytes, now: float) -> None:
        parts = unbundle(frame)
        for address, carried in zip(parts[::2], parts[1::2], strict=True):
            if len(carried) >= HEADER_BYTES and carried[1] in (_DATA, _RELAY):
                self._take_data(address, carried, now)
            else:
                self.exchange.counters.invalid += 1

    def _take_bounce(self, address: bytes, frame: bytes, now: float) -> None:
        _, _, number, _ = HEADER.unpack_from(frame)
        original = frame[HEADER_BYTES:]
        if len(original) < HEADER_BYTES:
            raise ProtocolError("a BOUNCE has a whole frame in it")
        # A route on which only an answer went out may have been forgotten since; this makes it anew.
        peer = self._peer(address, original[:HEADER_BYTES])
        # A reason that a newer broker has and this endpoint has not: it could not be delivered.
        code = Code(number) if number in _CODES else Code.OVERLOADED
        self.exchange.bounced(peer, original[HEADER_BYTES:], code, now)

    def _take_control(self, frame: ControlFrame, now: float) -> None:
        match frame:
            case control.Welcome():
                self._welcomed(frame, now)
            case control.Reject():
                self._rejected(frame, now)
            case control.Joined():
                for player_id in frame.player_ids:
                    self.players[player_id] = None
                    self._shell.event(EndpointEvent.PLAYER_JOINED, player_id)
            case control.Left():
                for player_id in frame.player_ids:
                    self._take_left(player_id)
            case control.ServerDown():
                self._take_server_down()
            case control.Answer():
                peer = self._peer(_BROKER, b"")
                error = None
                if frame.code is not None:
                    error = call_error(frame.code, _REFUSED.get(frame.code, "the broker refuses"), "no")
                results = () if frame.rows is None else (list(frame.rows), frame.next)
                self.exchange.finish(peer, frame.id, results, error)
            case control.Watch():
                tallies = self.exchange.tallies
                if tallies is not None:
                    tallies.watch(frame.watches)
                    self._report_each(frame.report_ms, now)
            case control.Ping():
                self.exchange.outbox.add_control(encode(control.Pong(frame.body)))
            case control.Pong():
                # The lease's own pings carry nothing.
                if frame.body:
                    peer = self._peer(_BROKER, b"")
                    self.exchange.finish(peer, int.from_bytes(frame.body, "big"), (), None)
            case _:  # SERVER_UP and DRAINING: the state says it all
                pass

    def _welcomed(self, welcome: control.Welcome, now: float) -> None:
        self._session.welcomed(welcome.lease_ms / 1000, now)
        if self._last_problem and self._start_by is None:
            self._shell.warn(f"the link to the broker at {self._broker} is back")
        self._last_problem = ""
        self._announced = True
        self.exchange.outbox.bundles = bool(welcome.bundles) and self._role is not Role.PLAYER
        self.player_id = welcome.player_id
        report_ms = 0 if self._role is Role.PLAYER else welcome.report_ms or 0
        self.exchange.count(wanted=report_ms > 0)
        if report_ms:
            self._report_each(report_ms, now)
        self._headers = {
            FrameType.DATA: header(FrameType.DATA, welcome.link),
            FrameType.RELAY: header(FrameType.RELAY, welcome.link),
        }
        if self._start_by is not None:
            self._started(None)
        self._shell.event(EndpointEvent.CONNECTED, self._broker)

    def _rejected(self, reject: control.Reject, now: float) -> None:
        again = reject.code in _PASSING
        if reject.code is RejectCode.ID_TAKEN and not self._named_itself:
            self.player_id = None  # the broker had chosen it; another one will do
            again = True
        if reject.code is RejectCode.HEARTBEAT_TOO_SHORT and reject.heartbeat_ms:
            again = self._heartbeat_ms < reject.heartbeat_ms <= 1000 * MAX_HEARTBEAT_S
            if again:  # for good: it would be refused again
                self._heartbeat_ms = reject.heartbeat_ms
        if reject.code is RejectCode.UNAUTHORIZED and not self._named_itself:
            self.player_id = None  # an ID that was given once need not be allowed any more
        error = refused(reject.code, f"the broker at {self._broker} refuses: {reject.reason}")
        if self._start_by is not None and not again:
            self._start_failed(error)
        else:
            for_good = reject.code in _FOR_GOOD
            self.link_lost(now, f"{reject.code.name}: {reject.reason}", error, for_good=for_good)

    def _start_failed(self, error: LinkError) -> None:
        if self._session.state is not None:
            self._shell.close_link()
        self._session.close()
        self._drop_peers("the endpoint could not be started", everything=True)
        self._started(error)

    def _take_left(self, player_id: PlayerID) -> None:
        peer = self.exchange.peers.get(encode_player_id(player_id) + self._headers[FrameType.DATA])
        if peer is not None:
            self.exchange.fail_peer(peer, Code.PLAYER_LEFT, f"player {player_id!r} left before it answered")
        self._player_left(player_id)

    def _player_left(self, player_id: PlayerID) -> None:
        if player_id in self.players:
            del self.players[player_id]
            self._shell.event(EndpointEvent.PLAYER_LEFT, player_id)

    def _take_server_down(self) -> None:
        route = _SERVER_ROUTE if self._role is Role.PLAYER else self._headers[FrameType.RELAY]
        for peer in list(self.exchange.peers.values()):
            if peer.header == route:
                self.exchange.fail_peer(peer, Code.SERVER_LOST, "the server left before it answered")

    # -- time

    def due_at(self) -> float | None:
        """When `tick` has something to do next."""
        earliest = self.exchange.due_at()  # no min() of a list: this is asked after each step
        session_at = self._session.due_at()
        if session_at is not None and session_at < earliest:
            earliest = session_at
        if self._start_by is not None and self._start_by < earliest:
            earliest = self._start_by
        if self._report_at < earliest and self.exchange.peers:  # else nothing can have changed
            earliest = self._report_at
        return None if earliest == math.inf else earliest

    def tick(self, now: float) -> None:
        """Does what is due."""
        self.exchange.tick(now)
        if self._start_by is not None and now >= self._start_by:
            detail = f" ({self._last_problem})" if self._last_problem else ""
            unreachable = BrokerUnreachable(
                f"no broker answered at {self._broker} in time{detail};"
                " start one with `ringback broker`, or give its address"
            )
            self._start_failed(self._last_refusal or unreachable)
        if now >= self._report_at and self.exchange.peers:
            self._report(now)
        match self._session.due(now):
            case Due.OPEN:
                self._open(now)
            case Due.GIVE_UP:
                self.link_lost(now, "the broker is silent")
            case Due.PING:
                self._session.sent(now)
                self.exchange.outbox.add_control(encode(control.Ping()))
            case Due.NOTHING:
                pass

    def flush(self, now: float) -> bool:
        """Sends what waits; False when the link takes no more now: call again when it does."""
        outbox = self.exchange.outbox
        self.exchange.now = now
        if self._keys_dirty and self._session.up:
            self._keys_dirty = False
            outbox.add_control(encode(control.Keys(self.registry.keys(), self._terms())))
        if not outbox.flush():
            return False
        if self._session.state is SessionState.DRAINING and not self._in_flight():
            self._shell.send(b"", encode(control.Bye()))
            self.link_lost(now, "the broker is stopping")
        return True

    def _report_each(self, interval_ms: int, now: float) -> None:
        self._report_s = max(MIN_REPORT_S, interval_ms / 1000)
        self._report_at = now + self._report_s

    def _report(self, now: float) -> None:
        """Tells the broker what was counted."""
        self._report_at = now + self._report_s
        for report in self.exchange.take_reports(now):
            self.exchange.outbox.add_control(encode(report))

    def _terms(self) -> dict[str, str] | None:
        return self.registry.terms() if self._role is Role.SERVER else None

    def _in_flight(self) -> bool:
        return not all(peer.idle or peer.local for peer in self.exchange.peers.values())


_CODES = frozenset(Code)
_PASSING = frozenset({RejectCode.DRAINING, RejectCode.RATE_LIMITED})
"""What a start tries again for, as long as it has time."""

_FOR_GOOD = frozenset({RejectCode.REPLACED, RejectCode.KICKED})
"""After these an endpoint does not come back by itself: it would end its successor, or was sent away."""

_REFUSED = {
    Code.UNKNOWN_PLAYER: "no such player is connected",
    Code.FORBIDDEN: "the broker's list withholds orders from this operator",
    Code.OVERLOADED: "so many kinds of calls are watched already",
}
"""Why the broker does not do what an operator wants."""
