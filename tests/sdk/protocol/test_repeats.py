"""Tokens and repeats on the wire."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from ringback.errors import CallTimeout
from ringback.protocol.contexts import ONCE
from ringback.protocol.envelopes import Encoder, build_call, split_call
from ringback.protocol.limits import MAX_CONTEXT_BYTES, MAX_CONTEXT_PAIRS, Limits
from ringback.protocol.repeats import (
    REPEAT_KEY,
    Repeat,
    add_token,
    pack_repeat,
    put_in_id,
    read_repeat,
    read_token,
    take_out_id,
)

write = Encoder(Limits())
TOKEN = bytes(range(16))
LONG_IDS = [0, 127, 128, 255, 256, 65_536, 2**32, 2**64 - 1]


def test_a_token_is_32_hexadecimal_digits() -> None:
    assert read_token(TOKEN.hex()) == TOKEN
    for text in ("", "0" * 31, "0" * 33, "g" * 32, "A" * 32, "0" * 32 + "\n"):
        assert read_token(text) is None


def test_a_token_joins_the_context() -> None:
    packed = msgpack.packb({"traceparent": "x", "ringback-hint": "1"})
    assert msgpack.unpackb(add_token(packed, TOKEN)) == {
        ONCE: TOKEN.hex(),
        "ringback-hint": "1",
        "traceparent": "x",
    }
    assert msgpack.unpackb(add_token(b"", TOKEN)) == {ONCE: TOKEN.hex()}


def test_a_trace_makes_room_for_the_token() -> None:
    many = {f"name{number}": "x" for number in range(MAX_CONTEXT_PAIRS)}
    assert list(msgpack.unpackb(add_token(msgpack.packb(many), TOKEN))) == [ONCE, *list(many)[:-1]]
    large = {"baggage": "b" * (MAX_CONTEXT_BYTES - 20), "traceparent": "x"}
    assert list(msgpack.unpackb(add_token(msgpack.packb(large), TOKEN))) == [ONCE, "traceparent"]


def test_a_repeat_there_and_back() -> None:
    packed = pack_repeat("shop:buy", TOKEN, 1500, msgpack.packb({"item": "rope"}))
    assert read_repeat(msgpack.unpackb(packed)) == Repeat("shop:buy", TOKEN, 1500, {"item": "rope"})


@pytest.mark.parametrize(
    "payload",
    [
        None,
        ["k", TOKEN, 0],
        ["", TOKEN, 0, None],
        ["k" * 257, TOKEN, 0, None],
        [7, TOKEN, 0, None],
        [REPEAT_KEY, TOKEN, 0, None],
        ["k", TOKEN[1:], 0, None],
        ["k", "0" * 16, 0, None],
        ["k", TOKEN, -1, None],
        ["k", TOKEN, True, None],
        ["k", TOKEN, 0.5, None],
    ],
)
def test_what_is_no_repeat(payload: Any) -> None:
    assert read_repeat(payload) is None


@pytest.mark.parametrize("call_id", LONG_IDS)
def test_a_reply_takes_another_id(call_id: int) -> None:
    for before in LONG_IDS:
        result = take_out_id(write.result(before, ("done", 1)))
        assert put_in_id(result, call_id) == write.result(call_id, ("done", 1))
        error = take_out_id(write.error(before, CallTimeout("late", data=[1])))
        assert put_in_id(error, call_id) == write.error(call_id, CallTimeout("late", data=[1]))


@pytest.mark.parametrize("context", [None, {"traceparent": "x"}])
@pytest.mark.parametrize("payload", [None, {"a": [1, 2]}, "p" * 300])
def test_a_call_is_taken_apart_and_built_again(context: dict[str, str] | None, payload: Any) -> None:
    for call_id in LONG_IDS:
        envelope = write.call(call_id, "k", payload, 1500, context)
        parts = split_call(envelope)
        assert parts == (msgpack.packb(payload), b"" if context is None else msgpack.packb(context))
        assert build_call(call_id, "k", parts[0], 1500, parts[1]) == envelope
