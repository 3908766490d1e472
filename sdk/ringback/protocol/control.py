"""Control frames: what the broker and an endpoint say to each other, as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

import msgpack

from ringback.errors import Code, RejectCode
from ringback.protocol.frames import (
    HEADER,
    HEADER_BYTES,
    SUPPORTED_VERSIONS,
    VERSION,
    FrameType,
    Role,
    header,
)
from ringback.protocol.limits import IDS_A_FRAME, MAX_FRAME_BYTES, MAX_KEYS, MAX_PING_BYTES, MAX_TOKEN_CHARS
from ringback.protocol.names import PlayerID, ProtocolError, check_key, check_player_id


@dataclass(frozen=True, slots=True)
class Hello:
    """The first frame of a session, from the endpoint."""

    type: ClassVar[FrameType] = FrameType.HELLO
    role: Role
    player_id: PlayerID | None = None
    keys: tuple[str, ...] = ()
    sdk: str = ""
    heartbeat_ms: int | None = None
    token: str | None = field(default=None, repr=False)
    bundles: bool | None = None


@dataclass(frozen=True, slots=True)
class Welcome:
    """The broker's answer to a HELLO: the session stands."""

    type: ClassVar[FrameType] = FrameType.WELCOME
    link: int
    player_id: PlayerID | None
    server: bool
    lease_ms: int
    broker: str
    bundles: bool | None = None


@dataclass(frozen=True, slots=True)
class Reject:
    """The broker refuses a session, or ends it."""

    type: ClassVar[FrameType] = FrameType.REJECT
    code: RejectCode
    reason: str
    versions: tuple[int, ...] = SUPPORTED_VERSIONS
    heartbeat_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Bye:
    type: ClassVar[FrameType] = FrameType.BYE


@dataclass(frozen=True, slots=True)
class Ping:
    type: ClassVar[FrameType] = FrameType.PING
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Pong:
    type: ClassVar[FrameType] = FrameType.PONG
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Joined:
    type: ClassVar[FrameType] = FrameType.JOINED
    player_ids: tuple[PlayerID, ...]


@dataclass(frozen=True, slots=True)
class Left:
    type: ClassVar[FrameType] = FrameType.LEFT
    player_ids: tuple[PlayerID, ...]


@dataclass(frozen=True, slots=True)
class ServerUp:
    type: ClassVar[FrameType] = FrameType.SERVER_UP


@dataclass(frozen=True, slots=True)
class ServerDown:
    type: ClassVar[FrameType] = FrameType.SERVER_DOWN


@dataclass(frozen=True, slots=True)
class DrainingNotice:
    """The broker stops after `grace_ms`: finish what is in flight, then say BYE."""

    type: ClassVar[FrameType] = FrameType.DRAINING
    grace_ms: int


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys that an endpoint has registered now; replaces those of its HELLO."""

    type: ClassVar[FrameType] = FrameType.KEYS
    keys: tuple[str, ...]


class Subject(StrEnum):
    """What an operator can ask the broker about."""

    PLAYERS = "players"
    CALLBACKS = "callbacks"
    COUNTERS = "counters"
    EVENTS = "events"


@dataclass(frozen=True, slots=True)
class Query:
    type: ClassVar[FrameType] = FrameType.QUERY
    id: int
    subject: Subject
    after: int = 0


class What(StrEnum):
    """What an operator can have the broker do."""

    KICK = "kick"
    DRAIN = "drain"


@dataclass(frozen=True, slots=True)
class Order:
    """An operator has the broker end the session of a player, or drain and stop."""

    type: ClassVar[FrameType] = FrameType.ORDER
    id: int
    what: What
    player_id: PlayerID | None = None
    reason: str = ""
    grace_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One page of rows; None: an order was done.

    `next` is the `after` that asks for the next page, None at the end. `code` is why nothing was done.
    """

    type: ClassVar[FrameType] = FrameType.ANSWER
    id: int
    rows: tuple[Any, ...] | None
    next: int | None = None
    code: Code | None = None


ControlFrame = (
    Hello
    | Welcome
    | Reject
    | Bye
    | Ping
    | Pong
    | Joined
    | Left
    | ServerUp
    | ServerDown
    | DrainingNotice
    | Keys
    | Query
    | Order
    | Answer
)


