"""Control frames: round trips, hostile bytes, and the tables that say who may send what."""

from __future__ import annotations

from typing import Any, get_args

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ringback.errors import Code, ProtocolError, RejectCode
from ringback.protocol import control
from ringback.protocol.frames import (
    BROKER_ACCEPTS,
    ENDPOINT_TRANSITIONS,
    HEADER_BYTES,
    FrameType,
    Role,
    SessionState,
    header,
)
from ringback.protocol.latencies import FINE_CLASSES
from ringback.protocol.limits import IDS_A_FRAME, MAX_FRAME_BYTES, MAX_KEYS, MAX_PING_BYTES, TICKET_BYTES
from ringback.protocol.reports import (
    CLASSES,
    FAILURES,
    CallbackFigures,
    CallFilter,
    FailedCall,
    LatencyCounts,
    PlayerFigures,
    PlayerInFlight,
    WatchedCall,
)

SETTINGS = settings(deadline=None, max_examples=100)

BOOL = st.booleans()
U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
KEY = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)
PATTERN = KEY.map(lambda key: key.replace("[", "[[]"))
PLAYER_ID = st.integers(1, 2**63 - 1) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=16
)
KEYS = st.lists(KEY, max_size=5).map(tuple)
IDS = st.lists(PLAYER_ID, min_size=1, max_size=20).map(tuple)
BODY = st.binary(max_size=MAX_PING_BYTES)
CELL = st.none() | st.booleans() | U64 | st.floats(allow_nan=False) | TEXT
ROWS = st.lists(st.lists(CELL, max_size=4), max_size=5).map(tuple)

COUNT = st.integers(0, 2**53)
PLAYER_FIGURES = st.builds(
    lambda player_id, counts: PlayerFigures(player_id, max(counts), min(counts)),
    PLAYER_ID,
    st.tuples(COUNT, COUNT),
)
SECONDS = st.floats(0, 1e9)
PAYLOAD = st.none() | st.binary(max_size=20)
CALLBACK_FIGURES = st.builds(
    CallbackFigures,
    st.just("") | KEY,
    st.sampled_from(Role),
    COUNT,
    SECONDS,
    st.lists(COUNT, min_size=CLASSES, max_size=CLASSES).map(tuple),
    st.dictionaries(st.sampled_from(sorted(FAILURES)), COUNT, max_size=3),
)
LATENCY_COUNTS = st.builds(
    lambda key, side, counts: LatencyCounts(key, side, tuple(sorted(counts)), tuple(counts.values())),
    st.just("") | KEY,
    st.sampled_from(Role),
    st.dictionaries(st.integers(0, FINE_CLASSES - 1), COUNT, max_size=5),
)
TRACED = st.builds(
    WatchedCall,
    *(SECONDS, st.sampled_from(Role), PLAYER_ID, KEY, st.text(min_size=1, max_size=64), SECONDS),
    *(PAYLOAD, PAYLOAD),
)

FAILED = st.builds(
    FailedCall, SECONDS, st.sampled_from(Role), PLAYER_ID, KEY, st.text(min_size=1, max_size=64), SECONDS
)

TERMS = st.none() | st.dictionaries(KEY, st.text(min_size=1, max_size=200), max_size=3)

SCHEMAS = st.none() | st.dictionaries(KEY, st.text(min_size=1, max_size=1000), max_size=3)

TICKET = st.none() | st.binary(min_size=TICKET_BYTES, max_size=TICKET_BYTES)

