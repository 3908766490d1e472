"""Targets of fuzzing: functions of bytes that raise if the code is wrong.

`envelopes`, `frames` and `addresses` take the bytes as they would come over the wire. `switchboard` and
`endpoint` read them as a program: each step and its arguments. Nothing here needs a fuzzer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
from support import corefakes, switchboards
from support.programs import Program
from support.realm_program import RealmProgram
from support.switchboards import SOUND, check_tables, data, encoded_id, relay

from ringback.core.endpoint_state import IDLE_S
from ringback.core.execution import Execution
from ringback.core.permissions import OPERATORS
from ringback.errors import EXECUTED, CallbackError, Code, InvalidPayload, ProtocolError, RejectCode, TooLarge
from ringback.protocol import addresses as places
from ringback.protocol import control, envelope_decoding
from ringback.protocol.bounces import bounce
from ringback.protocol.bundles import bundle, unbundle
from ringback.protocol.envelopes import (
    CALL,
    CANCEL,
    ERROR,
    MAX_ID,
    PROGRESS,
    RESULT,
    Encoder,
    join,
    to_error,
    too_deep,
)
from ringback.protocol.frames import HEADER, HEADER_BYTES, FrameType, Role
from ringback.protocol.limits import (
    BUNDLE_FRAMES,
    MAX_CONTEXT_BYTES,
    MAX_CONTEXT_PAIRS,
    MAX_ENVELOPES,
    Limits,
)
from ringback.protocol.player_ids import PlayerID, check_player_id, decode_player_id, encode_player_id
from ringback.protocol.reports import CallFilter
from ringback_broker.peers.connection import Side
from ringback_broker.switchboard.sending import MAX_BACKLOG

FOLDER = Path(__file__).parent
VECTORS = FOLDER.parent / "vectors"
# -- frames and addresses


def frames(code: bytes) -> None:
    """Decode a control frame or a bundle. Only ProtocolError is raised.

    Encoding and decoding a frame gives the same frame.
    """
    _bundles(code)
    try:
        frame = control.decode(code)
    except ProtocolError:
        return
    if isinstance(frame, control.Answer) and too_deep(list(frame.rows or ()), 64):
        return  # only this frame holds values of any type
    again = control.encode(frame)
    # repr distinguishes 1, 1.0 and True, and makes nan equal to nan.
    assert repr(control.decode(again)) == repr(frame)
    assert control.encode(control.decode(again)) == again


def _bundles(code: bytes) -> None:
    try:
        parts = unbundle(code)
    except ProtocolError:
        return
    assert all(type(part) is bytes for part in parts) and len(parts) <= 2 * BUNDLE_FRAMES
    assert sum(map(len, parts)) < len(code)
    assert unbundle(bundle(zip(parts[::2], parts[1::2], strict=True))) == parts


def addresses(code: bytes) -> None:
    """Decode an ID part. Only ProtocolError is raised, and an ID has only one encoding.

    Then check the bytes as text: as a player ID and as the address of a broker. Only ValueError is raised.
    """
    try:
        player_id = decode_player_id(code)
    except ProtocolError:
        pass
    else:
        assert encode_player_id(player_id) == code
        assert check_player_id(player_id) == player_id
    text = code.decode("utf-8", "surrogateescape")
    try:
        sound = encode_player_id(check_player_id(text))
    except ValueError:
        pass
    else:
        assert decode_player_id(sound) == text
    for bind in (False, True):
        try:
            place = places.check_address(text, bind=bind)
        except ValueError:
            continue
        assert places.check_address(place, bind=bind) == place


# -- envelopes

LIMITS = (
    Limits(),
    Limits(max_call_bytes=64),
    Limits(max_depth=2),
    Limits(max_array_len=6, max_map_len=8),
    Limits(max_call_bytes=24, max_depth=1, max_array_len=7, max_map_len=9),
)
CONTEXT = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=1"}
BUILDS = 0x80
"""If the first byte is at least this, the rest is a program that builds values to encode."""


def envelopes(code: bytes) -> None:
    """Decode any body without an exception, within the limits. Or encode values and decode the same values.

    The first byte chooses the limits.
    """
    first, body = (code[0], code[1:]) if code else (0, b"")
    limits = LIMITS[first % BUILDS % len(LIMITS)]
    if first >= BUILDS:
        _write_and_read(Program(body), limits)
    else:
        _read(body, limits)


def _read(body: bytes, limits: Limits) -> None:
    decoded = envelope_decoding.decode(body, limits)
    assert repr(decoded) == repr(envelope_decoding._decode_each(body, limits))
    assert len(decoded.envelopes) + len(decoded.unreadable) <= MAX_ENVELOPES
    assert 0 <= decoded.lost_bytes <= len(body)
    for damaged in decoded.unreadable:
        assert type(damaged.type) is int and 0 <= damaged.id <= MAX_ID and 0 < len(damaged.reason) <= 200
    for envelope in decoded.envelopes:
        assert _least_bytes(envelope) <= limits.max_call_bytes
        _check_sound(envelope, limits)


def _least_bytes(envelope: list[Any]) -> int:
    """Return the smallest size of an envelope. Its bytes are at least as long. A float may take 5 bytes."""
    floats, inside = 0, [envelope]
    while inside:
        value = inside.pop()
        if isinstance(value, dict):
            inside += [*value, *value.values()]
        elif isinstance(value, list):
            inside += value
        floats += isinstance(value, float)
    return len(msgpack.packb(envelope)) - 4 * floats


def _check_sound(envelope: list[Any], limits: Limits) -> None:
    """Check that an accepted envelope follows docs/protocol.md, and that encoding and decoding keeps it."""
    write = Encoder(limits)
    again: list[Any] = envelope
    try:
        match envelope:
            case [kind, int(number), str(key), payload, budget, *context] if kind == CALL:
                assert 1 <= len(key.encode()) <= 256 and (budget is None or 0 <= budget <= MAX_ID)
                _check_value(payload, limits, limits.max_depth)
                _check_context(*context)
                written = write.call(number, key, payload, budget, *context)
            case [kind, int(number), list(results)] if kind == RESULT:
                _check_value(results, limits, limits.max_depth + 1)
                written = write.result(number, tuple(results))
            case [kind, int(number), _, str(message), executed, payload] if kind == ERROR:
                _check_value(payload, limits, limits.max_depth)
                error = to_error(envelope)
                assert isinstance(error, CallbackError) and error.executed == EXECUTED[executed]
                str(error)
                again = [*envelope[:3], message[:1000], *envelope[4:]]
                written = write.error(number, error)
            case [kind, int(number), value] if kind == PROGRESS:
                _check_value(value, limits, limits.max_depth)
                written = write.progress(number, value)
            case [kind, int(number)] if kind == CANCEL:
                written = write.cancel(number)
            case _:
                raise AssertionError(f"accepted: {envelope}")
    except TooLarge:  # a float came in 5 bytes and is encoded in 9
        assert len(msgpack.packb(again)) > limits.max_call_bytes
        return
    assert all(type(number) is int for number in envelope[:2]) and 0 <= envelope[1] <= MAX_ID
    assert repr(envelope_decoding.decode(join([written]), limits)) == repr(
        envelope_decoding.Decoded([again], [], 0)
    )


def _check_context(context: dict[str, str] | None = None) -> None:
    if context is not None:
        texts = [*context, *context.values()]
        assert len(context) <= MAX_CONTEXT_PAIRS
        assert sum(len(text.encode()) for text in texts) <= MAX_CONTEXT_BYTES


def _check_value(value: Any, limits: Limits, depth: int) -> None:
    if isinstance(value, (list, dict)):
        assert depth > 0
    if isinstance(value, list):
        assert len(value) <= limits.max_array_len
        for item in value:
            _check_value(item, limits, depth - 1)
    elif isinstance(value, dict):
        assert len(value) <= limits.max_map_len
        for key, item in value.items():
            assert isinstance(key, (str, int, float, bytes, type(None)))
            _check_value(item, limits, depth - 1)
    else:
        assert isinstance(value, (str, int, float, bytes, type(None)))


def _write_and_read(program: Program, limits: Limits) -> None:
    write = Encoder(limits)
    written, expected = [], []
    while program.goes_on():
        number = program.number(8)
        payload = _value(program, 70)
        try:
            match program.byte() % 5:
                case 0:
                    end = program.pick(([None], [0], [5000], [MAX_ID], [None, CONTEXT], [5000, {}]))
                    written.append(write.call(number, "k", payload, *end))
                    expected.append([CALL, number, "k", _plain(payload), *end])
                case 1:
                    written.append(write.result(number, (payload, payload)))
                    expected.append([RESULT, number, [_plain(payload)] * 2])
                case 2:
                    code = program.pick((*Code, "MINE", "", "x" * 65, 999, None, b"x"))
                    executed = program.pick(EXECUTED)
                    text = program.piece().decode("utf-8", "surrogateescape")
                    error = CallbackError(text, executed=executed, data=payload)
                    error.code = error.code if code is None else code  # not checked, as in a constructor
                    written.append(write.error(number, error))
                    text = text.encode("utf-8", "replace").decode()
                    code = "APPLICATION_ERROR" if code is None else code
                    executed = EXECUTED.index(executed)
                    expected.append([ERROR, number, code, text, executed, _plain(payload)])
                case 3:
                    written.append(write.progress(number, payload))
                    expected.append([PROGRESS, number, _plain(payload)])
                case _:
                    written.append(write.cancel(number))
                    expected.append([CANCEL, number])
        except (InvalidPayload, TooLarge):
            continue
    # The sender does not know the receiver's limits on lists and maps.
    wide = Limits(max_call_bytes=limits.max_call_bytes, max_depth=limits.max_depth)
    decoded = envelope_decoding.decode(join(written), wide)
    assert repr(decoded.envelopes) == repr([[_plain(item) for item in items] for items in expected])
    assert not decoded.unreadable and not decoded.lost_bytes


def _value(program: Program, depth: int) -> Any:
    """Build a value, now and then one that msgpack does not have."""
    match program.byte() % 16:
        case 0:
            return None
        case 1:
            return program.pick((True, False))
        case 2:
            return program.byte()
        case 3:
            return program.number(8)
        case 4:
            return -program.number(8)
        case 5:
            return program.pick((0.0, -0.0, 0.1, math.inf, -math.inf, math.nan, 1e300))
        case 6:
            return program.piece().decode("utf-8", "replace")
        case 7:
            return program.piece().decode("utf-8", "surrogateescape")
        case 8:
            return program.piece()
        case 9:
            return bytearray(program.piece())
        case 10 if depth:
            return [_value(program, depth - 1) for _ in range(program.byte() % 4)]
        case 11 if depth:
            return tuple(_value(program, depth - 1) for _ in range(program.byte() % 4))
        case 12 if depth:
            return {_key(program): _value(program, depth - 1) for _ in range(program.byte() % 4)}
        case 13:
            value: Any = None
            for _ in range(program.byte() % 80):
                value = [value]
            return value
        case 14:
            return program.pick((Code.TIMEOUT, Role.PLAYER))
        case 15:
            return program.pick((object(), {1}, 1j, 2**64, -(2**63) - 1, *_unreadable(program)))
    return None


def _key(program: Program) -> Any:
    return program.pick((program.byte(), str(program.byte()), 0.5, None, True, b"x", -1))


class _Twice(str):
    """A str that a dict may have twice."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


