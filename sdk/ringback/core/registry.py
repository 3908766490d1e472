"""Registered callbacks, and the form of a handler, decided once from its signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ringback.core.permissions import Allow, Rule, in_words, make_rule
from ringback.core.rate_limits import Rate, make_rate
from ringback.protocol.limits import MAX_KEYS
from ringback.protocol.names import check_key

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Handler:
    """A registered function.

    Attributes:
        takes_cb: it is given `cb` and answers by it; otherwise what it returns is the result.
        is_async: it is a coroutine function.
        in_thread: the asyncio face runs it in a thread of its own.
        allow: who may call it; None for everybody.
        limit: how often one caller may call it; None for no limit.
    """

    function: Function
    takes_cb: bool
    is_async: bool
    in_thread: bool
    allow: Rule | None = None
    limit: Rate | None = None


def make_handler(
    function: Any,
    arguments: tuple[str, ...],
    in_thread: bool = False,
    allow: Rule | None = None,
    limit: Rate | None = None,
) -> Handler:
    """Decides the form of a handler.

    Args:
        arguments: what it is given, without `cb`: ("source", "payload") or ("payload",).

    Raises:
        TypeError: it is not callable, or its signature fits neither form, or both.
    """
    plain = f"({', '.join(arguments)})"
    with_cb = f"({', '.join((*arguments, 'cb'))})"
    if not callable(function):
        raise TypeError(f"a handler is a function of {plain} or {with_cb}, not {type(function).__name__}")
    name = getattr(function, "__qualname__", repr(function))
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise TypeError(f"the handler {name} has no signature to see; wrap it: lambda payload: ...") from None
    fits_plain, fits_cb = _fits(signature, len(arguments)), _fits(signature, len(arguments) + 1)
    if fits_plain == fits_cb:
        problem = "fits both forms" if fits_plain else "fits neither form"
        hint = "; what has a default can be made keyword-only, behind a *" if fits_plain else ""
        raise TypeError(f"the handler {name}{signature} {problem}: it takes {plain} or {with_cb}{hint}")
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object with an async __call__
    )
    if is_async and in_thread:
        raise TypeError(f"the handler {name} is a coroutine function: in_thread=True is for plain functions")
    return Handler(function, fits_cb, is_async, in_thread, allow, limit)


def _fits(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def check_terms(key: str, allow: Allow | None, limit: str | None) -> tuple[Rule | None, Rate | None]:
    """Gives what `allow` and `limit` mean, or says what is wrong with them or with the key.

    Raises:
        TypeError, ValueError: one is not of the right form.
    """
    check_key(key)
    return make_rule(allow), None if limit is None else make_rate(limit)


class Registration:
    """What registering gives: a handle to take the callback back."""

    __slots__ = ("_registry", "handler", "key")

    def __init__(self, registry: Registry, key: str, handler: Handler) -> None:
        self._registry = registry
        self.key = key
        self.handler = handler

    def unregister(self) -> None:
        """Takes the callback back; a second time, or after it was replaced, does nothing."""
        self._registry.remove(self)

    def __repr__(self) -> str:
        return f"<Registration {self.key!r}>"


class Registry:
    """The callbacks of one endpoint.

    Attributes:
        handlers: by key. Read by the I/O thread while others register: single dict operations only.
    """

    def __init__(self, arguments: tuple[str, ...], changed: Callable[[], None]) -> None:
        self.handlers: dict[str, Handler] = {}
        self._arguments = arguments
        self._changed = changed

    def add(
        self,
        key: str,
        function: Any,
        *,
        replace: bool,
        in_thread: bool = False,
        allow: Allow | None = None,
        limit: str | None = None,
    ) -> Registration:
        """Registers a function.

        Raises:
            TypeError, ValueError: an argument is not of the right form, or the key is taken.
        """
        rule, rate = check_terms(key, allow, limit)
        handler = make_handler(function, self._arguments, in_thread, rule, rate)
        if replace:
            self.handlers[key] = handler
        elif self.handlers.setdefault(key, handler) is not handler:
            raise ValueError(f"{key!r} is registered already; replace=True puts another in its place")
        self._changed()
        return Registration(self, key, handler)

    def remove(self, registration: Registration) -> None:
        if self.handlers.get(registration.key) is registration.handler:
            del self.handlers[registration.key]
            self._changed()

    def keys(self) -> tuple[str, ...]:
        """The keys that the broker is told of, for operators' questions: at most 1024 of them."""
        return tuple(self.handlers)[:MAX_KEYS]

    def terms(self) -> dict[str, str] | None:
        """Who may call some of them and how often, in words, for the same questions."""
        return {key: text for key in self.keys() if (text := _terms(self.handlers.get(key)))} or None


def _terms(handler: Handler | None) -> str:
    if handler is None:  # it was taken back meanwhile
        return ""
    allow = "" if handler.allow is None else f"for {in_words(handler.allow)}"
    limit = "" if handler.limit is None else f"at most {handler.limit.text} of one caller"
    return ", ".join(part for part in (allow, limit) if part)