def encode(frame: ControlFrame) -> bytes:
    """Gives the bytes of a control frame."""
    head = header(frame.type)
    match frame:
        case Ping() | Pong():
            return head + frame.body
        case Bye() | ServerUp() | ServerDown():
            return head
        case Joined() | Left():
            return head + _pack(frame.player_ids)
        case _:
            fields = {name: getattr(frame, name) for name in frame.__slots__}
            return head + _pack({name: value for name, value in fields.items() if value is not None})


def decode(frame: bytes) -> ControlFrame:
    """Gives the control frame that the bytes stand for.

    Raises:
        ProtocolError: the bytes are not a control frame of this version, or a field is wrong.
    """
    if len(frame) < HEADER_BYTES:
        raise ProtocolError(f"a frame has at least {HEADER_BYTES} bytes, this one {len(frame)}")
    if len(frame) > MAX_FRAME_BYTES:
        raise ProtocolError(f"a frame has at most {MAX_FRAME_BYTES} bytes, this one {len(frame)}")
    version, number, _code, _link = HEADER.unpack_from(frame)
    if version != VERSION:
        raise ProtocolError(f"version {version} is not supported, only {SUPPORTED_VERSIONS}")
    reader = _READERS.get(number)
    if reader is None:
        raise ProtocolError(f"type {number} is not a control frame")
    return reader(frame[HEADER_BYTES:])


def _pack(value: Any) -> bytes:
    body: bytes = msgpack.packb(value)
    return body


def _unpack(body: bytes) -> Any:
    try:
        return msgpack.unpackb(
            body, max_array_len=MAX_KEYS, max_map_len=MAX_KEYS, ext_hook=_no_ext, timestamp=1
        )
    except Exception as error:  # msgpack raises five kinds; each means the same here
        raise ProtocolError(f"a body that is not msgpack within the limits: {error}") from None


def _no_ext(code: int, data: bytes) -> Any:
    raise ValueError(f"extension type {code} is not allowed")


def _map(body: bytes) -> dict[str, Any]:
    fields = _unpack(body)
    if type(fields) is not dict:
        raise ProtocolError(f"the body is a map, not {type(fields).__name__}")
    return fields


def _field(fields: dict[str, Any], name: str, kind: type, default: Any = ...) -> Any:
    value = fields.get(name, default)
    if value is ...:
        raise ProtocolError(f"the field {name} is missing")
    if type(value) is not kind and value is not default:
        raise ProtocolError(f"the field {name} is {kind.__name__}, not {type(value).__name__}")
    return value


def _number(fields: dict[str, Any], name: str, default: Any = ..., bits: int = 64) -> Any:
    value = _field(fields, name, int, default)
    if value is not None and not 0 <= value < 2**bits:
        raise ProtocolError(f"the field {name} is 0 to 2**{bits}-1, not {value}")
    return value


def _choice(kind: Callable[[Any], Any], value: Any, name: str) -> Any:
    try:
        return kind(value)
    except ValueError:
        raise ProtocolError(f"the field {name} has an unknown value: {value!r:.80}") from None


def _name(check: Callable[[Any], Any], value: Any) -> Any:
    try:
        return check(value)
    except (TypeError, ValueError) as error:
        raise ProtocolError(str(error)) from None


def _player_id(fields: dict[str, Any]) -> PlayerID | None:
    player_id = fields.get("player_id")
    return None if player_id is None else _name(check_player_id, player_id)


def _key_list(fields: dict[str, Any]) -> tuple[str, ...]:
    return tuple(_name(check_key, key) for key in _field(fields, "keys", list, ()))


def _hello(body: bytes) -> Hello:
    fields = _map(body)
    role = _choice(Role, _field(fields, "role", str), "role")
    player_id = _player_id(fields)
    if player_id is not None and role is not Role.PLAYER:
        raise ProtocolError("only a player has a player_id")
    return Hello(
        role,
        player_id,
        _key_list(fields),
        sdk=_field(fields, "sdk", str, "")[:64],
        heartbeat_ms=_number(fields, "heartbeat_ms", None, bits=32),
        token=_token(fields),
        bundles=_field(fields, "bundles", bool, None),
    )


