"""Fields of control frames: how their bodies are read, with a `ProtocolError` for what is not allowed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack

from ringback.errors import ProtocolError
from ringback.protocol.limits import MAX_KEYS


def pack(value: Any) -> bytes:
    """Gives the body that a value is written as."""
    body: bytes = msgpack.packb(value)
    return body


def unpack(body: bytes) -> Any:
    """Gives the value of a body."""
    try:
        return msgpack.unpackb(
            body, max_array_len=MAX_KEYS, max_map_len=MAX_KEYS, ext_hook=_no_ext, timestamp=1
        )
    except Exception as error:  # msgpack raises five kinds; each means the same here
        raise ProtocolError(f"a body that is not msgpack within the limits: {error}") from None


def _no_ext(code: int, data: bytes) -> Any:
    raise ValueError(f"extension type {code} is not allowed")


def read_map(body: bytes) -> dict[str, Any]:
    """Gives the fields of a body that is a map."""
    fields = unpack(body)
    if type(fields) is not dict:
        raise ProtocolError(f"the body is a map, not {type(fields).__name__}")
    return fields


def field_of(fields: dict[str, Any], name: str, kind: type, default: Any = ...) -> Any:
    """Gives a field of a type, or the default where it is missing."""
    value = fields.get(name, default)
    if value is ...:
        raise ProtocolError(f"the field {name} is missing")
    if type(value) is not kind and value is not default:
        raise ProtocolError(f"the field {name} is {kind.__name__}, not {type(value).__name__}")
    return value


def number_of(fields: dict[str, Any], name: str, default: Any = ..., bits: int = 64) -> Any:
    """Gives a field that is an int of so many bits, without a sign."""
    value = field_of(fields, name, int, default)
    if value is not None and not 0 <= value < 2**bits:
        raise ProtocolError(f"the field {name} is 0 to 2**{bits}-1, not {value}")
    return value


def choice_of(kind: Callable[[Any], Any], value: Any, name: str) -> Any:
    """Gives the member of an enum that a value stands for."""
    try:
        return kind(value)
    except ValueError:
        raise ProtocolError(f"the field {name} has an unknown value: {value!r:.80}") from None


def checked(check: Callable[[Any], Any], value: Any) -> Any:
    """Gives what `check` gives; what it does not allow is a fault of the frame."""
    try:
        return check(value)
    except (TypeError, ValueError) as error:
        raise ProtocolError(str(error)) from None
