"""The switchboard: which peers may join, who learns of it, and how a session ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from support.switchboards import Desk, Peer, data, encoded_id, relay

from ringback.errors import Code, RejectCode
from ringback.protocol import control
from ringback.protocol.control import encode
from ringback.protocol.frames import BROKER_ACCEPTS, HEADER, FrameType, Role, header
from ringback_broker.peers.connection import Side
from ringback_broker.switchboard.sending import MAX_BACKLOG

# -- joining


def test_a_player_is_welcomed() -> None:
    desk = Desk(lease=12.5)
    player = desk.connect()
    player.say(control.Hello(Role.PLAYER, "seven", ("a", "b"), "sdk/1"))
    assert player.told() == [control.Welcome(0, "seven", False, 12_500, "test")]
    assert desk.wire.reports == [("joined", "player 'seven'", "sdk/1")]
    desk.server()
    assert player.told() == [control.ServerUp()]
    assert desk.counters.sessions_begun == 2


def test_a_player_without_an_id_gets_the_next_free_int() -> None:
    desk = Desk()
    assert [desk.player(wanted).player_id for wanted in (2, None, None, 5, None, None)] == [2, 1, 3, 5, 4, 6]
    last = desk.player()
    last.leave()
    assert (last.player_id, desk.player().player_id) == (7, 8)


def test_operators_are_numbered() -> None:
    desk = Desk()
    operator = desk.connect(Side.BACKEND)
    operator.say(control.Hello(Role.OPERATOR))
    assert operator.told() == [control.Welcome(1, None, False, 30_000, "test", None, 1000, node="")]


def test_a_server_learns_who_is_connected_before_its_welcome() -> None:
    desk = Desk()
    operator = desk.operator()
    for player_id in (3, "x", 1):
        desk.player(player_id)
    server = desk.connect(Side.BACKEND)
    server.say(control.Hello(Role.SERVER))
    assert server.told() == [
        control.Joined((3, "x", 1)),
        control.Welcome(0, None, True, 30_000, "test", None, 1000),
    ]
    assert operator.told() == [control.ServerUp()]
    desk.player(2)
    assert server.told() == [control.Joined((2,))]
    assert operator.told() == []


def test_a_server_learns_of_many_players_in_chunks() -> None:
    desk = Desk()
    for _ in range(2001):
        desk.player()
    server = desk.connect(Side.BACKEND)
    server.say(control.Hello(Role.SERVER))
    *joined, _welcome = server.told()
    ids = [frame.player_ids for frame in joined if isinstance(frame, control.Joined)]
    assert [len(chunk) for chunk in ids] == [1000, 1000, 1]
    assert [player_id for chunk in ids for player_id in chunk] == list(range(1, 2002))


def test_joins_do_not_get_slower_with_the_number_of_players() -> None:
    """For 10,000 joins and leaves with a server and an operator, frames and time grow linearly."""
    desk = Desk()
    server, _operator = desk.server(), desk.operator()
    started = time.process_time()
    players = [desk.player(None if number % 2 else 100_000 + number) for number in range(10_000)]
    assert len(server.take()) == 10_000
    sends = desk.wire.sends
    for player in players:
        player.leave()
    assert desk.wire.sends - sends == 20_000
    assert time.process_time() - started < 15  # 0.5 s here; 10,000 times 10,000 look-ups take longer


@pytest.mark.parametrize("player_id", [7, "seven"])
def test_an_id_in_use_is_refused(player_id: int | str) -> None:
    desk = Desk()
    first, second = desk.player(player_id), desk.connect()
    second.say(control.Hello(Role.PLAYER, player_id))
    assert second.rejected().code is RejectCode.ID_TAKEN
    assert first.session is not None and not first.take()
    first.leave()
    assert desk.player(player_id).player_id == player_id


def test_an_int_and_its_digits_are_two_ids() -> None:
    desk = Desk()
    assert desk.player(7).session is not desk.player("7").session


def test_a_second_server_is_refused() -> None:
    desk = Desk()
    first, second = desk.server(), desk.connect(Side.BACKEND)
    second.say(control.Hello(Role.SERVER))
    assert second.rejected().code is RejectCode.SERVER_TAKEN
    first.leave()
    desk.server()


@pytest.mark.parametrize(
    ("role", "settings"), [(Role.PLAYER, {"max_players": 2}), (Role.OPERATOR, {"max_operators": 2})]
)
def test_more_than_allowed_are_refused(role: Role, settings: dict[str, int]) -> None:
    desk = Desk(**settings)
    first, _ = desk.join(role), desk.join(role)
    third = desk.connect(first.side)
    third.say(control.Hello(role))
    assert third.rejected().code is RejectCode.FULL
    desk.server()  # the server does not count
    first.leave()
    desk.join(role)


def test_heartbeats_in_a_crowd() -> None:
    desk = Desk(crowd=2, crowd_heartbeat=5.0)
    first, _ = desk.player("a", heartbeat_ms=1000), desk.player("b", heartbeat_ms=4999)
    for slow in (None, 0, 5000):
        desk.player(heartbeat_ms=slow)
    quick = desk.connect(Side.PLAYERS)
    quick.say(control.Hello(Role.PLAYER, "c", heartbeat_ms=1000))
    reason = "there are many players: send one heartbeat every 5 s at most"
    assert quick.rejected() == control.Reject(RejectCode.HEARTBEAT_TOO_SHORT, reason, heartbeat_ms=5000)
    assert (desk.counters.joins_delayed, desk.counters.sessions_refused) == (1, 0)
    assert desk.wire.reports[-1][0] == "delayed"
    first.leave()
    desk.player("c", heartbeat_ms=1000)


@pytest.mark.parametrize("role", Role)
def test_nobody_joins_a_broker_that_drains(role: Role) -> None:
    desk = Desk()
    desk.switchboard.drain(1.0)
    peer = desk.connect(Side.PLAYERS if role is Role.PLAYER else Side.BACKEND)
    peer.say(control.Hello(role))
    assert peer.rejected().code is RejectCode.DRAINING


@pytest.mark.parametrize(("role", "side"), [(Role.PLAYER, Side.BACKEND), (Role.SERVER, Side.PLAYERS)])
def test_a_role_joins_at_its_own_address_only(role: Role, side: Side) -> None:
    desk = Desk()
    peer = desk.connect(side)
    peer.say(control.Hello(role))
    assert peer.rejected().code is RejectCode.PROTOCOL_ERROR


@pytest.mark.parametrize("version", [0, 2, 255])
def test_the_reject_of_an_unknown_version_names_the_known_ones(version: int) -> None:
    desk = Desk()
    peer = desk.connect()
    peer.send(bytes([version]) + encode(control.Hello(Role.PLAYER))[1:])
    rejected = peer.rejected()
    assert (rejected.code, rejected.versions) == (RejectCode.UNSUPPORTED_VERSION, (1,))


# -- strangers


@pytest.mark.parametrize("number", sorted(set(FrameType) - {FrameType.HELLO, FrameType.BYE}))
@pytest.mark.parametrize("side", Side)
def test_other_frames_before_hello_are_refused_with_no_session(side: Side, number: int) -> None:
    desk = Desk()
    peer = desk.connect(side)
    frame = HEADER.pack(1, number, 0, 0) + b"\xc1"
    peer.send(*([frame] if side is Side.PLAYERS else [encoded_id(7), frame]))
    assert peer.rejected().code is RejectCode.NO_SESSION
    assert desk.counters.stranger_messages == 1


def test_a_bye_before_hello_gets_no_reply() -> None:
    desk = Desk()
    peer = desk.connect()
    peer.say(control.Bye())
    assert not peer.take()
    peer.say(control.Hello(Role.PLAYER))
    assert not peer.take()
    assert desk.counters.sessions_refused == 0


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x01\x01\x00\x00\x00\x00\x00",
        HEADER.pack(1, 99, 0, 0),
        HEADER.pack(1, FrameType.HELLO, 0, 0) + b"\xc1",
        HEADER.pack(1, FrameType.HELLO, 0, 0) + b"\x80",
        HEADER.pack(2, FrameType.DATA, 0, 0),
    ],
)
def test_garbage_before_hello_is_refused(frame: bytes) -> None:
    desk = Desk()
    for side, parts in ((Side.PLAYERS, [frame]), (Side.BACKEND, [b"", frame])):
        peer = desk.connect(side)
        peer.send(*parts)
        assert peer.rejected().code is RejectCode.PROTOCOL_ERROR


@pytest.mark.parametrize(("side", "count"), [(Side.PLAYERS, 2), (Side.BACKEND, 1), (Side.BACKEND, 50)])
def test_a_hello_with_a_wrong_number_of_parts_is_refused(side: Side, count: int) -> None:
    desk = Desk()
    peer = desk.connect(side)
    peer.send(*[encode(control.Hello(Role.OPERATOR))] * count)
    assert peer.rejected().code is RejectCode.PROTOCOL_ERROR
    assert (desk.counters.malformed, desk.counters.stranger_messages) == (1, 1)


def test_a_hello_with_an_id_part_is_refused() -> None:
    desk = Desk()
    peer = desk.connect(Side.BACKEND)
    peer.send(encoded_id(7), encode(control.Hello(Role.SERVER)))
    assert peer.rejected().code is RejectCode.PROTOCOL_ERROR


def test_a_refused_connection_is_ignored_and_closed() -> None:
    desk = Desk(max_players=1)
    first, second = desk.player(), desk.connect()
    second.say(control.Hello(Role.PLAYER))
    second.rejected()
    first.leave()
    for _ in range(3):
        second.say(control.Hello(Role.PLAYER))
    assert not second.take() and second.session is None
    assert desk.counters.stranger_messages == 3
    desk.switchboard.tick(desk.now)
    assert not desk.wire.closed  # the REJECT has to arrive first
    desk.switchboard.tick(desk.now + 1)
    assert desk.wire.closed == [(Side.PLAYERS, second.connection)]
    desk.switchboard.tick(desk.now + 2)
    assert len(desk.wire.closed) == 1


def test_a_connection_that_says_nothing_is_closed() -> None:
    desk = Desk(hello=5.0)
    silent, left = desk.connect(), desk.connect(Side.BACKEND)
    desk.player()
    left.leave()
    desk.switchboard.tick(desk.now + 4.9)
    assert not desk.wire.closed
    desk.switchboard.tick(desk.now + 5)
    assert desk.wire.closed == [(Side.PLAYERS, silent.connection)]


def test_connections_are_closed_before_descriptors_run_out() -> None:
    """Connections with a session go on, and the trusted side has its own room."""
    desk = Desk(max_players=3)
    desk.switchboard._arrivals.max_connections = 4
    players = [desk.player() for _ in range(2)]
    waiting = [desk.connect() for _ in range(2)]
    over = desk.connect()
    assert desk.wire.closed == [(Side.PLAYERS, over.connection)]
    assert desk.counters.connections_refused == 1
    over.say(control.Hello(Role.PLAYER))
    assert over.session is None and over.take() == []
    desk.server()
    waiting[0].say(control.Hello(Role.PLAYER))
    waiting[1].say(control.Hello(Role.PLAYER))
    assert waiting[1].rejected().code is RejectCode.FULL
    waiting[1].leave()
    desk.connect()
    assert len(desk.wire.closed) == 1 and all(player.session for player in players)


def test_a_refusal_that_cannot_be_sent_is_counted() -> None:
    desk = Desk()
    for where in (desk.wire.full, desk.wire.gone):
        peer = desk.connect()
        where.add(peer.routing_id)
        peer.send(b"")
    assert (desk.counters.sessions_refused, desk.counters.dropped) == (2, 2)


def test_reasons_are_cut() -> None:
    desk = Desk()
    peer = desk.connect()
    peer.send(HEADER.pack(1, FrameType.HELLO, 0, 0) + b"\x81\xa4role\xda\x04\x00" + b"x" * 1024)
    assert len(peer.rejected().reason) <= 200
    assert all(len(detail) < 300 for _, _, detail in desk.wire.reports)


# -- descriptors


def test_a_message_of_a_closed_connection_comes_too_late() -> None:
    desk = Desk()
    peer = desk.connect()
    peer.leave()
    peer.say(control.Hello(Role.PLAYER, 7))
    assert not peer.take() and peer.session is None
    assert desk.player(7).session is not None


def test_a_late_message_does_not_harm_the_next_peer_with_its_descriptor() -> None:
    desk = Desk()
    old = desk.connect(descriptor=50)
    old.leave()
    new = desk.connect(descriptor=50)
    new.say(control.Hello(Role.PLAYER, 7))
    new.told()
    old.send(b"garbage")
    old.say(control.Hello(Role.PLAYER, 7))
    assert not old.take() and not new.take()
    desk.now += 1
    new.say(control.Ping())
    for _ in range(3):
        desk.now += 1
        desk.switchboard.tick(desk.now)
    assert new.session is not None and not desk.wire.closed


def test_a_descriptor_that_is_accepted_again_ends_its_old_session() -> None:
    desk = Desk()
    server, old = desk.server(), desk.player(7)
    server.take()
    new = desk.connect(descriptor=old.connection.descriptor)
    assert server.told() == [control.Left((7,))]
    new.say(control.Hello(Role.PLAYER, 7))
    assert [type(frame) for frame in new.told()] == [control.Welcome]
    assert server.told() == [control.Joined((7,))]


def test_each_side_has_its_own_descriptors() -> None:
    desk = Desk()
    player = desk.player(7)
    operator = desk.connect(Side.BACKEND, descriptor=player.connection.descriptor)
    operator.leave()
    assert player.session is not None


# -- the end of a session


def end_by_bye(peer: Peer) -> None:
    peer.say(control.Bye())


def end_by_close(peer: Peer) -> None:
    peer.leave()


def end_by_violation(peer: Peer) -> None:
    peer.send(*([b""] if peer.side is Side.PLAYERS else [b"", b""]))


def end_by_gone(peer: Peer) -> None:
    peer.desk.wire.gone.add(peer.routing_id)
    peer.say(control.Ping())
    peer.desk.two_ticks()


def end_by_lease(peer: Peer) -> None:
    desk = peer.desk
    desk.now += 29
    for session in desk.switchboard.roster.sessions():
        if session is not peer.session:
            session.last_seen = desk.now
    desk.now += 2
    desk.switchboard.tick(desk.now)


ENDS = [end_by_bye, end_by_close, end_by_violation, end_by_gone, end_by_lease]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("role", Role)
def test_the_others_are_told_once(role: Role, end: Callable[[Peer], None]) -> None:
    desk = Desk()
    peers = {Role.SERVER: desk.server(), Role.OPERATOR: desk.operator(), Role.PLAYER: desk.player(7)}
    bystander, watcher = desk.player(8), desk.operator()
    others = {*peers.values(), bystander, watcher} - {peers[role]}
    for peer in others:
        peer.take()
    end(peers[role])
    assert peers[role].session is None
    peers[role].leave()  # the others know already
    for other in others:
        frames = [frame for frame in other.told() if not isinstance(frame, control.Pong)]
        if role is Role.PLAYER and other.side is Side.BACKEND:
            assert frames == [control.Left((7,))]
        elif role is Role.SERVER:
            assert frames == [control.ServerDown()]
        else:
            assert frames == []
    assert desk.counters.sessions_ended == 1
    assert [name.partition(" ")[0] for event, name, _ in desk.wire.reports if event == "left"] == [role]


def test_after_a_bye_the_connection_is_closed() -> None:
    desk = Desk()
    player = desk.player()
    player.say(control.Bye())
    player.say(control.Hello(Role.PLAYER))
    assert not player.take() and player.session is None
    desk.switchboard.tick(desk.now)
    desk.switchboard.tick(desk.now + 1)
    assert desk.wire.closed == [(Side.PLAYERS, player.connection)]


def test_a_lease_is_renewed_by_any_frame() -> None:
    desk = Desk(lease=30.0)
    server, player, silent = desk.server(), desk.player(7), desk.player(8)
    for _ in range(3):
        desk.now += 29
        player.send(data())
        server.send(encoded_id("nobody"), data())
        desk.switchboard.tick(desk.now)
    assert player.session is not None and server.session is not None
    assert silent.session is None
    assert [frame.code for frame in silent.told() if isinstance(frame, control.Reject)] == [
        RejectCode.LEASE_EXPIRED
    ]
    assert desk.counters.sessions_expired == 1


def test_a_silent_connection_ends_its_session() -> None:
    """The broker checks a connection when it may first have been silent for too long, and not before."""
    desk = Desk(lease=30.0)
    stopped, idle, unknown = (desk.player(number, heartbeat_ms=1000) for number in (7, 8, 9))
    without = desk.player(10)
    desk.wire.silences = {stopped.connection: 1800, idle.connection: 900, without.connection: 1800}
    desk.switchboard.tick(desk.now + 1.7)
    assert not desk.wire.looked_at
    desk.switchboard.tick(desk.now + 1.8)
    assert desk.wire.looked_at == [stopped.connection, idle.connection, unknown.connection]
    assert stopped.session is None
    assert all(peer.session is not None for peer in (idle, unknown, without))
    assert stopped.told()[-1] == control.Reject(RejectCode.LEASE_EXPIRED, "silent for 1800 ms")
    assert desk.counters.sessions_expired == 1
    desk.switchboard.tick(desk.now + 2.6)
    assert len(desk.wire.looked_at) == 3
    desk.switchboard.tick(desk.now + 2.7)
    assert desk.wire.looked_at[3:] == [idle.connection]
    desk.now += 3
    idle.send(data())
    for after_s in (0.0, 0.9, 1.7):
        desk.switchboard.tick(desk.now + after_s)
    assert len(desk.wire.looked_at) == 4
    desk.wire.silences[idle.connection] = 1760
    desk.switchboard.tick(desk.now + 1.76)
    assert len(desk.wire.looked_at) == 5 and idle.session is None


def test_a_broker_that_was_stopped_ends_no_session() -> None:
    """For example, its machine slept. It has not read yet what its peers sent meanwhile."""
    desk = Desk()
    player = desk.player(7, heartbeat_ms=1000)
    desk.switchboard.tick(desk.now)
    desk.now += 10
    desk.wire.silences = {player.connection: 10_000}
    for after_s in (0.0, 0.5, 0.99):
        desk.switchboard.tick(desk.now + after_s)
    assert player.session is not None and not desk.wire.looked_at
    desk.wire.silences = {player.connection: 1100}
    desk.switchboard.tick(desk.now + 1.0)
    assert player.session is not None and desk.wire.looked_at
    desk.wire.silences = {player.connection: 1800}
    desk.switchboard.tick(desk.now + 1.8)
    assert player.session is None


def test_leases_that_end_together() -> None:
    """The end of one may end another that is due as well."""
    desk = Desk()
    desk.server()
    for _ in range(3):
        desk.operator()
    for _ in range(3):
        desk.player()
    desk.wire.gone = {b"R%d" % number for number in range(12, 17)}
    desk.now += 31
    desk.two_ticks()
    assert not len(desk.switchboard.roster)
    assert desk.counters.sessions_ended == 7


@pytest.mark.parametrize("role", Role)
def test_a_peer_that_is_gone_before_its_welcome_is_never_announced(role: Role) -> None:
    desk = Desk()
    watchers = [desk.operator(), desk.player(8)]
    if role is not Role.SERVER:
        watchers.append(desk.server())
    for watcher in watchers:
        watcher.take()
    peer = desk.connect(Side.PLAYERS if role is Role.PLAYER else Side.BACKEND)
    desk.wire.gone = {peer.routing_id}
    peer.say(control.Hello(role))
    assert not any(watcher.take() for watcher in watchers)
    assert peer.session is None
    counters = desk.counters
    assert (counters.sessions_begun, counters.sessions_ended) == (len(watchers), 0)
    assert counters.joins_delayed == 1 and desk.wire.reports[-1][0] == "delayed"


def test_a_peer_that_is_gone_does_not_close_the_next_one_with_its_descriptor() -> None:
    """Its HELLO was read late: its descriptor already belongs to another peer, which has said nothing yet."""
    desk = Desk()
    late = desk.connect(Side.PLAYERS, 7)
    late.leave()
    present = desk.connect(Side.PLAYERS, 7)
    desk.wire.gone.add(late.routing_id)
    late.say(control.Hello(Role.PLAYER))
    assert late.session is None
    present.say(control.Hello(Role.PLAYER))
    assert isinstance(present.told()[-1], control.Welcome)


def test_the_end_of_one_may_find_others_gone() -> None:
    desk = Desk()
    server, first, second, third = desk.server(), desk.operator(), desk.player(1), desk.player(2)
    fine = desk.operator()
    for peer in (server, fine):
        peer.take()
    desk.wire.gone = {first.routing_id, second.routing_id, server.routing_id}
    third.leave()
    desk.two_ticks()
    # LEFT of the third finds the server and the first operator gone, SERVER_DOWN the second player.
    assert fine.told() == [control.Left((2,)), control.ServerDown()]
    desk.two_ticks()
    assert fine.told() == [control.Left((1,))]
    assert len(desk.switchboard.roster) == 1
    assert desk.counters.sessions_ended == 4


def test_two_sessions_that_are_gone_end_together() -> None:
    """Data finds both gone. The end of the first, a tick later, ends the second too."""
    desk = Desk()
    operator, server, player = desk.operator(), desk.server(), desk.player(7)
    desk.wire.gone = {server.routing_id, player.routing_id}
    operator.send(encoded_id(7), data(operator.link))
    operator.send(encoded_id(7), relay(operator.link))
    desk.two_ticks()
    assert server.session is None and player.session is None
    assert not desk.switchboard.state.endings.gone


def test_an_end_may_end_peers_whose_queue_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators end after a player, whatever ended it: their queues are full, and LEFT has no room."""
    monkeypatch.setitem(MAX_BACKLOG, Role.OPERATOR, 1)

    def desk_with_slow_operators() -> tuple[Desk, Peer, list[Peer]]:
        desk = Desk()
        player, operators = desk.player(7), [desk.operator(), desk.operator()]
        desk.wire.full = {operator.routing_id for operator in operators}
        for operator in operators:
            operator.say(control.Ping())
        return desk, player, operators

    desk, player, operators = desk_with_slow_operators()
    desk.now += 31
    for operator in operators:
        operator.say(control.Pong())
    desk.switchboard.tick(desk.now)  # the player's lease ends
    assert not len(desk.switchboard.roster) and desk.counters.sessions_too_slow == 2
    assert desk.counters.sessions_expired == 1

    desk, player, operators = desk_with_slow_operators()
    desk.wire.full.add(player.routing_id)
    for _ in range(MAX_BACKLOG[Role.PLAYER]):
        player.say(control.Ping())
    desk.switchboard.drain(0.25)  # the notice is one frame too many for the player
    assert not len(desk.switchboard.roster) and desk.counters.sessions_too_slow == 3

    desk, player, operators = desk_with_slow_operators()
    desk.wire.gone, desk.wire.full = {player.routing_id, operators[1].routing_id}, set()
    desk.switchboard.flush()
    player.say(control.Ping())
    desk.wire.gone, desk.wire.full = set(), {operators[0].routing_id}
    operators[0].say(control.Ping())
    desk.two_ticks()
    assert not len(desk.switchboard.roster) and not desk.switchboard.state.endings.gone
    assert (desk.counters.sessions_ended, desk.counters.sessions_too_slow) == (3, 1)