def _token(fields: dict[str, Any]) -> str | None:
    token: str | None = _field(fields, "token", str, None)
    if token is not None and len(token) > MAX_TOKEN_CHARS:
        raise ProtocolError(f"a token has at most {MAX_TOKEN_CHARS} characters, not {len(token)}")
    return token


def _welcome(body: bytes) -> Welcome:
    fields = _map(body)
    return Welcome(
        link=_number(fields, "link", bits=32),  # it goes into headers
        player_id=_player_id(fields),
        server=_field(fields, "server", bool),
        lease_ms=_number(fields, "lease_ms"),
        broker=_field(fields, "broker", str),
        bundles=_field(fields, "bundles", bool, None),
    )


def _reject(body: bytes) -> Reject:
    fields = _map(body)
    versions = _field(fields, "versions", list, [])
    if any(type(version) is not int for version in versions):
        raise ProtocolError("the field versions is a list of ints")
    code = _choice(RejectCode, _number(fields, "code"), "code")
    return Reject(
        code,
        _field(fields, "reason", str),
        tuple(versions),
        heartbeat_ms=_number(fields, "heartbeat_ms", None, bits=32),
    )


def _ping_body(body: bytes) -> bytes:
    if len(body) > MAX_PING_BYTES:
        raise ProtocolError(f"a PING carries at most {MAX_PING_BYTES} bytes, not {len(body)}")
    return body


def _empty(make: Callable[[], ControlFrame]) -> Callable[[bytes], ControlFrame]:
    def read(body: bytes) -> ControlFrame:
        if body:
            raise ProtocolError(f"a {make().type.name} has no body, this one {len(body)} bytes")
        return make()

    return read


def _ids(body: bytes) -> tuple[PlayerID, ...]:
    ids = _unpack(body)
    if type(ids) is not list or not 1 <= len(ids) <= IDS_A_FRAME:
        raise ProtocolError(f"the body is a list of 1 to {IDS_A_FRAME} player IDs")
    return tuple(_name(check_player_id, player_id) for player_id in ids)


def _query(body: bytes) -> Query:
    fields = _map(body)
    subject = _choice(Subject, _field(fields, "subject", str), "subject")
    return Query(_number(fields, "id"), subject, _number(fields, "after", 0))


def _order(body: bytes) -> Order:
    fields = _map(body)
    what = _choice(What, _field(fields, "what", str), "what")
    player_id = _player_id(fields)
    if (what is What.KICK) is (player_id is None):
        raise ProtocolError("a player_id goes with what=kick, and with nothing else")
    return Order(
        _number(fields, "id"),
        what,
        player_id,
        _field(fields, "reason", str, ""),
        _number(fields, "grace_ms", None, bits=32),
    )


def _answer(body: bytes) -> Answer:
    fields = _map(body)
    rows = _field(fields, "rows", list, None)
    number = _number(fields, "code", None)
    code = None if number is None else _choice(Code, number, "code")
    return Answer(
        _number(fields, "id"), None if rows is None else tuple(rows), _number(fields, "next", None), code
    )


_READERS: dict[int, Callable[[bytes], ControlFrame]] = {
    FrameType.HELLO: _hello,
    FrameType.WELCOME: _welcome,
    FrameType.REJECT: _reject,
    FrameType.BYE: _empty(Bye),
    FrameType.PING: lambda body: Ping(_ping_body(body)),
    FrameType.PONG: lambda body: Pong(_ping_body(body)),
    FrameType.JOINED: lambda body: Joined(_ids(body)),
    FrameType.LEFT: lambda body: Left(_ids(body)),
    FrameType.SERVER_UP: _empty(ServerUp),
    FrameType.SERVER_DOWN: _empty(ServerDown),
    FrameType.DRAINING: lambda body: DrainingNotice(_number(_map(body), "grace_ms")),
    FrameType.KEYS: lambda body: Keys(_key_list(_map(body))),
    FrameType.QUERY: _query,
    FrameType.ORDER: _order,
    FrameType.ANSWER: _answer,
}
