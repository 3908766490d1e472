"""Judges the functions that users register: which arguments a function really takes.

`inspect.signature` believes `functools.wraps`: it shows the arguments of what a decorator wraps. But the
wrapper is what is called, so here its own arguments count. Only a wrapper that takes `*args` says nothing by
itself.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from types import FunctionType, MethodType
from typing import Any, cast

MAX_WRAPPERS = 100
"""How many wrappers are followed. Some objects invent a `__wrapped__` without end."""

_ANYTHING = inspect.Signature(
    [
        inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
        inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
    ]
)

_ANNOTATIONS: list[dict[str, Any]] = (
    [{"annotation_format": import_module("annotationlib").Format[name]} for name in ("FORWARDREF", "STRING")]
    if sys.version_info >= (3, 14)
    else [{}]
)
"""How annotations are asked for, each way if the one before it fails.

From Python 3.14 on, an annotation is evaluated when it is asked for. Type checkers alone may know its names.
"""


def name_of(function: Any) -> str:
    """Return the name of a function for an error, also if its repr fails."""
    try:
        name = function.__qualname__
    except Exception:  # an attribute of a proxy object may raise anything
        name = None
    if isinstance(name, str):
        return name
    if isinstance(function, partial):
        return f"partial of {name_of(function.func)}"
    return f"of class {type(function).__qualname__}"


def signatures(function: Callable[..., Any]) -> list[inspect.Signature]:
    """Return the signature of a function, and of what it wraps as far as the wrappers take `*args`.

    A call must fit all of them. The last one says most.

    Raises:
        ValueError: the function shows no signature.
    """
    found = []
    for _ in range(MAX_WRAPPERS):
        wrapped = _wrapped(function)
        try:
            signature = _own(function)
        except Exception:  # a proxy object may raise anything
            if wrapped is None:
                raise ValueError("the function shows no signature") from None
            signature = _ANYTHING  # a wrapper in C, such as that of functools.lru_cache
        found.append(signature)
        if wrapped is None or not _takes_any_number(signature):
            break
        function = wrapped
    return found


def takes(signature: inspect.Signature, count: int) -> bool:
    """Return whether a function of this signature can be called with so many positional arguments."""
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _takes_any_number(signature: inspect.Signature) -> bool:
    return any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values())


def _wrapped(function: Any) -> Callable[..., Any] | None:
    """Return what a wrapper wraps, with the same arguments bound; None if it is no wrapper."""
    if isinstance(function, partial):
        inner = _wrapped(function.func)
        return None if inner is None else partial(inner, *function.args, **function.keywords)
    if isinstance(function, MethodType):
        inner = _wrapped(function.__func__)
        return None if inner is None else MethodType(inner, function.__self__)
    try:
        wrapped: Any = function.__wrapped__
    except Exception:  # an attribute of a proxy object may raise anything
        wrapped = None
    if callable(wrapped):
        return cast(Callable[..., Any], wrapped)
    method = _call_of(function)
    return None if method is None else _wrapped(method)


def _call_of(function: Any) -> MethodType | None:
    """Return the `__call__` of an object whose class defines one in Python."""
    call = _class_call(function)
    return MethodType(call, function) if isinstance(call, FunctionType) else None


def _class_call(function: Any) -> Any:
    """Return the `__call__` of the class: an instance, such as a Mock, may invent attributes."""
    return getattr(type(function), "__call__", None)  # noqa: B004 - not to learn whether it is callable


def _own(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of a function itself, whatever it wraps."""
    if isinstance(function, partial):
        # A function of that signature stands for the real one: `inspect` knows what partial does to it.
        signature = _signature(partial(_stand_in(_own(function.func)), *function.args, **function.keywords))
        bound = [
            p
            for p in signature.parameters.values()
            if p.name not in function.keywords or p.kind is p.VAR_KEYWORD
        ]
        return signature.replace(parameters=bound)
    if isinstance(function, MethodType) and isinstance(function.__func__, FunctionType):
        return _signature(MethodType(_stand_in(_own(function.__func__)), function.__self__))
    if isinstance(function, FunctionType) and "__signature__" in function.__dict__:
        # Set by hand, or copied by `functools.wraps`. It only counts where the code takes anything.
        bare = FunctionType(
            function.__code__, {}, function.__name__, function.__defaults__, function.__closure__
        )
        bare.__kwdefaults__ = function.__kwdefaults__
        signature = _signature(bare)
        if not _takes_any_number(signature):
            return signature
    if (method := _call_of(function)) is not None:
        signature = _own(method)
        if not _takes_any_number(signature):
            return signature
    return _signature(function, follow_wrapped=False)


def _signature(function: Callable[..., Any], **options: Any) -> inspect.Signature:
    """Return what `inspect.signature` does, whatever names the annotations have.

    Raises:
        ValueError: the function shows no signature.
    """
    for way in _ANNOTATIONS:
        with suppress(Exception):  # evaluating an annotation may raise anything, and so may a proxy object
            return inspect.signature(function, **way, **options)
    raise ValueError("the function shows no signature")


def _stand_in(signature: inspect.Signature) -> Any:
    """Return a function that shows this signature."""

    def stand_in() -> None: ...

    stand_in.__signature__ = signature  # type: ignore[attr-defined] # `inspect` reads it from any function
    return stand_in


def is_coroutine_function(function: Any) -> bool:
    """Return whether a function, or an object with `__call__`, is declared with `async def`."""
    return _is(inspect.iscoroutinefunction, function)


def check_no_generator(function: Any, what: str, instead: str) -> None:
    """Raise TypeError if a function is a generator: calling it would run nothing.

    Args:
        what: what the function is for, such as "handler".
        instead: what to do instead.
    """
    if _is(inspect.isasyncgenfunction, function) or _is(inspect.isgeneratorfunction, function):
        raise TypeError(
            f"the {what} {name_of(function)} is a generator, which a call does not run: {instead}"
        )


def _is(kind: Callable[[Any], bool], function: Any) -> bool:
    if isinstance(function, staticmethod):
        function = function.__func__
    try:
        return kind(function) or (not inspect.isroutine(function) and kind(_class_call(function)))
    except Exception:  # an attribute of a proxy object may raise anything
        return False


def check_takes(function: Any, arguments: tuple[str, ...], what: str) -> None:
    """Raise TypeError if a function cannot be called with these arguments.

    A function that shows no signature, such as some builtins, passes.

    Args:
        arguments: the names of the arguments, for the error.
        what: what the function is for, such as "listener".
    """
    if not callable(function):
        raise TypeError(f"{what} must be a function, not {type(function).__name__}")
    check_no_generator(function, what, "write a plain or a coroutine function")
    try:
        chain = signatures(function)
    except ValueError:
        return
    if not all(takes(signature, len(arguments)) for signature in chain):
        raise TypeError(
            f"{what} must be a function of ({', '.join(arguments)}), not {name_of(function)}{chain[-1]}"
        )