def test_sessions_that_end_together_keep_their_own_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    """LEFT of the player has no room at the operator, but the operator's lease is over as well."""
    monkeypatch.setitem(MAX_BACKLOG, Role.OPERATOR, 1)
    desk = Desk()
    player, operator = desk.player(7), desk.operator()
    desk.wire.full = {operator.routing_id}
    operator.say(control.Ping())
    desk.now += 31
    desk.switchboard.tick(desk.now)
    assert player.session is None and operator.session is None
    assert (desk.counters.sessions_expired, desk.counters.sessions_too_slow) == (2, 0)


def test_a_join_may_find_the_server_gone() -> None:
    desk = Desk()
    server = desk.server()
    desk.wire.gone = {server.routing_id}
    player = desk.connect()
    player.say(control.Hello(Role.PLAYER, 7))
    desk.two_ticks()
    assert player.told() == [control.Welcome(0, 7, True, 30_000, "test"), control.ServerDown()]


def test_a_server_that_joins_may_find_others_gone() -> None:
    desk = Desk()
    operator, player = desk.operator(), desk.player(7)
    desk.wire.gone = {operator.routing_id, player.routing_id}
    server = desk.connect(Side.BACKEND)
    server.say(control.Hello(Role.SERVER))
    desk.two_ticks()
    joined, welcome, left = server.told()
    assert (joined, left) == (control.Joined((7,)), control.Left((7,)))
    assert isinstance(welcome, control.Welcome)
    assert len(desk.switchboard.roster) == 1


