"""Tokens and repeats: how a call that is tried more than once is known to be the same call."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgpack

from ringback.protocol.contexts import ONCE, bounded
from ringback.protocol.limits import MAX_KEY_BYTES

TOKEN_BYTES = 16

REPEAT_KEY = "ringback:repeat"
"""The key of a CALL that repeats one. No callback can have it."""

NOT_KNOWN = {"known": False}
"""The data of the error of a repeat whose call may have run, and whose outcome is not known."""

_TOKEN = re.compile(r"[0-9a-f]{32}")


class Repeat(NamedTuple):
    """The payload of a CALL that repeats one.

    Attributes:
        key: the key of the callback.
        token: the token of the call.
        age_ms: how long ago the caller made the call, in milliseconds.
        payload: the payload for the handler.
    """

    key: str
    token: bytes
    age_ms: int
    payload: Any


def pack_repeat(key: str, token: bytes, age_ms: int, payload: bytes) -> bytes:
    """Return the payload of a CALL that repeats one. The inner payload is encoded already."""
    return b"".join(
        (b"\x94", msgpack.packb(key), msgpack.packb(token), msgpack.packb(age_ms), payload),
    )


def read_repeat(payload: Any) -> Repeat | None:
    """Return what a CALL that repeats one asks for; None if its payload has another form."""
    if type(payload) is not list or len(payload) != 4:
        return None
    key, token, age_ms, inner = payload
    if type(key) is not str or not 0 < len(key.encode()) <= MAX_KEY_BYTES or key == REPEAT_KEY:
        return None
    if type(token) is not bytes or len(token) != TOKEN_BYTES:
        return None
    if type(age_ms) is not int or age_ms < 0:
        return None
    return Repeat(key, token, age_ms, inner)


def read_token(text: str) -> bytes | None:
    """Return the token in a context; None if it has another form."""
    return bytes.fromhex(text) if _TOKEN.fullmatch(text) else None


def add_token(context: bytes, token: bytes) -> bytes:
    """Return an encoded context with a token. Pairs of a trace for which there is no room are left out."""
    given: dict[str, str] = msgpack.unpackb(context) if context else {}
    asked = {name: value for name, value in given.items() if name.startswith("ringback-")}
    packed: bytes = msgpack.packb(bounded({ONCE: token.hex()}, asked, given))
    return packed


def take_out_id(reply: bytes) -> bytes:
    """Return an encoded RESULT, ERROR or PROGRESS of this endpoint's own without its ID."""
    first = reply[2]
    return reply[:2] + reply[3 if first < 0x80 else 3 + (1 << (first - 0xCC)) :]


def put_in_id(reply: bytes, call_id: int) -> bytes:
    """Return what `take_out_id` returned, for the call with this ID."""
    number: bytes = msgpack.packb(call_id)
    return reply[:2] + number + reply[2:]
