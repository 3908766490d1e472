"""The registry: the callbacks of an endpoint. The form of a handler is decided once, from its signature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import Any

from ringback.core.conversion import Types
from ringback.core.permissions import Allow, Rule, in_words, make_rule
from ringback.core.rate_limits import Rate, make_rate
from ringback.core.signatures import (
    check_no_generator,
    is_coroutine_function,
    name_of,
    signatures,
    takes,
)
from ringback.protocol.limits import MAX_KEYS, MAX_SCHEMA_BYTES, MAX_SCHEMAS_BYTES, MAX_TERMS_CHARS
from ringback.protocol.names import check_key
from ringback.protocol.repeats import REPEAT_KEY

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Handler:
    """A registered function.

    Attributes:
        function: the function itself.
        takes_cb: whether it takes `cb` and replies with it; otherwise its return value is the result.
        is_async: whether it is a coroutine function.
        in_thread: whether the asyncio face runs it in a thread of its own.
        allow: who may call it; None for everybody.
        limit: how often one caller may call it; None for no limit.
        types: the types of its payload and result; None: they stay as they are.
        idempotent: whether it may run twice for one call: a repeat runs it if the outcome is not known.
        serial: whether the calls of one source run one after the other.
    """

    function: Function
    takes_cb: bool
    is_async: bool
    in_thread: bool
    allow: Rule | None = None
    limit: Rate | None = None
    types: Types | None = None
    idempotent: bool = False
    serial: bool = False


def make_handler(
    function: Any,
    arguments: tuple[str, ...],
    in_thread: bool = False,
    allow: Rule | None = None,
    limit: Rate | None = None,
    types: Types | None = None,
    idempotent: bool = False,
    serial: bool = False,
) -> Handler:
    """Return the handler for a function, with its form.

    Args:
        arguments: the names of its arguments without `cb`: ("source", "payload") or ("payload",).

    Raises:
        TypeError: the function is not callable, or its signature fits neither form, or both; or it is a
            generator.
    """
    plain = f"({', '.join(arguments)})"
    with_cb = f"({', '.join((*arguments, 'cb'))})"
    if not callable(function):
        kind = type(function).__name__
        raise TypeError(f"a handler must be a function of {plain} or {with_cb}, not {kind}")
    check_no_generator(function, "handler", "return a list, or call cb with several results")
    takes_cb = _takes_cb(function, arguments, f"it must take {plain} or {with_cb}")
    is_async = is_coroutine_function(function)
    if is_async and in_thread:
        raise TypeError(
            f"in_thread=True is for plain functions; the handler {name_of(function)} is a coroutine function"
        )
    return Handler(function, takes_cb, is_async, in_thread, allow, limit, types, idempotent, serial)


def check_flag(name: str, value: Any) -> None:
    """Check an option that is on or off: "no" would count as true.

    Raises:
        TypeError: it is not a bool.
    """
    if type(value) is not bool:
        raise TypeError(f"{name} must be a bool, not {type(value).__name__}")


def _takes_cb(function: Callable[..., Any], arguments: tuple[str, ...], forms: str) -> bool:
    """Return whether a handler takes `cb` after these arguments.

    Raises:
        TypeError: its signature fits neither form, or it cannot be known which.
    """
    name, count = name_of(function), len(arguments)
    try:
        chain = signatures(function)
    except ValueError:
        raise TypeError(f"the handler {name} shows no signature; wrap it: lambda payload: ...") from None
    signature = chain[-1]
    positional = [
        p for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    third = positional[count] if len(positional) > count else None
    problem, hint = "fits neither form", _misplaced(signature, positional, arguments)
    if hint is None:
        hint = ""
        fits_plain = all(takes(one, count) for one in chain)
        fits_cb = all(takes(one, count + 1) for one in chain)
        if fits_plain and third is not None and third.name != "cb":
            fits_cb = False  # it has a default, and is not meant for us
        if fits_cb and len(chain) > 1 and third is not None and third.name != "cb":
            fits_cb = False
            hint = (
                f"; the wrapper takes *args, so {third.name!r} may come from it or from the caller: write the"
                " wrapper's own arguments out, or give the argument the name cb"
            )
        if fits_plain != fits_cb:
            return fits_cb
        if fits_plain:
            problem = "fits both forms"
            hint = (
                "; write its arguments out instead of *args"
                if third is None
                else "; write cb without a default"
            )
    raise TypeError(f"the handler {name}{signature} {problem}: {forms}{hint}")


def _misplaced(signature: Signature, positional: list[Parameter], arguments: tuple[str, ...]) -> str | None:
    """Return what to do about an argument in the wrong place; None if each is in its place.

    A handler may give its arguments any names. But `payload` and `cb` say what they are, and a handler that
    has them elsewhere, such as one of a player that takes (source, payload), would get something else.
    """
    names = [p.name for p in positional[: len(arguments) + 1]]
    by_keyword = signature.parameters.get("cb")
    if names and names[0] in ("self", "cls"):
        return "; it is a method of a class: register the method of an object"
    if by_keyword is not None and by_keyword.kind is by_keyword.KEYWORD_ONLY:
        return "; cb is passed by position: put it before the *"
    if "cb" in names[: len(arguments)] or (
        "payload" in names and names.index("payload") != len(arguments) - 1
    ):
        return ""
    return None


def check_terms(key: str, allow: Allow | None, limit: str | None) -> tuple[Rule | None, Rate | None]:
    """Return the rule and the rate that `allow` and `limit` mean.

    Raises:
        TypeError, ValueError: the key, `allow` or `limit` is not of the right form.
    """
    check_key(key)
    if key == REPEAT_KEY:
        raise ValueError(f"the key {key!r} is reserved for repeats of calls: choose another one")
    return make_rule(allow), None if limit is None else make_rate(limit)


class Registration:
    """A handle to take a registered callback back.

    Attributes:
        key: the key of the callback.
        handler: the registered handler.
    """

    __slots__ = ("_registry", "handler", "key")

    def __init__(self, registry: Registry, key: str, handler: Handler) -> None:
        self._registry = registry
        self.key = key
        self.handler = handler

    def unregister(self) -> None:
        """Take the callback back. This does nothing the second time, or once the callback is replaced."""
        self._registry.remove(self)

    def __repr__(self) -> str:
        return f"<Registration {self.key!r}>"


class Registry:
    """The callbacks of one endpoint.

    Attributes:
        handlers: the handlers, by key. The I/O thread reads them while other threads register: use only
            single operations of the dict.
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
        replace: bool = False,
        in_thread: bool = False,
        allow: Allow | None = None,
        limit: str | None = None,
        types: Types | None = None,
        idempotent: bool = False,
        serial: bool = False,
    ) -> Registration:
        """Register a function under a key.

        Raises:
            TypeError, ValueError: an argument is not of the right form.
            ValueError: the key is registered already, and `replace` is False.
        """
        rule, rate = check_terms(key, allow, limit)
        check_flag("replace", replace)
        check_flag("in_thread", in_thread)
        check_flag("idempotent", idempotent)
        check_flag("serial", serial)
        handler = make_handler(function, self._arguments, in_thread, rule, rate, types, idempotent, serial)
        if replace:
            self.handlers[key] = handler
        elif self.handlers.setdefault(key, handler) is not handler:
            raise ValueError(f"{key!r} is registered already; use replace=True to replace it")
        self._changed()
        return Registration(self, key, handler)

    def remove(self, registration: Registration) -> None:
        """Take a callback back, unless it was taken back or replaced already."""
        if self.handlers.get(registration.key) is registration.handler:
            del self.handlers[registration.key]
            self._changed()

    @property
    def payload_position(self) -> int:
        """The position of the payload among the arguments of a handler."""
        return len(self._arguments) - 1

    def keys(self) -> tuple[str, ...]:
        """Return the keys that the broker is told of, at most 1024."""
        return tuple(self.handlers)[:MAX_KEYS]

    def terms(self) -> dict[str, str] | None:
        """Return the terms of these callbacks, in words; None if there are none."""
        handlers = list(self.handlers.items())[:MAX_KEYS]
        return {key: text for key, handler in handlers if (text := _terms(handler))} or None

    def schemas(self) -> dict[str, str] | None:
        """Return the JSON Schemas of these callbacks; None if there are none.

        One that is too long, or for which there is no room any more, is left out.
        """
        found: dict[str, str] = {}
        room = MAX_SCHEMAS_BYTES
        for key, handler in list(self.handlers.items())[:MAX_KEYS]:
            if handler.types is not None and handler.types.schema is not None:
                size = len(handler.types.schema.encode())
                if size <= min(MAX_SCHEMA_BYTES, room):
                    found[key] = handler.types.schema
                    room -= size
        return found or None


def _terms(handler: Handler) -> str:
    allow = "" if handler.allow is None else f"for {in_words(handler.allow)}"
    limit = "" if handler.limit is None else f"at most {handler.limit.text} from one caller"
    serial = "one call of a source at a time" if handler.serial else ""
    terms = ", ".join(part for part in (allow, limit, serial) if part)
    return terms[:MAX_TERMS_CHARS]  # a limit may have many digits
