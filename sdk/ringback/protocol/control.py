"""Control frames: what the broker and an endpoint tell each other, as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ringback.errors import ProtocolError, RejectCode
from ringback.protocol.fields import (
    checked,
    choice_of,
    field_of,
    number_of,
    pack,
    player_id_of,
    read_map,
    unpack,
)
from ringback.protocol.frames import (
    HEADER,
    HEADER_BYTES,
    SUPPORTED_VERSIONS,
    VERSION,
    FrameType,
    Role,
    header,
)
from ringback.protocol.limits import (
    IDS_A_FRAME,
    MAX_FRAME_BYTES,
    MAX_PING_BYTES,
    MAX_SCHEMA_BYTES,
    MAX_SCHEMAS_BYTES,
    MAX_TERMS_CHARS,
    MAX_TOKEN_CHARS,
    TICKET_BYTES,
)
from ringback.protocol.names import check_key
from ringback.protocol.operator_frames import COLUMNS as COLUMNS
from ringback.protocol.operator_frames import Answer as Answer
from ringback.protocol.operator_frames import Order as Order
from ringback.protocol.operator_frames import Query as Query
from ringback.protocol.operator_frames import Subject as Subject
from ringback.protocol.operator_frames import What as What
from ringback.protocol.operator_frames import check_subject as check_subject
from ringback.protocol.operator_frames import named as named
from ringback.protocol.operator_frames import read_answer, read_order, read_query
from ringback.protocol.player_ids import PlayerID, check_player_id
from ringback.protocol.reports import Report as Report
from ringback.protocol.reports import Watch as Watch
from ringback.protocol.reports import read_report, read_watch


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
    terms: dict[str, str] | None = None
    ticket: bytes | None = field(default=None, repr=False)
    schemas: dict[str, str] | None = None
    standby: bool | None = None
    server_links: bool | None = None


@dataclass(frozen=True, slots=True)
class Welcome:
    """The broker accepts a HELLO: the session begins.

    `node` is for operators: the name of the broker in its realm, empty if it is alone. An older one has none.
    `broker_id` is the same in each WELCOME of one life of a broker. An older one does not say it.
    """

    type: ClassVar[FrameType] = FrameType.WELCOME
    link: int
    player_id: PlayerID | None
    server: bool
    lease_ms: int
    broker: str
    bundles: bool | None = None
    report_ms: int | None = None
    ticket: bytes | None = field(default=None, repr=False)
    own_link: int | None = None
    standby: bool | None = None
    retiring: bool | None = None
    node: str | None = None
    broker_id: int | None = None


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
    """An endpoint leaves.

    `finished` is True of a server that retires, and has finished what it had begun.
    """

    type: ClassVar[FrameType] = FrameType.BYE
    finished: bool | None = None


@dataclass(frozen=True, slots=True)
class Ping:
    """A request for a PONG with the same body."""

    type: ClassVar[FrameType] = FrameType.PING
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Pong:
    """The reply to a PING."""

    type: ClassVar[FrameType] = FrameType.PONG
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Joined:
    """These players have joined."""

    type: ClassVar[FrameType] = FrameType.JOINED
    player_ids: tuple[PlayerID, ...]


@dataclass(frozen=True, slots=True)
class Left:
    """These players have left."""

    type: ClassVar[FrameType] = FrameType.LEFT
    player_ids: tuple[PlayerID, ...]


@dataclass(frozen=True, slots=True)
class ServerUp:
    """A server acts now."""

    type: ClassVar[FrameType] = FrameType.SERVER_UP


@dataclass(frozen=True, slots=True)
class ServerDown:
    """A server is gone. Calls to the server that acts end too.

    `link` is the link number that it had for its own calls, for players that know of such numbers.
    """

    type: ClassVar[FrameType] = FrameType.SERVER_DOWN
    link: int | None = None


@dataclass(frozen=True, slots=True)
class DrainingNotice:
    """The broker stops after `grace_ms`: finish the calls in flight, then send BYE."""

    type: ClassVar[FrameType] = FrameType.DRAINING
    grace_ms: int


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys that an endpoint has registered now. They replace those of its HELLO.

    `terms` has the terms of some of them, in words. `schemas` has the JSON Schemas of some, as JSON.
    """

    type: ClassVar[FrameType] = FrameType.KEYS
    keys: tuple[str, ...]
    terms: dict[str, str] | None = None
    schemas: dict[str, str] | None = None


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
    | Report
    | Watch
)


