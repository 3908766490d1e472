"""The rows that a broker answers with: asked for, named, printed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ringback_cli.connection import Keys, operator, result_of
from ringback_cli.options import CONNECT_S, Patience, check_timeout
from ringback_cli.output import print_json, print_table

if TYPE_CHECKING:
    from ringback import Operator, PlayerID


def all_rows(endpoint: Operator, subject: str, patience: Patience, after: int = 0) -> list[list[Any]]:
    """Asks the broker for all rows of "players" (in order of joining), "callbacks", "counters" or "events".

    Raises:
        CallbackError: no answer came.
    """
    return list(each_row(endpoint, subject, patience, after))


def each_row(endpoint: Operator, subject: str, patience: Patience, after: int = 0) -> Iterator[list[Any]]:
    """Gives the rows that `all_rows` gives, one by one: who needs no more asks for no further page.

    Raises:
        CallbackError: no answer came.
    """
    following: int | None = after
    while following is not None:
        page, following = result_of(endpoint.query(subject, after=following, timeout=patience.left_s()))
        yield from page


def named_rows(subject: str, rows: Iterable[Sequence[Any]]) -> list[dict[str, Any]]:
    """Gives what the broker's rows have, by name. A newer one may have more columns, an older one fewer."""
    from ringback.protocol.control import Subject, named
    from ringback.protocol.reports import OTHERS, OTHERS_NAME

    found = [named(Subject(subject), row) for row in rows]
    for row in found:
        if row.get("key") == OTHERS:
            row["key"] = OTHERS_NAME
    return found


def print_rows(subject: str, heads: tuple[str, ...], rows: list[list[Any]], as_json: bool) -> None:
    """Prints what a broker knows."""
    from ringback.protocol.control import COLUMNS, Subject

    found = named_rows(subject, rows)
    if as_json:
        print_json(found)
    else:
        columns = COLUMNS[Subject(subject)][: len(heads)]
        print_table(list(heads), [[shown_cell(name, row.get(name)) for name in columns] for row in found])


def is_of(row: list[Any], player_id: PlayerID | None) -> bool:
    """Tells whether an event is of a player; None: of anybody."""
    return player_id is None or (type(row[4]) is type(player_id) and row[4] == player_id)


def shown_cell(column: str, value: Any) -> Any:
    """Gives a value for a table, as its column has it: milliseconds to three places."""
    return f"{value:.3f}" if column.endswith("_ms") and value is not None else cell(value)


def rows_for(
    subject: str, timeout: float | None, backend: str, key_file: str | None, broker_key: str | None
) -> list[list[Any]]:
    check_timeout(timeout)
    patience = Patience(timeout, CONNECT_S)
    with operator(backend, patience, Keys(key_file, broker_key)) as endpoint:
        return all_rows(endpoint, subject, patience)


def cell(value: Any) -> Any:
    """Gives a value for a table: text IDs in quotes where they look like ints."""
    if isinstance(value, str) and value.isdecimal():
        return f'"{value}"'
    return f"{value:.1f}" if isinstance(value, float) else value