# -- backlogs


def test_control_frames_wait_for_room_in_order() -> None:
    desk = Desk()
    player = desk.player(7)
    desk.wire.full = {player.routing_id}
    for number in range(5):
        player.say(control.Ping(b"%d" % number))
    server = desk.server()
    assert not player.take()
    assert desk.switchboard.flush()
    desk.wire.full.clear()
    player.say(control.Ping(b"last"))  # there is room, but other frames wait before it
    desk.wire.room[player.routing_id] = 2
    assert desk.switchboard.flush()
    assert player.told() == [control.Pong(b"0"), control.Pong(b"1")]
    del desk.wire.room[player.routing_id]
    assert not desk.switchboard.flush()
    assert player.told() == [
        *(control.Pong(b"%d" % number) for number in (2, 3, 4)),
        control.ServerUp(),
        control.Pong(b"last"),
    ]
    assert server.session is not None
    assert not desk.switchboard.flush()


@pytest.mark.parametrize("target", Role)
def test_data_does_not_overtake_waiting_control_frames(target: Role) -> None:
    desk = Desk()
    server, player, operator = desk.server(), desk.player(7), desk.operator()
    peer = {Role.SERVER: server, Role.PLAYER: player, Role.OPERATOR: operator}[target]
    server.take()
    routes = {
        Role.SERVER: ((player, (data(),)), (operator, (encoded_id(7), relay(1)))),
        Role.PLAYER: ((server, (encoded_id(7), data())), (operator, (encoded_id(7), data(1)))),
        Role.OPERATOR: ((player, (data(1),)), (server, (encoded_id(7), relay(1)))),
    }[target]
    desk.wire.full = {peer.routing_id}
    peer.say(control.Ping(b"waits"))
    desk.wire.full.clear()
    for sender, parts in routes:
        sender.send(*parts)
        assert sender.bounced()[1] is Code.OVERLOADED
    assert not peer.take()
    desk.switchboard.flush()
    assert peer.told() == [control.Pong(b"waits")]
    for sender, parts in routes:
        sender.send(*parts)
    assert len(peer.take()) == 2


