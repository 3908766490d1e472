"""Values that cannot be encoded or decoded: the error says what is allowed, in plain words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import pytest

from ringback.errors import CallbackError, InvalidPayload, ProtocolError
from ringback.protocol.bundles import unbundle
from ringback.protocol.envelope_decoding import decode
from ringback.protocol.envelopes import Encoder
from ringback.protocol.fields import read_map
from ringback.protocol.limits import Limits
from ringback.protocol.values import fault_of

ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)

ALLOWED = "a value must be None, bool, int, float, str, bytes, list, tuple or dict"

NOT_ENCODED: list[tuple[str, Any, str]] = [
    ("an int that is too large", 2**64, "an int must be from -2^63 to 2^64-1"),
    ("an int that is too small", -(2**63) - 1, "an int must be from -2^63 to 2^64-1"),
    ("a key that is too large", {2**64: 1}, "an int must be from -2^63 to 2^64-1"),
    ("a surrogate", "ab\udc80", r"a str must be valid Unicode, without lone surrogates such as '\udc80'"),
    ("a surrogate in a key", {"\ud800": 1}, r"without lone surrogates such as '\ud800'"),
    ("a list in itself", ENDLESS, "lists and dicts must be nested at most 9 levels deep"),
    ("a set", {1}, f"{ALLOWED}, not set"),
    ("a complex number", 1j, f"{ALLOWED}, not complex"),
    (
        "a key that is a tuple",
        {(1, 2): 3},
        "a list, tuple or dict is a key of a dict; keys may be str, bytes",
    ),
    ("a memoryview with gaps", memoryview(b"abcd")[::2], "a memoryview must be contiguous"),
]


@pytest.mark.parametrize(
    ("value", "why"), [row[1:] for row in NOT_ENCODED], ids=[row[0] for row in NOT_ENCODED]
)
def test_a_value_that_cannot_be_encoded(value: Any, why: str) -> None:
    encoder = Encoder(Limits(max_depth=9))
    writes: dict[str, Callable[[], bytes]] = {
        "payload": lambda: encoder.call(1, "k", value, None),
        "result": lambda: encoder.result(1, (value,)),
        "error's data": lambda: encoder.error(1, CallbackError(data=value)),
    }
    for what, write in writes.items():
        with pytest.raises(InvalidPayload) as raised:
            write()
        assert f"the {what} cannot be encoded: " in raised.value.message and why in raised.value.message


NOT_DECODED: list[tuple[bytes, str]] = [
    (b"\xa2\xff\xfe", "a str must be valid UTF-8"),
    (b"\xa3\xed\xa0\x80", "a str must be valid UTF-8"),
    (b"\x91" * 10 + b"\xc0", "the payload must be nested at most 9 levels deep"),
    (b"\xdc\x00\x14" + b"\xc0" * 20, "a list must have at most 12 items, not 20"),
    (b"\xde\x00\x10" + b"\xc0\xc0" * 16, "a map must have at most 8 pairs, not 16"),
    (b"\x81\x91\x01\x01", "a list, tuple or dict is a key of a dict"),
    (b"\xd4\x01a", "extension type 1 is not allowed"),
]


@pytest.mark.parametrize(("payload", "why"), NOT_DECODED)
def test_a_payload_that_cannot_be_decoded(payload: bytes, why: str) -> None:
    limits = Limits(max_depth=9, max_array_len=12, max_map_len=8)
    [unreadable] = decode(b"\x91\x95\x01\x05\xa1k" + payload + b"\xc0", limits).unreadable
    assert why in unreadable.reason


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"\xa1\xff", "a str must be valid UTF-8"),
        (b"\x91" * 5000, "it is nested too deeply"),
        (b"\xc1", "it has a byte that msgpack does not use"),
        (b"\xdc\xff\xff" + b"\xc0" * 0xFFFF, "a list must have at most"),
    ],
)
def test_a_body_that_cannot_be_decoded(body: bytes, why: str) -> None:
    for read in (read_map, lambda body: unbundle(bytes(8) + body)):
        with pytest.raises(ProtocolError) as raised:
            read(body)
        assert why in str(raised.value)


def test_the_program_s_own_errors_keep_their_words() -> None:
    class Wordy(list[int]):
        def __iter__(self) -> Iterator[int]:
            raise OverflowError("the sum is too large")

    with pytest.raises(InvalidPayload, match="the sum is too large"):
        Encoder(Limits()).call(1, "k", Wordy([1]), None)
    assert fault_of(KeyError()) == "KeyError"
    assert fault_of(msgpack.StackError(), 3) == "lists and dicts must be nested at most 3 levels deep"
