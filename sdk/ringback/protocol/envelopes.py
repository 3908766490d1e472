"""Envelopes: the calls, replies, cancels and reports of progress inside a DATA or RELAY frame.

The body of such a frame is one msgpack array of envelopes, so that one `unpackb` reads all of them. For a
single call that takes a fifth of the time of a streaming unpacker; for many it takes the same time. An
envelope is an array too. The hot path uses it as it comes out of msgpack, once its shape is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any

import msgpack

from ringback.errors import (
    EXECUTED,
    MAX_CODE_CHARS,
    CallbackError,
    Code,
    InvalidPayload,
    TooLarge,
    call_error,
)
from ringback.protocol.limits import Limits
from ringback.protocol.values import (
    CONTAINERS_AND_EXTENSIONS,
    MEDIUM_BYTES,
    OTHER_BYTES,
    SHORT_BYTES,
    fault_of,
    is_shallow,
    may_have_extension,
    plain,
    too_deep,
    unpack_strictly,
)


class EnvelopeType(IntEnum):
    """The type of an envelope: its first item."""

    CALL = 1
    RESULT = 2
    ERROR = 3
    CANCEL = 4
    PROGRESS = 5


CALL, RESULT, ERROR, CANCEL, PROGRESS = 1, 2, 3, 4, 5
LONG_ID = 0xCF
"""What an ID of 8 bytes begins with. The other fields before the ID take two bytes."""

MAX_ID = 2**64 - 1
MAX_MESSAGE_CHARS = 1000
_CALL_STARTS = (bytes((0x95, CALL)), bytes((0x96, CALL)))
"""How an encoded CALL begins: an array of five items, or of six with a context, and the type. The ID follows:
a byte up to 127, or 0xcc to 0xcf and 1, 2, 4 or 8 bytes."""

_CODES = frozenset(Code)
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

    Every method raises `InvalidPayload` for a value that msgpack cannot encode, that nobody could decode
    again, or that is nested too deeply, and `TooLarge` for an envelope over `limits.max_call_bytes`.
    """

    __slots__ = ("_limits", "_pack", "_short_bytes", "_unsure")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._short_bytes = min(SHORT_BYTES, limits.max_call_bytes)
        self._unsure = False
        self._pack = self._new_pack()

    def _new_pack(self) -> Callable[[Any], bytes]:
        # Strict types: for a subclass of list or dict, msgpack writes its length, but the items that its
        # __iter__ yields. If these differ, the envelope corrupts all that follow it in the frame. Strict
        # types are also faster.
        pack: Callable[[Any], bytes] = msgpack.Packer(strict_types=True, default=self._plain).pack
        return pack

    def _plain(self, value: Any) -> Any:
        """Return the plain value that is encoded for a tuple, or for an instance of a subclass."""
        # The value may be a key, and a tuple can be one here, but not where it is decoded. So the envelope
        # is decoded once before it leaves.
        self._unsure = True
        if type(value) is tuple:
            return list(value)
        # The program's own code runs now. If it makes a call, that must not use the packer at work.
        pack, self._pack = self._pack, self._new_pack()
        try:
            return plain(value)
        finally:
            self._pack = pack
            self._unsure = True

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
        return self._envelope(fields, 3, "payload")

    def result(self, call_id: int, results: tuple[Any, ...]) -> bytes:
        """Return an encoded RESULT."""
        return self._envelope([RESULT, call_id, list(results)], 2, "result")

    def error(self, call_id: int, error: CallbackError) -> bytes:
        """Return an encoded ERROR."""
        # A handler may raise a CallbackError with anything in it.
        try:
            code = int(error.code) if isinstance(error.code, Code) else error.code
            if isinstance(code, str):
                code.encode()  # it must be valid Unicode, and the error must not blame the data
            message = str(error.message)[:MAX_MESSAGE_CHARS].encode("utf-8", "replace").decode()
            fields = [ERROR, call_id, code, message, EXECUTED.index(error.executed), error.data]
            fault = error_fault(fields)
        except Exception as failure:
            raise InvalidPayload(f"the error cannot be encoded: {fault_of(failure)}") from None
        if fault:
            raise InvalidPayload(f"the error cannot be encoded: {fault}")
        return self._envelope(fields, 5, "error's data")

    def cancel(self, call_id: int) -> bytes:
        """Return an encoded CANCEL."""
        envelope: bytes = self._pack([CANCEL, call_id])
        return envelope

    def progress(self, call_id: int, value: Any) -> bytes:
        """Return an encoded PROGRESS."""
        return self._envelope([PROGRESS, call_id, value], 2, "progress")

    def _envelope(self, fields: list[Any], position: int, what: str) -> bytes:
        """Return an encoded envelope, whose field at this position is the program's own value."""
        try:
            envelope = self._pack(fields)
            if len(envelope) <= self._short_bytes and not self._unsure:
                # Each level of nesting begins with one of these bytes, and so does each extension. The bytes
                # of a long ID are left out.
                marks = envelope[11 if envelope[2] == LONG_ID else 3 :].translate(
                    CONTAINERS_AND_EXTENSIONS, OTHER_BYTES
                )
                if len(marks) <= self._limits.max_depth and marks.isascii():
                    return envelope
            fault = self._fault(envelope, fields, position)
        except Exception as error:  # msgpack raises five kinds; a payload's own classes may raise others
            self._unsure = False
            reason = fault_of(error, self._limits.max_depth)
            raise InvalidPayload(f"the {what} cannot be encoded: {reason}") from None
        if fault:
            raise InvalidPayload(f"the {what} {fault}")
        size = len(envelope)
        if size > self._limits.max_call_bytes:
            raise TooLarge(
                f"the {what} takes {size} bytes encoded, with its key;"
                f" at most {self._limits.max_call_bytes} are allowed"
            )
        return envelope

    def _fault(self, envelope: bytes, fields: list[Any], position: int) -> str:
        """Return why nobody could decode an envelope; an empty str if that is possible."""
        limits = self._limits
        if len(envelope) > limits.max_call_bytes:
            self._unsure = False
            return ""  # this is TooLarge
        value, size = fields[position], len(envelope)
        # A short envelope comes here because something in it looks like an extension.
        if self._unsure or size <= SHORT_BYTES or size > MEDIUM_BYTES or may_have_extension(envelope):
            self._unsure = False
            # Only a decoder knows: a tuple may be a key, two keys may become one, and a list that changes
            # while it is encoded has another length than the one that was written.
            value = unpack_strictly(envelope)[position]
        # The array of results does not count as a level of nesting.
        depth = limits.max_depth + (fields[0] == RESULT)
        if not is_shallow(envelope, depth) and too_deep(value, depth):
            return f"must be nested at most {limits.max_depth} levels deep"
        return ""