def _unreadable(program: Program) -> tuple[Any, ...]:
    """Return values that msgpack encodes and nobody can decode."""
    text = program.piece()
    return (
        {(program.byte(),): text},
        {(): None},
        msgpack.ExtType(program.byte() % 128, text),
        {_Twice("x"): 1, _Twice("x"): 2},
    )


def _plain(value: Any) -> Any:
    """Return the value that the receiver gets."""
    match value:
        case bool() | None:
            return value
        case list() | tuple():
            return [_plain(item) for item in value]
        case dict():
            return {_plain(key): _plain(item) for key, item in value.items()}
        case bytearray():
            return bytes(value)
        case int():
            return int(value)
        case str():
            return "".join(value)
    return value


# -- the switchboard

PLAYER_IDS: tuple[PlayerID | None, ...] = (None, 1, 2, "1", "x", "\N{SNOWMAN}", 2**63 - 1, "canary")
ENCODED = tuple(map(control.encode, SOUND))

# A server, a player and an operator join; the first two vanish, and are found gone by data of the third; the
# end of the server, two ticks later, is that of the player.
TWO_GONE_AT_ONCE = bytes.fromhex(
    "01 01010000 0100010000 01020000 0b00 0b01 04020000000001 04020200000001 0900 0900"
)


def switchboard(code: bytes) -> None:
    """Run peers that do what the bytes say.

    All tables agree after each step. Two peers that follow the rules are not disturbed. When all peers have
    left, nothing is left.
    """
    program = Program(code)
    first = program.byte()
    tight = {"player_window": 3000, "backend_window": 3000, "player_frames": 200.0} if first & 2 else {}
    _Lives((Role.SERVER, Role.OPERATOR)[first & 1], **tight).run(program)


