"""Payloads as JSON, and back."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from ringback.protocol.json_values import MAX_SCHEMA_DEPTH, jsonable, parse_json, parse_schema


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (b"\xff\x00", {"base64": "/wA="}),
        (math.nan, {"float": "NaN"}),
        (math.inf, {"float": "Infinity"}),
        (-math.inf, {"float": "-Infinity"}),
        (1.5, 1.5),
        ((1, [b""]), [1, [{"base64": ""}]]),
        ({"a": {"b": b""}}, {"a": {"b": {"base64": ""}}}),
        ({7: "a", "7": "b"}, {"map": [[7, "a"], ["7", "b"]]}),
        (None, None),
    ],
)
def test_a_value_that_json_lacks_becomes_an_object(value: Any, written: Any) -> None:
    assert jsonable(value) == written
    json.dumps(jsonable(value), allow_nan=False)


def test_json_is_read() -> None:
    assert parse_json('{"a": [1, 1.5, null]}') == {"a": [1, 1.5, None]}


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e999", "{", ""])
def test_text_that_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


def test_a_schema_of_a_peer_may_be_anything() -> None:
    assert parse_schema('{"type": "integer"}') == {"type": "integer"}
    assert parse_schema("[" * MAX_SCHEMA_DEPTH + "]" * MAX_SCHEMA_DEPTH) is not None
    for depth in (MAX_SCHEMA_DEPTH + 1, 600, 20_000):
        assert parse_schema("[" * depth + "]" * depth) is None
    assert parse_schema("{") is parse_schema("9" * 5000) is None
