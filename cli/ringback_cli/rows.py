"""Rows that the broker sends to operators: ask for them, name their columns, write their values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ringback_cli.connection import Connection
from ringback_cli.realm_rows import Found

if TYPE_CHECKING:
    from ringback import Operator, PlayerID


def all_rows(operator: Operator, subject: str, connection: Connection, after: int = 0) -> list[list[Any]]:
    """Return all rows of a subject of docs/protocol.md: "players" (in order of joining), "events" and others.

    Args:
        after: 0 for all rows; for "events", the number of the last event that is known already.

    Raises:
        CallbackError: the broker did not answer.
    """
    return list(each_row(operator, subject, connection, after))


def each_row(operator: Operator, subject: str, connection: Connection, after: int = 0) -> Iterator[list[Any]]:
    """Yield the rows that `all_rows` returns. A caller that stops early asks for no further pages.

    Raises:
        CallbackError: the broker did not answer.
    """
    following: int | None = after
    while following is not None:
        page, following = operator.query(subject, after=following, timeout=connection.left_s()).result()
        yield from page


def named_rows(subject: str, rows: Iterable[Sequence[Any]]) -> list[dict[str, Any]]:
    """Return rows as dicts by column. A newer broker may send more columns, an older one fewer."""
    from ringback.protocol.control import Subject, named
    from ringback.protocol.reports import OTHERS, OTHERS_NAME

    found = [named(Subject(subject), row) for row in rows]
    for row in found:
        if row.get("key") == OTHERS:
            row["key"] = OTHERS_NAME
    return found


def registered_like(key: str, callbacks: Iterable[dict[str, Any]]) -> str:
    """Return a question with the registered keys that are most like a wrong one; "" if none is near."""
    from ringback.protocol.names import did_you_mean

    return did_you_mean(key, {row["key"] for row in callbacks if row["endpoints"]})


def with_nodes(subject: str, found: Found) -> list[dict[str, Any]]:
    """Return rows as dicts by column. In a realm, the column `node` comes first."""
    named = named_rows(subject, found.plain_rows())
    if not found.in_realm:
        return named
    return [{"node": row[0], **by_name} for row, by_name in zip(found.rows, named, strict=True)]


def counter_sums(found: Found) -> dict[str, int]:
    """Return counters by name, each added up over all nodes."""
    sums: dict[str, int] = {}
    for _, name, value, *_ in found.rows:
        sums[name] = sums.get(name, 0) + value
    return sums


def concerns(event: list[Any], player_id: PlayerID | None) -> bool:
    """Return whether an event happened to a player; None: to anybody."""
    from ringback.protocol.player_ids import is_same_id

    return player_id is None or is_same_id(event[4], player_id)


def format_value(column: str, value: Any) -> Any:
    """Return a value for its column of a table: milliseconds and rates with the digits that are known."""
    from ringback.protocol.significant import significant

    exact = column.endswith("_ms") or column == "rate"
    return significant(value) if exact and value is not None else format_cell(value)


def format_cell(value: Any) -> Any:
    """Return a value for a table: a str in quotes if it looks like an int, a float with one decimal."""
    if isinstance(value, str) and value.isdecimal():
        return f'"{value}"'
    return f"{value:.1f}" if isinstance(value, float) else value
