"""Tables: which columns fit, how wide each is, and what a cell looks like.

A terminal that is too narrow never cuts a heading or a word. Headings take several lines, long names end with
an ellipsis, and then columns give way. Elsewhere, as in a pipe, a table has one line for each row, and all of
each cell.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, NamedTuple

from ringback_cli.output import on_terminal, one_line, paint, print_line, terminal_width

GAP = "  "
LEAST_NAME = 12
"""The least width of a column of names."""

LEAST_PROSE = 20
"""The least width of a column of prose."""

LEAST = 8
"""The least width of a column of names or prose, if nothing else can give way."""


def cell_len(text: str) -> int:
    """Return how many cells of a terminal a text takes. Without rich, each character counts as one."""
    if text.isascii():
        return len(text)
    try:
        from rich import cells
    except ModuleNotFoundError:
        return len(text)
    return cells.cell_len(text)


class Kind(Enum):
    """What a column has."""

    NUMBER = auto()
    """Numbers, at the right of the column. They are never cut."""

    WORD = auto()
    """Texts that are never cut, such as a side or a time."""

    NAME = auto()
    """Texts that others have chosen, such as player IDs. A long one ends with an ellipsis."""

    PROSE = auto()
    """Sentences and values. A long one takes several lines."""


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: for `--sort` and JSON.
        head: for the table.
        gives_way: when it does, if the table is too wide: the highest number first; 0: never. A column
            without any value goes before all others.
        least: the least width, in cells of a terminal.
        colour: of a cell with a text, on a terminal; None: no colour.
    """

    name: str
    head: str
    kind: Kind = Kind.NUMBER
    gives_way: int = 0
    least: int = 0
    colour: Callable[[str], str | None] = field(default=lambda _: None)

    @property
    def is_text(self) -> bool:
        """Whether its values are text, and not numbers."""
        return self.kind is not Kind.NUMBER


def red_unless_zero(text: str) -> str | None:
    """Return the colour of a number of errors."""
    return "red" if text not in ("0", "-") else None


def always(colour: str) -> Callable[[str], str | None]:
    """Return a function that gives each cell the same colour."""
    return lambda _: colour


def by_word(**colours: str) -> Callable[[str], str | None]:
    """Return a function that gives some texts a colour."""
    return colours.get


class Layout(NamedTuple):
    """What fits: the places of the columns that are shown, and their widths."""

    places: list[int]
    widths: list[int]


def lay_out(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    width: int,
    *,
    stays: Collection[str] = (),
    wraps_heads: bool = True,
) -> Layout:
    """Return the columns that fit into a width, and how wide each is.

    Args:
        rows: the texts of the cells.
        stays: the names of columns that do not give way.
        wraps_heads: a heading of several words may take several lines.
    """
    contents = [max((cell_len(row[i]) for row in rows), default=0) for i in range(len(columns))]
    empty = {i for i in range(len(columns)) if _is_empty(i, rows)}
    least = [_least(*pair, wraps_heads) for pair in zip(columns, contents, strict=True)]
    places = list(range(len(columns)))
    while _total(least[i] for i in places) > width:
        able = [i for i in places if columns[i].gives_way and columns[i].name not in stays]
        if not able:
            break
        places.remove(max(able, key=lambda i: (i in empty, columns[i].gives_way)))
    widths = {i: least[i] for i in places}
    _widen(widths, columns, contents, width)
    while _total(widths.values()) > width:
        widest = max(places, key=lambda i: (columns[i].kind in (Kind.NAME, Kind.PROSE)) * widths[i])
        if columns[widest].kind not in (Kind.NAME, Kind.PROSE) or widths[widest] <= LEAST:
            break
        widths[widest] -= 1
    return Layout(places, list(widths.values()))


def _is_empty(place: int, rows: Sequence[Sequence[str]]) -> bool:
    """Return whether no row has a value in a column."""
    return all(row[place] in ("", "-") for row in rows)


def _total(widths: Iterable[int]) -> int:
    found = list(widths)
    return sum(found) + len(GAP) * (len(found) - 1)


def _least(column: Column, content: int, wraps_heads: bool) -> int:
    """Return the least width that a column needs to cut nothing."""
    head = max(map(cell_len, column.head.split())) if wraps_heads else cell_len(column.head)
    most = {Kind.NAME: LEAST_NAME, Kind.PROSE: LEAST_PROSE}.get(column.kind, content)
    return max(head, column.least, min(content, most))


def _widen(widths: dict[int, int], columns: Sequence[Column], contents: list[int], width: int) -> None:
    """Use the width that is left: first for names, then for prose, then for headings on one line."""
    spare = width - _total(widths.values())
    for kind in (Kind.NAME, Kind.PROSE):
        while spare > 0:
            short = [i for i in widths if columns[i].kind is kind and widths[i] < contents[i]]
            if not short:
                break
            widths[min(short, key=lambda i: widths[i])] += 1
            spare -= 1
    for i, present in widths.items():
        wanted = cell_len(columns[i].head) - present
        if 0 < wanted <= spare:
            widths[i] += wanted
            spare -= wanted


