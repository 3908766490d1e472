"""Envelopes: round trips, hostile bodies, isolation, limits, and what an encoder refuses."""

from __future__ import annotations

import enum
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ringback.errors import EXECUTED, CallbackError, Code, InvalidPayload, TooLarge, call_error
from ringback.protocol.envelope_decoding import Decoded, Unreadable, decode
from ringback.protocol.envelopes import (
    MAX_ID,
    EncodedOnce,
    Encoder,
    call_heads,
    call_id_in,
    join,
    slice_field,
    to_error,
)
from ringback.protocol.limits import (
    MAX_CONTEXT_BYTES,
    MAX_CONTEXT_PAIRS,
    MAX_ENVELOPE_BYTES,
    MAX_ENVELOPES,
    Limits,
)
from ringback.protocol.values import MEDIUM_BYTES, SHORT_BYTES, too_deep

SETTINGS = settings(deadline=None, max_examples=100)
ENCODER = Encoder(Limits())
GOOD = ENCODER.cancel(9)

IDS = st.integers(0, 2**64 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | TEXT | st.binary(max_size=12)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SCALARS, inner, max_size=4),
    max_leaves=12,
)
CODES = st.sampled_from(Code).map(int) | TEXT.filter(bool)
CONTEXTS = st.dictionaries(TEXT, TEXT, max_size=MAX_CONTEXT_PAIRS)
ENVELOPES = (
    st.tuples(st.just(1), IDS, KEYS, VALUES, st.none() | IDS)
    | st.tuples(st.just(1), IDS, KEYS, VALUES, st.none() | IDS, CONTEXTS)
    | st.tuples(st.just(2), IDS, st.lists(VALUES, max_size=3))
    | st.tuples(st.just(3), IDS, CODES, TEXT, st.integers(0, 2), VALUES)
    | st.tuples(st.just(4), IDS)
    | st.tuples(st.just(5), IDS, VALUES)
).map(list)


def encode(envelope: list[Any]) -> bytes:
    match envelope:
        case [1, call_id, key, payload, budget_ms, *context]:
            return ENCODER.call(call_id, key, payload, budget_ms, *context)
        case [2, call_id, results]:
            return ENCODER.result(call_id, tuple(results))
        case [3, call_id, code, message, executed, data]:
            return ENCODER.error(call_id, call_error(code, message, EXECUTED[executed], data))
        case [5, call_id, value]:
            return ENCODER.progress(call_id, value)
        case _:
            return ENCODER.cancel(envelope[1])


def nested(depth: int, leaf: Any = 0) -> Any:
    value = leaf
    for level in range(depth):
        value = [value] if level % 2 else {"in": value}
    return value


def check(body: bytes, limits: Limits | None = None) -> Decoded:
    """Decode a body, and check what must be true for any bytes."""
    decoded = decode(body, limits or Limits())
    assert type(decoded) is Decoded
    assert 0 <= decoded.lost_bytes <= len(body)
    assert len(decoded.envelopes) + len(decoded.unreadable) <= MAX_ENVELOPES
    for envelope in decoded.envelopes:
        assert type(envelope) is list
        assert len(envelope) in {1: (5, 6), 2: (3,), 3: (6,), 4: (2,), 5: (3,)}[envelope[0]]
        if envelope[0] == 3:
            assert isinstance(to_error(envelope), CallbackError)
        repr(envelope)  # nothing in it is nested too deeply to print
    for bad in decoded.unreadable:
        assert type(bad) is Unreadable
        assert 0 <= bad.id < 2**64
        assert 0 < len(bad.reason) <= 200
    return decoded


# -- sound envelopes


@SETTINGS
@given(st.lists(ENVELOPES, max_size=20))
def test_round_trip(envelopes: list[list[Any]]) -> None:
    decoded = check(join([encode(envelope) for envelope in envelopes]))
    assert repr(decoded) == repr(Decoded(envelopes, [], 0))


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 255, 256, MAX_ENVELOPES])
def test_join_of_any_number(count: int) -> None:
    body = join([GOOD] * count)
    assert body == msgpack.packb([[4, 9]] * count)
    assert decode(body, Limits()) == ([[4, 9]] * count, [], 0)


