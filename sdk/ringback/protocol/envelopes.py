"""Envelopes: the calls, replies and cancels inside a DATA or RELAY frame.

The body of such a frame is one msgpack array of envelopes, so that one `unpackb` reads all of them. For a
single call that takes a fifth of the time of a streaming unpacker; for many it takes the same time. An
envelope is an array too. The hot path uses it as it comes out of msgpack, once its shape is checked.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import msgpack

from ringback.errors import EXECUTED, CallbackError, Code, InvalidPayload, TooLarge, call_error
from ringback.protocol.limits import (
    MAX_CONTEXT_BYTES,
    MAX_CONTEXT_PAIRS,
    MAX_ENVELOPES,
    MAX_KEY_BYTES,
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
_SURE_KEY_CHARS = MAX_KEY_BYTES // 4
"""A key of up to this many characters is within its bytes, whatever the characters are."""

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


class Unreadable(NamedTuple):
    """An envelope that cannot be accepted, with the parts of it that could still be read."""

    type: int
    id: int
    reason: str


Envelope = list[Any]


class Decoded(NamedTuple):
    """What a body holds.

    Attributes:
        envelopes: the sound envelopes.
        unreadable: the envelopes that are not sound, but whose type and ID could be read.
        lost_bytes: how many bytes could not be read at all.
    """

    envelopes: list[Envelope]
    unreadable: list[Unreadable]
    lost_bytes: int


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
            fault = _error_fault(fields)
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


def decode(body: bytes, limits: Limits) -> Decoded:
    """Return what a body holds. Never raise: bad bytes are counted, and a bad envelope spoils no other."""
    try:
        # In a body under this bound no envelope is over it. A larger body is not unpacked as a whole.
        if len(body) <= limits.max_call_bytes:
            envelopes = _unpack(body, limits)
            if type(envelopes) is list and len(envelopes) <= MAX_ENVELOPES:
                values = _values(envelopes)
                if is_shallow(body, limits.max_depth) or not too_deep(values, limits.max_depth + 1):
                    return Decoded(envelopes, [], 0)
    except Exception:  # noqa: S110 - one of five kinds, or a fault; the slow path finds which
        pass
    return _decode_each(body, limits)


def _values(envelopes: list[Any]) -> list[Any]:
    """Return the payloads, results and data in envelopes. Raise if one is not sound.

    The rules are those of `_fault`, written flat, the frequent ones first. A function call for each
    envelope took twice as long (1.6 instead of 0.8 us for a small call in a body of 64, with all else).
    """
    values: list[Any] = []
    for envelope in envelopes:
        if type(envelope) is not list:
            raise ValueError
        size = len(envelope)
        if size == 5:
            kind, call_id, key, payload, budget_ms = envelope
            if not (
                type(kind) is int
                and kind == CALL
                and type(call_id) is int
                and call_id >= 0
                and type(key) is str
                and key
                and (len(key) <= _SURE_KEY_CHARS or len(key.encode()) <= MAX_KEY_BYTES)
                and (budget_ms is None or (type(budget_ms) is int and budget_ms >= 0))
            ):
                raise ValueError
            values.append(payload)
        elif size == 3:
            kind, call_id, results = envelope
            if not (
                type(kind) is int
                and kind == RESULT
                and type(call_id) is int
                and call_id >= 0
                and type(results) is list
            ):
                raise ValueError
            values += results
        elif _fault(envelope):
            raise ValueError
        elif size == 6:
            values.append(envelope[3 if envelope[0] == CALL else 5])
    return values


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
    walker = _walker(encoded)
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


def _unpack(data: bytes, limits: Limits) -> Any:
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


def _no_ext(code: int, data: bytes) -> Any:
    raise ValueError(f"extension type {code} is not allowed")


def _fault(envelope: Any) -> str:
    """Return what is wrong with the shape of an envelope; an empty str if nothing is wrong."""
    if type(envelope) is not list or len(envelope) < 2:
        return "an envelope must be an array of a type, an ID and more"
    kind, call_id = envelope[0], envelope[1]
    if type(kind) is not int:
        return "a type must be an int"
    if type(call_id) is not int or call_id < 0:
        return "an ID must be an int from 0 to 2**64-1"
    size = len(envelope)
    if kind == RESULT:
        return (
            ""
            if size == 3 and type(envelope[2]) is list
            else "a RESULT must have 3 fields, and the last must be a list of results"
        )
    if kind == CALL:
        if size not in (5, 6):
            return f"a CALL must have 5 or 6 fields, not {size}"
        key, budget_ms = envelope[2], envelope[4]
        if type(key) is not str or not 0 < len(key.encode()) <= MAX_KEY_BYTES:
            return f"a key must be a str of 1 to {MAX_KEY_BYTES} bytes"
        if budget_ms is not None and (type(budget_ms) is not int or budget_ms < 0):
            return "a budget must be an int from 0, or nil"
        return _context_fault(envelope[5]) if size == 6 else ""
    if kind == ERROR:
        return _error_fault(envelope)
    if kind == CANCEL:
        return "" if size == 2 else "a CANCEL must have 2 fields"
    return f"{kind} is not the type of an envelope"


def _context_fault(context: Any) -> str:
    if type(context) is not dict or not all(
        type(name) is str and type(value) is str for name, value in context.items()
    ):
        return "a context must be a map of str to str"
    if len(context) > MAX_CONTEXT_PAIRS:
        return f"a context must have at most {MAX_CONTEXT_PAIRS} pairs, not {len(context)}"
    size = sum(len(name.encode()) + len(value.encode()) for name, value in context.items())
    if size > MAX_CONTEXT_BYTES:
        return f"a context must have at most {MAX_CONTEXT_BYTES} bytes, not {size}"
    return ""


def _error_fault(envelope: Envelope) -> str:
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


def _too_deep(envelope: Envelope, limits: Limits) -> bool:
    kind = envelope[0]
    if kind == CALL:
        return too_deep(envelope[3], limits.max_depth)
    if kind == RESULT:
        # The array of results does not count as a level of nesting.
        return too_deep(envelope[2], limits.max_depth + 1)
    return kind == ERROR and too_deep(envelope[5], limits.max_depth)


def _decode_each(body: bytes, limits: Limits) -> Decoded:
    """Return what a body holds that could not be read as a whole, envelope by envelope."""
    sound: list[Envelope] = []
    unreadable: list[Unreadable] = []
    lost = 0
    walker = _walker(body)
    start = 0
    try:
        count = walker.read_array_header()
        if count > MAX_ENVELOPES:
            return Decoded([], [], len(body))
        for _ in range(count):
            start = walker.tell()
            walker.skip()
            piece = body[start : walker.tell()]
            reason, envelope = _read_one(piece, limits)
            if not reason:
                sound.append(envelope)
            elif (salvaged := _salvage(piece, reason)) is not None:
                unreadable.append(salvaged)
            else:
                lost += len(piece)
        start = walker.tell()
    except Exception:  # noqa: S110 - not msgpack, or cut short: no envelope can be found behind it
        pass
    return Decoded(sound, unreadable, lost + len(body) - start)


def _read_one(piece: bytes, limits: Limits) -> tuple[str, Envelope]:
    if len(piece) > limits.max_call_bytes:
        return f"the envelope has {len(piece)} bytes; at most {limits.max_call_bytes} are accepted", []
    try:
        envelope = _unpack(piece, limits)
    except Exception as error:
        return str(error) or type(error).__name__, []
    if reason := _fault(envelope):
        return reason, []
    if _too_deep(envelope, limits):
        return f"the payload must be nested at most {limits.max_depth} levels deep", []
    return "", envelope


def _salvage(piece: bytes, reason: str) -> Unreadable | None:
    walker = _walker(piece)
    try:
        if walker.read_array_header() < 2:
            return None
        kind, call_id = walker.unpack(), walker.unpack()
    except Exception:  # not even an ID: no caller can be told
        return None
    if type(kind) is not int or type(call_id) is not int or not 0 <= call_id <= MAX_ID:
        return None
    return Unreadable(kind, call_id, reason[:200])


def _walker(data: bytes) -> Any:
    # No arrays or maps are built: `unpack` only reads types and IDs.
    walker = msgpack.Unpacker(max_buffer_size=max(len(data), 1), max_array_len=0, max_map_len=0)
    walker.feed(data)
    return walker