def shorten(text: str, width: int) -> str:
    """Return a text that fits into a width: a longer one ends with an ellipsis."""
    if cell_len(text) <= width:
        return text
    while text and cell_len(text) >= width:
        text = text[:-1]
    return text + "…" * min(width, 1)


def shorten_line(text: str, width: int) -> str:
    """Return a line that fits into a width: a longer one loses whole words, and ends with an ellipsis."""
    if cell_len(text) <= width:
        return text
    words = text.split(" ")
    while len(words) > 1 and cell_len(" ".join(words)) + 2 > width:
        words.pop()
    kept = " ".join(words).rstrip()
    return f"{kept} …" if cell_len(kept) + 2 <= width else shorten(text, width)


def pad(text: str, column: Column, width: int) -> str:
    """Return the text of a cell as wide as its column: numbers at the right, others at the left."""
    spaces = " " * (width - cell_len(text))
    return f"{text}{spaces}" if column.is_text else f"{spaces}{text}"


def wrap(text: str, width: int) -> list[str]:
    """Return the lines of a text that is at most this wide. Only a word that is wider is cut."""
    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if cell_len(joined) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        while cell_len(word) > width > 0:
            kept = len(word)
            while kept > 1 and cell_len(word[:kept]) > width:
                kept -= 1
            lines[-1] = word[:kept]
            lines.append("")
            word = word[kept:]
        lines[-1] = word
    return lines


def print_table(
    columns: Sequence[Column], rows: Sequence[Sequence[Any]], *, stays: Collection[str] = ()
) -> None:
    """Print a table: on a terminal as wide as the terminal, elsewhere one line for each row.

    Args:
        stays: the names of columns that do not give way.

    Raises:
        Failure, typer.Exit: as `print_line` does.
    """
    texts = [[_text(value) for value in row] for row in rows]
    lines = _drawn(columns, texts, stays) if on_terminal() else _plain(columns, texts)
    print_line("\n".join(lines))


class RowPrinter:
    """Prints the rows of a table one by one, as they become known: the heads first.

    Args:
        columns: the widths come from their heads, and from `least`.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        width = terminal_width() if on_terminal() else sys.maxsize
        self._layout = lay_out(columns, [], width, wraps_heads=on_terminal())
        self._columns = [columns[place] for place in self._layout.places]
        heads = [
            wrap(column.head, width) for column, width in zip(self._columns, self._layout.widths, strict=True)
        ]
        height = max(map(len, heads))
        for line in zip(*([""] * (height - len(head)) + head for head in heads), strict=True):
            self._print(line, bold=True)

    def print_row(self, cells: Sequence[str]) -> None:
        """Print one row."""
        self._print([cells[place] for place in self._layout.places])

    def _print(self, cells: Sequence[str], *, bold: bool = False) -> None:
        padded = map(pad, cells, self._columns, self._layout.widths)
        print_line(paint(GAP.join(padded), bold=bold))


def _plain(columns: Sequence[Column], rows: list[list[str]]) -> list[str]:
    table = [[column.head for column in columns], *rows]
    widths = [max(cell_len(row[i]) for row in table) for i in range(len(columns))]
    return [
        GAP.join(
            f"{cell}{' ' * (width - cell_len(cell))}" for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in table
    ]


def _drawn(columns: Sequence[Column], rows: list[list[str]], stays: Collection[str]) -> list[str]:
    places, widths = lay_out(columns, rows, terminal_width(), stays=stays)
    shown = [columns[i] for i in places]

    def lines_of(cells: list[list[str]], style: Callable[[str, Column], str]) -> list[str]:
        height = max(map(len, cells))
        return [
            GAP.join(
                style(pad(cell[n] if n < len(cell) else "", column, width), column)
                for cell, column, width in zip(cells, shown, widths, strict=True)
            ).rstrip()
            for n in range(height)
        ]

    heads = [wrap(column.head, width) for column, width in zip(shown, widths, strict=True)]
    height = max(map(len, heads))
    heads = [[""] * (height - len(head)) + head for head in heads]  # each ends at the rule
    lines = [*lines_of(heads, lambda text, _: paint(text, bold=True)), "─" * _total(widths)]
    for row in rows:
        cells = [_lines(row[i], columns[i], width) for i, width in zip(places, widths, strict=True)]
        lines += lines_of(cells, _painted)
    given_way = [i for i in range(len(columns)) if i not in places and not _is_empty(i, rows)]
    if given_way:
        names = ", ".join(columns[i].head for i in given_way)
        note = f"not shown: {names}. A wider terminal shows more; --json has all."
        lines += [paint(line, dim=True) for line in wrap(note, terminal_width())]
    return lines


def _lines(text: str, column: Column, width: int) -> list[str]:
    return wrap(text, width) if column.kind is Kind.PROSE else [shorten(text, width)]


def _painted(text: str, column: Column) -> str:
    bare = text.strip()
    return paint(text, dim=True) if bare == "-" else paint(text, column.colour(bare) if bare else None)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return one_line(str(value))
