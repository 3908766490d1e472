"""Registering a callback: with a handler, or as a decorator."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import isfunction
from typing import Any, TypedDict, Unpack

from ringback._roles.annotations import types_of
from ringback._roles.base import F
from ringback.contracts import Contract, check_contract, wrong_key
from ringback.core.conversion import Types
from ringback.core.permissions import Allow
from ringback.core.registry import Registration, Registry, check_terms
from ringback.protocol.names import check_key


class RegisterOptions(TypedDict, total=False):
    """The options with which a callback is registered, as type checkers see them in `register`."""

    replace: bool
    in_thread: bool
    limit: str | None
    idempotent: bool
    serial: bool


class ServerRegisterOptions(RegisterOptions, total=False):
    """The options with which a server registers a callback."""

    allow: Allow | None


def register(
    registry: Registry,
    key: str,
    handler: Any,
    types: Types | None = None,
    log_name: str = "an endpoint",
    **options: Unpack[ServerRegisterOptions],
) -> Any:
    """Register a handler and return its registration. Without a handler, return a decorator that does so.

    Args:
        types: the types of a contract; None: those that the handler's annotations name, if any.
        log_name: what the log calls the endpoint.
        options: as for `register_server_callback`.

    Raises:
        TypeError, ValueError: an argument has the wrong type or value, or the key is taken.
    """
    try:
        check_key(key)
    except TypeError as error:
        if isfunction(key):
            raise TypeError(f"{error}; as a decorator, write {_name(registry)}('shop:items')") from None
        raise wrong_key(key, error, "register") from None

    def add(function: Any) -> Registration:
        found = types
        if found is None:
            found = types_of(function, key, registry.payload_position, log_name)
        return registry.add(key, function, types=found, **options)

    if handler is not None:
        return add(handler)
    check_terms(key, options.get("allow"), options.get("limit"))

    def decorate(function: F) -> F:
        add(function)
        return function

    return decorate


def register_contract(
    registry: Registry,
    wanted: type[Contract[Any, Any]],
    contract: Any,
    handler: Any,
    options: Mapping[str, Any],
) -> Any:
    """Register a handler of a contract, as `register` does.

    Args:
        wanted: the class of the contracts that this endpoint registers.
        options: those of `register`.

    Raises:
        TypeError, ValueError: an argument has the wrong type or value, or the key is taken.
    """
    check_contract(contract, wanted, with_key=_name(registry))
    return register(registry, contract.key, handler, types=contract.types, **options)


def _name(registry: Registry) -> str:
    """Return the name of the function that registers a handler under a key: a server's takes a source."""
    return f"register_{'server' if registry.payload_position else 'client'}_callback"
