"""Player IDs, default addresses, and limits that the command line repeats."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.protocol.limits import MAX_GRACE_S
from ringback.protocol.player_ids import check_player_id
from ringback.protocol.reports import MAX_WATCH_S
from ringback_broker.settings.schema import DEFAULT_BACKEND, DEFAULT_PLAYERS
from ringback_cli import options
from ringback_cli.commands import tap
from ringback_cli.exits import Exit, Failure
from ringback_cli.options import parse_player_id


@given(st.text())
def test_any_text_is_an_id_or_a_failure(text: str) -> None:
    for string_id in (False, True):
        try:
            player_id = parse_player_id(text, string_id, "ID")
        except Failure as failure:
            assert failure.exit is Exit.USAGE
        else:
            assert str(check_player_id(player_id)) == text
            assert not string_id or type(player_id) is str


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", 7),
        (str(2**63 - 1), 2**63 - 1),
        ("07", "07"),
        ("+7", "+7"),
        ("7.0", "7.0"),
        ("\u0667", "\u0667"),
        ("ann", "ann"),
    ],
)
def test_a_player_id_that_looks_like_an_int(text: str, expected: int | str) -> None:
    assert parse_player_id(text, False, "ID") == expected
    assert parse_player_id(text, True, "ID") == text


def test_the_defaults_are_those_of_the_broker() -> None:
    assert (options.DEFAULT_PLAYERS, options.DEFAULT_BACKEND) == (DEFAULT_PLAYERS, DEFAULT_BACKEND)


def test_the_limits_are_those_of_the_sdk() -> None:
    assert (options.MOST_GRACE_S, tap.MOST_LOG_S) == (MAX_GRACE_S, MAX_WATCH_S)