class _Lives:
    """A switchboard, two peers that follow the rules, and others that do not."""

    def __init__(self, trusted: Role, **settings: Any) -> None:
        self.desk = switchboards.Desk(max_players=6, max_operators=3, **settings)
        self.trusted = self.desk.join(trusted)
        self.player = self.desk.player("canary")
        self.present: set[PlayerID] = set()
        self.others: list[switchboards.Peer] = []

    def run(self, program: Program) -> None:
        steps = (
            self.connect,
            self.join,
            self.hello,
            self.say,
            self.send_data,
            self.send_header,
            self.send_parts,
            self.leave,
            self.come_again,
            self.tick,
            self.queue,
            self.vanish,
            self.flush,
            self.silence,
            self.sing,
            self.drain,
            self.flood,
            self.pong,
        )
        while program.goes_on():
            program.pick(steps)(program)
            self.listen()
            check_tables(self.desk)
            self.check_bounds()
        self.sing(program)
        self.end()

    def peer(self, program: Program) -> switchboards.Peer:
        return program.pick(self.others) if self.others else self.connect(program)

    def connect(self, program: Program) -> switchboards.Peer:
        peer = self.desk.connect(program.pick(tuple(Side)))
        self.others.append(peer)
        return peer

    def join(self, program: Program) -> None:
        role = program.pick(tuple(Role))
        self.others.append(self.desk.connect(Side.PLAYERS if role is Role.PLAYER else Side.BACKEND))
        self._hello(self.others[-1], role, program)

    def hello(self, program: Program) -> None:
        self._hello(self.peer(program), program.pick(tuple(Role)), program)

    def _hello(self, peer: switchboards.Peer, role: Role, program: Program) -> None:
        player_id = program.pick(PLAYER_IDS) if role is Role.PLAYER else None
        keys = tuple("ab"[: program.byte() % 3])
        peer.say(control.Hello(role, player_id, keys, "x", program.pick((None, 0, 1000, 2**32 - 1))))

    def _send(self, peer: switchboards.Peer, frame: bytes, program: Program) -> None:
        """Send a frame with the right number of parts for this side."""
        if peer.side is Side.PLAYERS:
            peer.send(frame)
        else:
            peer.send(program.pick((b"", *map(encoded_id, PLAYER_IDS[1:]), program.bytes(1))), frame)

    def say(self, program: Program) -> None:
        self._send(self.peer(program), program.pick(ENCODED), program)

    def send_data(self, program: Program) -> None:
        peer, make = self.peer(program), program.pick((data, data, relay))
        link = 0 if peer.session is None else peer.session.link
        link = program.pick((link, link, 0, 1, self.trusted.link, 2**32 - 1))
        self._send(peer, make(link, program.piece()), program)

    def send_header(self, program: Program) -> None:
        peer = self.peer(program)
        number = program.pick((*FrameType, 0, 20, 255))
        head = HEADER.pack(
            program.pick((1, 1, 0, 2)), number, program.pick((0, 0, 1, 999)), program.pick((0, 0, 1, 5))
        )
        self._send(peer, head + program.piece(), program)

    def send_parts(self, program: Program) -> None:
        peer = self.peer(program)
        peer.send(*(program.piece() for _ in range(1 + program.byte() % 4)))

    def leave(self, program: Program) -> None:
        self.peer(program).leave()

    def come_again(self, program: Program) -> None:
        """Connect with the descriptor of a connection whose end the switchboard has not noticed, or close a
        connection and connect again."""
        old = self.peer(program)
        if program.byte() % 2:
            self.others.append(self.desk.connect(old.side, old.connection.descriptor))
        else:
            old.leave()
            self.others.append(self.desk.connect(old.side))
            self.others[-1].routing_id = old.routing_id

    def tick(self, program: Program) -> None:
        self.desk.now += program.pick((0.0, 0.3, 1.0, 2.0, 10.0, 29.0))
        for canary in (self.trusted, self.player):
            canary.say(control.Ping())
        self.desk.switchboard.tick(self.desk.now)

    def queue(self, program: Program) -> None:
        """Make the queue of a peer full, or give it some room, or all room."""
        wire, who = self.desk.wire, self.peer(program).routing_id
        wire.full.discard(who)
        wire.room.pop(who, None)
        match program.byte() % 3:
            case 0:
                wire.full.add(who)
            case 1:
                wire.room[who] = program.byte() % 4

    def vanish(self, program: Program) -> None:
        self.desk.wire.gone.add(self.peer(program).routing_id)

    def flush(self, program: Program) -> None:
        waiting = self.desk.switchboard.flush()
        assert waiting == any(session.backlog for session in self.desk.switchboard.roster.sessions())

    def silence(self, program: Program) -> None:
        self.desk.wire.silences[self.peer(program).connection] = program.number(2)

    def drain(self, program: Program) -> None:
        self.desk.switchboard.drain(program.byte() / 10)

    def flood(self, program: Program) -> None:
        peer, frame = self.peer(program), program.pick((control.encode(control.Ping()), data(0, b"x" * 40)))
        for _ in range(60):
            self._send(peer, frame, program)

    def pong(self, program: Program) -> None:
        """Reply to the broker's PINGs, or send a PONG that it did not ask for."""
        peer = self.peer(program)
        asked = [frame for _, frame in peer.take() if frame[1] == FrameType.PING]
        for frame in asked[: program.byte() % 4]:
            self._send(peer, control.encode(control.Pong(frame[HEADER_BYTES:])), program)
        if program.byte() % 4 == 1:
            self._send(peer, control.encode(control.Pong(program.bytes(8))), program)

    def sing(self, program: Program) -> None:
        """Check that the two good peers can send each other a frame, byte for byte, and get nothing else."""
        self.listen()
        link, body = self.trusted.link, program.piece()
        self.player.send(data(link, body))
        assert self._heard(self.trusted) == [(encoded_id("canary"), data(link, body))]
        self.trusted.send(encoded_id("canary"), data(link, body[::-1]))
        assert self._heard(self.player) == [(b"", data(link, body[::-1]))]

    def _heard(self, canary: switchboards.Peer) -> list[tuple[bytes, bytes]]:
        """Return what one of the good peers got, without PINGs. It replies to those."""
        came = canary.take()
        for _, frame in came:
            if frame[1] == FrameType.PING:
                canary.say(control.Pong(frame[HEADER_BYTES:]))
        return [message for message in came if message[1][1] != FrameType.PING]

    def listen(self) -> None:
        """Read what the two good peers got. A server must know exactly which players are connected."""
        self._heard(self.player)
        for _, frame in self._heard(self.trusted):
            if frame[1] == FrameType.JOINED:
                joined = control.decode(frame)
                assert isinstance(joined, control.Joined) and not self.present & set(joined.player_ids)
                self.present.update(joined.player_ids)
            elif frame[1] == FrameType.LEFT:
                left = control.decode(frame)
                assert isinstance(left, control.Left)
                self.present.difference_update(left.player_ids)
        if self.desk.switchboard.roster.server is self.trusted.session:
            players = self.desk.switchboard.roster.players.values()
            assert self.present == {player.player_id for player in players}

    def check_bounds(self) -> None:
        assert self.trusted.session is not None and self.player.session is not None
        board = self.desk.switchboard
        sessions = set(board.roster.sessions())
        assert len(board.roster.players) <= 6 and board.roster.operators() <= 3
        assert set(board.state.endings.gone) <= sessions
        assert all(len(session.backlog) <= MAX_BACKLOG[session.role] for session in sessions)
        for side, connections in board.state.strangers._strangers.items():
            assert set(connections) <= {p.connection.descriptor for p in self.others if p.side is side}

    def end(self) -> None:
        board = self.desk.switchboard
        for peer in (*self.others, self.trusted, self.player):
            peer.leave()
        check_tables(self.desk)
        board.tick(self.desk.now + 100.0)
        board.tick(self.desk.now + 200.0)
        assert not len(board.roster) and not len(board.state.strangers)
        assert not board.sending.backlogged and not board.state.endings.gone
        assert not board.state.registered_keys.rows()
        assert self.desk.counters.sessions_begun == self.desk.counters.sessions_ended


