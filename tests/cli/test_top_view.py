"""What `ringback top` shows, without a terminal or a broker."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len

from ringback_cli.top_view import (
    COLUMNS,
    FIRST_SORT,
    MAX_FILTER_CHARS,
    MAX_ROWS,
    Look,
    State,
    View,
    as_object,
    as_table,
    head,
    lines,
    page_rows,
    press,
    rows_of,
    took,
)

HEIGHT = 24
ADDRESS = "tcp://127.0.0.1:5771"


def player(player_id: Any, calls: int | None = None, window: float = 0.0) -> list[Any]:
    """Gives a row of a player; without calls one of a broker that does not tell them."""
    row = [player_id, 10.0, 2, "127.0.0.1", None, 0.5, window]
    return row if calls is None else [*row, calls, 0, 1.5]


def look(at: float, *players: list[Any], **counters: int) -> Look:
    callbacks = [
        ["shop:items", "server", 1, 3, 100, 0, 2.5, 0.4, 9.0],
        ["local:coords", "player", 2, 0, 0, 0, 0.0, None, None, "a newer broker's"],
        ["old", "player", 1],
    ]
    return Look(at, players, callbacks, counters)


def state_of(*looks: Look, **settings: Any) -> State:
    state = State(ADDRESS, **settings)
    for one in looks:
        state = took(state, one)
    return state


def pressed(state: State, *keys: str) -> State:
    for key in keys:
        state = press(state, key, HEIGHT)
    return state


def names(state: State) -> list[Any]:
    first = COLUMNS[state.view][0].name
    return [row[first] for row in rows_of(state)]


def screen(state: State, now: float = 2.0, width: int = 120, height: int = HEIGHT) -> list[str]:
    return [line.text.rstrip() for line in lines(state, now, 1.0, width, height)]


def test_rates_come_of_two_looks() -> None:
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
    assert [row.get("calls_s") for row in rows_of(state)] == [None] * 3
    assert screen(state)[1].startswith("frames/s up -, down -, bounced -")
    state = took(state, second)
    assert {row["player"]: row["calls_s"] for row in rows_of(state)} == {
        7: 10.0,
        "7": 0.0,
        "anna": None,
        8: None,
    }
    assert state.figures is not None and state.figures.frames_down_s == 0.0
    assert screen(state)[1].startswith("frames/s up 1.5, down 0.0, bounced 1.5")


def test_a_broker_that_was_started_anew_counts_from_0() -> None:
    state = state_of(look(1.0, player(7, 10), frames_up=9), look(2.0, player(7, 0), frames_up=0))
    assert rows_of(state)[0]["calls_s"] is None
    assert state.figures is not None and state.figures.frames_up_s is None
    assert took(state, look(2.0, player(7, 5))).figures is not None  # no time between: no rates either


def test_rows_have_their_order() -> None:
    state = state_of(look(0.0, player(7), player("b"), player(10), player("a")))
    assert names(state) == [7, "b", 10, "a"]  # nobody tells calls: the order of joining
    state = replace(state, sort={**FIRST_SORT, View.PLAYERS: "player"})
    assert names(state) == [7, 10, "a", "b"]
    assert names(pressed(state, "I")) == ["b", "a", 10, 7]
    assert names(pressed(state, "I", "I")) == names(state)
    state = state_of(look(0.0), view=View.CALLBACKS)
    assert names(state) == ["shop:items", "local:coords", "old"]
    assert names(pressed(state, "I")) == ["local:coords", "shop:items", "old"]  # what is unknown stays last


def test_the_sort_column_goes_round() -> None:
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


def test_a_filter_is_typed() -> None:
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
    assert names(pressed(state_of(look(0.0, player("x"))), "f4", *"127.0")) == ["x"]  # in any column


def test_the_cursor_stays_within_the_rows() -> None:
    state = state_of(look(0.0, *(player(number) for number in range(1, 101))))
    assert pressed(state, "up").cursor == 0
    assert pressed(state, "down", "down", "up").cursor == 1
    assert pressed(state, "pagedown").cursor == page_rows(HEIGHT) == 20
    assert pressed(state, "pagedown", "pageup").cursor == 0
    assert pressed(state, "end").cursor == pressed(state, "end", "pagedown").cursor == 99
    assert pressed(state, "end", "home").cursor == 0
    assert took(pressed(state, "end"), look(1.0, player(1), player(2))).cursor == 1
    assert took(pressed(state, "end"), look(1.0)).cursor == 0
    assert screen(pressed(state, "end"))[-2].startswith("100 ")
    drawn = lines(pressed(state, "end"), 0.0, 1.0, 80, HEIGHT)
    assert [line.text.split()[0] for line in drawn if line.style == "bold"][1:] == ["100"]


def test_a_pause_keeps_what_is_shown() -> None:
    state = pressed(state_of(look(0.0, player(7))), " ")
    state = took(state, look(1.0, player(8)))
    assert names(state) == [7] and "paused" in screen(state)[1]
    assert names(took(pressed(state, " "), look(2.0, player(8)))) == [8]
    assert names(took(pressed(State(ADDRESS), " "), look(0.0, player(7)))) == [
        7
    ]  # there is nothing yet to keep


@pytest.mark.parametrize("key", ["h", "?", "f1"])
def test_the_keys_are_shown(key: str) -> None:
    state = pressed(state_of(look(0.0, player(7))), key)
    assert any("PgUp" in line for line in screen(state))
    assert not pressed(state, "x").helping and not pressed(state, "x").over
    assert pressed(state, "q").over and pressed(state, "f10").over


def test_other_keys_do_nothing() -> None:
    state = state_of(look(0.0, player(7)))
    assert pressed(state, "x", "enter", "backspace", "ä", "\x01") == state


def test_the_head_says_how_it_is_with_the_broker() -> None:
    assert head(State(ADDRESS), 9.0, 1.0).text == f"{ADDRESS}  waiting for an answer"
    state = state_of(look(1.0, player(7)))
    assert head(state, 4.0, 1.0).text == f"{ADDRESS}  1 players  server there"
    assert head(state, 4.1, 1.0).text == f"{ADDRESS}  no answer for 3 s, trying again"
    lost = replace(state, problem="CONNECTION_LOST: \x1b[31mgone")
    assert head(lost, 2.0, 1.0).text.endswith(" 1 s, trying again (CONNECTION_LOST: \\x1b[31mgone)")
    never = replace(State(ADDRESS), problem="TIMEOUT: no answer")
    assert head(never, 2.0, 1.0).text == f"{ADDRESS}  no answer, trying again (TIMEOUT: no answer)"
    assert took(lost, look(2.0)).problem == ""
    nobody = state_of(Look(0.0, [player(1)] * MAX_ROWS, [], {}))
    assert head(nobody, 0.0, 1.0).text == f"{ADDRESS}  10000+ players  no server with callbacks"


@pytest.mark.parametrize("height", [1, 2, 5, 24, 100])
@pytest.mark.parametrize("width", [1, 40, 80, 300])
@pytest.mark.parametrize("keys", [(), ("h",), ("\t",), ("/", "x")])
def test_a_screen_is_never_larger_than_it_may_be(width: int, height: int, keys: tuple[str, ...]) -> None:
    state = pressed(state_of(look(0.0, *(player("漢字" * n) for n in range(1, 11)))), *keys)
    drawn = lines(state, 0.0, 1.0, width, height)
    assert len(drawn) == height
    assert {cell_len(line.text) for line in drawn} == {width}


def test_what_others_name_is_shown_as_text() -> None:
    state = state_of(look(0.0, player("a\x1b[31m\n[b]"), player("7")))
    assert [line.split()[0] for line in screen(state)[3:5]] == ["a\\x1b[31m\\n[b]", '"7"']


def test_tables_and_objects() -> None:
    state = state_of(look(0.0, player(7, 3)), look(1.0, player(7, 5)))
    heads, rows = as_table(state)
    assert heads[:4] == ["player", "calls/s", "calls", "errors"] and rows[0][:4] == [7, "2.0", 5, 0]
    found = as_object(state)
    assert found["rows"][0]["player"] == 7 and found["rows"][0]["calls_s"] == 2.0
    assert (found["players"], found["server"], found["problem"]) == (1, True, None)
    lost = as_object(replace(state, problem="TIMEOUT: x"))
    assert (lost["players"], lost["rows"], lost["problem"]) == (None, [], "TIMEOUT: x")
