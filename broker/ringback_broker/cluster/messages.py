"""What nodes tell each other beside the frames of endpoints.

Such a message begins with a byte that begins no frame. A node ignores kinds that it does not know: while a
realm is upgraded, some nodes are newer than others.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any, ClassVar, get_args

import msgpack

from ringback.errors import ProtocolError
from ringback.protocol.limits import IDS_A_FRAME

START = b"\0"


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
        return None if known is None else known(*_checked(known, fields))
    except Exception as error:  # msgpack raises five kinds
        raise ProtocolError(f"not a message between nodes: {error}") from None


def _checked(kind: type[Message], fields: list[Any]) -> list[Any]:
    """Return the fields that this version knows, if each has its type."""
    types = _TYPES[kind]
    if len(fields) < len(types) or any(type(f) is not t for f, t in zip(fields, types, strict=False)):
        raise ProtocolError(f"{kind.__name__} has other fields")
    return fields[: len(types)]


_TYPES: dict[type[Message], tuple[type, ...]] = {
    Here: (int, tuple),
    Gone: (bytes,),
    Listed: (int,),
    Up: (int, int),
    Down: (int, bool, bool),
    Taken: (bytes, int),
    Ask: (str, int, bytes),
    Answer: (str, int, bool),
    Index: (int,),
    Seated: (int,),
    Standbys: (int,),
    Unanswered: (bytes, int),
    Knows: (int,),
    FarReport: (int, bytes),
    Question: (int, int, bool, str, str, bytes),
    Answered: (int, bytes),
}


def here(term: int, players: list[tuple[bytes, int]]) -> list[bytes]:
    """Return the messages that name players."""
    chunks = [players[i : i + IDS_A_FRAME] for i in range(0, len(players), IDS_A_FRAME)]
    return [encode(Here(term, chunk)) for chunk in chunks]
