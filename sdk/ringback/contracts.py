"""Contracts: a callback's key with the types of its payload and its result, declared once for both sides.

    BUY = ServerCallback("shop:buy", BuyRequest, Receipt)

    @server.register(BUY)
    def buy(source: PlayerID, request: BuyRequest) -> Receipt: ...

    receipt = player.trigger(BUY, BuyRequest("rope")).result()

A type may be a dataclass, a TypedDict, an enum, `datetime`, `UUID`, `Decimal`, a list or dict of these, a
union with None, a Struct of msgspec or a model of pydantic. Contracts need the extra `ringback[typed]`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, overload

from ringback.converters import make_types, name_of
from ringback.core.execution import Execution
from ringback.protocol.names import check_key
from ringback.protocol.player_ids import PlayerID

if TYPE_CHECKING:
    from typing_extensions import TypeForm  # type checkers know this module, installed or not

P = TypeVar("P")
R = TypeVar("R")


class Contract(Generic[P, R]):
    """What both kinds of contract have in common.

    Attributes:
        key: the key of the callback.
        payload: the type of its payload.
        result: the type of its result.
        types: what converts them. Not for users.
    """

    def __init__(self, key: str, payload: TypeForm[P], result: TypeForm[R]) -> None:
        self.key = check_key(key)
        self.payload = payload
        self.result = result
        self.types = make_types(payload, result)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.key!r}, {name_of(self.payload)}, {name_of(self.result)})"


_ARGUMENTS = """

    Args:
        key: the key of the callback, a str of 1 to 256 bytes.
        payload: the type of the payload. None: the callback takes none.
        result: the type of the result. None: the callback gives none.

    Raises:
        TypeError, ValueError: the key is not of the right form, or a type cannot be converted.
        ImportError: msgspec is missing. The message has the command that installs it.
    """
"""The rest of the docstring of each contract."""


class ServerCallback(Contract[P, R]):
    __doc__ = f"The contract of a callback that a server registers, and that players trigger.{_ARGUMENTS}"


class ClientCallback(Contract[P, R]):
    __doc__ = f"The contract of a callback that players register, and that the server triggers.{_ARGUMENTS}"


def check_contract(contract: object, *wanted: type[Contract[Any, Any]], with_key: str) -> None:
    """Raise TypeError if something is not a contract of one of these classes.

    Args:
        with_key: the function that does the same with a key, for the error.
    """
    if not isinstance(contract, wanted):
        names = " or ".join(f"a {kind.__name__}" for kind in wanted)
        advice = f"; with a key, use {with_key}" if isinstance(contract, str) else ""
        raise TypeError(f"the contract must be {names}, not of type {type(contract).__name__}{advice}")


def wrong_key(key: object, error: TypeError, with_contract: str) -> TypeError:
    """Return the error for a key of a wrong type, with what to do if it is a contract.

    Args:
        error: what `check_key` raised.
        with_contract: the function that does the same with a contract.
    """
    return TypeError(f"{error}; with a contract, use {with_contract}") if isinstance(key, Contract) else error


# -- the forms of handlers


class RegisterOnServer(Protocol[P, R]):
    """Registers a function of a server: a decorator."""

    @overload
    def __call__(
        self, handler: Callable[[PlayerID, P], Awaitable[R]], /
    ) -> Callable[[PlayerID, P], Awaitable[R]]: ...
    @overload
    def __call__(self, handler: Callable[[PlayerID, P], R], /) -> Callable[[PlayerID, P], R]: ...
    @overload
    def __call__(
        self, handler: Callable[[PlayerID, P, Execution], Awaitable[None]], /
    ) -> Callable[[PlayerID, P, Execution], Awaitable[None]]: ...
    @overload
    def __call__(
        self, handler: Callable[[PlayerID, P, Execution], None], /
    ) -> Callable[[PlayerID, P, Execution], None]: ...


class RegisterOnPlayer(Protocol[P, R]):
    """Registers a function of a player: a decorator."""

    @overload
    def __call__(self, handler: Callable[[P], Awaitable[R]], /) -> Callable[[P], Awaitable[R]]: ...
    @overload
    def __call__(self, handler: Callable[[P], R], /) -> Callable[[P], R]: ...
    @overload
    def __call__(
        self, handler: Callable[[P, Execution], Awaitable[None]], /
    ) -> Callable[[P, Execution], Awaitable[None]]: ...
    @overload
    def __call__(self, handler: Callable[[P, Execution], None], /) -> Callable[[P, Execution], None]: ...


ServerHandler = (
    Callable[[PlayerID, P], Awaitable[R]]
    | Callable[[PlayerID, P], R]
    | Callable[[PlayerID, P, Execution], Awaitable[None]]
    | Callable[[PlayerID, P, Execution], None]
)
"""What a server registers for a contract."""

ClientHandler = (
    Callable[[P], Awaitable[R]]
    | Callable[[P], R]
    | Callable[[P, Execution], Awaitable[None]]
    | Callable[[P, Execution], None]
)
"""What a player registers for a contract."""
