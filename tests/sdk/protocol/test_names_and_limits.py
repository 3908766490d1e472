"""Player IDs, keys, and the limits that an endpoint sets."""

from __future__ import annotations

import math
import re
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringback.errors import ProtocolError
from ringback.protocol.limits import MAX_ENVELOPE_BYTES, Limits
from ringback.protocol.names import check_key, check_node_name, check_pattern, did_you_mean
from ringback.protocol.player_ids import check_player_id, decode_player_id, encode_player_id, is_same_id

PLAYER_ID = st.integers(1, 2**63 - 1) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=16
)


@pytest.mark.parametrize("player_id", [1, 2**63 - 1, "a", "x" * 64, "\u00e9" * 32, "\x00"])
def test_a_good_player_id_is_returned(player_id: Any) -> None:
    assert check_player_id(player_id) == player_id


@pytest.mark.parametrize("player_id", [0, -1, 2**63, "", "x" * 65, "\u00e9" * 33, "\ud800"])
def test_a_player_id_out_of_range(player_id: Any) -> None:
    with pytest.raises(ValueError, match="a player ID"):
        check_player_id(player_id)


@pytest.mark.parametrize("player_id", [True, 1.0, b"a", None, [1], type("Sub", (int,), {})(5)])
def test_a_player_id_of_another_type(player_id: Any) -> None:
    with pytest.raises(TypeError, match="a player ID must be an int or a str"):
        check_player_id(player_id)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [(7, 7, True), (7, "7", False), ("a", "a", True), (1, True, False), (7, 8, False)],
)
def test_an_int_and_a_str_are_two_player_ids(one: Any, other: Any, same: bool) -> None:
    assert is_same_id(one, other) is is_same_id(other, one) is same


@pytest.mark.parametrize("key", ["a", "shop:items", "k" * 256, "\u00e9" * 128])
def test_a_good_key_is_returned(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize("key", ["", "k" * 257, "\u00e9" * 129, "\udfff"])
def test_a_key_out_of_range(key: str) -> None:
    with pytest.raises(ValueError, match="a key"):
        check_key(key)


@pytest.mark.parametrize("key", [None, 1, b"k"])
def test_a_key_of_another_type(key: Any) -> None:
    with pytest.raises(TypeError, match="a key must be a str"):
        check_key(key)


@given(PLAYER_ID)
def test_id_part_round_trip(player_id: int | str) -> None:
    assert decode_player_id(encode_player_id(player_id)) == player_id


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_a_garbage_id_part_gives_an_id_or_a_protocol_error(address: bytes) -> None:
    try:
        player_id = decode_player_id(address)
    except ProtocolError:
        return
    assert encode_player_id(player_id) == address


def test_an_id_part_that_is_nested_deeply() -> None:
    with pytest.raises(ProtocolError):
        decode_player_id(b"\x91" * 100_000)
    with pytest.raises(ProtocolError):
        decode_player_id(msgpack.packb({(): 1}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, 0) for name in Limits.__slots__],
        *[(name, -1) for name in Limits.__slots__],
        *[(name, "9") for name in Limits.__slots__],
        *[(name, True) for name in Limits.__slots__],
        *[(name, 2.5) for name in Limits.__slots__ if name != "max_calls_per_s"],
        *[(name, None) for name in Limits.__slots__ if name != "max_calls_per_s"],
        ("max_calls_per_s", math.nan),
        ("max_call_bytes", MAX_ENVELOPE_BYTES + 1),
        ("max_depth", 65),
        ("max_array_len", 5),
        ("max_map_len", 7),
    ],
)
def test_limits_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        Limits(**{name: value})


def test_limits_at_their_bounds() -> None:
    assert Limits() == Limits(max_call_bytes=MAX_ENVELOPE_BYTES, max_depth=64)
    assert Limits(max_calls_per_s=0.5).max_calls_per_s == 0.5
    assert Limits(max_calls_per_s=100, max_depth=1, max_array_len=6, max_map_len=8).max_depth == 1


@pytest.mark.parametrize(
    "pattern",
    [
        "a",
        "*",
        "?",
        "shop:*",
        "[abc]",
        "[!a]",
        "[]a]",
        "[!]a]",
        "[a-z]x[0-9]",
        "[[]",
        "]",
        "[-a]",
        "[a-]",
        "[*]",
    ],
)
def test_patterns_that_are_allowed(pattern: str) -> None:
    assert check_pattern(pattern) == pattern


@pytest.mark.parametrize(
    ("pattern", "part"),
    [
        *(
            (pattern, "close each [")
            for pattern in ("[", "[]", "[!]", "[!", "a[", "[a", "[a][", "[[]b[", "[a\n")
        ),
        ("[z-a]", "must ascend"),
        ("x[ab9-0]", "must ascend"),
        ("", "a pattern must have 1 to 256 UTF-8 bytes, not 0"),
        ("ä" * 129, "not 258"),
        ("\udcff", "valid Unicode"),
    ],
)
def test_patterns_that_are_refused(pattern: str, part: str) -> None:
    with pytest.raises(ValueError, match=re.escape(part)):
        check_pattern(pattern)


def test_a_pattern_of_another_type() -> None:
    with pytest.raises(TypeError, match="must be a str, not int"):
        check_pattern(7)


def test_names_that_are_near_a_wrong_one() -> None:
    names = ["players", "player", "events"]
    assert did_you_mean("plaers", names) == "did you mean 'players' or 'player'?"
    assert did_you_mean("event", names) == "did you mean 'events'?"
    assert did_you_mean("x", names) == ""


@pytest.mark.parametrize("name", ["a", "berlin-1", "A_b", "x" * 64])
def test_a_name_of_a_node(name: str) -> None:
    assert check_node_name(name) == name


@pytest.mark.parametrize("name", ["", "a.b", "a b", "ä", "x" * 65, "a\n"])
def test_no_name_of_a_node(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 64 of A-Z"):
        check_node_name(name)


def test_a_name_of_a_node_is_text() -> None:
    with pytest.raises(TypeError, match="must be a str, not int"):
        check_node_name(7)
