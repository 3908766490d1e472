"""What functions below decorators really take."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest

from ringback.core.permissions import make_rule
from ringback.core.registry import make_handler
from ringback.core.signatures import MAX_WRAPPERS, check_takes, name_of, signatures

SERVER = ("source", "payload")


def passes_on(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def adds(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(source: Any, payload: Any) -> Any:
        return function(source, payload, "db")

    return wrapper


def adds_unseen(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function("db", *args)

    return wrapper


def with_cb(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(source: Any, payload: Any, cb: Any) -> Any:
        cb(function(source, payload))

    return wrapper


def declares(function: Any) -> Any:
    """Show a signature that was written by hand, as some decorators do."""

    def wrapper(*args: Any) -> Any:
        return function(*args)

    wrapper.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return wrapper


def two(source: Any, payload: Any) -> Any:
    return [source, payload]


def three(source: Any, payload: Any, db: Any) -> Any:
    return [source, payload, db]


def replies(source: Any, payload: Any, cb: Any) -> None:
    cb([source, payload])


def lies(source: Any, payload: Any) -> Any:
    return [source, payload]


lies.__signature__ = inspect.signature(three)  # type: ignore[attr-defined]


async def coroutine(source: Any, payload: Any) -> Any:
    return [source, payload]


class Room:
    @passes_on
    def plain(self, source: Any, payload: Any) -> Any:
        return [source, payload]

    @passes_on
    def replies(self, source: Any, payload: Any, cb: Any) -> None:
        cb([source, payload])

    def more(self, db: Any, source: Any, payload: Any) -> Any:
        return [source, payload]

    part = functools.partialmethod(more, "db")

    @functools.singledispatchmethod
    def dispatched(self, source: Any, payload: Any) -> Any: ...

    @staticmethod
    @passes_on
    def static(source: Any, payload: Any) -> Any:
        return [source, payload]

    @classmethod
    @passes_on
    def of_class(cls, source: Any, payload: Any) -> Any:
        return [source, payload]


class Wrapper:
    """A decorator that is a class. It takes what it wraps for its own, unless its `__call__` says more."""

    def __init__(self, function: Any) -> None:
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any) -> Any:
        return self.__wrapped__(*args)  # type: ignore[attr-defined]


class Adder(Wrapper):
    def __call__(self, source: Any, payload: Any) -> Any:
        return self.__wrapped__(source, payload, "db")  # type: ignore[attr-defined]


class Logged:
    @passes_on
    def __call__(self, source: Any, payload: Any, cb: Any) -> None:
        cb([source, payload])


FITTING: list[tuple[Any, bool]] = [
    (passes_on(two), False),
    (passes_on(replies), True),
    (passes_on(passes_on(replies)), True),
    (passes_on(with_cb(passes_on(two))), True),
    (adds(three), False),
    (passes_on(adds(three)), False),
    (functools.partial(passes_on(three), db=1), False),
    (functools.partial(passes_on(lambda db, source, payload: [source, payload]), "db"), False),
    (declares(two), False),
    (declares(replies), True),
    (lies, False),
    (functools.lru_cache(two), False),
    (functools.singledispatch(two), False),
    (operator.add, False),
    (Room().plain, False),
    (Room().replies, True),
    (Room().part, False),
    (Room.static, False),
    (staticmethod(passes_on(two)), False),
    (Room().of_class, False),
    (passes_on(coroutine), False),
    (mock.create_autospec(two), False),
    (Logged(), True),
    (Wrapper(two), False),
    (Wrapper(replies), True),
    (Adder(three), False),
]


@pytest.mark.parametrize(("function", "takes_cb"), FITTING)
def test_the_form_is_that_of_what_is_called(function: Any, takes_cb: bool) -> None:
    assert make_handler(function, SERVER).takes_cb == takes_cb
    arguments = (1, 2, lambda results: None)[: 3 if takes_cb else 2]
    result = function(*arguments)  # it can be called so
    if inspect.iscoroutine(result):
        result.close()


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (adds_unseen(three), "'db' may come from it or from the caller: write the wrapper's own"),
        (passes_on(three), "'db' may come from it"),
        (passes_on(lambda payload: None), "fits neither form"),
        (with_cb, "fits neither form"),
        (mock.Mock(), "fits both forms"),
        (mock.AsyncMock(), "fits both forms"),
        (Room.plain, "register the method of an object"),
        (Room().dispatched, "register the method of an object"),
        (iter, "shows no signature"),
        (print, "fits both forms"),
    ],
)
def test_what_cannot_be_known_is_refused(function: Any, why: str) -> None:
    with pytest.raises(TypeError, match=why):
        make_handler(function, SERVER)


def generator(source: Any, payload: Any) -> Any:
    yield source


async def async_generator(source: Any, payload: Any) -> Any:
    yield source


class GeneratorObject:
    def __call__(self, source: Any, payload: Any) -> Any:
        yield source


@pytest.mark.parametrize(
    "function",
    [generator, async_generator, functools.partial(generator), GeneratorObject(), staticmethod(generator)],
)
def test_a_generator_is_refused(function: Any) -> None:
    with pytest.raises(TypeError, match="is a generator, which a call does not run: return a list"):
        make_handler(function, SERVER)
    with pytest.raises(TypeError, match="is a generator"):
        make_rule(function)
    with pytest.raises(TypeError, match=r"the listener .* is a generator"):
        check_takes(function, ("a",), "listener")


class Endless:
    @property
    def __wrapped__(self) -> Any:
        return Endless()

    def __call__(self, *args: Any) -> None: ...


class Proxy:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no object is bound")

    def __call__(self, *args: Any) -> None: ...

    def __repr__(self) -> str:
        raise RuntimeError("no object is bound")


def test_odd_objects_are_judged_in_the_end() -> None:
    assert len(signatures(Endless())) == MAX_WRAPPERS
    with pytest.raises(TypeError, match="of class Proxy"):
        make_handler(Proxy(), SERVER)
    assert name_of(functools.partial(two)) == "partial of two"


@pytest.mark.parametrize("function", [lambda source: True, passes_on(lambda source: True), print, dict, bool])
def test_functions_of_one_argument(function: Callable[..., Any]) -> None:
    check_takes(function, ("source",), "allow")


@pytest.mark.parametrize("function", [lambda: True, two, adds(three), passes_on(two), 5])
def test_functions_of_another_number(function: Any) -> None:
    with pytest.raises(TypeError, match="allow must be a function"):
        check_takes(function, ("source",), "allow")