# -- the realm


def realm(code: bytes) -> None:
    """Run two nodes of a realm. One of them sends what the bytes say, and records say it too.

    Nothing is raised, and all tables agree after each step. In the end the two nodes have found each other,
    and calls go from one to the other.
    """
    RealmProgram().run(Program(code))


# -- the endpoint

TOLD: tuple[bytes, ...] = (
    *ENCODED,
    control.encode(control.Welcome(0, 1, False, 0, "x")),
    control.encode(control.Welcome(2, None, True, 2**64 - 1, "x")),
    *(control.encode(control.Reject(code, "x")) for code in RejectCode),
)


def endpoint(code: bytes) -> None:
    """Run an endpoint whose broker and user do what the bytes say.

    Nothing is raised. Each call ends once. The counters add up after each step. When time has passed, nothing
    is in flight.
    """
    program = Program(code)
    role = program.pick(tuple(Role))
    tight = Limits(max_in_flight=2, max_in_flight_bytes=30, max_running=3, max_pending=3)
    limits = program.pick((Limits(), tight, Limits(max_queued_bytes=40)))
    _Work(role, program.pick((limits, limits, Limits(max_calls_per_s=2.0, max_call_bytes=40)))).run(program)


class _Work:
    """An endpoint, its calls, and its executions."""

    def __init__(self, role: Role, limits: Limits) -> None:
        self.role = role
        self.desk = corefakes.Desk(role, limits=limits)
        self.core = self.desk.core
        self.calls: list[corefakes.TestCall] = []
        self.running: list[Execution] = []
        self.sent: list[tuple[bytes, bytes]] = []
        self.registrations: list[Any] = []
        self.started = False

    def run(self, program: Program) -> None:
        steps = (
            self.start,
            self.welcome,
            self.call,
            self.call,
            self.take_data,
            self.take_data,
            self.answer,
            self.bounce,
            self.take_sound,
            self.take_raw,
            self.cancel,
            self.ask,
            self.handle,
            self.reply,
            self.wait,
            self.flush,
            self.room,
            self.lose,
            self.close,
            self.keys,
            self.watch,
            self.terms,
            self.spoil,
            self.odd_call,
            self.odd_reply,
        )
        if program.byte() % 4:
            self.start(program)
            self.welcome(program)
        while program.goes_on():
            program.pick(steps)(program)
            self.check()
        self.rest()

    def check(self) -> None:
        self.desk.check_sums()
        peers = self.desk.peers.values()
        assert self.desk.calls_in.running == sum(len(peer.executions) for peer in peers)
        for peer in peers:
            assert peer.execution_bytes == sum(execution.size for execution in peer.executions.values())
        waiting = list(self.desk.outbox._waiting)
        assert len(waiting) == len(set(map(id, waiting))), "one waits to be sent to twice"
        assert all(call.settled == call.done for call in self.calls)
        # Calls that waited for their own endpoint must only be counted once each.
        assert self.desk.counters.calls == len(self.calls)

    def start(self, program: Program) -> None:
        if not self.started or self.core._link_state.closed:
            self.started = True
            self.core.start(self.desk.clock.now, 5.0)

    def welcome(self, program: Program) -> None:
        lease_ms, report_ms = program.pick((30_000, 1000, 0, 2**64 - 1)), program.pick((None, 100, 1000))
        self.desk.welcome(link=program.byte() % 3, lease_ms=lease_ms, report_ms=report_ms)

    def watch(self, program: Program) -> None:
        chosen = CallFilter(
            program.pick((None, 1, "x")), program.pick((None, "k*", "[")), program.pick((True, False))
        )
        self.desk.told(control.Watch((chosen,) * (program.byte() % 3), 250))

    def terms(self, program: Program) -> None:
        """Register a callback again, with another `allow` and `limit`."""
        allow = program.pick((None, {1, "x"}, OPERATORS, {}.__getitem__, {}.get, {1: True}.__getitem__))
        self.desk.register("k", replace=True, allow=allow, limit=program.pick((None, "2/s", "20/s")))

    def spoil(self, program: Program) -> None:
        """Put a value into the payload that a handler was given, which a watch may look at."""
        if self.running:
            program.pick(self.running[::-1]).payload = _value(program, 70)

    def odd_call(self, program: Program) -> None:
        if self.role is not Role.PLAYER:
            call, odd = corefakes.TestCall(next(self.desk.ids)), _value(program, 70)
            self.calls.append(call)
            try:
                envelope = self.desk.shell.encoder.call(call.id, "k", odd, None)
            except CallbackError as error:
                self.core.fail_unsent(call, error)
            else:
                self.core.call(call, FrameType.DATA, b"\x01", envelope)

    def odd_reply(self, program: Program) -> None:
        if self.running:
            execution, odd = program.pick(self.running[::-1]), _value(program, 70)
            if program.byte() % 2:
                execution(odd)
            else:
                text = program.piece().decode("utf-8", "surrogateescape")
                error = CallbackError(text, data=odd)
                error.code = program.pick(("MINE", text))  # not checked, as in a constructor
                execution.fail(error)

    def call(self, program: Program) -> None:
        timeout_s = program.pick((None, 0.01, 1.0, 20.0))
        to, kind = program.pick((1, "x", 2)), FrameType.DATA
        if self.role is Role.PLAYER:
            to = None
        elif self.role is Role.SERVER:
            kind = program.pick((FrameType.DATA, None))
        else:
            kind = program.pick((FrameType.DATA, FrameType.RELAY))
        number = program.byte()
        context = CONTEXT if number & 0x80 else None
        for _ in range(1 + number % 3):
            payload, key = program.byte(), program.pick("kkz")
            self.calls.append(
                self.desk.call(to, kind=kind, payload=payload, timeout_s=timeout_s, key=key, context=context)
            )

    def _route(self, program: Program) -> tuple[bytes, bytes]:
        """Return ID part and header for a frame that comes, often those of a frame that was sent."""
        if program.byte() % 2 and self.sent:
            where, frame = program.pick(self.sent[::-1])
            return where, frame[:HEADER_BYTES]
        kind = program.pick((FrameType.DATA, FrameType.RELAY))
        where = b"" if self.role is Role.PLAYER else program.pick((b"\x01", b"\xa1x", b"\x02", b"", b"\xc1"))
        return where, HEADER.pack(1, kind, 0, program.byte() % 3)

    def take_data(self, program: Program) -> None:
        """Deliver a frame of envelopes, valid ones and others."""
        where, head = self._route(program)
        write, pieces = Encoder(Limits()), []
        for _ in range(program.byte() % 5):
            number = program.pick((program.byte(), len(self.calls)))
            match program.byte() % 6:
                case 0 | 1:
                    end = program.pick(([None], [0], [10], [1000], [MAX_ID], [1000, CONTEXT]))
                    pieces.append(write.call(number, program.pick("kkz"), program.byte(), *end))
                case 2:
                    pieces.append(write.result(number, (program.byte(),) * (program.byte() % 3)))
                case 3:
                    code = program.pick((*Code, "MINE"))
                    pieces.append(write.error(number, CallbackError("x", code=code)))
                case 4:
                    pieces.append(write.cancel(number))
                case _:
                    pieces.append(program.piece())
        self.desk.gets(head + join(pieces), where)

    def answer(self, program: Program) -> None:
        """Deliver replies to a frame that was sent, on its route."""
        if not self.sent:
            return
        where, frame = program.pick(self.sent[::-1])
        write = Encoder(Limits())
        asked = (
            envelope_decoding.decode(frame[HEADER_BYTES:], Limits()).envelopes
            if frame[1] >= FrameType.DATA
            else []
        )
        answers = [write.result(envelope[1], (1,)) for envelope in asked if envelope[0] == CALL]
        self.desk.gets(frame[:HEADER_BYTES] + join(answers), where)

    def bounce(self, program: Program) -> None:
        if self.sent and program.byte() % 4:
            where, frame = program.pick(self.sent[::-1])
        else:
            where, frame = program.pick((b"", b"\x01", b"\xc1")), program.piece()
        self.desk.gets(bounce(program.pick((2, 3, 7, 9, 0, 999)), frame), where)

    def take_sound(self, program: Program) -> None:
        self.desk.gets(program.pick(TOLD))

    def take_raw(self, program: Program) -> None:
        where = program.pick((b"", b"\x01", program.bytes(2)))
        self.desk.gets(program.piece(), where)

    def cancel(self, program: Program) -> None:
        if self.calls:
            self.core.cancel(program.pick(self.calls[::-1]))

    def ask(self, program: Program) -> None:
        timeout_s = program.pick((None, 0.01, 1.0))
        deadline = None if timeout_s is None else self.desk.clock.now + timeout_s
        call = corefakes.TestCall(next(self.desk.ids), "", deadline)
        self.calls.append(call)
        if self.role is Role.OPERATOR and program.byte() % 2:
            self.core.query(call, program.pick(tuple(control.Subject)), program.byte())
        else:
            self.core.ping(call)

    def handle(self, program: Program) -> None:
        self.running += self.desk.handle()

    def reply(self, program: Program) -> None:
        if self.running:
            execution = program.pick(self.running[::-1])
            if program.byte() % 2:
                execution(*range(program.byte() % 3))
            else:
                execution.fail(CallbackError("no", code=program.pick(("MINE", Code.FORBIDDEN))))

    def wait(self, program: Program) -> None:
        self._wait(program.pick((0.0, 0.006, 0.1, 1.0, 5.0, 12.0)))

    def _wait(self, seconds: float) -> None:
        """Let time pass, as a shell does. What is due must not stay due."""
        clock = self.desk.clock
        until = clock.now + seconds
        for _ in range(5000):
            due_at = self.core.due_at()
            if due_at is None or due_at > until:
                break
            clock.now = max(clock.now, due_at)
            self.core.tick(clock.now)
            self.desk.flush()
        else:
            raise AssertionError("it is never done with what is due")
        clock.now = until
        self.core.tick(until)
        self.desk.flush()
        self.keep_sent()

    def keep_sent(self) -> None:
        """Keep the frames that were sent, to deliver replies and bounces to them."""
        self.sent = (self.sent + self.desk.shell.take_sent())[-8:]

    def flush(self, program: Program) -> None:
        self.desk.flush()
        self.keep_sent()

    def room(self, program: Program) -> None:
        self.desk.shell.room = program.pick((None, 0, 1))
        self.desk.shell.refuses_to_open = OSError("no") if program.byte() % 8 == 1 else None

    def lose(self, program: Program) -> None:
        self.core.link_lost(self.desk.clock.now, program.pick(("cut", "reset")))

    def close(self, program: Program) -> None:
        self.core.close()

    def keys(self, program: Program) -> None:
        if self.registrations and program.byte() % 2:
            self.registrations.pop().unregister()
        else:
            key = f"key {len(self.registrations)}"
            if key not in self.core.registry.handlers:
                self.registrations.append(self.desk.register(key))

    def rest(self) -> None:
        """Let all handlers reply and time pass: calls with a deadline have ended. Close: all calls have."""
        shell = self.desk.shell
        shell.room, shell.refuses_to_open = None, None
        self._wait(1.0)
        self.running += self.desk.handle()
        for execution in self.running:
            if not execution.replied:
                execution()
        self._wait(21.0)
        self.check()
        assert all(call.done for call in self.calls if call.deadline is not None)
        self.desk.told(control.Pong())
        self._wait(2 * IDLE_S)
        assert not any(peer.idle for peer in self.desk.peers.values()), "a route is kept for nothing"
        self.core.close()
        self.desk.check_at_rest()
        assert all(call.settled == 1 for call in self.calls)
        assert not shell.link_open and self.core._link_state.due_at() is None


