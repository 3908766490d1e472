"""The forms of handlers, and the registry."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from ringback.core.conversion import Types
from ringback.core.registry import Registry, make_handler
from ringback.protocol.limits import MAX_KEYS

SERVER = ("source", "payload")
PLAYER = ("payload",)


class Methods:
    def plain(self, payload: Any) -> None: ...

    def with_cb(self, payload: Any, cb: Any) -> None: ...

    @staticmethod
    def static(payload: Any) -> None: ...

    @classmethod
    def of_class(cls, payload: Any, cb: Any) -> None: ...

    async def coroutine(self, payload: Any) -> None: ...


class Callable1:
    def __call__(self, payload: Any) -> None: ...


class AsyncCallable:
    async def __call__(self, payload: Any, cb: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "takes_cb", "is_async"),
    [
        (lambda payload: None, False, False),
        (lambda payload, more=1: None, False, False),
        (lambda payload, more=1, *rest: None, False, False),
        (lambda payload, more=1, cb=None: None, False, False),
        (lambda payload, /, cb: None, True, False),
        (lambda payload, cb: None, True, False),
        (lambda anything, **rest: None, False, False),
        (lambda payload, *, more=1: None, False, False),
        (Methods().plain, False, False),
        (Methods().with_cb, True, False),
        (Methods.static, False, False),
        (Methods.of_class, True, False),
        (Methods().coroutine, False, True),
        (Callable1(), False, False),
        (AsyncCallable(), True, True),
        (functools.partial(lambda a, payload: None, 1), False, False),
        (functools.partial(lambda payload, cb, more: None, more=1), True, False),
        (functools.partial(lambda payload, cb: None, cb=None), False, False),
        (functools.partial(AsyncCallable().__call__, cb=None), False, True),
    ],
)
def test_forms(function: Any, takes_cb: bool, is_async: bool) -> None:
    handler = make_handler(function, PLAYER)
    assert (handler.takes_cb, handler.is_async) == (takes_cb, is_async)
    assert handler.function is function and not handler.in_thread


def test_a_servers_handlers_have_a_source() -> None:
    assert not make_handler(lambda source, payload: None, SERVER).takes_cb
    assert make_handler(lambda source, payload, cb: None, SERVER).takes_cb
    with pytest.raises(
        TypeError, match=r"fits neither form: it must take \(source, payload\) or \(source, pay"
    ):
        make_handler(lambda payload: None, SERVER)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (lambda source, payload: None, PLAYER),
        (functools.partial(lambda source, payload, cb: None, 7), SERVER),
        (lambda payload, cb: None, SERVER),
        (lambda payload, source: None, SERVER),
        (lambda source, cb, payload: None, SERVER),
        (lambda cb: None, PLAYER),
        (lambda cb, payload: None, PLAYER),
    ],
)
def test_a_payload_or_cb_in_the_wrong_place_is_refused(function: Any, arguments: tuple[str, ...]) -> None:
    """The names of the arguments say what the handler means: it would get something else."""
    forms = rf"fits neither form: it must take \({', '.join(arguments)}\) or"
    with pytest.raises(TypeError, match=forms):
        make_handler(function, arguments)


def test_other_arguments_may_have_any_name() -> None:
    assert make_handler(lambda source, reply: None, PLAYER).takes_cb
    assert make_handler(lambda who, what, answer: None, SERVER).takes_cb
    assert not make_handler(lambda source, payload, limit=1, cb=None: None, SERVER).takes_cb
    assert not make_handler(lambda what: None, PLAYER).takes_cb


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda: None, "fits neither form"),
        (lambda a, b, c: None, "fits neither form"),
        (lambda payload, *, needed: None, "fits neither form"),
        (lambda payload, cb=None: None, "fits both forms.*write cb without a default"),
        (lambda payload, *, cb: None, "cb is passed by position: put it before the"),
        (lambda payload, *, cb=None: None, "cb is passed by position: put it before the"),
        (Methods.plain, "method of a class: register the method of an object"),
        (functools.partial(lambda payload: None, payload=1), "fits neither form"),
        (lambda *args: None, "fits both forms.*write its arguments out"),
        (5, "not int"),
        (None, "not NoneType"),
    ],
)
def test_values_that_are_no_handler(function: Any, why: str) -> None:
    with pytest.raises(TypeError, match=why):
        make_handler(function, PLAYER)


def test_a_function_without_a_signature() -> None:
    with pytest.raises(TypeError, match="shows no signature; wrap it"):
        make_handler(dict.fromkeys.__self__, PLAYER)  # the class `dict`


def test_in_thread_is_for_plain_functions() -> None:
    assert make_handler(lambda payload: None, PLAYER, in_thread=True).in_thread
    for function in (Methods().coroutine, AsyncCallable()):
        with pytest.raises(TypeError, match="in_thread=True is for plain functions"):
            make_handler(function, PLAYER, in_thread=True)


@pytest.fixture
def changes() -> list[None]:
    return []


@pytest.fixture
def registry(changes: list[None]) -> Registry:
    return Registry(PLAYER, lambda: changes.append(None))


def first(payload: Any) -> None: ...


def second(payload: Any) -> None: ...


def test_a_key_is_registered_once(registry: Registry, changes: list[None]) -> None:
    registry.add("k", first, replace=False)
    with pytest.raises(ValueError, match="'k' is registered already; use replace=True"):
        registry.add("k", second, replace=False)
    with pytest.raises(ValueError, match="registered already"):
        registry.add("k", first, replace=False)
    assert registry.handlers["k"].function is first
    assert registry.payload_position == 0
    assert len(changes) == 1


def test_a_handle_takes_back_only_its_own(registry: Registry, changes: list[None]) -> None:
    old = registry.add("k", first, replace=False)
    new = registry.add("k", second, replace=True)
    old.unregister()
    assert registry.handlers["k"].function is second
    new.unregister()
    new.unregister()
    assert registry.keys() == () and len(changes) == 3
    assert repr(new) == "<Registration 'k'>"


@pytest.mark.parametrize("key", ["", "é" * 129, "\ud800", 5, b"k", None])
def test_keys_are_checked(registry: Registry, changes: list[None], key: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="a key must"):
        registry.add(key, first, replace=False)
    with pytest.raises(TypeError):
        registry.add("k", 5, replace=True)
    assert not registry.handlers and not changes


def test_the_broker_is_told_at_most_1024_keys(registry: Registry) -> None:
    for number in range(MAX_KEYS + 5):
        registry.add(f"k{number}", first, replace=False)
    assert registry.keys() == tuple(f"k{number}" for number in range(MAX_KEYS))


def test_the_schemas_that_the_broker_is_told_are_bounded(registry: Registry) -> None:
    def add(key: str, schema: str | None) -> None:
        registry.add(key, first, replace=True, types=Types(None, None, schema))

    registry.add("plain", first, replace=False)
    add("none", None)
    assert registry.schemas() is None
    add("long", "x" * 4097)
    for number in range(70):
        add(f"{number}", "x" * 4096)
    add("late", "x")
    found = registry.schemas()
    assert found is not None
    assert list(found) == [f"{number}" for number in range(64)]


@pytest.mark.parametrize("flag", ["replace", "in_thread", "idempotent"])
@pytest.mark.parametrize("value", ["no", 1, None])
def test_a_flag_must_be_a_bool(flag: str, value: Any) -> None:
    options: dict[str, Any] = {"replace": False, flag: value}
    registry = Registry(PLAYER, lambda: None)
    with pytest.raises(TypeError, match=rf"^{flag} must be a bool, not {type(value).__name__}$"):
        registry.add("key", lambda payload: None, **options)
    assert not registry.handlers
