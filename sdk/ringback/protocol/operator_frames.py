"""QUERY, ORDER and ANSWER: what an operator asks the broker, and the broker's answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from ringback.errors import Code, ProtocolError
from ringback.protocol.fields import checked, choice_of, field_of, number_of, player_id_of, read_map
from ringback.protocol.frames import FrameType
from ringback.protocol.limits import MAX_REASON_CHARS
from ringback.protocol.names import check_node_name, check_pattern, did_you_mean
from ringback.protocol.player_ids import PlayerID


class Subject(StrEnum):
    """What an operator can query."""

    PLAYERS = "players"
    CALLBACKS = "callbacks"
    COUNTERS = "counters"
    EVENTS = "events"
    CALLS = "calls"
    SCHEMAS = "schemas"
    FAILURES = "failures"
    LATENCIES = "latencies"
    NODES = "nodes"


def check_subject(subject: Any) -> Subject:
    """Return a subject if there is such a one.

    Raises:
        TypeError: the subject is not a str.
        ValueError: no subject has this name.
    """
    if not isinstance(subject, str):
        raise TypeError(f"subject must be a str, not {type(subject).__name__}")
    try:
        return Subject(subject)
    except ValueError:
        names = [one.value for one in Subject]
        reason = f"subject must be {', '.join(names[:-1])} or {names[-1]}, not {subject!r}"
        near = did_you_mean(subject, names)
        raise ValueError(f"{reason}: {near}" if near else reason) from None


COLUMNS: dict[Subject, tuple[str, ...]] = {
    Subject.PLAYERS: (
        *("player", "connected_s", "callbacks", "ip", "identity", "heard_s", "window_percent"),
        *("calls", "errors", "rtt_ms", "in_flight"),
    ),
    Subject.CALLBACKS: (
        *("key", "side", "endpoints", "in_flight", "calls", "errors", "rate", "p50_ms", "p99_ms"),
        *("failed", "terms", "schema", "failures"),
    ),
    Subject.COUNTERS: ("name", "value"),
    Subject.EVENTS: ("number", "unix_s", "event", "role", "player", "identity", "ip", "code", "reason"),
    Subject.SCHEMAS: ("key", "side", "schema"),
    Subject.CALLS: ("number", "unix_s", "side", "player", "key", "outcome", "took_s", "payload", "reply"),
    Subject.FAILURES: ("number", "unix_s", "side", "player", "key", "code", "took_s"),
    Subject.LATENCIES: ("side", "classes", "counts"),
    Subject.NODES: (
        *("node", "boot", "software", "since_unix_s", "draining", "linked", "players", "acting"),
        *("standbys", "frames_s", "renewed_s"),
    ),
}
"""The names of the items of a row. A newer broker may send more items, an older one fewer."""


def named(subject: Subject, row: Sequence[Any]) -> dict[str, Any]:
    """Return the items of a row, by name."""
    return dict(zip(COLUMNS[subject], row, strict=False))


@dataclass(frozen=True, slots=True)
class Query:
    """An operator asks for a page of rows. `after` is 0, or `next` of the page before.

    `node` names the node of the realm that is asked; None: the own broker. `player_id` asks for the
    row of one player; None: of all. An older broker sends those of all.
    """

    type: ClassVar[FrameType] = FrameType.QUERY
    id: int
    subject: Subject
    after: int = 0
    node: str | None = None
    player_id: PlayerID | None = None


class What(StrEnum):
    """What an operator can order. A server can order the last one."""

    KICK = "kick"
    DRAIN = "drain"
    WATCH = "watch"
    HAND_OVER = "hand_over"


@dataclass(frozen=True, slots=True)
class Order:
    """An operator orders the broker to kick a player, to drain, to have calls watched, or to hand over.

    A server orders it to hand over too. `node` names the node of the realm that is to obey; None: the broker
    to which the ORDER is sent.
    """

    type: ClassVar[FrameType] = FrameType.ORDER
    id: int
    what: What
    player_id: PlayerID | None = None
    reason: str = ""
    grace_ms: int | None = None
    key: str | None = None
    payloads: bool | None = None
    log: bool | None = None
    for_ms: int | None = None
    node: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The broker's answer to a QUERY or an ORDER.

    `rows` is one page of rows; None for an ORDER. `next` is the `after` of the next page, None at the end.
    `code` says why an order was not obeyed, or a question not answered, and `reason` says it in words.
    """

    type: ClassVar[FrameType] = FrameType.ANSWER
    id: int
    rows: tuple[Any, ...] | None
    next: int | None = None
    code: Code | None = None
    reason: str | None = None


def read_query(body: bytes) -> Query:
    """Return the QUERY in a body.

    Raises:
        ProtocolError: a field is wrong.
    """
    fields = read_map(body)
    subject = choice_of(Subject, field_of(fields, "subject", str), "subject")
    player_id = player_id_of(fields)
    if player_id is not None and subject is not Subject.PLAYERS:
        raise ProtocolError("only a query of players may have a player_id")
    return Query(number_of(fields, "id"), subject, number_of(fields, "after", 0), _node(fields), player_id)


def read_order(body: bytes) -> Order:
    """Return the ORDER in a body.

    Raises:
        ProtocolError: a field is wrong.
    """
    fields = read_map(body)
    what = choice_of(What, field_of(fields, "what", str), "what")
    player_id = player_id_of(fields)
    if player_id is None if what is What.KICK else player_id is not None and what is not What.WATCH:
        raise ProtocolError("a kick must have a player_id, a watch may have one, and others must have none")
    return Order(
        number_of(fields, "id"),
        what,
        player_id,
        field_of(fields, "reason", str, ""),
        number_of(fields, "grace_ms", None, bits=32),
        _pattern(field_of(fields, "key", str, None)),
        field_of(fields, "payloads", bool, None),
        field_of(fields, "log", bool, None),
        number_of(fields, "for_ms", None, bits=32),
        _node(fields),
    )


def _node(fields: dict[str, Any]) -> str | None:
    name: str | None = field_of(fields, "node", str, None)
    return None if name is None else checked(check_node_name, name)


def _pattern(pattern: str | None) -> str | None:
    return None if pattern is None else checked(check_pattern, pattern)


def read_answer(body: bytes) -> Answer:
    """Return the ANSWER in a body.

    Raises:
        ProtocolError: a field is wrong.
    """
    fields = read_map(body)
    rows = field_of(fields, "rows", list, None)
    number = number_of(fields, "code", None)
    code = None if number is None else choice_of(Code, number, "code")
    reason: str | None = field_of(fields, "reason", str, None)
    return Answer(
        number_of(fields, "id"),
        None if rows is None else tuple(rows),
        number_of(fields, "next", None),
        code,
        None if reason is None else reason[:MAX_REASON_CHARS],
    )