TARGETS: dict[str, Callable[[bytes], None]] = {
    "frames": frames,
    "envelopes": envelopes,
    "addresses": addresses,
    "switchboard": switchboard,
    "endpoint": endpoint,
    "realm": realm,
}


def seeds(target: str) -> list[bytes]:
    """Return the first inputs of a target: the golden bytes of tests/vectors."""

    def golden(file: str, part: str) -> list[bytes]:
        vectors = json.loads((VECTORS / f"{file}.json").read_text(encoding="utf-8"))[part]
        return [bytes.fromhex(vector["hex"]) for vector in vectors if len(vector["hex"]) < 8192]

    match target:
        case "frames":
            return golden("control", "frames") + golden("bundles", "frames") + golden("invalid", "frames")
        case "addresses":
            return (
                golden("player_ids", "player_ids") + golden("invalid", "player_ids") + [b"tcp://[::1]:5770"]
            )
        case "envelopes":
            written = [join([envelope]) for envelope in golden("envelopes", "envelopes")]
            return [b"\0" + body for body in written + golden("invalid", "bodies")]
        case "endpoint":
            # As the raw frame that comes to each role.
            kinds = ("control", "data", "bounces", "bundles")
            frames = [frame for kind in kinds for frame in golden(kind, "frames")]
            short = [frame for frame in frames if len(frame) < 256]
            return [
                bytes((role, 0, 0, 1, 0, 0, 9, 0, len(frame))) + frame for role in range(3) for frame in short
            ]
        case "realm":
            return [bytes((7, step, *rest)) for step in range(9) for rest in ((), (1, 1, 1), (7, 3, 5, 2, 9))]
    return [
        TWO_GONE_AT_ONCE,
        *(bytes((trusted, step, 0, 0, 0)) for trusted in range(4) for step in range(18)),
    ]


def corpus(target: str) -> list[Path]:
    """Return the files of a target's corpus."""
    return sorted((FOLDER / "corpus" / target).glob("*"))