def test_more_envelopes_than_allowed_are_lost() -> None:
    body = join([GOOD] * (MAX_ENVELOPES + 1))
    assert decode(body, Limits()) == ([], [], len(body))


def test_an_empty_body_holds_nothing() -> None:
    assert decode(b"", Limits()) == ([], [], 0)


@pytest.mark.parametrize("code", Code)
def test_an_error_reaches_the_caller(code: Code) -> None:
    sent = call_error(code, "why", "maybe", {"a": [1]})
    [envelope] = check(join([ENCODER.error(3, sent)])).envelopes
    got = to_error(envelope)
    assert type(got) is type(sent)
    assert vars(got) == vars(sent)


def test_an_error_of_the_application_reaches_the_caller() -> None:
    class SoldOut(CallbackError):
        default_code = "SOLD_OUT"

    [envelope] = check(join([ENCODER.error(3, SoldOut("no bread", data=0))])).envelopes
    assert vars(to_error(envelope)) == {
        "code": "SOLD_OUT",
        "message": "no bread",
        "executed": "yes",
        "data": 0,
    }


# -- hostile bytes


@SETTINGS
@given(st.binary(max_size=300))
@example(b"\xdd\xff\xff\xff\xff")
@example(b"\xdc\xff\xff" + b"\x90" * 100)
@example(b"\x91" * 5000)
@example(b"\x81" * 5000)
@example(b"\x91\xdf\xff\xff\xff\xff")
@example(b"\x91\x95\x01\x05\xdb\xff\xff\xff\xff")
@example(b"\x92\x92\xdd\x00\x0f\xff\xff" + b"\x80" * 0xFFFFF + b"\x05\x92\x04\x09")
def test_garbage_gives_decoded(body: bytes) -> None:
    check(body)


@SETTINGS
@given(st.lists(VALUES, max_size=6))
def test_odd_values_in_place_of_envelopes(values: list[Any]) -> None:
    check(msgpack.packb(values))


@SETTINGS
@given(ENVELOPES, st.integers(0, 5), VALUES, st.booleans())
def test_an_odd_field_spoils_no_other_envelope(
    envelope: list[Any], at: int, value: Any, insert: bool
) -> None:
    odd = [*envelope[:at], value, *envelope[at + (not insert) :]]
    decoded = check(join([GOOD, msgpack.packb(odd), GOOD]))
    assert decoded.envelopes[0] == decoded.envelopes[-1] == [4, 9]
    assert len(decoded.envelopes) + len(decoded.unreadable) + bool(decoded.lost_bytes) == 3


@SETTINGS
@given(st.lists(ENVELOPES, min_size=1, max_size=4), st.data())
def test_mutated_bodies(envelopes: list[list[Any]], data: st.DataObject) -> None:
    mutated = bytearray(join([encode(envelope) for envelope in envelopes]))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(mutated)))
        match data.draw(st.sampled_from(["set", "cut", "insert"])):
            case "set" if at < len(mutated):
                mutated[at] = data.draw(st.integers(0, 255))
            case "cut":
                del mutated[at:]
            case _:
                mutated[at:at] = data.draw(st.binary(min_size=1, max_size=4))
    check(bytes(mutated))


@SETTINGS
@given(st.lists(ENVELOPES, min_size=1, max_size=6), st.data())
def test_one_by_one_gives_the_same_as_all_at_once(envelopes: list[list[Any]], data: st.DataObject) -> None:
    """The rules are written twice, for the two ways to read a body. They must not drift apart."""
    field = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(TEXT, SCALARS, max_size=2)
    odd = data.draw(st.lists(st.lists(field, max_size=6), max_size=2))
    pieces = [encode(envelope) for envelope in envelopes] + [msgpack.packb(value) for value in odd]
    at_once = decode(join(pieces), Limits())
    alone = [decode(join([piece]), Limits()) for piece in pieces]
    # Because of a byte behind the array, the envelopes are read one by one.
    one_by_one = decode(join(pieces) + b"\x00", Limits())
    assert repr(at_once.envelopes) == repr([envelope for part in alone for envelope in part.envelopes])
    assert repr(at_once.envelopes) == repr(one_by_one.envelopes)
    assert at_once.unreadable == one_by_one.unreadable == [bad for part in alone for bad in part.unreadable]
    assert at_once.lost_bytes == one_by_one.lost_bytes - 1


