"""What callbacks take, in words and as examples."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Annotated, Any

import msgspec
import pytest

from ringback.converters import make_types
from ringback_cli.schemas import MAX_PARTS, describe, example


class Good(Enum):
    ROPE = "rope"
    LAMP = "lamp"


@dataclass
class Offer:
    good: Good
    count: int = 1
    note: str | None = None


@dataclass
class Tree:
    left: Tree | None = None


class Many(msgspec.Struct):
    at: Annotated[datetime, msgspec.Meta(tz=True)]
    places: list[tuple[float, float]]
    stock: dict[str, int] = msgspec.field(default_factory=dict)
    least: Annotated[int, msgspec.Meta(ge=5)] = msgspec.field(default=5)
    anything: Any = None


@pytest.mark.parametrize(
    ("kind", "words", "value"),
    [
        (None, "null", None),
        (int, "integer", 0),
        (str, "string", ""),
        (bool, "boolean", False),
        (Any, "anything", None),
        (list[int], "[integer, ...]", []),
        (tuple[int, str], "[integer, string]", [0, ""]),
        (dict[str, float], "{any key: number}", {}),
        (int | str, "integer or string", 0),
        (Good, '"lamp" or "rope"', "lamp"),
        (
            Offer,
            '{good: "lamp" or "rope", count: integer (optional), note: string or null (optional)}',
            {"good": "lamp", "count": 1, "note": None},
        ),
        (list[Offer] | None, '[{good: "lamp" or "rope", count: integer (optional), note: ', []),
        (Annotated[int, msgspec.Meta(ge=3)], "integer", 3),
    ],
    ids=str,
)
def test_a_schema_in_words_and_as_an_example(kind: Any, words: str, value: Any) -> None:
    schema = json.loads(make_types(kind, None).schema or "")
    assert describe(schema).startswith(words)
    assert example(schema) == value


def test_a_struct_with_many_fields() -> None:
    schema = json.loads(make_types(Many, None).schema or "")
    assert describe(schema).startswith("{at: string (date-time), places: [[number, number], ...], stock: ")
    assert example(schema)["least"] == 5


def test_a_schema_that_refers_to_itself_has_an_end() -> None:
    schema = {"$ref": "#/$defs/T", "$defs": {"T": {"properties": {"left": {"$ref": "#/$defs/T"}}}}}
    assert "..." in describe(schema)
    assert example(schema)["left"]["left"] is not None
    loop = {"$ref": "#/a", "a": {"$ref": "#/a"}}
    assert (describe(loop), example(loop)) == ("...", None)


HOSTILE: list[Any] = [
    *(None, 5, "x", [], True, {"$ref": 5}, {"$ref": "#/nowhere"}, {"enum": 5}, {"anyOf": 7}, {"type": []}),
    *({"properties": {"a": 5}, "required": 3}, {"prefixItems": [1]}, {"type": "array", "items": []}),
    *({"type": "integer", "minimum": "x"}, {"anyOf": []}, {"enum": []}),
]


@pytest.mark.parametrize("schema", HOSTILE, ids=repr)
def test_odd_schemas_are_harmless(schema: Any) -> None:
    assert isinstance(describe(schema), str)
    json.dumps(example(schema))


def test_the_work_of_a_wide_schema_is_bounded() -> None:
    wide: Any = {"type": "integer"}
    for _ in range(5):
        wide = {"anyOf": [wide] * 10}
    assert describe(wide).count("integer") <= MAX_PARTS
    json.dumps(example(wide))
