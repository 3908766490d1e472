"""Fields of control frames: how bodies are read. A field that is not allowed raises `ProtocolError`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

import msgpack

from ringback.errors import ProtocolError
from ringback.protocol.limits import MAX_KEYS
from ringback.protocol.player_ids import PlayerID, check_player_id
from ringback.protocol.values import fault_of

T = TypeVar("T")
D = TypeVar("D")


def pack(value: Any) -> bytes:
    """Return the body that carries a value."""
    body: bytes = msgpack.packb(value)
    return body


def unpack(body: bytes) -> Any:
    """Return the value that a body carries."""
    try:
        return msgpack.unpackb(
            body, max_array_len=MAX_KEYS, max_map_len=MAX_KEYS, ext_hook=_no_ext, timestamp=1
        )
    except Exception as error:  # msgpack raises five kinds; each means the same here
        raise ProtocolError(f"the body must be msgpack within the limits: {fault_of(error)}") from None


def _no_ext(code: int, data: bytes) -> Any:
    raise ValueError(f"extension type {code} is not allowed")


def read_map(body: bytes) -> dict[str, Any]:
    """Return the fields of a body that is a map."""
    fields = unpack(body)
    if type(fields) is not dict:
        raise ProtocolError(f"the body must be a map, not {type(fields).__name__}")
    return fields


@overload
def field_of(fields: dict[str, Any], name: str, kind: type[T]) -> T: ...
@overload
def field_of(fields: dict[str, Any], name: str, kind: type[T], default: D) -> T | D: ...
def field_of(fields: dict[str, Any], name: str, kind: type[T], default: Any = ...) -> Any:
    """Return a field of this type, or the default if it is missing."""
    value = fields.get(name, default)
    if value is ...:
        raise ProtocolError(f"the field {name} is missing")
    if type(value) is not kind and value is not default:
        raise ProtocolError(f"the field {name} must be {kind.__name__}, not {type(value).__name__}")
    return value


@overload
def number_of(fields: dict[str, Any], name: str, *, bits: int = 64) -> int: ...
@overload
def number_of(fields: dict[str, Any], name: str, default: D, bits: int = 64) -> int | D: ...
def number_of(fields: dict[str, Any], name: str, default: Any = ..., bits: int = 64) -> Any:
    """Return a field that is an unsigned int of this many bits, or the default if it is missing."""
    value = field_of(fields, name, int, default)
    if value is not None and not 0 <= value < 2**bits:
        raise ProtocolError(f"the field {name} must be from 0 to 2**{bits}-1, not {value}")
    return value


def choice_of(kind: Callable[[Any], T], value: object, name: str) -> T:
    """Return the member of an enum that has this value."""
    try:
        return kind(value)
    except ValueError:
        raise ProtocolError(f"the field {name} has an unknown value: {value!r:.80}") from None


def checked(check: Callable[[Any], T], value: object) -> T:
    """Return what `check` returns. An error of `check` becomes a `ProtocolError`."""
    try:
        return check(value)
    except (TypeError, ValueError) as error:
        raise ProtocolError(str(error)) from None


def player_id_of(fields: dict[str, Any]) -> PlayerID | None:
    """Return the field player_id, or None if it is missing."""
    player_id = fields.get("player_id")
    return None if player_id is None else checked(check_player_id, player_id)
