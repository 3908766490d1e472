"""Payloads and results as JSON, and back: for commands and for the dashboard."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

MAX_SCHEMA_DEPTH = 64
"""How deeply a JSON Schema may be nested."""


def jsonable(value: Any) -> Any:
    """Return the JSON value for a msgpack value.

    A value that JSON lacks becomes an object of one pair: bytes {"base64": "..."}; a float that is not
    finite {"float": "NaN"}, "Infinity" or "-Infinity"; a map with a key that is not a str
    {"map": [[key, value], ...]}, so that 7 and "7" stay apart.
    """
    match value:
        case bytes():
            from base64 import b64encode

            return {"base64": b64encode(value).decode()}
        case float() if not math.isfinite(value):
            return {"float": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
        case list() | tuple():
            return [jsonable(item) for item in value]
        case dict():
            if all(type(key) is str for key in value):
                return {key: jsonable(item) for key, item in value.items()}
            return {"map": [[jsonable(key), jsonable(item)] for key, item in value.items()]}
    return value


def parse_json(text: str) -> Any:
    """Return the value of a JSON text (RFC 8259), without NaN and numbers that are out of range.

    Raises:
        json.JSONDecodeError: the text is not JSON.
        ValueError: a number in it is NaN, infinite or out of range.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, parse_constant=_no_constant, parse_float=_float)


def parse_schema(text: str) -> Any:
    """Return a JSON Schema as a peer tells it; None if it is no JSON, or nested too deeply to work with."""
    from ringback.protocol.values import too_deep  # it brings msgpack, for which `--help` does not wait

    try:
        schema = json.loads(text)
    except (ValueError, RecursionError):  # peers may say anything
        return None
    return None if too_deep(schema, MAX_SCHEMA_DEPTH) else schema


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text[:40]} is out of range")
    return number
