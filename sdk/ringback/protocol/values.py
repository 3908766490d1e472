"""The values that a payload, a result or the data of an error may have: how they are encoded and decoded."""

from __future__ import annotations

import re
from typing import Any

import msgpack

from ringback.errors import reason_of
from ringback.protocol.limits import Limits

_CONTAINERS = bytes((*range(0x80, 0xA0), *range(0xDC, 0xE0)))
_EXTENSIONS = bytes((0xC7, 0xC8, 0xC9, *range(0xD4, 0xD9)))

_NO_CONTAINER = bytes(byte for byte in range(256) if byte not in _CONTAINERS)
"""The bytes that no list or map begins with."""

OTHER_BYTES = bytes(byte for byte in _NO_CONTAINER if byte not in _EXTENSIONS)
"""The bytes that no list, map or extension type begins with."""

CONTAINERS_AND_EXTENSIONS = bytes.maketrans(_CONTAINERS, bytes(len(_CONTAINERS)))
"""A table for `bytes.translate`: what begins a list or map becomes 0, what begins an extension stays above
127. So `isascii` tells whether there may be an extension."""

SHORT_BYTES = 1024
"""Up to this size it is faster to count bytes than to look at values."""

MEDIUM_BYTES = 16 * 1024
"""Up to this size it is faster to look for bytes of extensions than to decode."""

_OVER_A_LIMIT = re.compile(r"(\d+) exceeds max_(array|map)_len\((\d+)\)")
"""How msgpack says that a list or a map is too long."""

_SCALARS = frozenset({str, int, float, bool, bytes, type(None)})
_NESTING = (dict, list, tuple)


def plain(value: Any) -> Any:
    """Return the plain value that is encoded for an instance of a subclass.

    Raises:
        TypeError: there is none.
    """
    match value:
        case tuple() | list():
            return list(value)
        case dict():
            return dict(value)
        case str():
            return str.__str__(value)  # not str(value): a `class E(str, Enum)` has another __str__
        case int():
            return int.__int__(value)
        case float():
            return float.__float__(value)
        case bytes() | bytearray():
            return bytes(memoryview(value))
    raise TypeError(
        f"a value must be None, bool, int, float, str, bytes, list, tuple or dict, not {type(value).__name__}"
    )


def unpack(data: bytes, limits: Limits) -> Any:
    """Return the value that is encoded here.

    Raises:
        ValueError, TypeError and others: the bytes are not one value that the protocol allows.
    """
    # Ints and floats are safe as map keys: CPython's dict probes with the whole hash. Tuples of chosen ints
    # are not safe, so timestamps are read as floats.
    return msgpack.unpackb(
        data,
        strict_map_key=False,
        max_array_len=limits.max_array_len,
        max_map_len=limits.max_map_len,
        ext_hook=_no_ext,
        timestamp=1,
    )


def unpack_strictly(data: bytes) -> Any:
    """Return the value that is encoded here, of any length.

    Raises:
        ValueError, TypeError and others: no receiver could decode it, or not all of it.
    """
    limit = 2**31 - 1
    return msgpack.unpackb(
        data,
        strict_map_key=False,
        max_array_len=limit,
        max_map_len=limit,
        ext_hook=_no_ext,
        timestamp=1,
        object_pairs_hook=_no_duplicates,
    )


def _no_duplicates(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("two keys of a dict are the same once they are encoded")
    return value


def _no_ext(code: int, data: bytes) -> Any:
    raise ValueError(f"extension type {code} is not allowed")


def fault_of(error: BaseException, max_depth: int | None = None) -> str:
    """Return what is wrong with a value, or with its bytes, and what is allowed.

    Args:
        error: what was raised while the value was encoded or decoded.
        max_depth: how many levels of lists and dicts are allowed, if that is the limit that counts.
    """
    text = reason_of(error)
    if isinstance(error, UnicodeEncodeError):
        return f"a str must be valid Unicode, without lone surrogates such as {error.object[error.start]!r}"
    if isinstance(error, UnicodeDecodeError):
        return "a str must be valid UTF-8"
    if isinstance(error, msgpack.StackError) or text.startswith("recursion limit exceeded"):
        if max_depth is None:
            return "it is nested too deeply"
        return f"lists and dicts must be nested at most {max_depth} levels deep"
    if isinstance(error, msgpack.FormatError):
        return "it has a byte that msgpack does not use"
    if "unhashable type" in text:
        return "a list, tuple or dict is a key of a dict; keys may be str, bytes, numbers, bool and None"
    if text == "Integer value out of range":
        return "an int must be from -2^63 to 2^64-1"
    if isinstance(error, BufferError):
        return "a memoryview must be contiguous; copy it with bytes(...)"
    if over := _OVER_A_LIMIT.fullmatch(text):
        number, what, limit = over.groups()
        kind, parts = ("list", "items") if what == "array" else ("map", "pairs")
        return f"a {kind} must have at most {limit} {parts}, not {number}"
    return text


def may_have_extension(encoded: bytes) -> bool:
    """Return False if there is surely no extension type in something encoded; True says nothing."""
    return not encoded.translate(CONTAINERS_AND_EXTENSIONS, OTHER_BYTES).isascii()


def is_shallow(encoded: bytes, max_depth: int) -> bool:
    """Return True if something encoded is surely not nested deeper; False says nothing.

    This is fast: each level begins with a byte of some kinds, which are counted.
    """
    size = len(encoded)
    return size <= max_depth or (
        size <= SHORT_BYTES and len(encoded.translate(None, _NO_CONTAINER)) <= max_depth
    )


def too_deep(value: Any, max_depth: int) -> bool:
    """Return whether lists and maps are nested more than `max_depth` deep, without recursion."""
    level = [value] if isinstance(value, _NESTING) else []
    while level:
        if max_depth == 0:
            return True
        max_depth -= 1
        # The exact type comes first: it settles nearly all values, at half the cost.
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if type(child) not in _SCALARS and isinstance(child, _NESTING)
        ]
    return False
