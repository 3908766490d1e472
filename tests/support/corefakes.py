"""Endpoints without sockets, threads or a clock: a shell that a test controls, and a small broker that routes
frames as the protocol says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from itertools import count
from typing import Any

from ringback._runtime.running_handlers import encode_reply
from ringback.core.call_recorder import CallRecorder
from ringback.core.endpoint import Endpoint
from ringback.core.execution import Execution
from ringback.core.pending_call import PendingCall
from ringback.core.shell import EndpointEvent
from ringback.errors import CallbackError, Code, RejectCode
from ringback.protocol import control
from ringback.protocol.bounces import bounce
from ringback.protocol.control import ControlFrame, decode, encode
from ringback.protocol.envelope_decoding import decode as decode_body
from ringback.protocol.envelopes import ERROR, Encoder, join
from ringback.protocol.frames import HEADER, HEADER_BYTES, FrameType, Role, header
from ringback.protocol.limits import Limits
from ringback.protocol.player_ids import PlayerID, decode_player_id, encode_player_id

DATA_0 = header(FrameType.DATA, 0)


@dataclass
class Clock:
    """A clock that only a test moves."""

    now: float = 1000.0

    def read(self) -> float:
        """Return the time, as a clock that is a function does."""
        return self.now


@dataclass
class FakeShell:
    """A shell that records the requests of the core.

    Attributes:
        room: how many more frames the link takes, or None for any number.
        sent: the ID part and the frame of each message that the link took since the last `take_sent`.
        waiting: executions that the test has not started.
        addresses: the addresses of each broker, or None: the test calls `take_addresses`.
        asked: the brokers whose addresses the core asked for.
        known: the addresses of some brokers, in place of `addresses`.
        dialled: the addresses of the links that were asked for.
        refuses_to_open: the error that `open_link` raises.
        carry: a function that takes the frames instead of `sent`.
        contains: whether exceptions are kept in `contained`; otherwise they fail the test.
    """

    clock: Clock = field(default_factory=Clock)
    room: int | None = None
    sent: list[tuple[bytes, bytes]] = field(default_factory=list)
    waiting: list[Execution] = field(default_factory=list)
    stopped: list[Execution] = field(default_factory=list)
    ended: list[PendingCall] = field(default_factory=list)
    events: list[tuple[EndpointEvent, Any]] = field(default_factory=list)
    starts: list[Exception | None] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    duplicates: int = 0
    late: int = 0
    opened: int = 0
    closed: int = 0
    has_left: int = 0
    link_open: bool = False
    flushes_wanted: int = 0
    refused_sends: int = 0
    addresses: tuple[str, ...] | None = ("tcp://broker",)
    asked: list[str] = field(default_factory=list)
    known: dict[str, tuple[str, ...]] = field(default_factory=dict)
    dialled: list[str] = field(default_factory=list)
    refuses_to_open: OSError | None = None
    carry: Callable[[bytes, bytes], None] | None = None
    contains: bool = False
    log_name: str = "an endpoint"
    contained: list[tuple[str, BaseException]] = field(default_factory=list)
    endpoint: Endpoint = field(init=False)
    encoder: Encoder = field(default_factory=lambda: Encoder(Limits()))

    def reply(self, execution: Execution, results: tuple[Any, ...], error: CallbackError | None) -> None:
        envelope, error = encode_reply(self.encoder, execution, results, error)
        self.endpoint.reply(execution, envelope, error, self.clock.now)

    def duplicate_reply(self, execution: Execution) -> None:
        self.duplicates += 1

    def progress(self, execution: Execution, value: object) -> None:
        self.endpoint.report(execution, self.encoder.progress(execution.id, value))

    def late_progress(self, execution: Execution) -> None:
        self.late += 1

    def find_broker(self, broker: str, number: int) -> None:
        self.lookup = number
        self.asked.append(broker)
        addresses = self.known.get(broker, self.addresses)
        if addresses is not None:
            problem = "" if addresses else "no such name"
            self.endpoint.take_addresses(number, addresses, problem, self.clock.now)

    def open_link(self, address: str, heartbeat_ms: int) -> None:
        assert not self.link_open, "a second link beside the first"
        self.dialled.append(address)
        if self.refuses_to_open is not None:
            raise self.refuses_to_open
        self.link_open = True
        self.heartbeat_ms = heartbeat_ms
        self.opened += 1

    def fetch_token(self, number: int) -> None:
        self.asked_for = number

    def close_link(self) -> None:
        self.closed += self.link_open
        self.link_open = False

    def send(self, address: bytes, frame: bytes) -> bool:
        if not self.link_open or self.room == 0:
            self.refused_sends += 1
            return False
        if self.room is not None:
            self.room -= 1
        if self.carry is None:
            self.sent.append((address, frame))
        else:
            self.carry(address, frame)
        return True

    def want_flush(self) -> None:
        self.flushes_wanted += 1

    def run(self, execution: Execution) -> None:
        self.waiting.append(execution)

    def jobs_waiting(self) -> int:
        return len(self.waiting)

    def handler_failed(self, execution: Execution, error: Exception) -> None:
        self.failures.append(error)

    def allow_failed(self, key: str, error: BaseException) -> None:
        self.failures.append(error)

    def cancel(self, execution: Execution) -> None:
        self.stopped.append(execution)

    def finished(self, call: PendingCall) -> None:
        self.ended.append(call)

    def event(self, event: EndpointEvent, argument: Any) -> None:
        self.events.append((event, argument))

    def started(self, error: Exception | None) -> None:
        self.starts.append(error)

    def left(self) -> None:
        self.has_left += 1

    def contain(self, what: str, error: BaseException) -> None:
        if not self.contains:
            raise error
        self.contained.append((what, error))

    def warn(self, text: str, *details: object) -> None:
        self.warnings.append(text % details)

    def take_sent(self) -> list[tuple[bytes, bytes]]:
        """Return the messages that were sent since the last time."""
        sent, self.sent = self.sent, []
        return sent

    def told(self) -> list[ControlFrame]:
        """Return the control frames that were sent since the last time. Fail if anything else was sent."""
        sent = self.take_sent()
        assert all(address == b"" for address, _ in sent)
        return [decode(frame) for _, frame in sent]


class TestCall(PendingCall):
    """A pending call that counts how often it was settled."""

    __test__ = False
    __slots__ = ("kind", "settled")

    def __init__(self, call_id: int, key: str = "k", deadline: float | None = None) -> None:
        super().__init__(call_id, key, deadline, None, None)
        self.settled = 0

    def settle(self, results: tuple[Any, ...], error: CallbackError | None) -> None:
        self.settled += 1
        super().settle(results, error)

    @property
    def done(self) -> bool:
        return self._done

    @property
    def results(self) -> tuple[Any, ...]:
        """The results of a call that has succeeded."""
        assert self._done and self._error is None, self._error
        return self._results

    @property
    def error(self) -> CallbackError:
        """The error of a call that has failed."""
        assert self._done and self._error is not None
        return self._error

    @property
    def outcome(self) -> tuple[Code | str, str]:
        """The code and `executed` of a call that has failed."""
        return self.error.code, self.error.executed


class Desk:
    """An endpoint and its shell. The test plays the broker, unless there is a `FakeBroker`.

    The key `k` is registered. The test plays the handler.
    """

    def __init__(
        self,
        role: Role,
        *,
        clock: Clock | None = None,
        player_id: PlayerID | None = None,
        limits: Limits | None = None,
        random: Callable[[], float] = lambda: 1.0,
        first_id: int = 1,
        keys: tuple[str, ...] = ("k",),
        needs_token: bool = False,
        standby: bool = False,
        brokers: tuple[str, ...] = ("tcp://broker",),
    ) -> None:
        self.clock = clock or Clock()
        self.role = role
        self.shell = FakeShell(self.clock)
        self.core = Endpoint(
            role,
            self.shell,
            brokers=brokers,
            player_id=player_id,
            limits=limits,
            software="test/1",
            heartbeat_ms=1000,
            needs_token=needs_token,
            standby=standby,
            keys_changed=lambda: self.core.keys_changed(),
            random=random,
        )
        self.shell.endpoint = self.core
        self.counters = self.core.counters
        self.peers = self.core._state.peers
        self.outbox = self.core._outbox
        self.calls_out = self.core._calls_out
        self.calls_in = self.core._calls_in
        self.bounced = self.core._bounced
        self.ids = count(first_id)
        for key in keys:
            self.register(key)

    def register(self, key: str, *, replace: bool = False, **terms: Any) -> Any:
        function: Any = (lambda source, payload, cb: None) if self.role is Role.SERVER else _on_player
        return self.core.registry.add(key, function, replace=replace, **terms)

    @property
    def recorder(self) -> CallRecorder | None:
        return self.core._state.recorder

    # -- the link, with the test as the broker

    def connect(self, **welcome: Any) -> None:
        """Start the endpoint, and send it a WELCOME: see `welcome`."""
        self.core.start(self.clock.now, 5.0)
        self.welcome(**welcome)
        assert self.shell.starts.pop() is None
        self.shell.take_sent()

    def welcome(
        self,
        *,
        link: int = 0,
        lease_ms: int = 30_000,
        server: bool = True,
        report_ms: int | None = None,
        bundles: bool | None = None,
    ) -> None:
        """Give the endpoint a WELCOME."""
        player_id = (self.core.player_id or 1) if self.role is Role.PLAYER else None
        self.told(control.Welcome(link, player_id, server, lease_ms, "test", bundles, report_ms))

    def told(self, frame: ControlFrame) -> None:
        """Give the endpoint a control frame from the broker."""
        self.core.receive(b"", encode(frame), self.clock.now)

    def gets(self, frame: bytes, address: bytes = b"") -> None:
        """Give the endpoint a frame."""
        self.core.receive(address, frame, self.clock.now)

    # -- calls

    def call(
        self,
        to: PlayerID | None = None,
        *,
        kind: FrameType | None = FrameType.DATA,
        payload: Any = None,
        timeout_s: float | None = None,
        key: str = "k",
        call_id: int | None = None,
        context: dict[str, str] | None = None,
        flush: bool = False,
    ) -> TestCall:
        call_id = next(self.ids) if call_id is None else call_id
        deadline = None if timeout_s is None else self.clock.now + timeout_s
        call = TestCall(call_id, key, deadline)
        call.began = self.clock.now
        budget_ms = None if timeout_s is None else int(timeout_s * 1000)
        envelope = self.shell.encoder.call(call_id, key, payload, budget_ms, context)
        self.core.call(call, kind, b"" if to is None else encode_player_id(to), envelope)
        if flush:
            self.flush()
        return call

    def flush(self) -> bool:
        return self.core.flush(self.clock.now)

    def wait(self, seconds: float) -> None:
        """Let time pass, and tick whenever something is due, as a shell does."""
        until = self.clock.now + seconds
        while (due_at := self.core.due_at()) is not None and due_at <= until:
            self.clock.now = max(self.clock.now, due_at)
            self.core.tick(self.clock.now)
            self.flush()
        self.clock.now = until
        self.core.tick(until)
        self.flush()

    def handle(self) -> list[Execution]:
        """Begin the waiting executions, and return those whose handlers may run."""
        waiting, self.shell.waiting = self.shell.waiting, []
        return [execution for execution in waiting if execution.begin(self.clock.read)]

    def due_at(self) -> float:
        """Return when the endpoint next checks deadlines or sends bounced replies again."""
        return min(self.core._state.sweep_at, self.bounced.resend_at)

    # -- checks

    def bodies(self) -> list[list[Any]]:
        """Return the envelopes of each DATA or RELAY frame that was sent since the last time."""
        return [envelopes_of(frame) for _, frame in self.shell.take_sent()]

    def check_sums(self) -> None:
        counters, peers, bounced = self.counters, self.peers, self.bounced
        pending = sum(len(peer.calls) for peer in peers.values())
        assert self.calls_out.pending == pending
        assert counters.calls == counters.results + counters.errors + pending
        if self.recorder is not None:
            recorded = {Role.PLAYER: 0, Role.SERVER: 0}
            self.recorder.count_in_flight(peers.values())
            for record in self.recorder.records():
                recorded[record.side] += record.in_flight
            assert recorded[Role.SERVER] == self.calls_in.running - self.calls_in.once.waiting
            assert recorded[Role.PLAYER] == sum(len(peer.calls) for peer in peers.values() if peer.is_player)
        waiting = sum(peer.outgoing_bytes for peer in peers.values())
        assert self.outbox.queued_bytes == waiting
        for peer in peers.values():
            assert peer.outgoing_bytes == sum(map(len, peer.outgoing))
        returned = [peer for peer in peers.values() if peer.returned]
        assert sorted(map(id, bounced.peers)) == sorted(map(id, returned))
        assert bounced.size == sum(len(item) for peer in returned for item in peer.returned)

    def check_at_rest(self) -> None:
        """Check that no call is in flight, and that the counters add up."""
        self.check_sums()
        assert self.calls_out.pending == 0
        assert [peer.route for peer in self.peers.values() if not peer.idle] == []
        assert self.outbox.empty
        assert self.outbox.queued_bytes == 0
        assert self.bounced.peers == [] and self.bounced.size == 0
        assert self.counters.calls == self.counters.results + self.counters.errors


def connected(role: Role, *, link: int = 0, **settings: Any) -> Desk:
    """Return a desk that the broker has welcomed."""
    desk = Desk(role, **settings)
    desk.connect(link=link)
    return desk


def data(*envelopes: bytes, link: int = 0) -> bytes:
    """Return a DATA frame that carries these envelopes."""
    return header(FrameType.DATA, link) + join(list(envelopes))


def only_error(desk: Desk) -> tuple[Any, ...]:
    """Return ID, code and executed of the ERROR that a desk sent. Fail if it sent anything else."""
    desk.flush()
    [[envelope]] = desk.bodies()
    assert envelope[0] == ERROR
    return envelope[1], envelope[2], envelope[4]


def _on_player(payload: Any, cb: Any) -> None:
    """Stand for a handler. The test replies in its place."""


def envelopes_of(frame: bytes) -> list[Any]:
    """Return the envelopes in a DATA or RELAY frame. Fail if one is not valid."""
    decoded = decode_body(frame[HEADER_BYTES:], Limits(max_array_len=2**31 - 1))
    assert not decoded.unreadable and not decoded.lost_bytes
    return decoded.envelopes


@dataclass(eq=False)
class Line:
    """The session of an endpoint at the fake broker."""

    desk: Desk
    number: int
    player_id: PlayerID | None = None
    welcomed: bool = False
    full: bool = False
    inbox: list[tuple[bytes, bytes]] = field(default_factory=list)


class FakeBroker:
    """A small broker between a server, players and operators. Frames wait until `step`.

    Attributes:
        down: whether nobody can connect.
        lines: the sessions by desk.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.down = False
        self.draining = False
        self.lines: dict[Desk, Line] = {}
        self._desks: list[Desk] = []
        self._uplinks: list[tuple[Line, bytes, bytes]] = []
        self._links = count(1)
        self._free_ids = count(1)

    def add(self, desk: Desk) -> Desk:
        """Connect the link of a desk to this broker."""
        self._desks.append(desk)
        shell = desk.shell
        shell.carry = lambda address, frame: self._carry(desk, address, frame)
        opened, closed = shell.open_link, shell.close_link

        def open_link(address: str, heartbeat_ms: int) -> None:
            if self.down:
                raise OSError("no broker")
            opened(address, heartbeat_ms)
            shell.room = None
            self.lines[desk] = Line(desk, 0)

        def close_link() -> None:
            closed()
            line = self.lines.pop(desk, None)
            if line is not None:
                # Frames that were sent before still arrive, and then the end of the link.
                self._uplinks.append((line, b"", b""))

        shell.open_link = open_link  # type: ignore[method-assign]
        shell.close_link = close_link  # type: ignore[method-assign]
        return desk

    def start(self, *desks: Desk) -> None:
        for desk in desks:
            desk.core.start(self.clock.now, 5.0)
            self.run()
            assert desk.shell.starts.pop() is None

    def cut(self, desk: Desk) -> None:
        """Break the connection of a desk. Frames on their way are lost."""
        line = self.lines.pop(desk, None)
        if line is not None:
            self._uplinks = [item for item in self._uplinks if item[0] is not line]
            self._gone(line)
            desk.core.link_lost(self.clock.now, "cut")

    def step(self) -> bool:
        """Flush all endpoints, route their frames and deliver them. Return whether anything happened."""
        for desk in self._desks:
            desk.flush()
        uplinks, self._uplinks = self._uplinks, []
        for line, address, frame in uplinks:
            self._take(line, address, frame)
        busy = bool(uplinks)
        for desk in self._desks:
            line = self.lines.get(desk)
            if line is not None and not line.full:
                inbox, line.inbox = line.inbox, []
                busy = busy or bool(inbox)
                for address, frame in inbox:
                    if self.lines.get(desk) is line:
                        desk.core.receive(address, frame, self.clock.now)
        return busy or any(not desk.outbox.empty for desk in self._desks if desk.shell.room is None)

    def run(self) -> None:
        """Step until nothing happens any more."""
        for _ in range(1000):
            if not self.step():
                return
        raise AssertionError("it never comes to rest")

    def wait(self, seconds: float, step_s: float = 0.05) -> None:
        """Let time pass in small steps, for all endpoints."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now = min(until, self.clock.now + step_s)
            for desk in self._desks:
                desk.core.tick(self.clock.now)
            self.run()

    def _carry(self, desk: Desk, address: bytes, frame: bytes) -> None:
        self._uplinks.append((self.lines[desk], address, frame))

    # -- the work of the broker

    def _welcomed(self, role: Role) -> list[Line]:
        return [line for line in self.lines.values() if line.welcomed and line.desk.role is role]

    @property
    def _server(self) -> Line | None:
        return next(iter(self._welcomed(Role.SERVER)), None)

    def _say(self, line: Line, frame: ControlFrame) -> None:
        line.inbox.append((b"", encode(frame)))

    def _take(self, line: Line, address: bytes, frame: bytes) -> None:
        if frame == b"":
            self._gone(line)
            return
        kind = frame[1]
        if not line.welcomed:
            message = decode(frame)
            if isinstance(message, control.Hello):
                self._hello(line, message)
        elif kind in (FrameType.DATA, FrameType.RELAY):
            self._route(line, address, frame)
        elif kind == FrameType.PING:
            self._say(line, control.Pong(frame[HEADER_BYTES:]))
        elif kind == FrameType.QUERY:
            query = decode(frame)
            assert isinstance(query, control.Query)
            rows = tuple([player.player_id, 0.0, 1] for player in self._welcomed(Role.PLAYER))
            self._say(line, control.Answer(query.id, rows))
        elif kind == FrameType.BYE:
            self._gone(line)

    def _hello(self, line: Line, hello: control.Hello) -> None:
        if self.draining:
            self._say(line, control.Reject(RejectCode.DRAINING, "stopping"))
            return
        players = {player.player_id: player for player in self._welcomed(Role.PLAYER)}
        match hello.role:
            case Role.PLAYER:
                line.player_id = hello.player_id
                while line.player_id is None or (hello.player_id is None and line.player_id in players):
                    line.player_id = next(self._free_ids)
                if line.player_id in players:
                    self._say(line, control.Reject(RejectCode.ID_TAKEN, "taken"))
                    return
                if self._server is not None:
                    self._say(self._server, control.Joined((line.player_id,)))
            case Role.SERVER:
                if self._server is not None:
                    self._say(line, control.Reject(RejectCode.SERVER_TAKEN, "taken"))
                    return
                if players:
                    self._say(line, control.Joined(tuple(i for i in players if i is not None)))
                for other in (*self._welcomed(Role.PLAYER), *self._welcomed(Role.OPERATOR)):
                    self._say(other, control.ServerUp())
            case Role.OPERATOR:
                line.number = next(self._links)
        line.welcomed = True
        server = self._server is not None
        report_ms = None if hello.role is Role.PLAYER else 1000
        welcome = control.Welcome(line.number, line.player_id, server, 30_000, "fake", report_ms=report_ms)
        self._say(line, welcome)

    def _gone(self, line: Line) -> None:
        if not line.welcomed:
            return
        line.welcomed = False
        if line.desk.role is Role.SERVER:
            for other in (*self._welcomed(Role.PLAYER), *self._welcomed(Role.OPERATOR)):
                self._say(other, control.ServerDown())
        elif line.player_id is not None:
            for other in (*self._welcomed(Role.SERVER), *self._welcomed(Role.OPERATOR)):
                self._say(other, control.Left((line.player_id,)))

    def _route(self, line: Line, address: bytes, frame: bytes) -> None:
        _, kind, _, link = HEADER.unpack_from(frame)
        trusted = {line.number: line for line in self._welcomed(Role.OPERATOR)}
        if self._server is not None:
            trusted[0] = self._server
        receiver: Line | None
        if line.desk.role is Role.PLAYER:
            assert line.player_id is not None
            forwarded = encode_player_id(line.player_id)
            receiver, missing = trusted.get(link), Code.NO_SERVER
        elif kind == FrameType.RELAY:
            forwarded = address
            receiver = trusted.get(0 if line.desk.role is Role.OPERATOR else link)
            missing = Code.NO_SERVER
        else:
            players = {player.player_id: player for player in self._welcomed(Role.PLAYER)}
            forwarded, missing = b"", Code.UNKNOWN_PLAYER
            receiver = players.get(decode_player_id(address))
        if receiver is None:
            line.inbox.append((address, bounce(missing, frame)))
        elif receiver.full:
            line.inbox.append((address, bounce(Code.OVERLOADED, frame)))
        else:
            receiver.inbox.append((forwarded, frame))


def rows_of(counters: Any) -> dict[str, int]:
    """Return the counters that are not 0, as a dict."""
    values = {item.name: getattr(counters, item.name) for item in fields(counters)}
    return {name: value for name, value in values.items() if value}