def test_a_peer_that_is_gone_when_its_backlog_is_sent() -> None:
    desk = Desk()
    server, player = desk.server(), desk.player(7)
    server.take()
    desk.wire.full = {player.routing_id}
    for _ in range(3):
        player.say(control.Ping())
    desk.wire.full, desk.wire.gone = set(), {player.routing_id}
    assert not desk.switchboard.flush()
    player.send(data())  # the player sent it before, and the broker reads it only now
    assert player.session is not None and len(server.take()) == 1
    desk.two_ticks()
    assert player.session is None
    assert server.told() == [control.Left((7,))]


def test_a_peer_that_leaves_takes_its_backlog_with_it() -> None:
    desk = Desk()
    player = desk.player(7)
    desk.wire.full = {player.routing_id}
    player.say(control.Ping())
    assert desk.switchboard.flush()
    player.leave()
    sends = desk.wire.sends
    assert not desk.switchboard.flush()
    assert desk.wire.sends == sends


def test_a_player_that_does_not_read_is_ended() -> None:
    desk = Desk()
    server, player = desk.server(), desk.player(7)
    server.take()
    desk.wire.full = {player.routing_id}
    for _ in range(MAX_BACKLOG[Role.PLAYER]):
        player.say(control.Ping())
    assert player.session is not None
    desk.wire.full.clear()  # now there is room for the REJECT
    player.say(control.Ping())
    assert player.session is None
    assert player.rejected().code is RejectCode.TOO_SLOW
    assert server.told() == [control.Left((7,))]
    assert not desk.switchboard.flush()
    desk.switchboard.tick(desk.now)
    desk.switchboard.tick(desk.now + 1)
    assert desk.wire.closed == [(Side.PLAYERS, player.connection)]