@pytest.mark.parametrize("count", [1, 14, 15, 62, 200])
@pytest.mark.parametrize(
    "bad",
    [
        *([1, 5, "", None, None], [1, 5, "k", nested(65), None], [1, 5, "k", nested(65), None, {}]),
        *([1, 5, "k", None, None, None], [2, 5], [3, 5, 0, "", 0, None], [7, 5]),
        *([5, 5], [5, 5, nested(65)], [5, 5, None, None]),
    ],
)
def test_one_bad_envelope_among_many_good_ones(count: int, bad: list[Any]) -> None:
    decoded = check(join([GOOD] * count + [msgpack.packb(bad)] + [GOOD] * count))
    assert decoded.envelopes == [[4, 9]] * (2 * count)
    assert [(unreadable.type, unreadable.id) for unreadable in decoded.unreadable] == [(bad[0], 5)]
    assert decoded.lost_bytes == 0


def test_a_type_too_deep_to_print_spoils_no_other() -> None:
    kind: Any = 0
    for _ in range(500):
        kind = [kind]
    bad = msgpack.packb([kind, 5])
    assert decode(join([GOOD, bad, GOOD]), Limits()) == ([[4, 9], [4, 9]], [], len(bad))


def test_reasons_are_bounded() -> None:
    bad = msgpack.packb([1, 5, "k" * 5000, None, "b" * 5000])
    [unreadable] = check(join([bad])).unreadable
    assert len(unreadable.reason) <= 200


# -- the context of a call

BOUNDS = [
    ({}, ""),
    ({"traceparent": "x"}, ""),
    ({str(number): "" for number in range(MAX_CONTEXT_PAIRS)}, ""),
    (
        {str(number): "" for number in range(MAX_CONTEXT_PAIRS + 1)},
        "a context must have at most 8 pairs, not 9",
    ),
    ({"é": "x" * (MAX_CONTEXT_BYTES - 2)}, ""),
    ({"é": "x" * (MAX_CONTEXT_BYTES - 1)}, "a context must have at most 1024 bytes, not 1025"),
    ({"x": 1}, "a context must be a map of str to str"),
    ({b"x": "x"}, "a context must be a map of str to str"),
    ({"x": ["x"]}, "a context must be a map of str to str"),
    (["x"], "a context must be a map of str to str"),
    (None, "a context must be a map of str to str"),
]


@pytest.mark.parametrize(("context", "reason"), BOUNDS)
def test_a_context_in_its_bounds_is_accepted(context: Any, reason: str) -> None:
    envelope = [1, 5, "k", [1], 900, context]
    decoded = check(join([GOOD, msgpack.packb(envelope), GOOD]))
    if reason:
        assert decoded == ([[4, 9]] * 2, [(1, 5, reason)], 0)
    else:
        assert decoded == ([[4, 9], envelope, [4, 9]], [], 0)


def test_no_other_envelope_has_a_context() -> None:
    context = {"traceparent": "x"}
    for odd in ([2, 5, [], context], [3, 5, "X", "", 0, None, context], [4, 5, context]):
        assert check(join([msgpack.packb(odd)])).unreadable[0].id == 5
    [too_long] = check(join([msgpack.packb([1, 5, "k", None, None, context, None])])).unreadable
    assert too_long == (1, 5, "a CALL must have 5 or 6 fields, not 7")


