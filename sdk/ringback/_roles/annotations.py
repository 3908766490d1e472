"""The types that a handler's own annotations name, where they leave no doubt about what is meant.

`list[Order]` with a dataclass `Order` asks for a conversion. `dict`, `int` or `Any` ask for none.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from types import FunctionType, MethodType, SimpleNamespace
from typing import Any, cast, get_args, get_origin, get_type_hints

from ringback._runtime.log import log, printable
from ringback.converters import asks_for_conversion, make_converter
from ringback.core.conversion import Converter, Types
from ringback.core.signatures import MAX_WRAPPERS, signatures
from ringback.errors import reason_of


def types_of(function: Any, key: str, position: int, log_name: str = "an endpoint") -> Types | None:
    """Return the types that a handler's annotations name; None if they ask for no conversion.

    A type that cannot be converted is logged, and stays as it is: the handler worked without a conversion
    before ringback had any.

    Args:
        key: the key of the callback, for the log.
        position: the position of the payload among the handler's arguments.
        log_name: what the log calls the endpoint.
    """
    try:
        found = _innermost(function)
        signature = signatures(function)[-1]
        arguments = [*signature.parameters.values()]
    except Exception:  # a proxy object may raise anything
        return None
    if found is None or position >= len(arguments):
        return None
    payload, schema = _converter(found, key, "payload", arguments[position].annotation, log_name)
    result, _ = _converter(found, key, "result", signature.return_annotation, log_name)
    return None if payload is None and result is None else Types(payload, result, schema)


def _innermost(function: Any) -> FunctionType | None:
    """Return the function that an annotation belongs to; None if that is not certain.

    A wrapper that takes `*args` passes on what it is given. Any other wrapper has a copy of the annotations
    of what it wraps, and may convert the payload itself.
    """
    for _ in range(MAX_WRAPPERS):
        if isinstance(function, partial):
            function = function.func
        elif isinstance(function, MethodType | staticmethod):
            function = function.__func__
        elif not isinstance(function, FunctionType):
            function = getattr(type(function), "__call__", None)  # noqa: B004 - an object with a method
            if not isinstance(function, FunctionType):
                return None
        elif not hasattr(function, "__wrapped__"):
            return function
        elif function.__code__.co_flags & inspect.CO_VARARGS:
            function = function.__wrapped__
        else:
            return None
    return None


def _converter(
    function: FunctionType, key: str, what: str, annotation: Any, log_name: str
) -> tuple[Converter | None, str | None]:
    """Return the converter that an annotation asks for, and the JSON Schema of its type."""
    if annotation is inspect.Parameter.empty:
        return None, None
    try:
        kind = _resolved(function, annotation)
        if get_origin(kind) in (Awaitable, Coroutine):
            kind = get_args(kind)[-1]
        return make_converter(kind) if asks_for_conversion(kind) else (None, None)
    except Exception as error:  # evaluating an annotation may raise anything
        text = "%s: the %s of %r stays as it is, though it is annotated: %s"
        log.warning(text, log_name, what, key, printable(reason_of(error)), extra={"kind": (key, what)})
        return None, None


def _resolved(function: FunctionType, annotation: Any) -> Any:
    """Return the type that an annotation means, also if it is a str."""
    holder = cast(Callable[..., Any], SimpleNamespace(__annotations__={"it": annotation}))
    nearby = dict(inspect.getclosurevars(function).nonlocals)
    return get_type_hints(holder, function.__globals__, nearby, include_extras=True)["it"]