def build_call(call_id: int, key: str, payload: bytes, budget_ms: int | None, context: bytes) -> bytes:
    """Return an encoded CALL around a payload and a context that are encoded already; b"" for no context."""
    start = _CALL_STARTS[1 if context else 0]
    return b"".join(
        (start, msgpack.packb(call_id), msgpack.packb(key), payload, msgpack.packb(budget_ms), context)
    )


class EncodedOnce:
    """Encodes the CALLs of one trigger on many players: their key and payload once, whatever their number.

    Args:
        max_bytes: how large a CALL may be.
    """

    __slots__ = ("_max_bytes", "_same")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._same = b""

    def call(
        self,
        encode: Callable[..., bytes],
        call_id: int,
        key: str,
        payload: Any,
        budget_ms: int | None,
        context: dict[str, str] | None,
    ) -> bytes:
        """Return an encoded CALL. Key and payload are those of the first one.

        Args:
            encode: `Encoder.call`, which encodes the first one and raises what is wrong with it.
        """
        if self._same:
            pack = msgpack.packb
            start, last = (_CALL_STARTS[0], b"") if context is None else (_CALL_STARTS[1], pack(context))
            envelope = b"".join((start, pack(call_id), self._same, pack(budget_ms), last))
            if len(envelope) <= self._max_bytes:
                return envelope
        envelope = encode(call_id, key, payload, budget_ms, context)
        self._same = msgpack.packb(key) + split_call(envelope)[0]
        return envelope


def split_call(encoded: bytes) -> tuple[bytes, bytes]:
    """Return the payload and the context of an encoded CALL of this endpoint's own, still encoded."""
    walker = walk_over(encoded)
    has_context = walker.read_array_header() == 6
    for _ in range(3):
        walker.skip()
    start = walker.tell()
    walker.skip()
    payload = encoded[start : walker.tell()]
    walker.skip()
    return payload, encoded[walker.tell() :] if has_context else b""


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
