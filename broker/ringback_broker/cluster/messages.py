"""What nodes tell each other beside the frames of endpoints.

Such a message begins with a byte that begins no frame. A node ignores kinds that it does not know: while a
realm is upgraded, some nodes are newer than others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any, ClassVar, get_args

import msgpack

from ringback.errors import ProtocolError
from ringback.protocol.limits import IDS_A_FRAME
from ringback.protocol.player_ids import decode_player_id
from ringback_broker.peers.roster import MAX_NODE_INDEX

START = b"\0"

VERSION = 2
"""What this node knows: see `Knows`."""


@dataclass(frozen=True, slots=True)
class Here:
    """Players of the sender, each with the revision of its record."""

    kind: ClassVar[int] = 1
    term: int
    players: list[tuple[bytes, int]]


@dataclass(frozen=True, slots=True)
class Gone:
    """A player of the sender has left."""

    kind: ClassVar[int] = 2
    encoded_id: bytes


@dataclass(frozen=True, slots=True)
class Listed:
    """The node with the seat knows all players of the sender by now."""

    kind: ClassVar[int] = 3
    term: int


@dataclass(frozen=True, slots=True)
class Up:
    """A server acts at the sender.

    Attributes:
        own_link: the link number of its own, or 0.
    """

    kind: ClassVar[int] = 4
    term: int
    own_link: int


@dataclass(frozen=True, slots=True)
class Down:
    """A server of the sender is there no more.

    Attributes:
        acts: whether another one acts at the sender.
        in_order: it has finished all that it had begun. Otherwise nobody gets a reply of it any more.
    """

    kind: ClassVar[int] = 5
    own_link: int
    acts: bool
    in_order: bool


@dataclass(frozen=True, slots=True)
class Taken:
    """The sender owns the ID of a player, by a record of this revision."""

    kind: ClassVar[int] = 6
    encoded_id: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Ask:
    """The sender asks for a name, for somebody with this identity."""

    kind: ClassVar[int] = 7
    key: str
    revision: int
    identity: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether the sender gives a name up."""

    kind: ClassVar[int] = 8
    key: str
    revision: int
    gives_up: bool


@dataclass(frozen=True, slots=True)
class Index:
    """The index of the sender: what the link numbers that it gives begin with."""

    kind: ClassVar[int] = 9
    index: int


@dataclass(frozen=True, slots=True)
class Seated:
    """The sender has the seat, and wants to know the players of the receiver."""

    kind: ClassVar[int] = 10
    term: int


@dataclass(frozen=True, slots=True)
class Standbys:
    """How many servers stand by at the sender."""

    kind: ClassVar[int] = 11
    count: int


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A reply has come back from the receiver, and the server that gave it has left.

    Attributes:
        encoded_id: the player whose call has no reply.
        link: the link number of the operator whose call has none, or 0.
    """

    kind: ClassVar[int] = 12
    encoded_id: bytes
    link: int


@dataclass(frozen=True, slots=True)
class Knows:
    """What the sender knows, beside what each node does: the first message of an epoch.

    Attributes:
        version: 1: it tells with `Gone` that a player has left whom operators of the receiver have called.
            2: it also takes frames to its players in bundles.
    """

    kind: ClassVar[int] = 13
    version: int


@dataclass(frozen=True, slots=True)
class FarReport:
    """What an endpoint of the sender has reported of players of the receiver.

    Attributes:
        number: that of the session of the endpoint.
        frame: a REPORT with the rows of these players; empty if the endpoint has left.
    """

    kind: ClassVar[int] = 14
    number: int
    frame: bytes


@dataclass(frozen=True, slots=True)
class Question:
    """An operator of the sender asks the receiver something, or orders it to do something.

    Attributes:
        number: comes back in `Answered`.
        link: the link number of the operator.
        may_order: whether it may give orders, as the sender has verified it.
        identity: the name of who it has proved to be; empty if nobody.
        ip: where its connection comes from.
        frame: the QUERY or ORDER.
    """

    kind: ClassVar[int] = 20
    number: int
    link: int
    may_order: bool
    identity: str
    ip: str
    frame: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to a `Question`.

    Attributes:
        frame: the ANSWER; empty if the sender does not understand what it was asked.
    """

    kind: ClassVar[int] = 21
    number: int
    frame: bytes


Message = (
    Here
    | Gone
    | Listed
    | Up
    | Down
    | Taken
    | Ask
    | Answer
    | Index
    | Seated
    | Standbys
    | Unanswered
    | Knows
    | FarReport
    | Question
    | Answered
)

_KINDS: dict[int, type[Message]] = {kind.kind: kind for kind in get_args(Message)}


def encode(message: Message) -> bytes:
    """Return a message as bytes."""
    body: bytes = msgpack.packb([message.kind, *astuple(message)])
    return START + body


def decode(data: bytes) -> Message | None:
    """Return a message; None if its kind is not known.

    Raises:
        ProtocolError: it is no message between nodes.
    """
    try:
        kind, *fields = msgpack.unpackb(data[1:], use_list=False)
        known = _KINDS.get(kind)
        return None if known is None else _read(known, fields)
    except Exception as error:  # msgpack raises five kinds, and what is not iterable one more
        raise ProtocolError(f"not a message between nodes: {error}") from None


def _read(kind: type[Message], fields: list[Any]) -> Message:
    """Return a message of a kind that this version knows. It may have more fields than that."""
    checks = _FIELDS[kind]
    if len(fields) < len(checks):
        raise ValueError(f"{kind.__name__} has {len(checks)} fields, not {len(fields)}")
    for check, value in zip(checks, fields, strict=False):
        check(value)
    return kind(*fields[: len(checks)])


Check = Callable[[Any], None]
"""Raises ValueError or ProtocolError if a field is wrong."""


def _of(kind: type) -> Check:
    def check(value: Any) -> None:
        if type(value) is not kind:
            raise ValueError(f"{type(value).__name__} in place of {kind.__name__}")

    return check


def _below(end: int) -> Check:
    def check(value: Any) -> None:
        if type(value) is not int or not 0 <= value < end:
            raise ValueError(f"{value!r:.40} in place of a number from 0 to {end - 1}")

    return check


def _check_player(value: Any) -> None:
    _bytes(value)
    decode_player_id(value)


def _check_players(value: Any) -> None:
    _rows(value)
    for encoded_id, revision in value:
        _check_player(encoded_id)
        _number(revision)


_bytes, _text, _flag, _rows = _of(bytes), _of(str), _of(bool), _of(tuple)
_number, _link, _index = _below(2**64), _below(2**32), _below(MAX_NODE_INDEX + 1)

_FIELDS: dict[type[Message], tuple[Check, ...]] = {
    Here: (_number, _check_players),
    Gone: (_check_player,),
    Listed: (_number,),
    Up: (_number, _link),
    Down: (_link, _flag, _flag),
    Taken: (_check_player, _number),
    Ask: (_text, _number, _bytes),
    Answer: (_text, _number, _flag),
    Index: (_index,),
    Seated: (_number,),
    Standbys: (_number,),
    Unanswered: (_check_player, _link),
    Knows: (_number,),
    FarReport: (_number, _bytes),
    Question: (_number, _link, _flag, _text, _text, _bytes),
    Answered: (_number, _bytes),
}


def here(term: int, players: list[tuple[bytes, int]]) -> list[bytes]:
    """Return the messages that name players."""
    chunks = [players[i : i + IDS_A_FRAME] for i in range(0, len(players), IDS_A_FRAME)]
    return [encode(Here(term, chunk)) for chunk in chunks]
