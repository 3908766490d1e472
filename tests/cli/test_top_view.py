"""The state and the screen of `ringback top`, without a terminal or a broker."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len

from ringback_cli.top_state import (
    COLUMNS,
    FIRST_SORT,
    MAX_FILTER_CHARS,
    MAX_ROWS,
    Look,
    State,
    View,
    page_rows,
    press,
    take,
    visible_rows,
)
from ringback_cli.top_view import KEYS, as_object, as_table, draw, head

HEIGHT = 24
ADDRESS = "tcp://127.0.0.1:5771"


def player(player_id: Any, calls: int | None = None, window: float = 0.0) -> list[Any]:
    """Return a row of a player. Without `calls` it is a row of an older broker, with fewer columns."""
    row = [player_id, 10.0, 2, "127.0.0.1", None, 0.5, window]
    return row if calls is None else [*row, calls, 0, 1.5]


def look(at: float, *players: list[Any], **counters: int) -> Look:
    callbacks = [
        ["shop:items", "server", 1, 3, 100, 0, 2.5, 0.4, 9.0],
        ["local:coords", "player", 2, 0, 0, 0, 0.0, None, None, "a newer broker's"],
        ["old", "player", 1],
    ]
    return Look(at, ADDRESS, players, callbacks, counters)


def state_of(*looks: Look, **settings: Any) -> State:
    state = State(ADDRESS, **settings)
    for one in looks:
        state = take(state, one)
    return state


def pressed(state: State, *keys: str) -> State:
    for key in keys:
        state = press(state, key, HEIGHT)
    return state


def names(state: State) -> list[Any]:
    first = COLUMNS[state.view][0].name
    return [row[first] for row in visible_rows(state)]


def screen(state: State, now: float = 2.0, width: int = 120, height: int = HEIGHT) -> list[str]:
    return [line.text.rstrip() for line in draw(state, now, 1.0, width, height)]


def in_realm(at: float, *missing: str, **counters: int) -> Look:
    """Return a look at a realm of two nodes, one of which may be missing."""
    players = [player(1, 10), player(2, 20)] if not missing else [player(1, 10)]
    callbacks = [["shop:items", "server", 1, 3, 100, 0, 2.5, 0.4, 9.0]]
    nodes: dict[View, list[str | None]] = {View.PLAYERS: ["a", "b"][: len(players)], View.CALLBACKS: ["b"]}
    return Look(at, ADDRESS, players, callbacks, counters, nodes, missing)


BY_NODE = {**FIRST_SORT, View.PLAYERS: "node"}


def test_a_realm_has_a_column_of_nodes() -> None:
    state = state_of(in_realm(1.0, frames_up=5), in_realm(2.0, frames_up=9), sort=BY_NODE)
    heads, rows = as_table(state)
    assert [column.head for column in heads[:2]] == ["player", "node"] and [row[:2] for row in rows] == [
        [1, "a"],
        [2, "b"],
    ]
    assert [row["node"] for row in as_object(state)["rows"]] == ["a", "b"]
    assert as_object(state)["frames_up_s"] == 4.0
    assert names(pressed(state, "/", "b")) == [2]
    assert [row["node"] for row in visible_rows(pressed(state, "c"))] == ["b"]
    assert pressed(state, ">").sort[View.PLAYERS] == "calls_s"
    alone = state_of(look(1.0, player(7, 1)), sort=BY_NODE)
    assert names(alone) == [7] and "node" not in [column.name for column in as_table(alone)[0]]
    assert pressed(alone, ">").sort[View.PLAYERS] == "calls_s"


def test_a_node_that_is_missing_is_named() -> None:
    state = state_of(in_realm(1.0, frames_up=5), in_realm(2.0, "b", frames_up=4), in_realm(3.0, frames_up=9))
    assert state.figures is not None and state.figures.frames_up_s is None, "b was missing before"
    state = state_of(in_realm(1.0, frames_up=5), in_realm(2.0, "b", frames_up=4))
    assert "without b" in head(state, 2.0, 1.0).text
    assert as_object(state)["missing"] == ["b"] and as_object(state)["frames_up_s"] is None


def test_rates_need_two_looks() -> None:
    first = look(1.0, player(7, 10), player("7", 10), player("anna"), frames_up=4, bounced_a=1, bounced_b=1)
    second = look(
        3.0,
        player(7, 30),
        player("7", 10),
        player("anna"),
        player(8, 5),
        frames_up=7,
        bounced_a=3,
        bounced_b=2,
    )
    state = state_of(first)
    assert [row.get("calls_s") for row in visible_rows(state)] == [None] * 3
    assert screen(state)[1].startswith("frames/s up -, down -, bounced -")
    state = take(state, second)
    assert {row["player"]: row["calls_s"] for row in visible_rows(state)} == {
        7: 10.0,
        "7": 0.0,
        "anna": None,
        8: None,
    }
    assert state.figures is not None and state.figures.frames_down_s == 0.0
    assert screen(state)[1].startswith("frames/s up 1.5, down 0.0, bounced 1.5")


def test_a_restarted_broker_counts_from_0() -> None:
    state = state_of(look(1.0, player(7, 10), frames_up=9), look(2.0, player(7, 0), frames_up=0))
    assert visible_rows(state)[0]["calls_s"] is None
    assert state.figures is not None and state.figures.frames_up_s is None
    assert take(state, look(2.0, player(7, 5))).figures is not None  # no time has passed


def test_the_order_of_rows() -> None:
    state = state_of(look(0.0, player(7), player("b"), player(10), player("a")))
    assert names(state) == [7, "b", 10, "a"]  # without calls, they stay in the order of joining
    state = replace(state, sort={**FIRST_SORT, View.PLAYERS: "player"})
    assert names(state) == [7, 10, "a", "b"]
    assert names(pressed(state, "I")) == ["b", "a", 10, 7]
    assert names(pressed(state, "I", "I")) == names(state)
    state = state_of(look(0.0), view=View.CALLBACKS)
    assert names(state) == ["shop:items", "local:coords", "old"]
    assert names(pressed(state, "I")) == [
        "local:coords",
        "shop:items",
        "old",
    ]  # "old" has no rate


def test_the_sort_column_changes() -> None:
    state, seen = state_of(look(0.0)), []
    for _ in COLUMNS[View.PLAYERS]:
        state = pressed(state, "f6")
        seen.append(state.sort[View.PLAYERS])
    assert sorted(seen) == sorted(column.name for column in COLUMNS[View.PLAYERS])
    assert state.sort == FIRST_SORT
    assert pressed(state, ">", "<").sort == FIRST_SORT
    assert pressed(state, "c", "<").sort == {View.PLAYERS: "calls_s", View.CALLBACKS: "side"}


def test_the_view_changes() -> None:
    state = pressed(state_of(look(0.0, player(7), player(8))), "down", "\t")
    assert (state.view, state.cursor) == (View.CALLBACKS, 0)
    assert pressed(state, "\t").view is pressed(state, "p").view is View.PLAYERS
    assert pressed(state, "p", "c").view is View.CALLBACKS


def test_typing_a_filter() -> None:
    state = pressed(state_of(look(0.0, player("Anna"), player("berta"), player("hanna"))), "end", "/", *"anq")
    assert state.typing and screen(state)[-1] == "filter: anq_"
    assert names(state) == [] and state.cursor == 0
    state = pressed(state, "backspace", "up", "\x00", "\t")
    assert (state.text, names(state)) == ("an", ["Anna", "hanna"])
    kept = pressed(state, "enter", "q")
    assert kept.over and names(kept) == ["Anna", "hanna"] and 'with "an"' in screen(kept)[1]
    assert (
        names(pressed(state, "escape"))
        == names(pressed(state, "enter", "escape"))
        == ["Anna", "berta", "hanna"]
    )
    assert len(pressed(state, *"x" * 100).text) == MAX_FILTER_CHARS
    assert names(pressed(state_of(look(0.0, player("x"))), "f4", *"127.0")) == ["x"]  # any column counts


def test_the_cursor_stays_within_the_rows() -> None:
    state = state_of(look(0.0, *(player(number) for number in range(1, 101))))
    assert pressed(state, "up").cursor == 0
    assert pressed(state, "down", "down", "up").cursor == 1
    assert pressed(state, "pagedown").cursor == page_rows(HEIGHT) == 20
    assert pressed(state, "pagedown", "pageup").cursor == 0
    assert pressed(state, "end").cursor == pressed(state, "end", "pagedown").cursor == 99
    assert pressed(state, "end", "home").cursor == 0
    assert take(pressed(state, "end"), look(1.0, player(1), player(2))).cursor == 1
    assert take(pressed(state, "end"), look(1.0)).cursor == 0
    assert screen(pressed(state, "end"))[-2].startswith("100 ")
    drawn = draw(pressed(state, "end"), 0.0, 1.0, 80, HEIGHT)
    assert [line.text.split()[0] for line in drawn if line.style == "bold"][1:] == ["100"]


def test_a_pause_keeps_the_rows() -> None:
    state = pressed(state_of(look(0.0, player(7))), " ")
    state = take(state, look(1.0, player(8)))
    assert names(state) == [7] and "paused" in screen(state)[1]
    assert names(take(pressed(state, " "), look(2.0, player(8)))) == [8]
    first = take(pressed(State(ADDRESS), " "), look(0.0, player(7)))
    assert names(first) == [7]  # there were no rows to keep


@pytest.mark.parametrize("key", ["h", "?", "f1"])
def test_the_keys_are_shown(key: str) -> None:
    state = pressed(state_of(look(0.0, player(7))), key)
    assert any("PgUp" in line for line in screen(state))
    assert not pressed(state, "x").helping and not pressed(state, "x").over
    assert pressed(state, "q").over and pressed(state, "f10").over


def test_other_keys_do_nothing() -> None:
    state = state_of(look(0.0, player(7)))
    assert pressed(state, "x", "enter", "backspace", "ä", "\x01") == state


def test_the_head_says_how_the_broker_is() -> None:
    assert head(State(ADDRESS), 9.0, 1.0).text == f"{ADDRESS}  waiting for an answer"
    state = state_of(look(1.0, player(7)))
    assert head(state, 4.0, 1.0).text == f"{ADDRESS}  1 players  server connected"
    assert head(state, 4.1, 1.0).text == f"{ADDRESS}  no answer for 3 s, trying again"
    lost = replace(state, problem="CONNECTION_LOST: \x1b[31mgone")
    assert head(lost, 2.0, 1.0).text.endswith(" 1 s, trying again (CONNECTION_LOST: \\x1b[31mgone)")
    never = replace(State(ADDRESS), problem="TIMEOUT: no answer")
    assert head(never, 2.0, 1.0).text == f"{ADDRESS}  no answer, trying again (TIMEOUT: no answer)"
    assert take(lost, look(2.0)).problem == ""
    nobody = state_of(Look(0.0, ADDRESS, [player(1)] * MAX_ROWS, [], {}))
    assert head(nobody, 0.0, 1.0).text == f"{ADDRESS}  10000+ players  no server with callbacks"


@pytest.mark.parametrize("height", [1, 2, 5, 24, 100])
@pytest.mark.parametrize("width", [1, 40, 80, 300])
@pytest.mark.parametrize("keys", [(), ("h",), ("\t",), ("/", "x")])
def test_a_screen_has_the_size_of_the_terminal(width: int, height: int, keys: tuple[str, ...]) -> None:
    state = pressed(state_of(look(0.0, *(player("漢字" * n) for n in range(1, 11)))), *keys)
    drawn = draw(state, 0.0, 1.0, width, height)
    assert len(drawn) == height
    assert {cell_len(line.text) for line in drawn} == {width}


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 120, 200])
@pytest.mark.parametrize("view", View)
def test_no_word_is_cut(view: View, width: int) -> None:
    """Columns give way, but never the one that sorts. A long ID ends with an ellipsis."""
    long = "a-player-with-a-long-identifier-" + "0" * 32
    state = state_of(look(0.0, player(long, 123456)), look(1.0, player(long, 123999)), view=view)
    heads = [column.head for column in COLUMNS[view]]
    for column in COLUMNS[view]:
        shown = replace(state, sort={**FIRST_SORT, view: column.name})
        lines = screen(shown, width=width)
        present = re.split(" {2,}", lines[2].strip())
        assert set(present) <= set(heads) and column.head in present
        hidden = len(heads) - len(present)
        if width >= 100 or (width == 80 and column.name == FIRST_SORT[view]):
            assert (f"{hidden} more column" in lines[1]) is bool(hidden)
        known = set(" ".join(screen(shown, width=300)).split()) | {
            "…",
            "more",
            "column",
            "columns",
            str(hidden),
        }
        assert {word for line in lines[:3] for word in line.split()} <= known
        if view is View.PLAYERS and "player" in present:
            name = lines[3].split()[0]
            assert name == long or (name.endswith("…") and long.startswith(name[:-1]))
            assert "543.0" in lines[3].split() or "calls/s" not in present
    full = screen(state, width=300)[2]
    assert re.split(" {2,}", full.strip()) == heads


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120])
def test_the_keys_are_shown_whole(width: int) -> None:
    state = pressed(state_of(look(0.0)), "h")
    lines = screen(state, width=width, height=60)
    said = " ".join(" ".join(lines[2:-1]).split())
    for keys, text in KEYS:
        assert all(word in said.split() for word in f"{keys} {text}".split())


def test_errors_have_a_colour() -> None:
    row = player(7, 10)
    row[8] = 3
    lines = draw(state_of(look(0.0, row, player(8, 10))), 0.0, 1.0, 120, HEIGHT)[3:5]
    coloured = [{line.text[start:end].strip(): style for start, end, style in line.spans} for line in lines]
    assert coloured == [{"7": "cyan", "3": "red"}, {"8": "cyan"}]


def test_names_are_shown_as_text() -> None:
    state = state_of(look(0.0, player("a\x1b[31m\n[b]"), player("7")))
    assert [line.split()[0] for line in screen(state)[3:5]] == ["a\\x1b[31m\\n[b]", '"7"']


def test_tables_and_objects() -> None:
    state = state_of(look(0.0, player(7, 3)), look(1.0, player(7, 5)))
    heads, rows = as_table(state)
    assert [column.head for column in heads[:4]] == ["player", "calls/s", "calls", "errors"]
    assert rows[0][:4] == [7, "2.0", 5, 0]
    found = as_object(state)
    assert found["rows"][0]["player"] == 7 and found["rows"][0]["calls_s"] == 2.0
    assert (found["players"], found["server"], found["problem"]) == (1, True, None)
    lost = as_object(replace(state, problem="TIMEOUT: x"))
    assert (lost["players"], lost["rows"], lost["problem"]) == (None, [], "TIMEOUT: x")
