"""What `ringback top` shows: rows and keys go in, lines come out. Clock and size are arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

from ringback_cli.output import one_line
from ringback_cli.rows import named_rows, shown_cell

Row = Mapping[str, Any]
"""A row by the names of its columns; what the broker does not tell is not in it."""

MAX_ROWS = 10_000
"""Of players, and of callbacks: no more is fetched."""

MAX_FILTER_CHARS = 64
NAME_WIDTHS = (16, 40)
"""The least and the most for the first column, which takes what the others leave."""


class View(StrEnum):
    PLAYERS = "players"
    CALLBACKS = "callbacks"


class Column(NamedTuple):
    """One column: its name for `--sort` and JSON, and what stands above it."""

    name: str
    head: str
    width: int
    is_text: bool = False


COLUMNS: dict[View, tuple[Column, ...]] = {
    View.PLAYERS: (
        Column("player", "player", 0, is_text=True),
        Column("calls_s", "calls/s", 9),
        Column("calls", "calls", 10),
        Column("errors", "errors", 8),
        Column("rtt_ms", "rtt ms", 8),
        Column("window_percent", "window %", 9),
        Column("callbacks", "callbacks", 10),
        Column("connected_s", "connected s", 12),
        Column("heard_s", "heard s ago", 12),
        Column("ip", "IP", 16, is_text=True),
        Column("identity", "identity", 16, is_text=True),
    ),
    View.CALLBACKS: (
        Column("key", "key", 0, is_text=True),
        Column("side", "side", 7, is_text=True),
        Column("rate", "calls/s", 9),
        Column("calls", "calls", 10),
        Column("errors", "errors", 8),
        Column("in_flight", "in flight", 10),
        Column("p50_ms", "p50 ms", 9),
        Column("p99_ms", "p99 ms", 9),
        Column("endpoints", "endpoints", 10),
    ),
}
FIRST_SORT = {View.PLAYERS: "calls_s", View.CALLBACKS: "rate"}

KEYS = (
    ("q  F10", "quit; Ctrl-C too"),
    ("Tab  p  c", "the other table; players; callbacks"),
    ("F6  >  <", "sort by the next column; by the one before"),
    ("I", "turn the order round"),
    ("/  F4", "show only rows with a text; Enter keeps it, Esc ends it"),
    ("arrows  PgUp  PgDn  Home  End", "move"),
    ("space", "pause, and go on"),
    ("h  ?  F1", "these keys; any key goes back"),
)
_HINT = "F1 keys  F4 filter  F6 sort  I invert  Tab other table  space pause  F10 quit"


class Line(NamedTuple):
    """A line of the screen, and its style in the terms of rich."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class Look:
    """What the broker answered.

    Args:
        at: when, in seconds of a clock that only grows.
    """

    at: float
    players: Sequence[Sequence[Any]]
    callbacks: Sequence[Sequence[Any]]
    counters: Mapping[str, int]


@dataclass(frozen=True)
class Figures:
    """What a look and the one before it say. Rates are a second, None after the first look."""

    at: float
    rows: Mapping[View, Sequence[Row]]
    has_server: bool
    frames_up_s: float | None = None
    frames_down_s: float | None = None
    bounces_s: float | None = None


@dataclass(frozen=True)
class State:
    """All that is shown, and how.

    Args:
        address: of the broker.
        text: only rows in which it is are shown.
        typing: keys are the letters of that text.
        problem: why the last look failed; "" when it did not.
    """

    address: str
    view: View = View.PLAYERS
    sort: Mapping[View, str] = field(default_factory=lambda: dict(FIRST_SORT))
    inverted: frozenset[View] = frozenset()
    text: str = ""
    typing: bool = False
    cursor: int = 0
    paused: bool = False
    helping: bool = False
    over: bool = False
    look: Look | None = None
    figures: Figures | None = None
    problem: str = ""


def took(state: State, look: Look) -> State:
    """Gives the state after the broker has answered."""
    figures = state.figures if state.paused and state.figures else figures_of(look, state.look)
    return _clamped(replace(state, look=look, figures=figures, problem=""))


