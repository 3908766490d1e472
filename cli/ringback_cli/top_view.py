"""How `ringback top` shows its state: as lines of a screen, as a plain table, as an object for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ringback_cli.output import one_line
from ringback_cli.rows import format_value
from ringback_cli.top_state import (
    MAX_ROWS,
    Column,
    Figures,
    State,
    View,
    columns_of,
    is_descending,
    page_rows,
    shown,
    sort_column,
    visible_rows,
)

NAME_WIDTHS = (16, 40)
"""The least and the greatest width of the first column, which takes what the others leave."""

KEYS = (
    ("q  F10", "quit; Ctrl-C too"),
    ("Tab  p  c", "show the other table; players; callbacks"),
    ("F6  >  <", "sort by the next column; by the previous one"),
    ("I", "invert the order"),
    ("/  F4", "show only rows that contain a text; Enter keeps it, Esc removes it"),
    ("arrows  PgUp  PgDn  Home  End", "move"),
    ("space", "pause, and continue"),
    ("h  ?  F1", "show these keys; any key goes back"),
)
_HINT = "F1 keys  F4 filter  F6 sort  I invert  Tab other table  space pause  F10 quit"


class Line(NamedTuple):
    """A line of the screen, and its style in the terms of rich."""

    text: str
    style: str = ""


def head(state: State, now: float, interval_s: float) -> Line:
    """Return the line that says how the broker is."""
    figures = state.figures
    if state.problem or (state.look is not None and now - state.look.at > 2 * interval_s + 1):
        since = "" if state.look is None else f" for {now - state.look.at:.0f} s"
        reason = f" ({one_line(state.problem)})" if state.problem else ""
        return Line(f"{state.address}  no answer{since}, trying again{reason}", "bold red")
    if figures is None:
        return Line(f"{state.address}  waiting for an answer")
    connected = len(figures.rows[View.PLAYERS])
    parts = [
        state.address,
        f"{connected}{'+' if connected == MAX_ROWS else ''} players",
        "server connected" if figures.has_server else "no server with callbacks",
        *([f"{figures.standbys} standing by"] if figures.standbys else []),
        *([f"without {', '.join(figures.missing)}"] if figures.missing else []),
    ]
    return Line("  ".join(parts), "bold")


def traffic(figures: Figures) -> str:
    """Return the text that says how many frames went through the broker."""
    rates = (figures.frames_up_s, figures.frames_down_s, figures.bounces_s)
    up, down, bounces = ("-" if rate is None else f"{rate:.1f}" for rate in rates)
    return f"frames/s up {up}, down {down}, bounced {bounces}"


def _status(state: State, count: int) -> Line:
    """Return the line that says how many rows are shown, and in which order."""
    parts = [
        *([traffic(state.figures)] if state.figures else []),
        f"{count} by {sort_column(state).head}, {'descending' if is_descending(state) else 'ascending'}",
        *([f'with "{one_line(state.text)}"'] if state.text else []),
        *(["paused"] if state.paused else []),
    ]
    return Line("  ".join(parts))


def draw(state: State, now: float, interval_s: float, width: int, height: int) -> list[Line]:
    """Return the lines of the screen from the top: exactly `height` lines, each exactly `width` wide."""
    rows = visible_rows(state)
    page = page_rows(height)
    first = max(0, min(state.cursor - page // 2, len(rows) - page))  # the cursor stays in the middle
    lines = [head(state, now, interval_s), _status(state, len(rows))]
    if state.helping:
        lines += [Line(f"{keys:<32}{text}") for keys, text in KEYS]
    else:
        columns = columns_of(state)
        lines.append(Line(_join([column.head for column in columns], columns, width), "reverse"))
        for number, row in enumerate(rows[first : first + page], first):
            text = _join([shown(row, column) for column in columns], columns, width)
            lines.append(Line(text, "bold" if number == state.cursor else ""))
    lines = lines[: max(0, height - 1)]
    lines += [Line("")] * (height - 1 - len(lines))
    lines.append(Line(f"filter: {one_line(state.text)}_" if state.typing else _HINT, "reverse"))
    return [Line(_fit(line.text, width), line.style) for line in lines[-height:]]


def _join(cells: Sequence[str], columns: Sequence[Column], width: int) -> str:
    """Return one line of a table: text is aligned at the left of its column, numbers at the right."""
    left = width - sum(column.width for column in columns)
    least, greatest = NAME_WIDTHS
    parts = [_fit(cells[0], max(least, min(left, greatest)))]
    for text, column in zip(cells[1:], columns[1:], strict=True):
        if column.is_text:
            parts.append("  " + _fit(text, column.width - 2))
        else:
            parts.append(" " + f"{text:>{column.width - 1}}")
    return "".join(parts)


def _fit(text: str, width: int) -> str:
    """Return a text cut or padded to a number of cells of a terminal."""
    from rich.cells import set_cell_size

    return set_cell_size(text, width)


def as_table(state: State) -> tuple[list[str], list[list[Any]]]:
    """Return the heads and the rows of a plain table."""
    columns = columns_of(state)
    rows = [
        [format_value(column.name, row.get(column.name)) for column in columns] for row in visible_rows(state)
    ]
    return [column.head for column in columns], rows


def as_object(state: State) -> dict[str, Any]:
    """Return the object for a line of JSON. It has no rows if the last look failed."""
    if state.problem:
        state = replace(state, figures=None)
    figures = state.figures
    names = [column.name for column in columns_of(state)]
    return {
        "broker": state.address,
        "problem": state.problem or None,
        "players": figures and len(figures.rows[View.PLAYERS]),
        "server": figures and figures.has_server,
        "standbys": figures and figures.standbys,
        "frames_up_s": figures and figures.frames_up_s,
        "frames_down_s": figures and figures.frames_down_s,
        "bounces_s": figures and figures.bounces_s,
        **({"missing": list(figures.missing)} if figures and figures.missing else {}),
        "view": state.view.value,
        "rows": [{name: row.get(name) for name in names} for row in visible_rows(state)],
    }