def encode(frame: ControlFrame) -> bytes:
    """Return the bytes of a control frame."""
    head = header(frame.type)
    match frame:
        case Ping() | Pong():
            return head + frame.body
        case Bye(finished=None) | ServerUp() | ServerDown(link=None):
            return head
        case Joined() | Left():
            return head + pack(frame.player_ids)
        case _:
            fields = {name: getattr(frame, name) for name in frame.__slots__}
            return head + pack({name: value for name, value in fields.items() if value is not None})


def decode(frame: bytes) -> ControlFrame:
    """Return the control frame in these bytes.

    Raises:
        ProtocolError: the bytes are not a control frame of this version, or a field is wrong.
    """
    if len(frame) < HEADER_BYTES:
        raise ProtocolError(f"a frame must have at least {HEADER_BYTES} bytes, not {len(frame)}")
    if len(frame) > MAX_FRAME_BYTES:
        raise ProtocolError(f"a frame must have at most {MAX_FRAME_BYTES} bytes, not {len(frame)}")
    version, number, _code, _link = HEADER.unpack_from(frame)
    if version != VERSION:
        raise ProtocolError(f"version {version} is not supported; use one of {SUPPORTED_VERSIONS}")
    reader = _READERS.get(number)
    if reader is None:
        raise ProtocolError(f"type {number} is not the type of a control frame")
    return reader(frame[HEADER_BYTES:])


def _key_list(fields: dict[str, Any]) -> tuple[str, ...]:
    return tuple(checked(check_key, key) for key in field_of(fields, "keys", list, ()))


def _hello(body: bytes) -> Hello:
    fields = read_map(body)
    role = choice_of(Role, field_of(fields, "role", str), "role")
    player_id = player_id_of(fields)
    if player_id is not None and role is not Role.PLAYER:
        raise ProtocolError("only a player may have a player_id")
    return Hello(
        role,
        player_id,
        _key_list(fields),
        sdk=field_of(fields, "sdk", str, "")[:64],
        heartbeat_ms=number_of(fields, "heartbeat_ms", None, bits=32),
        token=_token(fields),
        bundles=field_of(fields, "bundles", bool, None),
        terms=_terms(fields),
        ticket=_ticket(fields, (0, TICKET_BYTES)),
        schemas=_schemas(fields),
        standby=_standby(fields, role),
        server_links=field_of(fields, "server_links", bool, None),
    )


def _standby(fields: dict[str, Any], role: Role) -> bool | None:
    standby: bool | None = field_of(fields, "standby", bool, None)
    if standby and not (role is Role.SERVER and fields.get("server_links") is True):
        raise ProtocolError("only a server that knows of server_links may stand by")
    return standby


def _terms(fields: dict[str, Any]) -> dict[str, str] | None:
    terms: dict[str, str] | None = field_of(fields, "terms", dict, None)
    for key, text in (terms or {}).items():
        checked(check_key, key)
        if type(text) is not str or not 0 < len(text) <= MAX_TERMS_CHARS:
            raise ProtocolError(f"terms must be a str of 1 to {MAX_TERMS_CHARS} characters for each key")
    return terms


def _schemas(fields: dict[str, Any]) -> dict[str, str] | None:
    schemas: dict[str, str] | None = field_of(fields, "schemas", dict, None)
    size = 0
    for key, text in (schemas or {}).items():
        checked(check_key, key)
        if type(text) is not str or not 0 < (length := len(text.encode())) <= MAX_SCHEMA_BYTES:
            raise ProtocolError(f"schemas must be a str of 1 to {MAX_SCHEMA_BYTES} bytes for each key")
        size += length
    if size > MAX_SCHEMAS_BYTES:
        raise ProtocolError(f"schemas must have at most {MAX_SCHEMAS_BYTES} bytes in all, not {size}")
    return schemas


