"""What the core asks of the types of a callback: to convert what arrives, and what leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ringback.errors import Executed, InvalidPayload, reason_of

MAX_PATH_CHARS = 200
"""How much is kept of the path of a field. A caller may choose a part of it."""


class Misfit(Exception):
    """A value is not of the type that a contract names.

    Attributes:
        path: which part of the value is wrong: `$` is the value itself, `$.items[0]` a part of it.
    """

    def __init__(self, reason: str, path: str = "$") -> None:
        super().__init__(reason)
        self.path = path[:MAX_PATH_CHARS]


class Converter(Protocol):
    """Converts values of one type. Both functions may run code of the user's classes."""

    @property
    def name(self) -> str:
        """The name of the type, for people."""
        ...

    def read(self, value: Any) -> Any:
        """Return the value of this type that a plain value from the wire stands for.

        Raises:
            Misfit: it stands for none.
            Exception: code of the user's classes failed.
        """
        ...

    def write(self, value: Any) -> Any:
        """Return the plain value that stands for a value of this type on the wire.

        Raises:
            Misfit: the value is not of this type, or cannot be converted.
        """
        ...


@dataclass(frozen=True, slots=True)
class Types:
    """The types of a callback.

    Attributes:
        payload: converts its payload; None: the payload stays as it is.
        result: converts its result; None: the results stay as they are.
        schema: the JSON Schema of its payload, as the broker is told; None if there is none to tell.
    """

    payload: Converter | None
    result: Converter | None
    schema: str | None = None


def one_result(results: tuple[Any, ...]) -> Any:
    """Return the one result of a callback with types: None if there are no results.

    Raises:
        Misfit: there are several.
    """
    if len(results) > 1:
        raise Misfit(f"expected one result, got {len(results)}")
    return results[0] if results else None


def misfit_text(what: str, converter: Converter, error: BaseException) -> str:
    """Return what is wrong with a value, and where.

    Args:
        what: "payload" or "result".
        error: a `Misfit`, or what code of the user's classes raised.
    """
    return f"the {what} does not fit {converter.name}: {path_of(error)}: {reason_of(error)}"


def misfit_error(what: str, converter: Converter, error: BaseException, executed: Executed) -> InvalidPayload:
    """Return what a caller is told of a value that does not fit."""
    text = misfit_text(what, converter, error)
    return InvalidPayload(text, executed=executed, data={"path": path_of(error)})


def path_of(error: BaseException) -> str:
    """Return which part of a value is wrong."""
    return error.path if isinstance(error, Misfit) else "$"