def test_an_end_that_overflows_another_backlog() -> None:
    """The peer whose backlog overflows gets its REJECT in its turn, and nothing twice."""
    desk = Desk()
    player, operator = desk.player(7), desk.operator()
    desk.wire.full = {operator.routing_id}
    session = operator.session
    assert session is not None
    session.backlog.extend([(b"", b"x")] * MAX_BACKLOG[Role.OPERATOR])
    player.leave()
    assert operator.session is None
    assert (desk.counters.sessions_too_slow, desk.counters.sessions_ended) == (1, 2)
    assert desk.counters.sessions_refused == 0


def test_a_server_may_be_slow_when_ten_thousand_join() -> None:
    desk = Desk()
    server = desk.server()
    desk.wire.full = {server.routing_id}
    for _ in range(10_000):
        desk.player()
    assert server.session is not None
    desk.wire.full.clear()
    assert not desk.switchboard.flush()
    assert len(server.told()) == 10_000


def test_all_peers_learn_of_draining_even_if_one_is_gone() -> None:
    desk = Desk()
    gone, player = desk.player(1), desk.player(2)
    desk.wire.gone = {gone.routing_id}
    desk.switchboard.drain(0.25)
    assert player.told() == [control.DrainingNotice(250)]
    desk.two_ticks()
    assert len(desk.switchboard.roster) == 1


