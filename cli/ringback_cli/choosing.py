"""Which rows a command prints, and in which order: `--sort`, `--invert`, `--filter` and `--limit`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from ringback_cli.connection import Connection
from ringback_cli.exits import Exit, Failure
from ringback_cli.options import check_pattern, one_of, whole_number
from ringback_cli.output import print_json
from ringback_cli.realm_rows import Found, find
from ringback_cli.rows import format_value, with_nodes
from ringback_cli.signatures import expand_first_parameter, option
from ringback_cli.tables import Column, Kind, print_table

Own = ParamSpec("Own")
Row = Mapping[str, Any]
"""A row by column. A column that the broker does not send is not in it."""

NODE = Column("node", "node", Kind.NAME)
"""The column that is there too if the broker is a node of a realm."""


@dataclass(frozen=True)
class Choice:
    """What the options of a command say about its rows.

    Attributes:
        columns: those that can be sorted by, and whose texts are filtered.
        sort: the column that sorts the rows; None: they stay in the order of the broker.
        inverted: the order is the other one.
        wanted: a text or a pattern for a text column; None: all rows are wanted.
        limit: how many rows are printed at most; None: all.
    """

    columns: Sequence[Column]
    sort: Column | None = None
    inverted: bool = False
    wanted: str | None = None
    limit: int | None = None

    @property
    def most(self) -> int | None:
        """How many wanted rows have to be fetched; None: all of them.

        The protocol knows no order but that of joining, so a command that sorts asks for all pages.
        """
        return None if self.sort or self.inverted else self.limit

    def wants(self, row: Row) -> bool:
        """Return whether the filter lets a row through."""
        if self.wanted is None:
            return True
        if is_pattern(self.wanted):
            return any(fnmatchcase(value, self.wanted) for value in _texts(row, self.columns))
        return contains(row, self.wanted, self.columns)

    def order(self, rows: Sequence[Row]) -> list[Row]:
        """Return rows in the order in which they are printed, as many as are to be printed."""
        ordered = list(reversed(rows)) if self.inverted else list(rows)
        if self.sort is not None:
            ordered = sort(rows, self.sort, inverted=self.inverted)
        return ordered[: self.limit]


def is_pattern(text: str) -> bool:
    """Return whether a text has characters that mean something in a pattern."""
    return any(char in text for char in "*?[")


def contains(row: Row, text: str, columns: Iterable[Column]) -> bool:
    """Return whether a value in one of the text columns contains a text, in capitals or not."""
    return any(text.casefold() in value.casefold() for value in _texts(row, columns))


def _texts(row: Row, columns: Iterable[Column]) -> Iterator[str]:
    values = (row.get(column.name) for column in columns if column.is_text)
    return (str(value) for value in values if value is not None)


def sort(rows: Iterable[Row], column: Column, *, inverted: bool) -> list[Row]:
    """Return rows by a column: numbers in descending order, texts from A to Z.

    Args:
        inverted: use the other order. Rows without a value come last in both.
    """
    known = [row for row in rows if row.get(column.name) is not None]
    known.sort(
        key=lambda row: (isinstance(row[column.name], str), row[column.name]),
        reverse=descends(column, inverted),
    )
    return known + [row for row in rows if row.get(column.name) is None]


def descends(column: Column, inverted: bool) -> bool:
    """Return whether the highest value comes first: of numbers, unless the order is inverted."""
    return inverted if column.is_text else not inverted


def column_named(name: str, columns: Sequence[Column], of: str) -> Column:
    """Return the column with a name, or that of the nodes.

    Args:
        of: what the columns are of, for the message of an error.

    Raises:
        Failure: there is none.
    """
    for column in (*columns, NODE):
        if column.name == name:
            return column
    from ringback.protocol.names import did_you_mean

    names = [column.name for column in columns]
    reason = f"--sort: the columns of {of} are {', '.join(names)}, not {name!r:.80}"
    near = did_you_mean(name, names)
    raise Failure(Exit.USAGE, f"{reason}: {near}" if near else reason)


def find_chosen(connection: Connection, subject: str, node: str | None, choice: Choice) -> Found:
    """Connect, and return the rows that a choice wants, as many as it needs."""

    def wants(row: list[Any]) -> bool:
        [by_name] = with_nodes(subject, Found([row], in_realm=True))
        return choice.wants(by_name)

    with connection.operator() as operator:
        return find(operator, subject, connection, node, choice.most, wants=wants)


def print_rows(subject: str, columns: Sequence[Column], found: Found, choice: Choice, as_json: bool) -> None:
    """Print rows as JSON, or as a table of some columns. In a realm, a column says the node of each.

    Raises:
        Failure: the rows of some nodes are missing. Those of the others are printed.
    """
    rows = choice.order(with_nodes(subject, found))
    if as_json:
        print_json(rows)
    else:
        if found.in_realm:
            columns = (NODE, *columns)
        table = [[format_value(column.name, row.get(column.name)) for column in columns] for row in rows]
        print_table(columns, table, stays={choice.sort.name} if choice.sort else ())
    found.check()


def chooses_rows(
    of: str, columns: Sequence[Column]
) -> Callable[[Callable[Concatenate[Choice, Own], None]], Callable[..., None]]:
    """Give a command the options that choose rows in place of its first parameter, `choice: Choice`.

    Args:
        of: what the rows are of, in words.
        columns: of its rows.
    """
    return lambda command: expand_first_parameter(
        command, _options(column.name for column in columns), lambda **given: _choice(of, columns, **given)
    )


def _choice(
    of: str, columns: Sequence[Column], sort: str | None, invert: bool, wanted: str | None, limit: int | None
) -> Choice:
    by = None if sort is None else column_named(sort, columns, of)
    if wanted == "":
        raise Failure(Exit.USAGE, "--filter: the text must not be empty")
    if wanted is not None and is_pattern(wanted):
        check_pattern(wanted, "--filter")
    return Choice((*columns, NODE), by, invert, wanted, limit)


def _options(names: Iterable[str]) -> list[inspect.Parameter]:
    """Return the options, for columns with these names."""
    return [
        option(
            "sort",
            Annotated[
                str | None,
                typer.Option(
                    "--sort",
                    metavar="COLUMN",
                    help="Sort by a column, named as in JSON: numbers from the highest, texts from A to Z. "
                    "[default: as the broker has them]",
                    autocompletion=one_of(*names),
                ),
            ],
        ),
        option("invert", Annotated[bool, typer.Option("--invert", help="Invert the order.")], False),
        option(
            "wanted",
            Annotated[
                str | None,
                typer.Option(
                    "--filter",
                    metavar="TEXT|GLOB",
                    help="Print only rows with a name that contains TEXT, in capitals or not, or matches "
                    "GLOB; *, ? and [...] work as in a shell. [default: all]",
                ),
            ],
        ),
        option(
            "limit",
            Annotated[
                int | None,
                typer.Option(
                    "--limit",
                    metavar="N",
                    parser=whole_number("--limit", 1),
                    help="Print at most N rows. [default: all]",
                ),
            ],
        ),
    ]