FRAMES: dict[Any, st.SearchStrategy[Any]] = {
    control.Hello: st.builds(
        control.Hello,
        *(st.just(Role.PLAYER), st.none() | PLAYER_ID, KEYS, TEXT),
        ticket=TICKET | st.just(b""),
    )
    | st.builds(
        control.Hello,
        *(st.sampled_from([Role.SERVER, Role.OPERATOR]), st.none(), KEYS, TEXT),
        terms=TERMS,
        schemas=SCHEMAS,
    )
    | st.builds(control.Hello, st.just(Role.SERVER), standby=st.none() | BOOL, server_links=st.just(True)),
    control.Welcome: st.builds(
        control.Welcome,
        *(U32, st.none() | PLAYER_ID, st.booleans(), U64, TEXT),
        ticket=TICKET,
        own_link=st.none() | U32,
        standby=st.none() | BOOL,
        retiring=st.none() | BOOL,
        broker_id=st.none() | U64,
    ),
    control.Reject: st.builds(
        control.Reject,
        st.sampled_from(RejectCode),
        TEXT,
        st.lists(st.integers(0, 255)).map(tuple),
        st.none() | U32,
    ),
    control.Bye: st.just(control.Bye()),
    control.Ping: st.builds(control.Ping, BODY),
    control.Pong: st.builds(control.Pong, BODY),
    control.Joined: st.builds(control.Joined, IDS),
    control.Left: st.builds(control.Left, IDS),
    control.ServerUp: st.just(control.ServerUp()),
    control.ServerDown: st.builds(control.ServerDown, st.none() | U32),
    control.DrainingNotice: st.builds(control.DrainingNotice, U64),
    control.Keys: st.builds(control.Keys, KEYS, TERMS, SCHEMAS),
    control.Query: st.builds(control.Query, U64, st.sampled_from(control.Subject), U64),
    control.Order: st.builds(control.Order, U64, st.just(control.What.KICK), PLAYER_ID, st.text(max_size=20))
    | st.builds(
        control.Order,
        U64,
        st.just(control.What.DRAIN),
        reason=st.text(max_size=20),
        grace_ms=st.none() | st.integers(0, 2**32 - 1),
    )
    | st.builds(
        control.Order,
        U64,
        st.just(control.What.WATCH),
        st.none() | PLAYER_ID,
        key=st.none() | PATTERN,
        payloads=st.none() | st.booleans(),
        log=st.none() | st.booleans(),
        for_ms=st.none() | U32,
    )
    | st.builds(control.Order, U64, st.just(control.What.HAND_OVER)),
    control.Report: st.builds(
        control.Report,
        st.lists(CALLBACK_FIGURES, max_size=3).map(tuple),
        st.lists(PLAYER_FIGURES, max_size=3).map(tuple),
        st.lists(TRACED, max_size=3).map(tuple),
        st.none() | U32,
        st.none() | st.lists(LATENCY_COUNTS, max_size=3).map(tuple),
        st.none() | st.lists(st.builds(PlayerInFlight, PLAYER_ID, COUNT), max_size=3).map(tuple),
        st.none() | st.lists(FAILED, max_size=3).map(tuple),
        st.none() | U32,
    ),
    control.Watch: st.builds(
        control.Watch,
        st.lists(
            st.builds(CallFilter, st.none() | PLAYER_ID, st.none() | PATTERN, st.booleans()), max_size=3
        ).map(tuple),
        U32,
    ),
    control.Answer: st.builds(
        control.Answer, U64, st.none() | ROWS, st.none() | U64, st.none() | st.sampled_from(Code)
    ),
}
ANY_FRAME = st.one_of(*FRAMES.values())


def frame_or_error(data: bytes) -> None:
    try:
        frame = control.decode(data)
    except ProtocolError:
        return
    assert isinstance(frame, control.ControlFrame)
    # A frame that was accepted can be encoded, and then it means the same.
    assert repr(control.decode(control.encode(frame))) == repr(frame)


def test_every_control_frame_has_a_strategy_and_its_own_type() -> None:
    assert set(FRAMES) == set(get_args(control.ControlFrame))
    assert {frame.type for frame in FRAMES} == set(FrameType) - {
        FrameType.DATA,
        FrameType.RELAY,
        FrameType.BOUNCE,
        FrameType.BUNDLE,
    }


@SETTINGS
@given(ANY_FRAME)
def test_round_trip(frame: control.ControlFrame) -> None:
    data = control.encode(frame)
    assert data[:HEADER_BYTES] == header(frame.type)
    assert control.decode(data) == frame


@SETTINGS
@given(st.binary(max_size=200))
@example(b"")
def test_garbage_gives_a_frame_or_a_protocol_error(data: bytes) -> None:
    frame_or_error(data)


@SETTINGS
@given(st.sampled_from(FrameType), st.binary(max_size=200))
@example(FrameType.ANSWER, b"\x91" * 5000)
@example(FrameType.HELLO, b"\xdd\xff\xff\xff\xff")
@example(FrameType.HELLO, b"\xdf\xff\xff\xff\xff")
@example(FrameType.JOINED, b"\xdb\xff\xff\xff\xff")
@example(FrameType.HELLO, b"\x81\x90\x00")
def test_a_garbage_body_gives_a_frame_or_a_protocol_error(kind: FrameType, body: bytes) -> None:
    frame_or_error(header(kind) + body)


