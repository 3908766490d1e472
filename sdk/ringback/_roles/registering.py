"""Registering a callback: with a handler, or as a decorator."""

from __future__ import annotations

from typing import Any

from ringback._roles.base import F
from ringback.core.permissions import Allow
from ringback.core.registry import Registration, Registry, check_terms


def register(
    registry: Registry,
    key: str,
    handler: Any,
    *,
    replace: bool,
    in_thread: bool,
    allow: Allow | None = None,
    limit: str | None = None,
) -> Any:
    """Register a handler and return its registration. Without a handler, return a decorator that does so.

    Raises:
        TypeError, ValueError: an argument has the wrong type or value, or the key is taken.
    """

    def add(function: Any) -> Registration:
        return registry.add(key, function, replace=replace, in_thread=in_thread, allow=allow, limit=limit)

    if handler is not None:
        return add(handler)
    check_terms(key, allow, limit)

    def decorate(function: F) -> F:
        add(function)
        return function

    return decorate
