"""What `ringback top` shows: answers of the broker and keys go in, and a new state comes out.

Nothing here knows the time or the terminal. The caller passes both as arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from ringback_cli.choosing import NODE, Row, contains, descends, sort
from ringback_cli.output import one_line
from ringback_cli.rows import format_value, named_rows
from ringback_cli.tables import Column, Kind, always, red_unless_zero

MAX_ROWS = 10_000
"""The number of players, and of callbacks, that are fetched at most."""

MAX_FILTER_CHARS = 64


class View(StrEnum):
    """The tables."""

    PLAYERS = "players"
    CALLBACKS = "callbacks"


COLUMNS: dict[View, tuple[Column, ...]] = {
    View.PLAYERS: (
        Column("player", "player", Kind.NAME, least=16, colour=always("cyan")),
        Column("calls_s", "calls/s", least=8, gives_way=1),
        Column("calls", "calls", least=8, gives_way=3),
        Column("errors", "errors", least=6, gives_way=2, colour=red_unless_zero),
        Column("in_flight", "in flight", gives_way=6),
        Column("rtt_ms", "rtt ms", least=6, gives_way=5),
        Column("window_percent", "window %", least=8, gives_way=4),
        Column("callbacks", "callbacks", gives_way=10),
        Column("connected_s", "connected s", gives_way=8),
        Column("heard_s", "heard s ago", gives_way=11),
        Column("ip", "IP", Kind.NAME, gives_way=7),
        Column("identity", "identity", Kind.NAME, gives_way=9),
    ),
    View.CALLBACKS: (
        Column("key", "key", Kind.NAME, least=16, colour=always("cyan")),
        Column("side", "side", Kind.WORD, gives_way=7),
        Column("rate", "calls/s", least=8, gives_way=1),
        Column("calls", "calls", least=8, gives_way=3),
        Column("errors", "errors", least=6, gives_way=2, colour=red_unless_zero),
        Column("in_flight", "in flight", gives_way=6),
        Column("p50_ms", "p50 ms", least=8, gives_way=5),
        Column("p99_ms", "p99 ms", least=8, gives_way=4),
        Column("endpoints", "endpoints", gives_way=8),
    ),
}
"""Widths are such that the columns stay where they are while the figures change."""

FIRST_SORT = {View.PLAYERS: "calls_s", View.CALLBACKS: "rate"}


@dataclass(frozen=True)
class Look:
    """What the broker answered.

    Attributes:
        at: when, in seconds of the monotonic clock.
        address: the address of the broker that answered.
        players, callbacks: rows as the broker sends them.
        counters: values by name; in a realm, of all nodes together.
        nodes: in a realm, the node of each row, by table; empty: the broker is alone.
        missing: the nodes that did not answer.
    """

    at: float
    address: str
    players: Sequence[Sequence[Any]]
    callbacks: Sequence[Sequence[Any]]
    counters: Mapping[str, int]
    nodes: Mapping[View, Sequence[str | None]] = field(default_factory=dict)
    missing: Sequence[str] = ()


@dataclass(frozen=True)
class Figures:
    """What two looks, one after the other, say about the broker.

    Attributes:
        standbys: how many servers stand by.
        frames_up_s, frames_down_s, bounces_s: rates a second; None after the first look, and while a node is
            missing, or was.
        missing: the nodes that did not answer.
    """

    at: float
    rows: Mapping[View, Sequence[Row]]
    has_server: bool
    standbys: int = 0
    frames_up_s: float | None = None
    frames_down_s: float | None = None
    bounces_s: float | None = None
    missing: Sequence[str] = ()


@dataclass(frozen=True)
class State:
    """Everything that determines the screen.

    Attributes:
        address: the address of the broker that answered last; before that, the one or several that the
            command was given.
        text: the filter; only rows that contain it are shown.
        typing: keys are letters of the filter.
        problem: why the last look failed; empty if it did not fail.
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


def take(state: State, look: Look) -> State:
    """Return the state after the broker has answered."""
    figures = state.figures if state.paused and state.figures else _figures(look, state.look)
    return _clamp(replace(state, address=look.address, look=look, figures=figures, problem=""))


