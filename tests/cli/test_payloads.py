"""PAYLOAD: from the argument, a file or standard input."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback_cli import payloads
from ringback_cli.exits import Exit, Failure
from ringback_cli.output import to_json
from ringback_cli.payloads import parse, read_payload

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


class _Input:
    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


@pytest.mark.parametrize(
    ("data", "exit", "part"),
    [
        (b"", Exit.USAGE, "PAYLOAD in standard input is empty"),
        (b"\n[1 2]", Exit.USAGE, "line 2, column 4"),
        (b'"\xff"', Exit.USAGE, "not UTF-8: byte 2"),
        (b"1e999", Exit.USAGE, "the number 1e999 is out of range"),
        (b"9" * 5000, Exit.USAGE, "an int is out of range"),
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


def test_standard_input_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(Failure, match="no standard input"):
        read_payload("-")