def _token(fields: dict[str, Any]) -> str | None:
    token: str | None = field_of(fields, "token", str, None)
    if token is not None and len(token) > MAX_TOKEN_CHARS:
        raise ProtocolError(f"a token must have at most {MAX_TOKEN_CHARS} characters, not {len(token)}")
    return token


def _ticket(fields: dict[str, Any], sizes: tuple[int, ...]) -> bytes | None:
    ticket: bytes | None = field_of(fields, "ticket", bytes, None)
    if ticket is not None and len(ticket) not in sizes:
        allowed = " or ".join(map(str, sizes))
        raise ProtocolError(f"a ticket must have {allowed} bytes, not {len(ticket)}")
    return ticket


def _welcome(body: bytes) -> Welcome:
    fields = read_map(body)
    return Welcome(
        link=number_of(fields, "link", bits=32),  # it goes into headers
        player_id=player_id_of(fields),
        server=field_of(fields, "server", bool),
        lease_ms=number_of(fields, "lease_ms"),
        broker=field_of(fields, "broker", str),
        bundles=field_of(fields, "bundles", bool, None),
        report_ms=number_of(fields, "report_ms", None, bits=32),
        ticket=_ticket(fields, (TICKET_BYTES,)),
        own_link=number_of(fields, "own_link", None, bits=32),
        standby=field_of(fields, "standby", bool, None),
        retiring=field_of(fields, "retiring", bool, None),
        node=field_of(fields, "node", str, None),
        broker_id=number_of(fields, "broker_id", None),
    )


def _reject(body: bytes) -> Reject:
    fields = read_map(body)
    versions = field_of(fields, "versions", list, [])
    if any(type(version) is not int for version in versions):
        raise ProtocolError("the field versions must be a list of ints")
    code = choice_of(RejectCode, number_of(fields, "code"), "code")
    return Reject(
        code,
        field_of(fields, "reason", str),
        tuple(versions),
        heartbeat_ms=number_of(fields, "heartbeat_ms", None, bits=32),
    )


def _ping_body(body: bytes) -> bytes:
    if len(body) > MAX_PING_BYTES:
        raise ProtocolError(f"a PING or PONG must carry at most {MAX_PING_BYTES} bytes, not {len(body)}")
    return body


def _empty(make: Callable[[], ControlFrame]) -> Callable[[bytes], ControlFrame]:
    def read(body: bytes) -> ControlFrame:
        if body:
            raise ProtocolError(f"a {make().type.name} must have no body, not {len(body)} bytes")
        return make()

    return read


def _ids(body: bytes) -> tuple[PlayerID, ...]:
    ids = unpack(body)
    if type(ids) is not list or not 1 <= len(ids) <= IDS_A_FRAME:
        raise ProtocolError(f"the body must be a list of 1 to {IDS_A_FRAME} player IDs")
    return tuple(checked(check_player_id, player_id) for player_id in ids)


def _server_down(body: bytes) -> ServerDown:
    return ServerDown(number_of(read_map(body), "link", None, bits=32)) if body else ServerDown()


def _bye(body: bytes) -> Bye:
    return Bye(field_of(read_map(body), "finished", bool, None)) if body else Bye()


def _keys(body: bytes) -> Keys:
    fields = read_map(body)
    return Keys(_key_list(fields), _terms(fields), _schemas(fields))


_READERS: dict[int, Callable[[bytes], ControlFrame]] = {
    FrameType.HELLO: _hello,
    FrameType.WELCOME: _welcome,
    FrameType.REJECT: _reject,
    FrameType.BYE: _bye,
    FrameType.PING: lambda body: Ping(_ping_body(body)),
    FrameType.PONG: lambda body: Pong(_ping_body(body)),
    FrameType.JOINED: lambda body: Joined(_ids(body)),
    FrameType.LEFT: lambda body: Left(_ids(body)),
    FrameType.SERVER_UP: _empty(ServerUp),
    FrameType.SERVER_DOWN: _server_down,
    FrameType.DRAINING: lambda body: DrainingNotice(number_of(read_map(body), "grace_ms")),
    FrameType.KEYS: _keys,
    FrameType.QUERY: read_query,
    FrameType.ORDER: read_order,
    FrameType.ANSWER: read_answer,
    FrameType.REPORT: read_report,
    FrameType.WATCH: read_watch,
}