@pytest.mark.parametrize("call_id", [0, 127, 128, 255, 256, 2**16, 2**32, 2**64 - 1])
def test_calls_are_known_by_their_first_bytes(call_id: int) -> None:
    plain = ENCODER.call(call_id, "k", None, None)
    traced = ENCODER.call(call_id, "k", None, None, {"traceparent": "x"})
    error = ENCODER.error(call_id, CallbackError())  # an ERROR is an array of six too
    others = [ENCODER.result(call_id, ()), ENCODER.cancel(call_id), error]
    assert [call_id_in(encoded) for encoded in (plain, traced, *others)] == [call_id] * 2 + [None] * 3
    heads = call_heads(call_id)
    assert [encoded.startswith(heads) for encoded in (plain, traced, *others)] == [True] * 2 + [False] * 3


# -- limits for what comes


def one(payload: Any, limits: Limits) -> Decoded:
    return check(join([msgpack.packb([1, 5, "k", payload, None])]), limits)


def test_depth() -> None:
    for allowed in (1, 2, 64):
        limits = Limits(max_depth=allowed)
        for what, wrap in (
            ("payload", lambda value: [1, 5, "k", value, None]),
            ("result", lambda value: [2, 5, [value]]),
            ("error's data", lambda value: [3, 5, "X", "m" * 70, 0, value]),
            ("progress", lambda value: [5, 5, value]),
        ):
            fits, over = (join([msgpack.packb(wrap(nested(depth)))]) for depth in (allowed, allowed + 1))
            assert len(check(fits, limits).envelopes) == 1
            assert check(over, limits).envelopes == []
            assert (
                check(over, limits).unreadable[0].reason
                == f"the {what} must be nested at most {allowed} levels deep"
            )


def test_array_and_map_lengths() -> None:
    limits = Limits(max_array_len=6, max_map_len=8)
    assert one([0] * 6, limits).envelopes
    assert one([0] * 7, limits).unreadable[0].id == 5
    assert one({n: n for n in range(8)}, limits).envelopes
    assert one({n: n for n in range(9)}, limits).unreadable[0].id == 5
    assert check(join([GOOD] * 20), limits).envelopes == [[4, 9]] * 20


def test_size() -> None:
    limits = Limits(max_call_bytes=100)
    overhead = len(ENCODER.call(5, "k", "x" * 50, None)) - 50
    assert one("x" * (100 - overhead), limits).envelopes
    [unreadable] = one("x" * (101 - overhead), limits).unreadable
    assert unreadable == (1, 5, "the envelope has 101 bytes; at most 100 are accepted")
    # The bound is for each envelope, not for the body.
    assert check(join([GOOD] * 200), limits).envelopes == [[4, 9]] * 200


def test_the_largest_envelope() -> None:
    overhead = len(ENCODER.call(5, "k", b"x" * 70_000, None)) - 70_000
    largest = ENCODER.call(5, "k", bytes(MAX_ENVELOPE_BYTES - overhead), None)
    assert len(largest) == MAX_ENVELOPE_BYTES
    assert len(check(join([largest, GOOD])).envelopes) == 2
    with pytest.raises(TooLarge, match=f"{MAX_ENVELOPE_BYTES + 1} bytes"):
        ENCODER.call(5, "k", bytes(MAX_ENVELOPE_BYTES - overhead + 1), None)


def test_duplicate_keys_the_last_wins() -> None:
    body = b"\x91\x95\x01\x05\xa1k\x82\xa1a\x01\xa1a\x02\xc0"
    assert check(body).envelopes == [[1, 5, "k", {"a": 2}, None]]


# -- values that an encoder refuses


class RaisesOnIter(list[int]):
    def __iter__(self) -> Iterator[int]:
        raise RuntimeError("no items today")


class RaisesLater(list[Any]):
    """A dict that returns its items once. Afterwards it raises."""

    def __iter__(self) -> Iterator[Any]:
        items = list(super().__iter__())
        if not items:
            raise RuntimeError("no items left")
        self.clear()
        return iter(items)


