"""Converters: which types there are, what they accept, and what is wrong with a value."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict
from uuid import UUID

import msgpack
import msgspec
import pydantic
import pytest
from pydantic.dataclasses import dataclass as checked_dataclass

from ringback.converters import asks_for_conversion, make_converter, make_types
from ringback.core.conversion import Misfit
from ringback.extras import install_command
from ringback.protocol.json_values import parse_json


class Color(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


@dataclass
class Point:
    x: int
    y: float = 0.0


@dataclass
class Shape:
    points: list[Point]
    color: Color | None = None
    names: dict[str, Point] = field(default_factory=dict)


class Basket(TypedDict):
    items: list[str]
    note: NotRequired[str]


class Struct(msgspec.Struct):
    at: datetime
    raw: bytes


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    name: str


class Pair(NamedTuple):
    left: int
    right: str


class Model(pydantic.BaseModel):
    count: int = pydantic.Field(ge=1, alias="howMany")
    at: datetime | None = None
    parts: list[Point] = []


class Other(pydantic.BaseModel):
    name: str


@checked_dataclass
class Checked:
    count: Annotated[int, pydantic.Field(ge=1)]


@dataclass
class HasModel:
    other: Other


NOON = datetime(2026, 1, 2, 12, 30, 15, 250000, tzinfo=UTC)
ID = UUID("12345678123456781234567812345678")

GOOD: list[tuple[Any, Any, Any]] = [
    (None, None, None),
    (Any, {"a": [1, None]}, {"a": [1, None]}),
    (object, [1, "b"], [1, "b"]),
    (int, 5, 5),
    (float, 5.5, 5.5),
    (bytes, b"\xff\x00", b"\xff\x00"),
    (str | None, None, None),
    (Literal["a", "b"], "a", "a"),
    (Annotated[int, msgspec.Meta(ge=1)], 1, 1),
    (list[int], [1, 2], [1, 2]),
    (tuple[int, str], (1, "a"), [1, "a"]),
    (set[int], {1}, [1]),
    (dict[int, str], {1: "a"}, {1: "a"}),
    (dict[str, Point], {"a": Point(1)}, {"a": {"x": 1, "y": 0.0}}),
    (Point, Point(1, 2.5), {"x": 1, "y": 2.5}),
    (Shape, Shape([Point(1)], Color.RED), {"points": [{"x": 1, "y": 0.0}], "color": "red", "names": {}}),
    (Basket, {"items": ["rope"]}, {"items": ["rope"]}),
    (Color, Color.RED, "red"),
    (Level, Level.LOW, 1),
    (Pair, Pair(1, "a"), [1, "a"]),
    (datetime, NOON, "2026-01-02T12:30:15.250000Z"),
    (date, date(2026, 1, 2), "2026-01-02"),
    (time, time(12, 30), "12:30:00"),
    (timedelta, timedelta(seconds=90), "PT90S"),
    (UUID, ID, str(ID)),
    (Decimal, Decimal("1.50"), "1.50"),
    (Struct, Struct(NOON, b"\xff"), {"at": "2026-01-02T12:30:15.250000Z", "raw": b"\xff"}),
    (Cat | Dog, Dog("rex"), {"type": "Dog", "name": "rex"}),
    (Model, Model(howMany=2, at=NOON), {"howMany": 2, "at": "2026-01-02T12:30:15.250000Z", "parts": []}),
    (list[Model] | None, [Model(howMany=2)], [{"howMany": 2, "at": None, "parts": []}]),
    (Model | Other, Other(name="x"), {"name": "x"}),
    (Checked, Checked(3), {"count": 3}),
    (HasModel, HasModel(Other(name="x")), {"other": {"name": "x"}}),
]
"""A type, a value of it, and the plain value that goes over the wire."""

WRONG: list[tuple[Any, Any, str, str]] = [
    (None, 5, "$", "Expected `null`, got `int`"),
    (int, True, "$", "Expected `int`, got `bool`"),
    (int, "5", "$", "Expected `int`, got `str`"),
    (Point, {}, "$", "Object missing required field `x`"),
    (Point, {"x": 1, "y": "2"}, "$.y", "Expected `float`, got `str`"),
    (Shape, {"points": [{"x": 1}, {"x": None}]}, "$.points[1].x", "Expected `int`, got `null`"),
    (Shape, {"points": [], "color": "blue"}, "$.color", "Invalid enum value 'blue'"),
    (datetime, "yesterday", "$", "Invalid RFC3339 encoded datetime"),
    (UUID, "1", "$", "Invalid UUID"),
    (Decimal, "x", "$", "Invalid decimal string"),
    (Annotated[int, msgspec.Meta(ge=1)], 0, "$", "Expected `int` >= 1"),
    (Model, {"howMany": 0}, "$.howMany", "Input should be greater than or equal to 1"),
    (Model, {"howMany": 1, "parts": [{"x": "a"}]}, "$.parts[0].x", "Input should be a valid integer"),
    (Model, 5, "$", "Input should be a valid dictionary or instance of Model"),
    (Checked, {"count": 0}, "$.count", "Input should be greater than or equal to 1"),
]
"""A type, a plain value that is not of it, and where and what is wrong."""


def over_the_wire(plain: Any) -> Any:
    return msgpack.unpackb(msgpack.packb(plain), strict_map_key=False)


@pytest.mark.parametrize(("kind", "value", "plain"), GOOD, ids=[str(kind) for kind, _, _ in GOOD])
def test_a_value_comes_back_from_the_wire(kind: Any, value: Any, plain: Any) -> None:
    converter, schema = make_converter(kind)
    written = converter.write(value)
    assert over_the_wire(written) == plain
    assert converter.read(over_the_wire(written)) == value
    assert schema is not None
    assert isinstance(json.loads(schema), dict)


@pytest.mark.parametrize(("kind", "plain", "path", "reason"), WRONG, ids=[str(kind) for kind, *_ in WRONG])
def test_a_wrong_value_is_found_both_ways(kind: Any, plain: Any, path: str, reason: str) -> None:
    converter, _ = make_converter(kind)
    with pytest.raises(Misfit) as caught:
        converter.read(plain)
    assert caught.value.path == path
    assert reason in str(caught.value)
    with pytest.raises(Misfit):
        converter.write(plain)


def test_a_field_with_a_value_of_another_type_is_not_written() -> None:
    for wrong in (
        Point("1"),
        Shape([Point(1), Point(None)]),
        Struct("now", b""),
        Model.model_construct(count="x"),
    ):
        with pytest.raises(Misfit):
            make_converter(type(wrong))[0].write(wrong)
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(Misfit):
        make_converter(Any)[0].write(endless)
    with pytest.raises(Misfit):
        make_converter(Any)[0].write(object())
    with pytest.raises(Misfit):
        make_converter(Model | int)[0].write(object())


def test_the_path_of_a_field_has_a_bound() -> None:
    converter, _ = make_converter(dict[str, Model])
    with pytest.raises(Misfit) as caught:
        converter.read({"k" * 5000: {"howMany": 0}})
    assert len(caught.value.path) == 200


def test_a_schema_says_what_a_payload_is() -> None:
    schema = make_types(Point, None).schema
    assert schema is not None
    assert json.loads(schema)["$defs"]["Point"]["required"] == ["x"]
    schema = make_types(Model, None).schema
    assert schema is not None
    assert json.loads(schema)["properties"]["howMany"]["minimum"] == 1


@dataclass
class Endless:
    at: float = math.inf
    until: float = math.nan


def test_a_schema_is_json_whatever_the_defaults_are() -> None:
    schema = make_types(Endless, None).schema
    assert schema is not None
    fields = parse_json(schema)["$defs"]["Endless"]["properties"]
    assert fields["at"]["default"] == {"float": "Infinity"}
    assert fields["until"]["default"] == {"float": "NaN"}


class Strange:
    pass


@dataclass
class HasStrange:
    strange: Strange


class StrangeModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    strange: Strange


class StructWithModel(msgspec.Struct):
    other: Other


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (
            complex,
            r"complex cannot be a type of a callback: there is no conversion for complex;"
            r' docs/guide\.md lists the allowed types under "Contracts"$',
        ),
        (HasStrange, "HasStrange cannot be .* no conversion for Strange"),
        (list["Nowhere"], "Nowhere"),  # noqa: F821
        (Point | Shape, "cannot be a type of a callback: Type unions may not contain more than one"),
        (StructWithModel, "StructWithModel cannot be"),
        (5, "5 cannot be"),
    ],
    ids=str,
)
def test_a_type_that_cannot_be_converted_is_refused(kind: Any, problem: str) -> None:
    with pytest.raises(TypeError, match=problem):
        make_converter(kind)


def test_a_type_without_a_schema_works_all_the_same() -> None:
    converter, schema = make_converter(StrangeModel)
    assert schema is None
    with pytest.raises(Misfit):
        converter.read({"strange": 5})


ASK = [
    *(Point, list[Point], Point | None, dict[str, Basket], Color, datetime, UUID, Decimal, Struct, Model),
    *(Checked, tuple[int, Level], Annotated[Point, "x"], list[dict[str, Model | None]]),
]
ASK_NOT: list[Any] = [
    *(None, Any, object, int, str | None, dict, list[int], dict[str, Any], tuple[int, ...], Strange),
    *("Point", 5),
]


@pytest.mark.parametrize("kind", ASK, ids=str)
def test_these_types_ask_for_a_conversion(kind: Any) -> None:
    assert asks_for_conversion(kind)


@pytest.mark.parametrize("kind", ASK_NOT, ids=str)
def test_these_types_ask_for_none(kind: Any) -> None:
    assert not asks_for_conversion(kind)


def test_without_msgspec_an_error_has_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "msgspec", None)
    with pytest.raises(ImportError, match="types of callbacks need the package msgspec") as caught:
        make_converter(Point)
    assert install_command("typed") in str(caught.value)
    assert make_converter(Model)[0].read({"howMany": 1}) == Model(howMany=1)
