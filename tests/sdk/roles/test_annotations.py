"""The types that a handler's annotations name, and what happens without any."""

from __future__ import annotations

import functools
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from support.faces import LogLines, Stage, played

from ringback import Code, InvalidPayload
from ringback._roles.annotations import types_of

if TYPE_CHECKING:
    from nowhere import Missing


@dataclass
class Point:
    x: int


@dataclass
class Odd:
    value: complex


def plain(source: Any, payload: Point) -> None: ...
def with_cb(source: Any, payload: list[Point] | None, cb: Any) -> None: ...
async def later(source: Any, payload: dict[str, Any]) -> Decimal: ...
def awaitable(source: Any, payload: Any) -> Awaitable[Point]: ...
def both(source: Missing, payload: Point) -> Point: ...


class Methods:
    def method(self, source: Any, payload: Point) -> None: ...
    def __call__(self, source: Any, payload: Point) -> None: ...
    @staticmethod
    def static(source: Any, payload: Point) -> None: ...


def open_wrapper(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any) -> Any:
        return function(*arguments)

    return wrapper


@open_wrapper
def wrapped(source: Any, payload: Point) -> None: ...


def local() -> Callable[..., Any]:
    @dataclass
    class Local:
        y: int

    def handler(source: Any, payload: Local) -> Any:
        return Local

    return handler


@pytest.mark.parametrize(
    ("handler", "payload", "result"),
    [
        (plain, "Point", None),
        (with_cb, "list[test_annotations.Point] | None", None),
        (later, None, "Decimal"),
        (awaitable, None, "Point"),
        (both, "Point", "Point"),
        (Methods().method, "Point", None),
        (Methods(), "Point", None),
        (Methods.static, "Point", None),
        (functools.partial(plain), "Point", None),
        (functools.partial(Methods.method, Methods()), "Point", None),
        (wrapped, "Point", None),
        (local(), "local.<locals>.Local", None),
    ],
)
def test_these_annotations_are_types(handler: Any, payload: str | None, result: str | None) -> None:
    types = types_of(handler, "key", 1)
    assert types is not None
    assert (types.payload is None, types.result is None) == (payload is None, result is None)
    if types.payload is not None and payload is not None:
        assert types.payload.name.rpartition("annotations.")[2] == payload.rpartition("annotations.")[2]
        assert types.schema is not None
    if types.result is not None:
        assert types.result.name == result


def closed_wrapper(source: Any, payload: Any) -> Any: ...


functools.update_wrapper(closed_wrapper, plain)


class Proxy:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError


def no_types(source: Any, payload: dict[str, int], cb: Any) -> int: ...
def too_short(source: Any) -> Any: ...


WITHOUT_TYPES = [closed_wrapper, no_types, print, 5, None, int, too_short, lambda s, p: 0]


@pytest.mark.parametrize("handler", WITHOUT_TYPES)
def test_these_have_no_types(handler: Any) -> None:
    assert types_of(handler, "key", 1) is None


def test_an_object_that_fails_when_it_is_asked_has_no_types() -> None:
    assert types_of(Proxy(), "key", 1) is None


def unresolved(source: Any, payload: Missing) -> None: ...
def unusable(source: Any, payload: Odd) -> None: ...


@pytest.mark.parametrize(
    ("handler", "problem"),
    [
        (unresolved, "name 'Missing' is not defined"),
        (
            unusable,
            'there is no conversion for complex; docs/guide.md lists the allowed types under "Contracts"',
        ),
    ],
)
def test_a_type_that_cannot_be_used_is_logged(handler: Any, problem: str, sdk_log: LogLines) -> None:
    assert types_of(handler, problem, 1) is None
    [(level, text, _)] = sdk_log.seen.items
    assert level == "WARNING"
    assert f"the payload of {problem!r} stays as it is" in text and text.endswith(problem)


def test_without_msgspec_a_handler_works_as_before(
    monkeypatch: pytest.MonkeyPatch, sdk_log: LogLines
) -> None:
    monkeypatch.setitem(sys.modules, "msgspec", None)
    assert types_of(plain, "without msgspec", 1) is None
    assert "types of callbacks need the package msgspec" in sdk_log.seen.items[0][1]


@played
async def test_the_original_functions_use_the_annotations_of_a_handler(stage: Stage) -> None:
    server, player = await stage.pair()

    @server.register_server_callback("mirror")
    def mirror(source: Any, payload: Point) -> Point:
        return Point(-payload.x)

    @player.register_client_callback("sum")
    def total(payload: list[Point]) -> Decimal:
        return Decimal(sum(point.x for point in payload)) / 2

    assert await stage.result(player.trigger_server_callback("mirror", {"x": 5})) == {"x": -5}
    assert await stage.result(server.trigger_client_callback("sum", 7, [{"x": 1}, {"x": 2}])) == "1.5"
    error = await stage.failure(player.trigger_server_callback("mirror", {"x": "5"}))
    assert isinstance(error, InvalidPayload)
    assert (error.executed, error.data) == ("no", {"path": "$.x"})
    server.register_server_callback("lies", lies)
    assert (await stage.failure(player.trigger_server_callback("lies"))).code is Code.HANDLER_ERROR


def lies(source: Any, payload: Any) -> Point:
    return Point("x")
