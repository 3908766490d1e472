"""Misspelt keyword arguments: an error that names the nearest one.

Python 3.13 and newer name it by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, NoReturn, TypedDict, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


class NoOthers(TypedDict):
    """No keyword arguments: the type of `**unknown`, so that type checkers refuse what `reject` refuses."""


def advice(name: str, known: Collection[str]) -> str:
    """Return which keyword argument was meant, or all that there are."""
    from difflib import get_close_matches  # only a mistake needs it

    near = get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"


def reject(function: Callable[..., Any], unknown: Iterable[str]) -> NoReturn:
    """Raise TypeError for keyword arguments that a function does not have.

    A function of the hot path has a parameter `**unknown`, and calls this if there is anything in it. That
    costs an empty dict: 190 instructions. All other functions have the decorator `checks_names`.
    """
    name, *_ = unknown
    what = function.__qualname__.removesuffix(".__init__").split(".")[-1]
    raise TypeError(
        f"{what}() got an unexpected keyword argument {name!r}: {advice(name, _names_of(function))}"
    )


def check_options(what: str, options: Collection[str], known: type) -> None:
    """Raise TypeError for a keyword argument that is not in a TypedDict of options.

    Args:
        what: the name of the function that got them.
        known: the TypedDict.
    """
    names = known.__annotations__
    for name in options:
        if name not in names:
            raise TypeError(f"{what}() got an unexpected keyword argument {name!r}: {advice(name, names)}")


def checks_names(function: F) -> F:
    """Give a function an error for a misspelt keyword argument that names the nearest one.

    A coroutine function stays one. It raises the error when it is awaited.
    """
    known = frozenset(_names_of(function))

    def check(keywords: Collection[str]) -> None:
        if not known.issuperset(keywords):
            reject(function, [name for name in keywords if name not in known])

    @wraps(function)
    def checked(*arguments: Any, **keywords: Any) -> Any:
        check(keywords)
        return function(*arguments, **keywords)

    @wraps(function)
    async def checked_when_awaited(*arguments: Any, **keywords: Any) -> Any:
        check(keywords)
        return await function(*arguments, **keywords)

    return cast(F, checked_when_awaited if iscoroutinefunction(function) else checked)


def _names_of(function: Callable[..., Any]) -> list[str]:
    """Return the names of the arguments of a function or method, without `self`."""
    code = function.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return [name for name in names if name != "self"]