ODD = st.recursive(
    CELL | st.binary(max_size=4) | st.floats() | st.integers(-(2**63), 2**64 - 1),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
FIELD_NAMES = sorted({name for frame in FRAMES for name in frame.__slots__} | {"other"})


@SETTINGS
@given(st.sampled_from(FrameType), st.dictionaries(st.sampled_from(FIELD_NAMES), ODD))
def test_odd_fields_give_a_frame_or_a_protocol_error(kind: FrameType, fields: dict[str, Any]) -> None:
    frame_or_error(header(kind) + msgpack.packb(fields))


@SETTINGS
@given(ANY_FRAME, st.data())
def test_a_mutated_frame_gives_a_frame_or_a_protocol_error(
    frame: control.ControlFrame, data: st.DataObject
) -> None:
    mutated = bytearray(control.encode(frame))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(mutated)))
        match data.draw(st.sampled_from(["set", "cut", "insert"])):
            case "set" if at < len(mutated):
                mutated[at] = data.draw(st.integers(0, 255))
            case "cut":
                del mutated[at:]
            case _:
                mutated[at:at] = data.draw(st.binary(min_size=1, max_size=4))
    frame_or_error(bytes(mutated))


def test_a_frame_over_the_limit() -> None:
    head = header(FrameType.HELLO)
    with pytest.raises(ProtocolError, match=f"at most {MAX_FRAME_BYTES} bytes"):
        control.decode(head + bytes(MAX_FRAME_BYTES - HEADER_BYTES + 1))
    with pytest.raises(ProtocolError, match="must be msgpack"):
        control.decode(head + bytes(MAX_FRAME_BYTES - HEADER_BYTES))


def test_as_many_items_as_allowed() -> None:
    for frame in (
        control.Joined(tuple(range(1, IDS_A_FRAME + 1))),
        control.Hello(Role.PLAYER, 1, tuple(f"{n:0256}" for n in range(MAX_KEYS))),
        control.Answer(1, tuple([n] for n in range(IDS_A_FRAME)), IDS_A_FRAME),
    ):
        assert control.decode(control.encode(frame)) == frame


def test_reserved_header_fields_of_a_control_frame_are_ignored() -> None:
    assert control.decode(header(FrameType.BYE, link=7, code=9)) == control.Bye()


def test_a_timestamp_in_a_row_is_a_float() -> None:
    five_and_a_half_s = b"\xd7\xff" + (500_000_000 << 34 | 5).to_bytes(8, "big")
    body = b"\x82\xa2id\x01\xa4rows\x91\x91" + five_and_a_half_s
    assert control.decode(header(FrameType.ANSWER) + body) == control.Answer(1, ([5.5],))


def test_every_type_has_a_sender() -> None:
    """A type that nobody may send, or that nobody understands, would be dead."""
    to_broker = frozenset().union(*BROKER_ACCEPTS.values())
    to_endpoints = {kind for table in ENDPOINT_TRANSITIONS.values() for _, kind in table}
    assert to_broker | to_endpoints == set(FrameType)


@pytest.mark.parametrize("role", Role)
def test_transitions_of_an_endpoint(role: Role) -> None:
    table = ENDPOINT_TRANSITIONS[role]
    assert all(state is not SessionState.ENDED for state, _ in table)
    assert {after for before, after in table.items() if before[1] is FrameType.REJECT} == {SessionState.ENDED}
    # Every state has a way to the end, and only WELCOME leads out of the first state.
    of_servers = {SessionState.STANDBY, SessionState.RETIRING}
    others = {SessionState.ENDED} if role is Role.SERVER else {SessionState.ENDED, *of_servers}
    assert {state for state, kind in table if kind is FrameType.REJECT} == set(SessionState) - others
    assert [
        kind
        for (state, kind), after in table.items()
        if state is SessionState.GREETING and after is SessionState.READY
    ] == [FrameType.WELCOME]


def test_a_token_is_bounded() -> None:
    longest = control.Hello(Role.PLAYER, token="x" * 2048)
    assert control.decode(control.encode(longest)) == longest
    with pytest.raises(ProtocolError, match="at most 2048 characters, not 2049"):
        control.decode(control.encode(control.Hello(Role.PLAYER, token="x" * 2049)))


@pytest.mark.parametrize(("body", "why"), [(b"\xc1", "a byte that"), (b"\x91" * 5000, "nested too deeply")])
def test_the_reason_is_never_empty(body: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=f"within the limits: it (has|is) {why}"):
        control.decode(header(FrameType.HELLO) + body)


def test_schemas_are_bounded() -> None:
    keys = tuple(f"{number}" for number in range(70))
    full = control.Keys(keys, None, dict.fromkeys(keys[:64], "x" * 4096))
    assert control.decode(control.encode(full)) == full
    with pytest.raises(ProtocolError, match="at most 262144 bytes in all, not 262145"):
        control.decode(control.encode(control.Keys(keys, None, {**(full.schemas or {}), "a": "x"})))
    with pytest.raises(ProtocolError, match="a str of 1 to 4096 bytes"):
        control.decode(control.encode(control.Keys(keys, None, {"a": "\u00e9" * 2049})))
