"""Envelopes: the calls, replies and cancels inside a DATA or RELAY frame.

The body of such a frame is one msgpack array of envelopes, so that one `unpackb` reads all of them. For a
single call that takes a fifth of the time of a streaming unpacker; for many it takes the same time. An
envelope is an array too. The hot path uses it as it comes out of msgpack, once its shape is checked.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import msgpack

from ringback.errors import EXECUTED, CallbackError, Code, InvalidPayload, TooLarge, call_error
from ringback.protocol.limits import (
    Limits,
)


class EnvelopeType(IntEnum):
    """The type of an envelope: its first item."""

    CALL = 1
    RESULT = 2
    ERROR = 3
    CANCEL = 4


CALL, RESULT, ERROR, CANCEL = 1, 2, 3, 4
MAX_ID = 2**64 - 1
MAX_CODE_CHARS = 64
MAX_MESSAGE_CHARS = 1000
_CALL_STARTS = (bytes((0x95, CALL)), bytes((0x96, CALL)))
"""How an encoded CALL begins: an array of five items, or of six with a context, and the type. The ID follows:
a byte up to 127, or 0xcc to 0xcf and 1, 2, 4 or 8 bytes."""

_CODES = frozenset(Code)
_NO_CONTAINER = bytes(byte for byte in range(256) if not (0x80 <= byte <= 0x9F or 0xDC <= byte <= 0xDF))
"""The bytes that no list or map begins with."""

SHORT_BYTES = 1024
"""Up to this size it is faster to count bytes than to look at values."""

_SCALARS = frozenset({str, int, float, bool, bytes, type(None)})
_NESTING = (dict, list, tuple)

Envelope = list[Any]
"""A decoded envelope, as it comes out of msgpack."""


def join(envelopes: list[bytes]) -> bytes:
    """Return the body of a frame: an array header and the encoded envelopes behind it."""
    count = len(envelopes)
    head = bytes((0x90 | count,)) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
    return head + b"".join(envelopes)


OWN = Limits(max_array_len=2**31 - 1, max_map_len=2**31 - 1)
"""For envelopes of this endpoint's own: they are read back without the limits that it sets for others."""


class Encoder:
    """Encodes envelopes. Do not share one between threads: it keeps one packer and its buffer.

    Every method raises `InvalidPayload` for a value that msgpack cannot encode or that is nested too
    deeply, and `TooLarge` for an envelope over `limits.max_call_bytes`.
    """

    __slots__ = ("_limits", "_pack")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # Strict types: for a subclass of list or dict, msgpack writes its length, but the items that its
        # __iter__ yields. If these differ, the envelope corrupts all that follow it in the frame. Strict
        # types are also faster.
        self._pack = msgpack.Packer(strict_types=True, default=_plain).pack

    def call(
        self,
        call_id: int,
        key: str,
        payload: Any,
        budget_ms: int | None,
        context: dict[str, str] | None = None,
    ) -> bytes:
        """Return an encoded CALL."""
        fields = [CALL, call_id, key, payload, budget_ms]
        if context is not None:
            fields.append(context)
        return self._envelope(fields, payload, "payload")

    def result(self, call_id: int, results: tuple[Any, ...]) -> bytes:
        """Return an encoded RESULT."""
        # As in `decode`, the array of results does not count as a level of nesting.
        items = list(results)
        return self._envelope([RESULT, call_id, items], items, "result", 1)

    def error(self, call_id: int, error: CallbackError) -> bytes:
        """Return an encoded ERROR."""
        # A handler may raise a CallbackError with anything in it.
        try:
            code = int(error.code) if isinstance(error.code, Code) else error.code
            message = str(error.message)[:MAX_MESSAGE_CHARS].encode("utf-8", "replace").decode()
            fields = [ERROR, call_id, code, message, EXECUTED.index(error.executed), error.data]
            fault = error_fault(fields)
        except Exception as failure:
            raise InvalidPayload(f"the error cannot be encoded: {failure}") from None
        if fault:
            raise InvalidPayload(f"the error cannot be encoded: {fault}")
        return self._envelope(fields, error.data, "error's data")

    def cancel(self, call_id: int) -> bytes:
        """Return an encoded CANCEL."""
        envelope: bytes = self._pack([CANCEL, call_id])
        return envelope

    def _envelope(self, fields: list[Any], payload: Any, what: str, more_depth: int = 0) -> bytes:
        limits = self._limits
        try:
            envelope: bytes = self._pack(fields)
            size = len(envelope)
            if is_shallow(envelope, limits.max_depth) and size <= limits.max_call_bytes:
                return envelope
            deep = size <= limits.max_call_bytes and too_deep(payload, limits.max_depth + more_depth)
        except Exception as error:  # msgpack raises five kinds; a payload's own classes may raise others
            raise InvalidPayload(f"the {what} cannot be encoded: {error}") from None
        if size > limits.max_call_bytes:
            raise TooLarge(
                f"the {what} takes {size} bytes encoded, with its key;"
                f" at most {limits.max_call_bytes} are allowed"
            )
        if deep:
            raise InvalidPayload(f"the {what} must be nested at most {limits.max_depth} levels deep")
        return envelope


def _plain(value: Any) -> Any:
    """Return the plain value that is encoded for a tuple, or for an instance of a subclass."""
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
    raise TypeError(f"msgpack cannot encode the type {type(value).__name__}")


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


def call_id_in(encoded: bytes) -> int | None:
    """Return the ID of an encoded CALL of this endpoint's own; None for another envelope."""
    if not encoded.startswith(_CALL_STARTS):
        return None
    first = encoded[2]
    return first if first < 0x80 else int.from_bytes(encoded[3 : 3 + (1 << (first - 0xCC))], "big")


def call_heads(call_id: int) -> tuple[bytes, ...]:
    """Return how the encoded CALL with an ID begins: without a context, and with one."""
    number = msgpack.packb(call_id)
    return tuple(start + number for start in _CALL_STARTS)


def slice_field(encoded: bytes, position: int) -> bytes:
    """Return one field of an encoded envelope of this endpoint's own, still encoded."""
    walker = walk_over(encoded)
    walker.read_array_header()
    for _ in range(position):
        walker.skip()
    start = walker.tell()
    walker.skip()
    return encoded[start : walker.tell()]


def to_error(envelope: Envelope) -> CallbackError:
    """Return the exception that an ERROR envelope stands for."""
    _, _, code, message, executed, data = envelope
    return call_error(code, message, EXECUTED[executed], data)


def error_fault(envelope: Envelope) -> str:
    """Return what is wrong with the shape of an ERROR; an empty str if nothing is wrong."""
    if len(envelope) != 6:
        return f"an ERROR must have 6 fields, not {len(envelope)}"
    _, _, code, message, executed, _ = envelope
    if type(code) is int:
        if code not in _CODES:
            return f"{code} is not an error code"
    elif type(code) is not str or not 0 < len(code) <= MAX_CODE_CHARS:
        return f"a code must be an error code, or a str of 1 to {MAX_CODE_CHARS} characters"
    if type(message) is not str:
        return "a message must be a str"
    if type(executed) is not int or not 0 <= executed < len(EXECUTED):
        return "executed must be 0, 1 or 2"
    return ""


def walk_over(data: bytes) -> Any:
    """Return an unpacker that walks over encoded values, item by item."""
    # No arrays or maps are built: `unpack` only reads types and IDs.
    walker = msgpack.Unpacker(max_buffer_size=max(len(data), 1), max_array_len=0, max_map_len=0)
    walker.feed(data)
    return walker