# -- keys, queries and orders


def query(peer: Peer, subject: control.Subject, after: int = 0) -> control.Answer:
    peer.take()
    peer.say(control.Query(9, subject, after))
    [answer] = peer.told()
    assert isinstance(answer, control.Answer) and answer.id == 9
    return answer


def order(peer: Peer, what: control.What, **said: Any) -> control.Answer:
    peer.take()
    peer.say(control.Order(9, what, **said))
    [answer] = [frame for frame in peer.told() if isinstance(frame, control.Answer)]
    assert answer.id == 9 and answer.rows is None
    return answer


def test_an_operator_kicks_a_player() -> None:
    desk = Desk()
    operator, server, player = desk.operator(), desk.server(), desk.player(7)
    other = desk.player("7")
    assert order(operator, control.What.KICK, player_id=7, reason="cheats").code is None
    rejected = player.rejected()
    assert (rejected.code, rejected.reason) == (RejectCode.KICKED, "cheats")
    assert control.Left((7,)) in server.told() and player.session is None and other.session is not None
    assert desk.counters.sessions_kicked == 1
    assert any("kick player 7 (cheats), by operator 1" in detail for _, _, detail in desk.wire.reports)
    assert order(operator, control.What.KICK, player_id=7).code is Code.UNKNOWN_PLAYER
    assert order(operator, control.What.KICK, player_id="7", reason="x" * 1000).code is None
    assert len(other.rejected().reason) == 200
    desk.player(7)  # the player may join again


