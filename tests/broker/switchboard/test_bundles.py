"""Bundles at the switchboard: frames that many players send at one moment leave in one message."""

from __future__ import annotations

from collections.abc import Callable

import msgpack
import pytest
from support.switchboards import Desk, Peer

from ringback.errors import Code, RejectCode
from ringback.protocol import control
from ringback.protocol.bundles import BUNDLE, bundle, unbundle
from ringback.protocol.control import encode
from ringback.protocol.frames import FrameType, Role, header
from ringback.protocol.limits import BATCH_BYTES, BUNDLE_FRAMES, MAX_FRAME_BYTES
from ringback.protocol.player_ids import encode_player_id as encoded_id
from ringback_broker.peers.connection import Side
from ringback_broker.switchboard.sending import MAX_BACKLOG

DATA = header(FrameType.DATA)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def bundling(desk: Desk, role: Role = Role.SERVER) -> Peer:
    """Return a server or operator that takes bundles."""
    peer = desk.connect(Side.BACKEND)
    peer.say(control.Hello(role, bundles=True))
    welcome = peer.told()[-1]
    assert isinstance(welcome, control.Welcome) and welcome.bundles
    peer.link = welcome.link
    return peer


def frames_in(message: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """Return the frames that a BUNDLE carries."""
    to, frame = message
    assert to == b"" and frame[:8] == BUNDLE
    parts = unbundle(frame)
    return list(zip(parts[::2], parts[1::2], strict=True))


def flush(desk: Desk) -> None:
    desk.switchboard.send_bundles(desk.now)


def test_frames_of_many_players_leave_in_one_message_at_the_end_of_a_step(desk: Desk) -> None:
    server = bundling(desk)
    players = [desk.player(number) for number in (7, 8)]
    server.take()
    for player in players:
        player.send(DATA + b"x")
    players[0].send(DATA + b"y")
    assert not server.take()
    flush(desk)
    [message] = server.take()
    expected = [(encoded_id(7), DATA + b"x"), (encoded_id(8), DATA + b"x"), (encoded_id(7), DATA + b"y")]
    assert frames_in(message) == expected
    assert desk.counters.frames_up == 3 and desk.counters.bytes_up == 27
    flush(desk)
    assert not server.take()


def test_a_lone_frame_leaves_as_it_is(desk: Desk) -> None:
    server = bundling(desk)
    player = desk.player(7)
    server.take()
    player.send(DATA + b"x")
    flush(desk)
    assert server.take() == [(encoded_id(7), DATA + b"x")]


def test_a_peer_that_takes_no_bundles_gets_none(desk: Desk) -> None:
    server = desk.server()
    player = desk.player(7)
    server.take()
    player.send(DATA + b"x")
    assert server.take() == [(encoded_id(7), DATA + b"x")]


def test_an_operator_is_sent_bundles_too(desk: Desk) -> None:
    operator = bundling(desk, Role.OPERATOR)
    mine = header(FrameType.DATA, operator.link)
    for number in (7, 8):
        desk.player(number).send(mine + b"x")
    flush(desk)
    [message] = operator.take()
    assert frames_in(message) == [(encoded_id(7), mine + b"x"), (encoded_id(8), mine + b"x")]


@pytest.mark.parametrize(("size", "fit"), [(0, BUNDLE_FRAMES), (8000, BATCH_BYTES // 8008 + 1)])
def test_a_bundle_has_bounds(size: int, fit: int) -> None:
    desk = Desk(player_frames=10_000, player_bytes=10**8)
    server = bundling(desk)
    player = desk.player(7)
    server.take()
    for _ in range(fit):
        player.send(DATA + bytes(size))
    [message] = server.take()
    assert len(frames_in(message)) == fit


def test_nothing_overtakes_earlier_frames(desk: Desk) -> None:
    """LEFT comes after the last frame of its player, and so does a RELAY of an operator."""
    server = bundling(desk)
    operator = desk.operator()
    one, two = desk.player(1), desk.player(2)
    server.take()
    one.send(DATA + b"last words")
    two.send(DATA + b"x")
    one.leave()
    bundled, left = server.take()
    assert frames_in(bundled) == [(encoded_id(1), DATA + b"last words"), (encoded_id(2), DATA + b"x")]
    assert left == (b"", encode(control.Left((1,))))
    two.send(DATA + b"y")
    relayed = header(FrameType.RELAY, operator.link)
    operator.send(encoded_id(9), relayed)
    assert server.take() == [(encoded_id(2), DATA + b"y"), (encoded_id(9), relayed)]


def test_a_bundle_without_room_bounces_to_each_sender(desk: Desk) -> None:
    server = bundling(desk)
    players = [desk.player(number) for number in (7, 8)]
    desk.wire.full.add(server.routing_id)
    for player in players:
        player.take()
        player.send(DATA + b"x")
    flush(desk)
    for player in players:
        assert player.bounced() == (b"", Code.OVERLOADED, DATA + b"x")
    assert desk.counters.frames_up == 0


def test_a_bundle_without_a_receiver_bounces_to_each_sender(desk: Desk) -> None:
    server = bundling(desk)
    players = [desk.player(number) for number in (7, 8)]
    for player in players:
        player.take()
        player.send(DATA + b"x")
    desk.wire.gone.add(server.routing_id)
    players[1].leave()
    flush(desk)
    assert players[0].bounced() == (b"", Code.NO_SERVER, DATA + b"x")
    desk.two_ticks()
    assert server.session is None


def test_a_refused_server_gets_the_frames_that_came_before(desk: Desk) -> None:
    server = bundling(desk)
    player = desk.player(7)
    server.take()
    player.send(DATA + b"x")
    server.send(b"", b"nonsense")
    data, reject = server.take()
    assert data == (encoded_id(7), DATA + b"x")
    assert control.decode(reject[1]).type is FrameType.REJECT
    flush(desk)
    assert not server.take()


def test_a_server_that_leaves_takes_its_bundle_with_it(desk: Desk) -> None:
    server = bundling(desk)
    player = desk.player(7)
    server.take()
    player.send(DATA + b"x")
    server.leave()
    flush(desk)
    assert not server.take()
    assert control.ServerDown() in player.told()


def test_a_window_counts_what_is_bundled() -> None:
    desk = Desk(backend_window=64 * 1024, backend_queue=1000)
    server = bundling(desk)
    player = desk.player(7)
    server.take()
    for _ in range(3):
        player.send(DATA + bytes(8000))
    flush(desk)
    bundled, ping = server.take()
    assert len(frames_in(bundled)) == 3
    assert isinstance(control.decode(ping[1]), control.Ping)


def test_a_large_frame_does_not_overtake_a_probe_that_waits() -> None:
    """The bundle before it takes the last room, so the PING behind the bundle waits."""
    desk = Desk(backend_window=64 * 1024, backend_queue=1000)
    server = bundling(desk)
    player = desk.player(7)
    for peer in (server, player):
        peer.take()
    desk.wire.room[server.routing_id] = 1
    for _ in range(3):
        player.send(DATA + bytes(8000))
    large = DATA + bytes(9000)
    player.send(large)
    assert player.bounced() == (b"", Code.OVERLOADED, large)
    [message] = server.take()
    assert len(frames_in(message)) == 3
    del desk.wire.room[server.routing_id]
    assert not desk.switchboard.flush()
    assert [control.decode(frame).type for _, frame in server.take()] == [FrameType.PING]


def leaves(server: Peer, player: Peer) -> None:
    player.leave()


def breaks_a_rule(server: Peer, player: Peer) -> None:
    server.send(b"", b"nonsense")


@pytest.mark.parametrize(("then", "too_slow"), [(leaves, 1), (breaks_a_rule, 0)])
def test_a_probe_behind_a_bundle_may_end_the_server(
    monkeypatch: pytest.MonkeyPatch, then: Callable[[Peer, Peer], None], too_slow: int
) -> None:
    """The bundle leaves, and the PING after it finds no room, neither in the queue nor in the backlog.

    A server that broke a rule gets no PING: it ends for that reason.
    """
    monkeypatch.setitem(MAX_BACKLOG, Role.SERVER, 0)
    desk = Desk(backend_window=64 * 1024, backend_queue=1000)
    server = bundling(desk)
    player = desk.player(7)
    server.take()
    desk.wire.room[server.routing_id] = 1
    for _ in range(3):
        player.send(DATA + bytes(8000))
    then(server, player)
    [message] = server.take()  # nothing more goes to a session that has ended
    assert len(frames_in(message)) == 3
    assert server.session is None and desk.counters.sessions_too_slow == too_slow
    assert desk.counters.sessions_refused == 0
    desk.two_ticks()
    assert not desk.switchboard.state.endings.gone and not desk.switchboard.roster.server


# -- from the server


def test_a_bundle_of_the_server_reaches_each_player(desk: Desk) -> None:
    server = bundling(desk)
    players = {number: desk.player(number) for number in (7, 8)}
    pairs = [(encoded_id(7), DATA + b"x"), (encoded_id(8), DATA + b"y"), (encoded_id(9), DATA + b"z")]
    server.take()
    server.send(b"", bundle(pairs))
    assert players[7].take() == [(b"", DATA + b"x")]
    assert players[8].take() == [(b"", DATA + b"y")]
    assert server.bounced() == (encoded_id(9), Code.UNKNOWN_PLAYER, DATA + b"z")
    assert desk.counters.frames_down == 2


def test_a_bundle_of_the_server_reaches_operators_too(desk: Desk) -> None:
    server, operator, player = bundling(desk), desk.operator(), desk.player(7)
    relayed = header(FrameType.RELAY, operator.link) + b"x"
    operator.take()
    server.send(b"", bundle([(encoded_id(9), relayed), (encoded_id(7), DATA)]))
    assert operator.take() == [(encoded_id(9), relayed)]
    assert (b"", DATA) in player.take()


@pytest.mark.parametrize(
    "frame",
    [
        BUNDLE,
        BUNDLE + b"\xc1",
        BUNDLE + bytes(MAX_FRAME_BYTES),
        BUNDLE + b"\x80",
        BUNDLE + b"\x91\xc4\x00",
        BUNDLE + b"\x92\xa1a\xa1b",
        BUNDLE + b"\x90\x00",
        BUNDLE + msgpack.packb([b"\7"] * (2 * BUNDLE_FRAMES + 2)),
        bundle([(b"", DATA)]),
        bundle([(encoded_id(7), bundle([(encoded_id(7), DATA)]))]),
        bundle([(encoded_id(7), encode(control.Bye()))]),
        bundle([(encoded_id(7), header(FrameType.DATA, 5))]),
    ],
)
def test_another_form_ends_the_session(desk: Desk, frame: bytes) -> None:
    server, player = bundling(desk), desk.player(7)
    server.take()
    player.take()
    server.send(b"", frame)
    assert server.rejected().code is RejectCode.PROTOCOL_ERROR
    assert desk.counters.violations == 1
    assert player.told() == [control.ServerDown()]


def test_frames_after_a_violation_in_a_bundle_are_dropped(desk: Desk) -> None:
    server, player = bundling(desk), desk.player(7)
    player.take()
    server.send(b"", bundle([(encoded_id(7), b"nonsense"), (encoded_id(7), DATA)]))
    assert player.told() == [control.ServerDown()]


def test_a_player_has_no_bundles(desk: Desk) -> None:
    peer = desk.connect()
    peer.say(control.Hello(Role.PLAYER, 7, bundles=True))
    [welcome] = peer.told()
    assert isinstance(welcome, control.Welcome) and welcome.bundles is None
    peer.send(bundle([(encoded_id(8), DATA)]))
    assert peer.rejected().code is RejectCode.PROTOCOL_ERROR


@pytest.mark.parametrize("role", [Role.SERVER, Role.OPERATOR])
@pytest.mark.parametrize("offered", [None, False, True])
def test_bundles_go_both_ways_or_not_at_all(desk: Desk, role: Role, offered: bool | None) -> None:
    player = desk.player(7)
    peer = desk.connect(Side.BACKEND)
    peer.say(control.Hello(role, bundles=offered))
    welcome = peer.told()[-1]
    assert isinstance(welcome, control.Welcome) and welcome.bundles == (offered or None)
    player.take()
    carried = header(FrameType.DATA, welcome.link) + b"x"
    peer.send(b"", bundle([(encoded_id(7), carried)]))
    if offered:
        assert player.take() == [(b"", carried)]
    else:
        assert peer.rejected().code is RejectCode.PROTOCOL_ERROR and desk.counters.violations == 1
        assert (b"", carried) not in player.take()
