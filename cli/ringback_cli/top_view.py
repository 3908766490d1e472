"""How `ringback top` shows its state: as lines of a screen, as a plain table, as an object for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ringback_cli.output import one_line
from ringback_cli.rows import format_value
from ringback_cli.tables import (
    GAP,
    LEAST_PROSE,
    Column,
    Layout,
    cell_len,
    lay_out,
    pad,
    shorten,
    shorten_line,
    wrap,
)
from ringback_cli.top_state import (
    MAX_ROWS,
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

KEYS = (
    ("q  F10", "quit; Ctrl-C too"),
    ("Tab  p  c", "show the other table; players; callbacks"),
    ("F6  >  <", "sort by the next column; by the previous one"),
    ("I", "invert the order"),
    ("/  F4", "show only rows with a name that contains a text; Enter keeps it, Esc removes it"),
    ("arrows  PgUp  PgDn  Home  End", "move"),
    ("space", "pause, and continue"),
    ("h  ?  F1", "show these keys; any key goes back"),
)
_HINT = "F1 keys  F4 filter  F6 sort  I invert  Tab other table  space pause  F10 quit"


class Line(NamedTuple):
    """A line of the screen.

    Attributes:
        style: in the terms of rich.
        spans: parts with a style of their own: from which character to which one, and the style.
    """

    text: str
    style: str = ""
    spans: Sequence[tuple[int, int, str]] = ()


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


def _status(state: State, count: int, hidden: int) -> Line:
    """Return the line that says how many rows there are, in which order, and how many columns are hidden."""
    parts = [
        *([traffic(state.figures)] if state.figures else []),
        f"{count} by {sort_column(state).head}, {'descending' if is_descending(state) else 'ascending'}",
        *([f'with "{one_line(state.text)}"'] if state.text else []),
        *(["paused"] if state.paused else []),
        *([f"{hidden} more column{'s' if hidden > 1 else ''}"] if hidden else []),
    ]
    return Line("  ".join(parts))


def draw(state: State, now: float, interval_s: float, width: int, height: int) -> list[Line]:
    """Return the lines of the screen from the top: exactly `height` lines, each exactly `width` wide."""
    rows = visible_rows(state)
    page = page_rows(height)
    first = max(0, min(state.cursor - page // 2, len(rows) - page))  # the cursor stays in the middle
    columns = columns_of(state)
    cells = [[shown(row, column) for column in columns] for row in rows[first : first + page]]
    stays = {sort_column(state).name}
    layout = lay_out(columns, cells, width, stays=stays, wraps_heads=False)
    hidden = len(columns) - len(layout.places)
    lines = [head(state, now, interval_s), _status(state, len(rows), hidden)]
    if state.helping:
        lines += _help(width)
    else:
        heads = _row([column.head for column in columns], columns, layout)
        lines.append(Line(heads.text, "reverse"))
        for number, row in enumerate(cells, first):
            lines.append(_row(row, columns, layout)._replace(style="bold" if number == state.cursor else ""))
    lines = lines[: max(0, height - 1)]
    lines += [Line("")] * (height - 1 - len(lines))
    lines.append(Line(f"filter: {one_line(state.text)}_" if state.typing else _HINT, "reverse"))
    return [line._replace(text=_fit(line.text, width)) for line in lines[-height:]]


def _help(width: int) -> list[Line]:
    """Return the lines that say what the keys do: under the keys where there is no room beside them."""
    beside = max(len(keys) for keys, _ in KEYS) + 2
    if width - beside < LEAST_PROSE:
        return [Line(line) for keys, text in KEYS for line in (keys, *wrap(f"  {text}", width))]
    return [
        Line(f"{keys if not number else '':<{beside}}{line}")
        for keys, text in KEYS
        for number, line in enumerate(wrap(text, width - beside))
    ]


def _row(cells: Sequence[str], columns: Sequence[Column], layout: Layout) -> Line:
    """Return one line of a table."""
    text, spans = "", []
    for place, width in zip(layout.places, layout.widths, strict=True):
        text += GAP if text else ""
        cell = pad(shorten(cells[place], width), columns[place], width)
        if colour := columns[place].colour(cells[place]):
            spans.append((len(text), len(text) + len(cell), colour))
        text += cell
    return Line(text, spans=spans)


def _fit(text: str, width: int) -> str:
    """Return a line that is shortened or padded to a number of cells of a terminal."""
    short = shorten_line(text, width)
    return short + " " * (width - cell_len(short))


def as_table(state: State) -> tuple[tuple[Column, ...], list[list[Any]]]:
    """Return the columns and the rows of a plain table."""
    columns = columns_of(state)
    rows = [
        [format_value(column.name, row.get(column.name)) for column in columns] for row in visible_rows(state)
    ]
    return columns, rows


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