def test_an_operator_has_the_broker_drain() -> None:
    desk = Desk()
    operator = desk.operator()
    assert order(operator, control.What.DRAIN).code is None
    assert order(operator, control.What.DRAIN, grace_ms=2500).code is None
    assert desk.wire.drains == [None, 2.5]


def test_players_give_no_orders() -> None:
    desk = Desk()
    peer, _ = desk.player(7), desk.player(8)
    peer.take()
    peer.say(control.Order(9, control.What.KICK, 8))
    assert peer.rejected().code is RejectCode.PROTOCOL_ERROR
    assert desk.counters.sessions_kicked == 0


def test_the_latest_events_are_listed() -> None:
    desk = Desk()
    operator = desk.operator()
    for number in range(600):
        desk.player(number + 1).leave()
    rows = query(operator, control.Subject.EVENTS).rows
    assert rows is not None and len(rows) == 1000 and rows[0][0] == 201
    assert rows[-1] == [1200, 1.8e9, "left", "player", 600, None, "10.0.0.610", None, "its connection closed"]
    first = query(operator, control.Subject.EVENTS, 0)
    assert first.next == 1200
    assert query(operator, control.Subject.EVENTS, 1200).rows == ()
    stranger = desk.connect()
    stranger.send(b"")
    [refused] = query(operator, control.Subject.EVENTS, 1200).rows or ()
    assert refused[2:6] == ["refused", None, None, None] and refused[7] == "PROTOCOL_ERROR"


def test_a_session_that_the_broker_ends_is_no_refusal() -> None:
    desk = Desk()
    operator, player = desk.operator(), desk.player(7)
    order(operator, control.What.KICK, player_id=7)
    assert player.rejected().code is RejectCode.KICKED
    [_, _, left] = query(operator, control.Subject.EVENTS).rows or ()
    assert left[2:5] == ["left", "player", 7] and left[7] == "KICKED"
    counters = desk.counters
    assert (counters.sessions_kicked, counters.sessions_ended, counters.sessions_refused) == (1, 1, 0)
    assert [report[0] for report in desk.wire.reports].count("refused") == 0


