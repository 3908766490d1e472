"""Tables: what fits into a terminal, and what a pipe gets."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from support.terminals import Terminal

from ringback_cli.commands import callbacks, players
from ringback_cli.exits import Exit
from ringback_cli.tables import Column, Kind, lay_out, shorten, shorten_line, wrap

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
LONG = "a-player-with-a-long-identifier-" + "0" * 32


def drawn(shop: Any, columns: int, *arguments: str, **environment: str) -> str:
    """Return what a command writes to a terminal."""
    command = (sys.executable, "-m", "ringback_cli", *arguments)
    with Terminal(*command, environment={**shop.environment, **environment}, size=(24, columns)) as terminal:
        assert terminal.end() == Exit.OK
    return terminal.shown.replace("\r\n", "\n")


def words(text: str) -> set[str]:
    return set(COLOURS.sub("", text).split())


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_narrow_terminal_cuts_no_words(shop: Any, columns: int) -> None:
    for command, module in (("players", players), ("callbacks", callbacks)):
        lines = COLOURS.sub("", drawn(shop, columns, command)).splitlines()
        rule = next(place for place, line in enumerate(lines) if line.startswith("─"))
        assert max(map(len, lines)) <= columns
        known = {word for column in module.COLUMNS for word in column.head.split()}
        assert words("\n".join(lines[:rule])) <= known
        named = words(" ".join(lines).replace(",", "").replace(".", ""))
        missing = {column.head for column in module.COLUMNS if not words(column.head) <= named}
        assert missing <= {"identity", "p50 ms", "p99 ms"}, "only columns without a value go unnamed"


def test_numbers_are_at_the_right(shop: Any) -> None:
    lines = COLOURS.sub("", drawn(shop, 120, "players")).splitlines()
    heads, _, *rows = lines
    for head in ("connected s", "callbacks", "rtt ms"):
        end = heads.index(head) + len(head)
        assert all(row[end - 1].isdigit() and row[end : end + 1] in ("", " ") for row in rows)
    assert [row.split()[0] for row in rows] == ["7", '"7"', "other"]


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_without_colour(shop: Any, environment: dict[str, str]) -> None:
    assert "\x1b[" in drawn(shop, 120, "players")
    assert "\x1b" not in drawn(shop, 120, "players", **environment)
    assert "\x1b" not in drawn(shop, 120, "players", "--json")


def test_a_pipe_has_one_line_for_each_row_without_colour(shop: Any, command: Any) -> None:
    code, output, _ = command("players", environment={**shop.environment, "FORCE_COLOR": "1"}).end()
    heads, *rows = output.splitlines()
    assert code == Exit.OK and "\x1b" not in output and len(rows) == 3
    assert re.split(" {2,}", heads) == [column.head for column in players.COLUMNS]
    assert all(row.startswith(start) for row, start in zip(rows, ("7  ", '"7"  ', "other  "), strict=True))


NAMES = Column("player", "player", Kind.NAME)
SOME = (
    NAMES,
    Column("rate", "calls a second"),
    Column("errors", "errors", gives_way=1),
    Column("identity", "identity", Kind.NAME, gives_way=2),
    Column("ip", "IP", Kind.WORD, gives_way=3),
)


def shown(width: int, *rows: list[str], **settings: Any) -> dict[str, int]:
    places, widths = lay_out(SOME, rows, width, **settings)
    return {SOME[place].name: width for place, width in zip(places, widths, strict=True)}


def test_columns_give_way_in_their_order() -> None:
    row = [LONG, "12.5", "3", "anna", "127.0.0.1"]
    assert list(shown(200, row)) == ["player", "rate", "errors", "identity", "ip"]
    assert list(shown(45, row)) == ["player", "rate", "errors", "identity"]
    assert list(shown(35, row)) == ["player", "rate", "errors"]
    assert list(shown(25, row)) == ["player", "rate"]
    assert list(shown(35, row, stays={"ip"})) == ["player", "rate", "ip"]
    assert list(shown(45, [LONG, "12.5", "3", "-", "127.0.0.1"])) == ["player", "rate", "errors", "ip"]


def test_names_get_the_room_that_is_left() -> None:
    row = [LONG, "12.5", "3", "anna", "127.0.0.1"]
    found = shown(200, row)
    assert found["player"] == len(LONG) and found["rate"] == len("calls a second")
    found = shown(60, row)
    assert found["player"] < len(LONG) and found["rate"] == len("second")
    assert sum(found.values()) + 2 * (len(found) - 1) == 60
    assert shown(60, row, wraps_heads=False)["rate"] == len("calls a second")


def test_texts_that_are_too_long() -> None:
    assert shorten("abc", 3) == "abc" and shorten("abcd", 3) == "ab…" and shorten("abcd", 0) == ""
    assert shorten("漢字漢字", 5) == "漢字…"
    assert shorten_line("one two three", 13) == "one two three"
    assert shorten_line("one two three", 12) == "one two …"
    assert shorten_line("one two three", 4) == "one…" and shorten_line("onetwo", 4) == "one…"
    assert wrap("one two three", 7) == ["one two", "three"] and wrap("abcdef", 4) == ["abcd", "ef"]


@given(st.text(alphabet="ab 漢"), st.integers(2, 20))
def test_wrapped_text_fits_and_loses_nothing(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@given(st.text(alphabet="ab 漢"), st.integers(0, 20))
def test_shortened_text_fits(text: str, width: int) -> None:
    for short in (shorten(text, width), shorten_line(text, width)):
        assert cell_len(short) <= width
        assert short == text or not width or short.endswith("…")
