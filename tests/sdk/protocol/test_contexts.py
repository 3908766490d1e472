"""The context of a call: what finds room in it."""

from __future__ import annotations

from ringback.protocol.contexts import ONCE, PROGRESS, bounded
from ringback.protocol.envelope_decoding import decode
from ringback.protocol.envelopes import Encoder, join
from ringback.protocol.limits import MAX_CONTEXT_BYTES, MAX_CONTEXT_PAIRS, Limits


def is_accepted(context: dict[str, str]) -> bool:
    """Return whether the other side accepts a CALL with this context."""
    decoded, unreadable, _ = decode(join([Encoder(Limits()).call(1, "k", None, None, context)]), Limits())
    return not unreadable and decoded[0][5] == context


def test_what_is_asked_for_comes_before_the_context_of_tracing() -> None:
    tracing = {f"name-{number}": "x" for number in range(MAX_CONTEXT_PAIRS)}
    kept = bounded({ONCE: "00" * 16}, {PROGRESS: "1"}, tracing)
    assert list(kept) == [ONCE, PROGRESS, *list(tracing)[: MAX_CONTEXT_PAIRS - 2]]
    assert is_accepted(kept)
    assert not is_accepted({**kept, "one more": ""})


def test_the_bytes_of_names_and_values_count() -> None:
    """Characters do not: each of these has two bytes."""
    fits = {"é": "é" * (MAX_CONTEXT_BYTES // 2 - 1)}
    assert bounded(fits) == fits and is_accepted(fits)
    assert bounded({"é": fits["é"] + "x"}) == {}


def test_a_pair_that_is_too_large_leaves_room_for_others() -> None:
    assert bounded({"baggage": "x" * MAX_CONTEXT_BYTES, "traceparent": "00-01"}) == {"traceparent": "00-01"}


def test_the_first_one_of_two_pairs_with_one_name_is_kept() -> None:
    assert bounded({PROGRESS: "1"}, {PROGRESS: "2", "x": "y"}) == {PROGRESS: "1", "x": "y"}