def cyclic(kind: str) -> Any:
    inner: list[Any] = []
    if kind == "map":
        outer = {"in": inner}
        inner.append(outer)
        return outer
    inner.append((inner,) if kind == "tuple" else inner)
    return inner


class Shrinks(list[Any]):
    """A list that empties the list around it while it is encoded."""

    def __init__(self, around: list[Any]) -> None:
        super().__init__()
        around.extend([self, 1, 2, 3])
        self._around = around

    def __iter__(self) -> Iterator[Any]:
        self._around.clear()
        return iter(())


class RaisesOddly(list[Any]):
    """A list whose error raises when it is asked what it says."""

    def __iter__(self) -> Iterator[Any]:
        raise Mute


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Alone(str):
    """A str that is equal to nothing but itself: a dict may have it twice."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class HashableList(list[Any]):
    __hash__ = object.__hash__  # type: ignore[assignment]


def shrinking() -> list[Any]:
    around: list[Any] = []
    Shrinks(around)
    return around


UNREADABLE = {
    "a tuple as a key": {(1, 2): "tile"},
    "a tuple as a key inside": [{"grid": {(1, 2): "tile"}}],
    "a named tuple as a key": {namedtuple("Place", "x y")(1, 2): 1},
    "an empty tuple as a key": {(): 1},
    "a list as a key": {HashableList([1]): 1},
    "an extension type": msgpack.ExtType(5, b"x"),
    "an empty extension type": msgpack.ExtType(5, b""),
    "an extension type as a key": {msgpack.ExtType(5, b"x"): 1},
    "a large extension type": {"a": ["b", msgpack.ExtType(5, b"x" * 70_000)]},
    "an extension type behind much": ["x" * 5000, msgpack.ExtType(5, b"x" * 16)],
    "an extension type in many bytes": [b"\xc7" * 20_000, msgpack.ExtType(5, b"x" * 16)],
    "two keys that become one": {Alone("a"): 1, Alone("a"): 2},
    "a timestamp beside the same float": {msgpack.Timestamp(1, 0): 1, 1.0: 2},
}
"""Values that msgpack encodes, and that nobody can decode again."""

UNCARRIABLE = {
    **UNREADABLE,
    "raises an error without words": RaisesOddly(),
    "set": {1},
    "object": object(),
    "function": len,
    "complex": 1j,
    "too large an int": 2**64,
    "too small an int": -(2**63) - 1,
    "surrogate": "\ud800",
    "surrogate in a key of a map": {"\udfff": 1},
    "set inside": {"a": [1, {"b": {2}}]},
    "cyclic list": cyclic("list"),
    "cyclic map": cyclic("map"),
    "cyclic tuple": cyclic("tuple"),
    "raises on iteration": RaisesOnIter(),
    "too deep": nested(65, "x" * 65),
    "far too deep": nested(600),
}


@pytest.mark.parametrize("value", UNCARRIABLE.values(), ids=list(UNCARRIABLE))
def test_values_that_cannot_be_encoded(value: Any) -> None:
    encoder = Encoder(Limits())
    writes: dict[str, Callable[[], bytes]] = {
        "the payload": lambda: encoder.call(1, "k", value, None),
        "the result": lambda: encoder.result(1, (value,)),
        "the error's data": lambda: encoder.error(1, CallbackError(data=value)),
    }
    for what, write in writes.items():
        with pytest.raises(InvalidPayload, match=what) as caught:
            write()
        assert caught.value.executed == "no"
        assert caught.value.__cause__ is None
    # None of its bytes stay in the buffer.
    assert encoder.cancel(9) == GOOD


@pytest.mark.parametrize("call_id", [1, 200, 2**40, 2**62 + 0xC7C8D4])
@pytest.mark.parametrize("value", UNREADABLE.values(), ids=list(UNREADABLE))
def test_what_nobody_can_decode_is_refused_at_each_place(value: Any, call_id: int) -> None:
    for odd in (value, [value, 1], {"a": value}, (value,)):
        with pytest.raises(InvalidPayload):
            ENCODER.call(call_id, "k", odd, None)
        with pytest.raises(InvalidPayload):
            ENCODER.call(call_id, "k", odd, 15_000, {"traceparent": "x"})
        with pytest.raises(InvalidPayload):
            ENCODER.result(call_id, (1, odd))
        with pytest.raises(InvalidPayload):
            ENCODER.error(call_id, CallbackError(data=odd))


def test_a_key_that_cannot_be_decoded_is_named() -> None:
    with pytest.raises(InvalidPayload, match="a list, tuple or dict is a key of a dict; keys may be str"):
        ENCODER.call(1, "k", {(1, 2): "tile"}, None)


def test_a_list_that_changes_while_it_is_encoded() -> None:
    for write in (
        lambda value: ENCODER.call(1, "k", value, None),
        lambda value: ENCODER.call(1, "k", [value, value], None),
        lambda value: ENCODER.result(1, (value,)),
        lambda value: ENCODER.error(1, CallbackError(data=value)),
    ):
        with pytest.raises(InvalidPayload):
            write(shrinking())
    assert ENCODER.cancel(9) == GOOD


def test_an_iterator_that_swallows_the_end_of_the_call() -> None:
    """Five items are written, of which the reader takes other five."""

    class Moves(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            outer[:] = [self, ENCODER.cancel(1)]
            return iter(())

    outer: list[Any] = []
    outer[:] = [Moves(), 1, 2]
    with pytest.raises(InvalidPayload):
        ENCODER.call(1, "k", outer, None)


def test_a_value_may_make_a_call_while_it_is_encoded() -> None:
    inner = []

    class Lazy(list[int]):
        def __iter__(self) -> Iterator[int]:
            inner.append(ENCODER.call(2, "inner", [(1, 2)], None))
            return super().__iter__()

    outer = ENCODER.call(1, "outer", ["before", Lazy([1]), "after"], None)
    assert check(join([outer, *inner])).envelopes == [
        [1, 1, "outer", ["before", [1], "after"], None],
        [1, 2, "inner", [[1, 2]], None],
    ]


def test_a_value_that_ends_the_program_while_it_is_encoded_leaves_no_bytes() -> None:
    class Exits(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            raise SystemExit(1)

    with pytest.raises(SystemExit):
        ENCODER.call(1, "k", ["x", Exits()], None)
    assert check(join([ENCODER.call(1, "k", 5, None)])).envelopes == [[1, 1, "k", 5, None]]


TUPLES = st.recursive(
    SCALARS
    | st.builds(msgpack.Timestamp, st.integers(0, 2**34 - 1), st.integers(0, 999_999_999))
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=20)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(SCALARS | st.tuples(SCALARS), inner, max_size=3)
    ),
    max_leaves=12,
)


def as_decoded(value: Any) -> Any:
    match value:
        case msgpack.Timestamp():
            return value.to_unix()
        case list() | tuple():
            return [as_decoded(item) for item in value]
        case dict():
            return {key: as_decoded(item) for key, item in value.items()}
    return value


def has(value: Any, odd: Callable[[Any], bool]) -> bool:
    match value:
        case msgpack.ExtType():
            return odd(value)
        case list() | tuple():
            return any(has(item, odd) for item in value)
        case dict():
            return any(odd(key) for key in value) or any(has(item, odd) for item in value.values())
    return False


@SETTINGS
@given(TUPLES, IDS, st.sampled_from([0, 1, SHORT_BYTES, MEDIUM_BYTES]), st.integers(0, 2**32))
def test_the_encoder_accepts_what_the_decoder_reads(value: Any, call_id: int, more: int, budget: int) -> None:
    payload = [value, "x" * more]
    readable = not has(value, lambda odd: isinstance(odd, tuple))
    for write, at in (
        (lambda: ENCODER.call(call_id, "k", payload, budget), 3),
        (lambda: ENCODER.result(call_id, tuple(payload)), 2),
        (lambda: ENCODER.error(call_id, CallbackError(data=payload)), 5),
    ):
        if readable:
            encoded = write()
            [envelope] = check(join([encoded])).envelopes
            assert repr(envelope[at]) == repr(as_decoded(payload))
            assert msgpack.unpackb(slice_field(encoded, at), strict_map_key=False, timestamp=1) is not None
        else:
            with pytest.raises(InvalidPayload):
                write()


def test_a_payload_that_raises_the_second_time() -> None:
    """It is read once: what is checked is what was encoded."""
    encoded = ENCODER.call(1, "k", RaisesLater(["x" * SHORT_BYTES]), None)
    assert check(join([encoded])).envelopes == [[1, 1, "k", ["x" * SHORT_BYTES], None]]


@pytest.mark.parametrize("budget_ms", [None, 0, 5000, MAX_ID])
@pytest.mark.parametrize("leaf", [[], {}, (), "", [[]], [{}]], ids=repr)
@pytest.mark.parametrize("allowed", [1, 2, 3, 64])
def test_a_sender_refuses_what_is_too_deep_for_the_receiver(
    allowed: int, leaf: Any, budget_ms: int | None
) -> None:
    """An empty list or dict is a level too, and may be the last byte of all but the budget."""
    limits = Limits(max_depth=allowed)
    encoder = Encoder(limits)
    for depth in range(allowed + 2):
        value = nested(depth, leaf)
        deep = too_deep(value, allowed)
        error = call_error(Code.FORBIDDEN, "", data=value)
        for encode in (
            lambda value=value: encoder.call(MAX_ID, "k", value, budget_ms),
            lambda value=value: encoder.call(1, "k", value, budget_ms, {}),
            lambda value=value: encoder.result(1, (value,)),
            lambda error=error: encoder.error(1, error),
            lambda value=value: encoder.progress(1, value),
            lambda value=value: encoder.progress(MAX_ID, value),
        ):
            if deep:
                with pytest.raises(InvalidPayload, match="levels deep"):
                    encode()
            else:
                decoded = decode(join([encode()]), limits)
                assert decoded.envelopes and not decoded.unreadable


def test_a_code_that_is_not_valid_unicode_is_named_as_the_problem() -> None:
    with pytest.raises(InvalidPayload, match=r"^INVALID_PAYLOAD: the error cannot be encoded: a str must"):
        ENCODER.error(1, odd_error(code="\ud800", data=7))


def test_depth_is_the_same_for_sender_and_receiver() -> None:
    deepest = nested(64, "x" * 65)
    errors = call_error(Code.FORBIDDEN, "", data=deepest)
    body = join([ENCODER.call(1, "k", deepest, 5), ENCODER.result(1, (deepest,)), ENCODER.error(1, errors)])
    assert len(check(body).envelopes) == 3


def test_the_size_an_encoder_allows() -> None:
    encoder = Encoder(Limits(max_call_bytes=100))
    writes: list[Callable[[], bytes]] = [
        lambda: encoder.call(1, "k", "x" * 100, None),
        lambda: encoder.result(1, ("x" * 100,)),
        lambda: encoder.error(1, CallbackError(data="x" * 100)),
        lambda: encoder.progress(1, "x" * 100),
    ]
    for write in writes:
        with pytest.raises(TooLarge, match="100 are allowed"):
            write()


class Colour(str, enum.Enum):  # noqa: UP042 - its str() is not its value, which is the point
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Blob(bytes):
    pass


class Metres(float):
    pass


class Lying(list[int]):
    """A list that yields more items than its length: msgpack would write a wrong length."""

    def __iter__(self) -> Iterator[int]:
        return iter([1, 2, 3])


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ((1, (2,)), [1, [2]]),
        (Point(1, 2), [1, 2]),
        (Colour.RED, "red"),
        ({Colour.RED: Level.HIGH}, {"red": 3}),
        (Blob(b"a"), b"a"),
        (bytearray(b"a"), b"a"),
        (memoryview(b"a"), b"a"),
        (Metres(2.0), 2.0),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (defaultdict(int, a=1), {"a": 1}),
        (Lying(), [1, 2, 3]),
    ],
)
def test_subclasses_arrive_as_plain_values(value: Any, plain: Any) -> None:
    body = join([ENCODER.call(1, "k", value, None), GOOD])
    assert repr(check(body).envelopes) == repr([[1, 1, "k", plain, None], [4, 9]])


def test_extension_types_are_refused_where_they_arrive() -> None:
    body = join([b"\x95\x01\x05\xa1k\xd4\x01a\xc0", GOOD])
    assert check(body) == ([[4, 9]], [(1, 5, "extension type 1 is not allowed")], 0)


def odd_error(**fields: Any) -> CallbackError:
    error = CallbackError("why", code="OWN")
    for name, value in fields.items():
        setattr(error, name, value)
    return error


class RaisesOnStr:
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    "error",
    [
        odd_error(code=""),
        odd_error(code="x" * 65),
        odd_error(code=99),
        odd_error(code=None),
        odd_error(executed="perhaps"),
        odd_error(message=RaisesOnStr()),
    ],
)
def test_an_error_that_no_receiver_would_accept(error: CallbackError) -> None:
    with pytest.raises(InvalidPayload, match="the error cannot be encoded"):
        ENCODER.error(1, error)


@pytest.mark.parametrize(
    ("message", "arrives"),
    [("m" * 1001, "m" * 1000), ("a\ud800b", "a?b"), (404, "404"), (None, "None")],
)
def test_a_message_is_made_to_fit(message: Any, arrives: str) -> None:
    [envelope] = check(join([ENCODER.error(1, odd_error(message=message))])).envelopes
    assert envelope == [3, 1, "OWN", arrives, 2, None]


# -- depth


@pytest.mark.parametrize("value", [None, 1, "x", b"x", object()])
def test_scalars_have_no_depth(value: Any) -> None:
    assert not too_deep(value, 0)


@pytest.mark.parametrize("depth", [1, 2, 3, 64, 5000])
def test_too_deep(depth: int) -> None:
    assert not too_deep(nested(depth), depth)
    assert too_deep(nested(depth), depth - 1)
    assert too_deep([1, {"a": nested(depth)}, "x"], depth + 1)
    assert not too_deep([1, {"a": nested(depth)}, "x"], depth + 2)
    assert too_deep((((),),), 2)
    assert not too_deep(OrderedDict(a=Metres(1)), 1)


# -- one payload for many calls


@pytest.mark.parametrize("payload", [None, {"a": [1, 2]}, "p" * 70_000, (1, 2)])
def test_many_calls_encode_their_payload_once(payload: Any) -> None:
    once, encoder, encoded = EncodedOnce(Limits().max_call_bytes), Encoder(Limits()), []

    def encode(*fields: Any) -> bytes:
        encoded.append(fields)
        return encoder.call(*fields)

    for call_id in (5, 2**63 + 1, 300):
        for budget_ms in (None, 5, 70_000):
            for context in (None, {"traceparent": "x"}):
                fields = call_id, "key", payload, budget_ms, context
                assert once.call(encode, *fields) == encoder.call(*fields)
    assert len(encoded) == 1


def test_what_is_wrong_with_a_shared_payload_is_raised_each_time() -> None:
    once = EncodedOnce(Limits().max_call_bytes)
    for call_id in (1, 2):
        with pytest.raises(InvalidPayload, match="set"):
            once.call(Encoder(Limits()).call, call_id, "key", {1}, 5, None)


def test_a_call_that_is_larger_than_the_first_one_may_be_too_large() -> None:
    encoder = Encoder(Limits())
    limits = Limits(max_call_bytes=len(encoder.call(1, "key", "x" * 100, 5)))
    once, encode = EncodedOnce(limits.max_call_bytes), Encoder(limits).call
    assert once.call(encode, 1, "key", "x" * 100, 5, None)
    with pytest.raises(TooLarge):
        once.call(encode, 2**40, "key", "x" * 100, 5, None)
    assert once.call(encode, 2, "key", "x" * 100, 5, None)