def figures_of(look: Look, before: Look | None) -> Figures:
    """Gives what is shown of a look; for rates it takes the one before."""
    callbacks = named_rows("callbacks", look.callbacks)
    players = named_rows("players", look.players)
    has_server = any(row["side"] == "server" and row["endpoints"] for row in callbacks)
    rows: dict[View, Sequence[Row]] = {View.PLAYERS: players, View.CALLBACKS: callbacks}
    if before is None or look.at <= before.at:
        return Figures(look.at, rows, has_server)
    elapsed_s = look.at - before.at
    calls = {(type(row[0]), row[0]): row[7] for row in before.players if len(row) > 7}
    for player in players:
        earlier = calls.get((type(player["player"]), player["player"]))
        player["calls_s"] = _rate(player.get("calls"), earlier, elapsed_s)
    now, then = _totals(look.counters), _totals(before.counters)
    return Figures(
        look.at, rows, has_server, *(_rate(*two, elapsed_s) for two in zip(now, then, strict=True))
    )


def _totals(counters: Mapping[str, int]) -> tuple[int, int, int]:
    bounces = sum(value for name, value in counters.items() if name.startswith("bounced_"))
    return counters.get("frames_up", 0), counters.get("frames_down", 0), bounces


def _rate(value: int | None, before: int | None, elapsed_s: float) -> float | None:
    if value is None or before is None or value < before:  # less: it has begun anew
        return None
    return round((value - before) / elapsed_s, 1)


def rows_of(state: State) -> list[Row]:
    """Gives the rows of the present view that the filter leaves, in their order. Unknown values are last."""
    if state.figures is None:
        return []
    rows: list[Row] = list(state.figures.rows[state.view])
    if state.text:
        text, columns = state.text.casefold(), COLUMNS[state.view]
        rows = [row for row in rows if any(text in _shown(row, column).casefold() for column in columns)]
    column = sort_column(state)
    known = [row for row in rows if row.get(column.name) is not None]
    known.sort(
        key=lambda row: (isinstance(row[column.name], str), row[column.name]),
        reverse=_is_falling(state),
    )
    return known + [row for row in rows if row.get(column.name) is None]


def sort_column(state: State) -> Column:
    """Gives the column that the rows are sorted by: numbers from the greatest, texts from A."""
    return next(column for column in COLUMNS[state.view] if column.name == state.sort[state.view])


def _is_falling(state: State) -> bool:
    inverted = state.view in state.inverted
    return inverted if sort_column(state).is_text else not inverted


def _shown(row: Row, column: Column) -> str:
    value = shown_cell(column.name, row.get(column.name))
    return "-" if value is None else one_line(str(value))


def _clamped(state: State) -> State:
    return replace(state, cursor=max(0, min(state.cursor, len(rows_of(state)) - 1)))


def page_rows(height: int) -> int:
    """Gives how many rows of the table a screen has: three lines are above it, one is below."""
    return max(1, height - 4)


def press(state: State, key: str, height: int) -> State:
    """Gives the state after a key.

    Args:
        key: a character, or a name as "up", "f10" or "escape".
        height: of the terminal, in lines.
    """
    if state.typing:
        return _type(state, key)
    if state.helping:
        return replace(state, helping=False, over=key in ("q", "f10"))
    page = page_rows(height)
    moves = {"up": -1, "down": 1, "pageup": -page, "pagedown": page, "home": -MAX_ROWS, "end": MAX_ROWS}
    match key:
        case "q" | "f10":
            return replace(state, over=True)
        case "\t":
            return _looking_at(state, View.CALLBACKS if state.view is View.PLAYERS else View.PLAYERS)
        case "p":
            return _looking_at(state, View.PLAYERS)
        case "c":
            return _looking_at(state, View.CALLBACKS)
        case "f6" | ">":
            return _sorted_by(state, 1)
        case "<":
            return _sorted_by(state, -1)
        case "I":
            return replace(state, inverted=state.inverted ^ {state.view})
        case "/" | "f4":
            return replace(state, typing=True)
        case "escape":
            return _clamped(replace(state, text=""))
        case " ":
            return replace(state, paused=not state.paused)
        case "h" | "?" | "f1":
            return replace(state, helping=True)
        case _:
            return _clamped(replace(state, cursor=state.cursor + moves.get(key, 0)))


def _type(state: State, key: str) -> State:
    text, typing = state.text, True
    match key:
        case "enter":
            typing = False
        case "escape":
            text, typing = "", False
        case "backspace":
            text = text[:-1]
        case _ if len(key) == 1 and key.isprintable():
            text = (text + key)[:MAX_FILTER_CHARS]
    return _clamped(replace(state, text=text, typing=typing))


def _looking_at(state: State, view: View) -> State:
    return replace(state, view=view, cursor=0)


def _sorted_by(state: State, step: int) -> State:
    columns = COLUMNS[state.view]
    following = columns[(columns.index(sort_column(state)) + step) % len(columns)]
    return replace(state, sort={**state.sort, state.view: following.name})


