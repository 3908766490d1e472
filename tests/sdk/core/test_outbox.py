"""The outbox: queues, batches, bundles, and a link that is full."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.corefakes import DATA_0, Desk, TestCall, envelopes_of

from ringback.errors import Code
from ringback.protocol.bundles import unbundle
from ringback.protocol.control import Pong
from ringback.protocol.frames import HEADER_BYTES, FrameType, Role
from ringback.protocol.limits import BATCH_BYTES, BATCH_ENVELOPES, MAX_FRAME_BYTES, Limits


@pytest.fixture
def player() -> Desk:
    desk = Desk(Role.PLAYER)
    desk.connect()
    return desk


def ids(desk: Desk) -> list[list[int]]:
    return [[envelope[1] for envelope in body] for body in desk.bodies()]


def test_queued_envelopes_leave_in_one_frame(player: Desk) -> None:
    wanted = player.shell.flushes_wanted
    for _ in range(3):
        player.call()
    assert player.shell.flushes_wanted == wanted + 1
    assert player.shell.sent == []
    assert player.flush()
    assert ids(player) == [[1, 2, 3]]
    player.call()
    assert player.shell.flushes_wanted == wanted + 2


def test_what_is_for_one_peer_may_leave_early(player: Desk) -> None:
    player.core.flush_early(player.clock.now)
    assert player.shell.sent == []
    player.call()
    player.core.flush_early(player.clock.now)
    assert ids(player) == [[1]] and player.core.pending == 1
    player.call()
    assert player.flush() and ids(player) == [[2]]


def test_what_is_for_many_peers_leaves_at_the_end_of_a_step() -> None:
    server = Desk(Role.SERVER)
    server.connect()
    server.call(7)
    server.call(8)
    server.core.flush_early(server.clock.now)
    assert server.shell.sent == []
    assert server.flush() and len(server.bodies()) == 2


def test_calls_to_oneself_wait_for_the_end_of_a_step() -> None:
    server = Desk(Role.SERVER)
    server.connect()
    server.call(7, kind=None)
    server.core.flush_early(server.clock.now)
    assert server.handle() == []
    server.flush()
    assert len(server.handle()) == 1


def test_a_frame_per_route() -> None:
    server = Desk(Role.SERVER)
    server.connect()
    for to in (7, "7", 7):
        server.call(to)
    server.flush()
    assert [(address, len(envelopes_of(frame))) for address, frame in server.shell.take_sent()] == [
        (b"\x07", 2),
        (b"\xa17", 1),
    ]


def test_a_frame_starts_at_256_envelopes(player: Desk) -> None:
    for _ in range(2 * BATCH_ENVELOPES + 1):
        player.call()
    player.flush()
    assert [len(frame) for frame in ids(player)] == [BATCH_ENVELOPES, BATCH_ENVELOPES, 1]


def test_a_frame_starts_at_64_kib(player: Desk) -> None:
    for _ in range(7):
        player.call(payload=bytes(BATCH_BYTES // 3))
    player.flush()
    frames = player.shell.take_sent()
    assert [len(envelopes_of(frame)) for _, frame in frames] == [2, 2, 2, 1]
    assert all(len(frame) <= BATCH_BYTES + 16 for _, frame in frames)


@pytest.mark.parametrize("size", [BATCH_BYTES, 1_000_000])
def test_an_oversized_envelope_has_a_frame_of_its_own(player: Desk, size: int) -> None:
    for payload in (b"a", bytes(size), b"b", b"c"):
        player.call(payload=payload)
    player.flush()
    frames = player.shell.take_sent()
    assert [len(envelopes_of(frame)) for _, frame in frames] == [1, 1, 2]
    assert all(len(frame) <= MAX_FRAME_BYTES - 8 for _, frame in frames)


def test_a_refused_send_is_resumed(player: Desk) -> None:
    for _ in range(600):
        player.call()
    player.shell.room = 1
    assert not player.flush()
    assert not player.outbox.empty
    assert not player.flush()
    player.call()
    player.shell.room = None
    assert player.flush()
    assert [number for frame in ids(player) for number in frame] == list(range(1, 602))
    player.check_sums()
    assert player.outbox.empty


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from([7, 8, "x"]), st.integers(1, 300), st.sampled_from([0, 10, 30_000])),
        max_size=6,
    ),
    st.lists(st.integers(0, 3), max_size=8),
)
def test_nothing_is_lost_or_sent_twice(queued: list[tuple[int | str, int, int]], rooms: list[int]) -> None:
    server = Desk(Role.SERVER, limits=Limits(max_queued_bytes=2**31))
    server.connect()
    expected: dict[bytes, list[int]] = {}
    rooms = [*rooms]
    for to, number, size in queued:
        for _ in range(number):
            call = server.call(to, payload=bytes(size))
            assert call.route is not None
            expected.setdefault(call.route[:-HEADER_BYTES], []).append(call.id)
        server.shell.room = rooms.pop() if rooms else 1
        server.flush()
        server.check_sums()
    server.shell.room = None
    assert server.flush()
    got: dict[bytes, list[int]] = {}
    for address, frame in server.shell.take_sent():
        assert len(frame) <= BATCH_BYTES + 16
        got.setdefault(address, []).extend(envelope[1] for envelope in envelopes_of(frame))
    assert got == expected
    assert server.outbox.empty and server.outbox.queued_bytes == 0


def test_control_frames_wait_too_and_go_first() -> None:
    operator = Desk(Role.OPERATOR)
    operator.connect(link=3)
    operator.call(7)
    ping = TestCall(50)
    operator.core.ping(ping)
    operator.shell.room = 0
    assert not operator.flush()
    operator.shell.room = 1
    assert not operator.flush()
    [(_, frame)] = operator.shell.take_sent()
    assert frame[1] == FrameType.PING
    operator.shell.room = None
    assert operator.flush()
    [(_, frame)] = operator.shell.take_sent()
    assert frame[1] == FrameType.DATA
    operator.told(Pong((50).to_bytes(8, "big")))
    assert ping.results == ()


def test_thousands_of_calls_to_oneself_need_no_link() -> None:
    server = Desk(Role.SERVER, limits=Limits(max_in_flight=5000))
    calls = [server.call(7, kind=None) for _ in range(3000)]
    unknown = [server.call(7, kind=None, key="unknown") for _ in range(1500)]
    assert server.flush()
    assert server.shell.sent == []
    for execution in server.handle():
        assert execution.source == 7
        execution(execution.id)
    assert server.flush()
    assert [call.results for call in calls] == [(call.id,) for call in calls]
    assert {call.outcome for call in unknown} == {(Code.UNKNOWN_CALLBACK, "no")}
    server.check_at_rest()


def test_calls_to_oneself_live_through_a_lost_link() -> None:
    server = Desk(Role.SERVER)
    server.connect()
    call, lost = server.call(7, kind=None), server.call(7)
    server.core.link_lost(server.clock.now, "test")
    assert lost.outcome == (Code.CONNECTION_LOST, "no")
    server.flush()
    [execution] = server.handle()
    execution(1)
    server.flush()
    assert call.results == (1,)
    server.check_at_rest()


def test_a_full_outbox_refuses_calls() -> None:
    player = Desk(Role.PLAYER, limits=Limits(max_queued_bytes=1000))
    player.connect()
    first = player.call(payload=bytes(2000))
    second = player.call()
    assert second.outcome == (Code.OVERLOADED, "no")
    player.flush()
    third = player.call(flush=True)
    assert not first.done and not third.done
    assert [len(frame) for frame in ids(player)] == [1, 1]


def test_control_frames_keep_their_order_and_end_with_their_link() -> None:
    operator = Desk(Role.OPERATOR)
    operator.connect(link=3)
    for number in (1, 2):
        operator.core.ping(TestCall(number))
    operator.shell.room = 1
    assert not operator.flush()
    operator.shell.room = None
    assert operator.flush()
    assert [frame[-1] for _, frame in operator.shell.take_sent()] == [1, 2]
    operator.core.ping(TestCall(3))
    operator.core.link_lost(operator.clock.now, "test")
    assert operator.outbox.empty
    operator.connect(link=4)
    operator.flush()
    assert operator.shell.take_sent() == []


def test_cancelled_calls_leave_nothing_in_the_queue() -> None:
    """Calls that are cancelled on a full link leave nothing in the queue."""
    server = Desk(Role.SERVER)
    server.connect()
    server.shell.room = 0
    kept = server.call(1)
    for _ in range(100):
        server.core.cancel(server.call(2))
        server.call(3, timeout_s=0.01)
        server.wait(0.02)
    outbox = server.outbox
    assert len(outbox._waiting) == 1
    server.core.cancel(kept)
    assert outbox.empty and outbox.queued_bytes == 0
    kept = server.call(1)
    server.shell.room = None
    assert server.flush()
    assert ids(server) == [[kept.id]]


# -- bundles


def bundling() -> Desk:
    """Return a server whose broker takes bundles."""
    server = Desk(Role.SERVER)
    server.connect(bundles=True)
    return server


def carried(frame: bytes) -> dict[bytes, list[int]]:
    """Return the IDs of the calls in a BUNDLE, by the encoded ID of the player."""
    parts = unbundle(frame)
    assert all(part.startswith(DATA_0) for part in parts[1::2])
    return {
        encoded_id: [envelope[1] for envelope in envelopes_of(part)]
        for encoded_id, part in zip(parts[::2], parts[1::2], strict=True)
    }


def test_the_frames_of_many_players_share_a_message() -> None:
    server = bundling()
    for to in (7, 8, 7):
        server.call(to)
    assert server.flush()
    [(encoded_id, frame)] = server.shell.take_sent()
    assert encoded_id == b"" and frame[1] == FrameType.BUNDLE
    assert carried(frame) == {b"\x07": [1, 3], b"\x08": [2]}
    server.check_sums()
    assert server.outbox.empty


def test_the_frame_of_one_player_needs_no_bundle() -> None:
    server = bundling()
    server.call(7, flush=True)
    [(encoded_id, frame)] = server.shell.take_sent()
    assert encoded_id == b"\x07" and frame.startswith(DATA_0)


def test_a_bundle_starts_at_64_kib() -> None:
    server = bundling()
    for to in (7, 8, 9):
        server.call(to, payload=bytes(BATCH_BYTES // 2 - 100))
    server.call(10, payload=bytes(2 * BATCH_BYTES))
    assert server.flush()
    sent = server.shell.take_sent()
    assert [frame[1] for _, frame in sent] == [FrameType.BUNDLE, FrameType.DATA, FrameType.DATA]
    assert list(carried(sent[0][1])) == [b"\x07", b"\x08"]
    assert [encoded_id for encoded_id, _ in sent[1:]] == [b"\x09", b"\x0a"]


def test_a_queue_that_one_frame_does_not_empty_goes_into_the_next_bundle() -> None:
    server = bundling()
    for _ in range(BATCH_ENVELOPES + 1):
        server.call(7)
    server.call(8)
    assert server.flush()
    sent = server.shell.take_sent()
    assert [frame[1] for _, frame in sent] == [FrameType.BUNDLE, FrameType.DATA]
    assert {key: len(ids) for key, ids in carried(sent[0][1]).items()} == {
        b"\x07": BATCH_ENVELOPES,
        b"\x08": 1,
    }
    assert sent[1][0] == b"\x07" and len(envelopes_of(sent[1][1])) == 1
    server.check_sums()


def test_a_bundle_that_finds_no_room_is_sent_later() -> None:
    server = bundling()
    for to in (7, 8):
        server.call(to)
    server.shell.room = 0
    assert not server.flush()
    server.check_sums()
    server.shell.room = None
    assert server.flush()
    [(_, frame)] = server.shell.take_sent()
    assert carried(frame) == {b"\x07": [1], b"\x08": [2]}


def test_calls_to_oneself_are_not_bundled() -> None:
    server = bundling()
    server.call(7)
    own = server.call(8, kind=None)
    server.call(9)
    assert server.flush()
    assert [encoded_id for encoded_id, _ in server.shell.take_sent()] == [b"\x07", b"\x09"]
    [execution] = server.handle()
    execution("own")
    server.flush()
    assert own.results == ("own",)


def test_calls_to_oneself_are_delivered_on_a_link_that_is_full() -> None:
    server = bundling()
    server.shell.room = 0
    server.call(7)
    own = server.call(8, kind=None)
    assert not server.flush()
    [execution] = server.handle()
    execution("own")
    assert not server.flush()
    assert own.results == ("own",)
    server.check_sums()