def _figures(look: Look, before: Look | None) -> Figures:
    """Return the figures of a look. Rates need the look before."""
    callbacks = named_rows("callbacks", look.callbacks)
    players = named_rows("players", look.players)
    has_server = any(row["side"] == "server" and row["endpoints"] for row in callbacks)
    rows: dict[View, Sequence[Row]] = {View.PLAYERS: players, View.CALLBACKS: callbacks}
    for found, names in (
        (players, look.nodes.get(View.PLAYERS)),
        (callbacks, look.nodes.get(View.CALLBACKS)),
    ):
        for row, name in zip(found, names or (), strict=False):
            row["node"] = name
    standbys = look.counters.get("servers_standing_by", 0)
    if before is None or look.at <= before.at or look.address != before.address:
        return Figures(look.at, rows, has_server, standbys, missing=look.missing)
    elapsed_s = look.at - before.at
    calls = {(type(row[0]), row[0]): row[7] for row in before.players if len(row) > 7}
    for player in players:
        earlier = calls.get((type(player["player"]), player["player"]))
        player["calls_s"] = _rate(player.get("calls"), earlier, elapsed_s)
    totals = zip(_totals(look.counters), _totals(before.counters), strict=True)
    up_s, down_s, bounces_s = (_rate(now, then, elapsed_s) for now, then in totals)
    if look.missing or before.missing:
        up_s = down_s = bounces_s = None
    return Figures(look.at, rows, has_server, standbys, up_s, down_s, bounces_s, look.missing)


def _totals(counters: Mapping[str, int]) -> tuple[int, int, int]:
    bounces = sum(value for name, value in counters.items() if name.startswith("bounced_"))
    return counters.get("frames_up", 0), counters.get("frames_down", 0), bounces


def _rate(value: int | None, before: int | None, elapsed_s: float) -> float | None:
    from ringback.protocol.significant import rounded

    if value is None or before is None or value < before:  # a lower value: the broker was restarted
        return None
    return rounded((value - before) / elapsed_s)


def visible_rows(state: State) -> list[Row]:
    """Return the rows of the present view that pass the filter, sorted. Rows without a value come last."""
    if state.figures is None:
        return []
    rows: list[Row] = list(state.figures.rows[state.view])
    if state.text:
        rows = [row for row in rows if contains(row, state.text, columns_of(state))]
    return sort(rows, sort_column(state), inverted=state.view in state.inverted)


def columns_of(state: State) -> tuple[Column, ...]:
    """Return the columns of the present view: with that of the nodes behind the first one, in a realm."""
    first, *others = COLUMNS[state.view]
    in_realm = state.look is not None and bool(state.look.nodes)
    return (first, NODE, *others) if in_realm else (first, *others)


def sort_column(state: State) -> Column:
    """Return the column that sorts the rows of the present view."""
    columns = (*COLUMNS[state.view], NODE)
    return next(column for column in columns if column.name == state.sort[state.view])


def is_descending(state: State) -> bool:
    """Return whether the highest value comes first."""
    return descends(sort_column(state), inverted=state.view in state.inverted)


def shown(row: Row, column: Column) -> str:
    """Return the text of a cell."""
    value = format_value(column.name, row.get(column.name))
    return "-" if value is None else one_line(str(value))


def _clamp(state: State) -> State:
    return replace(state, cursor=max(0, min(state.cursor, len(visible_rows(state)) - 1)))


def page_rows(height: int) -> int:
    """Return how many rows of the table fit on a screen: three lines are above them, one is below."""
    return max(1, height - 4)


def press(state: State, key: str, height: int) -> State:
    """Return the state after a key.

    Args:
        key: a character, or a name such as "up", "f10" or "escape".
        height: the number of lines of the terminal.
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
            return _look_at(state, View.CALLBACKS if state.view is View.PLAYERS else View.PLAYERS)
        case "p":
            return _look_at(state, View.PLAYERS)
        case "c":
            return _look_at(state, View.CALLBACKS)
        case "f6" | ">":
            return _sort_by(state, 1)
        case "<":
            return _sort_by(state, -1)
        case "I":
            return replace(state, inverted=state.inverted ^ {state.view})
        case "/" | "f4":
            return replace(state, typing=True)
        case "escape":
            return _clamp(replace(state, text=""))
        case " ":
            return replace(state, paused=not state.paused)
        case "h" | "?" | "f1":
            return replace(state, helping=True)
        case _:
            return _clamp(replace(state, cursor=state.cursor + moves.get(key, 0)))


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
    return _clamp(replace(state, text=text, typing=typing))


def _look_at(state: State, view: View) -> State:
    return replace(state, view=view, cursor=0)


def _sort_by(state: State, step: int) -> State:
    columns, present = columns_of(state), sort_column(state)
    place = columns.index(present) if present in columns else 0
    following = columns[(place + step) % len(columns)]
    return replace(state, sort={**state.sort, state.view: following.name})