def head(state: State, now: float, interval_s: float) -> Line:
    """Gives what is said of the broker."""
    figures = state.figures
    if state.problem or (state.look is not None and now - state.look.at > 2 * interval_s + 1):
        since = "" if state.look is None else f" for {now - state.look.at:.0f} s"
        why = f" ({one_line(state.problem)})" if state.problem else ""
        return Line(f"{state.address}  no answer{since}, trying again{why}", "bold red")
    if figures is None:
        return Line(f"{state.address}  waiting for an answer")
    there = len(figures.rows[View.PLAYERS])
    parts = [
        state.address,
        f"{there}{'+' if there == MAX_ROWS else ''} players",
        "server there" if figures.has_server else "no server with callbacks",
    ]
    return Line("  ".join(parts), "bold")


def traffic(figures: Figures) -> str:
    """Gives what went through the broker."""
    rates = (figures.frames_up_s, figures.frames_down_s, figures.bounces_s)
    up, down, bounces = ("-" if rate is None else f"{rate:.1f}" for rate in rates)
    return f"frames/s up {up}, down {down}, bounced {bounces}"


def _how(state: State, shown: int) -> Line:
    """Gives the line that tells which rows are shown, and in which order."""
    parts = [
        *([traffic(state.figures)] if state.figures else []),
        f"{shown} by {sort_column(state).head}, {'falling' if _is_falling(state) else 'rising'}",
        *([f'with "{one_line(state.text)}"'] if state.text else []),
        *(["paused"] if state.paused else []),
    ]
    return Line("  ".join(parts))


def lines(state: State, now: float, interval_s: float, width: int, height: int) -> list[Line]:
    """Gives the screen from above: at most as many lines as it has, none wider than it is."""
    rows = rows_of(state)
    page = page_rows(height)
    first = max(0, min(state.cursor - page // 2, len(rows) - page))  # the cursor stays in the middle
    found = [head(state, now, interval_s), _how(state, len(rows))]
    if state.helping:
        found += [Line(f"{keys:<32}{text}") for keys, text in KEYS]
    else:
        columns = COLUMNS[state.view]
        found.append(Line(_joined([column.head for column in columns], columns, width), "reverse"))
        for number, row in enumerate(rows[first : first + page], first):
            text = _joined([_shown(row, column) for column in columns], columns, width)
            found.append(Line(text, "bold" if number == state.cursor else ""))
    found = found[: max(0, height - 1)]
    found += [Line("")] * (height - 1 - len(found))
    found.append(Line(f"filter: {one_line(state.text)}_" if state.typing else _HINT, "reverse"))
    return [Line(_fit(line.text, width), line.style) for line in found[-height:]]


def _joined(cells: Sequence[str], columns: Sequence[Column], width: int) -> str:
    """Gives one line of a table: texts begin at the left of their column, numbers end at its right."""
    left = width - sum(column.width for column in columns)
    least, most = NAME_WIDTHS
    parts = [_fit(cells[0], max(least, min(left, most)))]
    for text, column in zip(cells[1:], columns[1:], strict=True):
        if column.is_text:
            parts.append("  " + _fit(text, column.width - 2))
        else:
            parts.append(" " + f"{text:>{column.width - 1}}")
    return "".join(parts)


def _fit(text: str, width: int) -> str:
    """Gives a text that takes so many cells of a terminal: cut, or with spaces behind it."""
    from rich.cells import set_cell_size

    return set_cell_size(text, width)


def as_table(state: State) -> tuple[list[str], list[list[Any]]]:
    """Gives heads and rows for a plain table."""
    columns = COLUMNS[state.view]
    shown = [[shown_cell(column.name, row.get(column.name)) for column in columns] for row in rows_of(state)]
    return [column.head for column in columns], shown


def as_object(state: State) -> dict[str, Any]:
    """Gives what is shown for a line of JSON: no rows where the last look failed."""
    if state.problem:
        state = replace(state, figures=None)
    figures = state.figures
    names = [column.name for column in COLUMNS[state.view]]
    return {
        "broker": state.address,
        "problem": state.problem or None,
        "players": figures and len(figures.rows[View.PLAYERS]),
        "server": figures and figures.has_server,
        "frames_up_s": figures and figures.frames_up_s,
        "frames_down_s": figures and figures.frames_down_s,
        "bounces_s": figures and figures.bounces_s,
        "view": state.view.value,
        "rows": [{name: row.get(name) for name in names} for row in rows_of(state)],
    }
