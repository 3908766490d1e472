"""Payloads, player IDs, JSON output and exit codes: the pure part."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback import Call, CallbackError, Code, InvalidPayload
from ringback.errors import ERROR_CLASSES
from ringback.protocol.player_ids import check_player_id
from ringback_broker.settings.schema import DEFAULT_BACKEND, DEFAULT_PLAYERS
from ringback_cli import options, payloads
from ringback_cli.exits import MEANINGS, Exit, Failure, exit_of
from ringback_cli.options import Patience, parse_player_id
from ringback_cli.output import one_line, print_json, to_json
from ringback_cli.payloads import parse, read_payload

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.binary(), inner),
    max_leaves=15,
)


def refuse_constant(name: str) -> Any:
    raise AssertionError(f"{name} is not JSON")


@given(values)
def test_output_is_json_of_one_line(value: Any) -> None:
    text = to_json(value)
    json.loads(text, parse_constant=refuse_constant)
    assert len(text.splitlines()) == 1
    assert all(char >= " " and not "\x7f" <= char <= "\x9f" for char in text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=15,
)


@given(json_values)
def test_json_comes_back_as_it_was(value: Any) -> None:
    assert json.loads(to_json(parse(json.dumps(value).encode(), ""))) == value


@given(st.binary())
def test_any_bytes_are_a_value_or_a_failure(data: bytes) -> None:
    try:
        parse(data, "x")
    except Failure as failure:
        assert failure.exit in (Exit.USAGE, Exit.INVALID_PAYLOAD)


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
def test_what_looks_like_an_int(text: str, expected: int | str) -> None:
    assert parse_player_id(text, False, "ID") == expected
    assert parse_player_id(text, True, "ID") == text


@given(st.text())
def test_an_error_is_one_line(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert len(line.splitlines()) <= 1


class _Input:
    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


@pytest.mark.parametrize(
    ("data", "exit", "part"),
    [
        (b"", Exit.USAGE, "PAYLOAD in standard input is empty"),
        (b"\n[1,]", Exit.USAGE, "line 2, column 4"),
        (b'"\xff"', Exit.USAGE, "not UTF-8: byte 2"),
        (b"1e999", Exit.USAGE, "the number 1e999 is out of range"),
        (b"9" * 5000, Exit.USAGE, "digits"),
        (b"[" * 100_000, Exit.INVALID_PAYLOAD, "nested too deep"),
        (b" " * 101, Exit.TOO_LARGE, "more than 100 bytes"),
    ],
    ids=["empty", "bad", "not-utf8", "out-of-range", "digits", "deep", "large"],
)
def test_bad_input(monkeypatch: pytest.MonkeyPatch, data: bytes, exit: Exit, part: str) -> None:
    monkeypatch.setattr("sys.stdin", _Input(data))
    if exit is Exit.TOO_LARGE:
        monkeypatch.setattr(payloads, "MAX_TEXT_BYTES", 100)
    with pytest.raises(Failure, match=part) as caught:
        read_payload("-")
    assert caught.value.exit is exit


def test_streams_that_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(Failure, match="no standard input"):
        read_payload("-")
    with pytest.raises(Failure, match="no standard output"):
        print_json(None)


def test_each_error_has_an_exit_code() -> None:
    for code, kind in ERROR_CLASSES.items():
        expected = Exit[code.name]
        assert exit_of(kind("x")) is expected
        tens = expected // 10
        assert tens == {"no": 1, "maybe": 2, "yes": 3}[kind.default_executed]
    assert exit_of(CallbackError("x", code="MY_OWN")) is Exit.APPLICATION_ERROR
    assert exit_of(InvalidPayload("the answer", executed="yes")) is Exit.INVALID_ANSWER
    assert set(Code.__members__) <= set(Exit.__members__)
    assert set(MEANINGS) == set(Exit)


def test_the_defaults_are_those_of_the_broker() -> None:
    assert (options.DEFAULT_PLAYERS, options.DEFAULT_BACKEND) == (DEFAULT_PLAYERS, DEFAULT_BACKEND)


def test_patience() -> None:
    assert Patience(None, 15.0).connecting_s() == 5.0
    assert 55 < Patience(60.0, 15.0).connecting_s() <= 60.0
    endless = Patience(math.inf, 15.0)
    assert endless.left_s() is None
    assert endless.connecting_s() > 1e6
    spent = Patience(1e-9, 15.0)
    assert spent.left_s() == 0.0
    assert spent.connecting_s() > 0


def test_ctrl_c_cancels(monkeypatch: pytest.MonkeyPatch) -> None:
    from ringback_cli.connecting import calls_of, result_of

    class Waiting:
        cancelled = False

        def cancel(self) -> None:
            self.cancelled = True

        def result(self) -> Call:
            raise KeyboardInterrupt

        __iter__ = result

    def wait_for_all(group: Any) -> None:
        calls_of(group, lambda: None)

    for wait in (result_of, wait_for_all):
        call: Any = Waiting()
        with pytest.raises(KeyboardInterrupt):
            wait(call)
        assert call.cancelled