def test_an_operator_whose_session_the_broker_ends_is_listed() -> None:
    desk = Desk()
    operator, other = desk.operator(), desk.operator()
    other.say(control.Hello(Role.OPERATOR))
    [left] = query(operator, control.Subject.EVENTS).rows or ()
    assert left[2:4] == ["left", "operator"] and left[7] == "PROTOCOL_ERROR"


def test_players_are_listed_in_pages() -> None:
    desk = Desk()
    operator = desk.operator()
    players = [desk.player(None, ("k",) * (number % 2)) for number in range(1500)]
    desk.now += 2.5
    first = query(operator, control.Subject.PLAYERS)
    assert first.rows is not None and len(first.rows) == 1000
    assert first.rows[:2] == (
        [1, 2.5, 0, "10.0.0.11", None, 2.5, 0.0, 0, 0, 0.25, 0],
        [2, 2.5, 1, "10.0.0.12", None, 2.5, 0.0, 0, 0, 0.25, 0],
    )
    for player in players[::100]:
        player.leave()  # this must not shift the rows of the next page
    assert first.next is not None
    second = query(operator, control.Subject.PLAYERS, first.next)
    assert [row[0] for row in second.rows] == [n for n in range(1001, 1501) if (n - 1) % 100]
    assert second.next is None
    assert query(operator, control.Subject.PLAYERS, 2**64 - 1).rows == ()


def test_keys_are_listed_as_they_are_now() -> None:
    desk = Desk()
    operator = desk.operator()

    def listed_now() -> list[Any]:
        rows = query(operator, control.Subject.CALLBACKS).rows
        assert all(row[3:] == [0, 0, 0, 0.0, None, None, {}, None, False, 0] for row in rows)
        return [row[:3] for row in rows]

    desk.server(("buy", "sell", "buy"))
    operator.take()
    first, _second = desk.player(1, ("where",)), desk.player(2, ("where", "who"))
    listed = [["buy", "server", 1], ["sell", "server", 1], ["where", "player", 2], ["who", "player", 1]]
    assert listed_now() == listed
    first.say(control.Keys(("who", "why")))
    assert listed_now()[2:] == [["where", "player", 1], ["who", "player", 2], ["why", "player", 1]]
    first.leave()
    assert listed_now()[2:] == [
        ["where", "player", 1],
        ["who", "player", 1],
    ]


def test_keys_are_listed_in_pages() -> None:
    desk = Desk()
    operator = desk.operator()
    for start in (0, 1000):
        desk.player(None, tuple(f"{number:04}" for number in range(start, start + 1000)))
    first = query(operator, control.Subject.CALLBACKS)
    assert (len(first.rows), first.next) == (1000, 1000)
    second = query(operator, control.Subject.CALLBACKS, 1000)
    assert (len(second.rows), second.next) == (1000, None)
    assert second.rows[0][0] == "1000"
    assert query(operator, control.Subject.CALLBACKS, 5000).rows == ()


def test_counters_are_listed() -> None:
    desk = Desk()
    operator, player = desk.operator(), desk.player()
    player.send(data())
    rows = dict(query(operator, control.Subject.COUNTERS).rows)
    assert rows["bounced_no_server"] == 1 and rows["sessions_begun"] == 2
    assert all(type(value) is int for value in rows.values())


def test_the_broker_accepts_the_frames_of_its_table() -> None:
    """A type in the table keeps the session. Every other type ends it."""
    for role in Role:
        for number in range(256):
            desk = Desk()
            peer = desk.join(role)
            body = {
                FrameType.KEYS: encode(control.Keys(()))[8:],
                FrameType.QUERY: encode(control.Query(1, control.Subject.PLAYERS))[8:],
                FrameType.ORDER: encode(control.Order(1, control.What.DRAIN))[8:],
                FrameType.BUNDLE: b"\x90",
                FrameType.REPORT: encode(control.Report())[8:],
            }.get(FrameType(number) if number in set(FrameType) else FrameType.DATA, b"")
            frame = HEADER.pack(1, number, 0, peer.link if number in (16, 17) else 0) + body
            if role is Role.PLAYER:
                peer.send(frame)
            else:
                peer.send(b"" if number not in (16, 17) else encoded_id(7), frame)
            if number == FrameType.BYE:
                assert peer.session is None and not peer.take()
            elif number == FrameType.RELAY and role is Role.SERVER:
                assert peer.rejected()  # at the server its link number belongs to an operator
            elif number == FrameType.BUNDLE:
                assert peer.session is None  # none was offered; test_bundles.py has those that were
            else:
                assert (peer.session is not None) == (number in BROKER_ACCEPTS[role]), (role, number)
    assert header(FrameType.BYE) == encode(control.Bye())
