"""Rate limits and windows: how much a player may send in a second, and how much may wait for a peer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.switchboards import Desk, Peer, data, encoded_id, relay

from ringback.errors import Code, RejectCode
from ringback.protocol import control
from ringback.protocol.control import decode
from ringback.protocol.frames import FrameType, Role
from ringback_broker.operations.snapshot import Lags
from ringback_broker.switchboard.rate_limit import EXCESS_S

FRAME = data(body=bytes(992))


def frames_and_pings(peer: Peer) -> tuple[int, list[bytes]]:
    """Return how many data frames came, and the bodies of the PINGs among them."""
    taken = [frame for _, frame in peer.take()]
    pings = [decode(frame) for frame in taken if frame[1] == FrameType.PING]
    return len(taken) - len(pings), [ping.body for ping in pings if isinstance(ping, control.Ping)]


# -- windows


def test_a_snapshot_counts_peers_that_do_not_read() -> None:
    desk = Desk(player_window=100_000)
    player, server, _ = desk.player(7), desk.server(), desk.connect()
    send_to(desk, player, server, 200)
    desk.wire.full.add(player.routing_id)
    desk.join(Role.OPERATOR)
    desk.switchboard.drain(1.0)
    found = desk.switchboard.snapshot(desk.now, Lags())
    assert found.at == desk.now and found.draining
    assert found.sessions == {"player": 1, "server": 1, "operator": 1}
    assert (found.strangers, found.waiting_frames) == (1, 1)
    assert found.full_windows == {"players": 1, "backend": 0}
    assert found.counters["sessions_begun"] == 3 and sum(found.lags[0]) == 0


def send_to(desk: Desk, peer: Peer, sender: Peer, count: int) -> None:
    for _ in range(count):
        if peer.side is not sender.side:
            sender.send(*([FRAME] if peer.link == 0 and peer.player_id is None else [encoded_id(7), FRAME]))
        else:
            sender.send(encoded_id(7), relay(sender.link, bytes(992)))


@pytest.mark.parametrize("role", [Role.PLAYER, Role.SERVER])
def test_a_peer_that_does_not_read_gets_no_more_than_its_window(role: Role) -> None:
    desk = Desk(player_window=100_000, backend_window=100_000, player_queue=50_000, backend_queue=50_000)
    player, server = desk.player(7), desk.server()
    player.take()
    peer, sender = (player, server) if role is Role.PLAYER else (server, player)
    send_to(desk, peer, sender, 200)
    count, pings = frames_and_pings(peer)
    assert 95 <= count <= 105 and len(pings) == len(set(pings)) == 4
    bounced, asked = frames_and_pings(sender)
    assert bounced == 200 - count == desk.counters.bounced_overloaded
    sender.say(control.Pong(asked[-1]))
    # It has read: up to the second PING, and then all.
    peer.say(control.Pong(pings[1]))
    send_to(desk, peer, sender, 200)
    more, new_pings = frames_and_pings(peer)
    assert 45 <= more <= 55
    peer.say(control.Pong(new_pings[-1]))
    send_to(desk, peer, sender, 60)
    assert frames_and_pings(peer)[0] == 60


def test_small_frames_use_a_window_up_too() -> None:
    """Otherwise they would fill libzmq's queue before their bytes fill the window."""
    desk = Desk(player_queue=100)
    server, player = desk.server(), desk.player(7)
    for _ in range(300):
        server.send(encoded_id(7), data())
    count, pings = frames_and_pings(player)
    assert count == 200 and len(pings) == 4


def test_a_relay_counts_in_the_window_of_its_receiver() -> None:
    desk = Desk(backend_window=100_000, backend_queue=50_000)
    server, operator = desk.server(), desk.operator()
    for _ in range(200):
        operator.send(encoded_id(7), relay(operator.link, bytes(992)))
    count, pings = frames_and_pings(server)
    assert 95 <= count <= 105 and len(pings) == 4
    assert desk.counters.bounced_overloaded == 200 - count


def test_bounces_count_too_and_go_on_for_longer() -> None:
    """A sender that reads nothing cannot fill the broker's memory with bounces. It gets time to show that it
    reads."""

    def bounced(waits_s: float) -> int:
        desk = Desk(player_window=100_000, player_queue=50_000, player_frames=float("inf"))
        player = desk.player(7)
        count = 0
        while player.session is not None:
            player.send(FRAME)
            count += 1
            desk.now += waits_s
        assert frames_and_pings(player)[0] >= count - 2  # and a REJECT
        assert desk.counters.sessions_too_slow == 1
        return count

    assert 795 <= bounced(0.0) <= 805
    assert 195 <= bounced(0.01) <= 205


def test_a_sender_that_reads_gets_all_its_bounces() -> None:
    """This holds however much it sends at one moment, in large or small frames."""
    for body in (bytes(1_000_000), b"\x90"):
        desk = Desk(player_frames=float("inf"), player_bytes=float("inf"))
        player = desk.player(7)
        player.take()
        heard = 0
        for _ in range(40):
            for _ in range(40 if len(body) > 1 else 900):
                player.send(data(body=body))
            desk.now += 0.2
            count, pings = frames_and_pings(player)
            heard += count
            for ping in pings:
                player.say(control.Pong(ping))
        assert player.session is not None and heard == desk.counters.bounced_no_server


def test_a_peer_that_reads_nothing_for_long_is_ended() -> None:
    desk = Desk(player_window=100_000, slow=10.0)
    server, player, idle = desk.server(), desk.player(7), desk.player(8)
    for _ in range(200):
        server.send(encoded_id(7), FRAME)
    desk.switchboard.tick(desk.now + 9.0)
    assert player.session is not None
    for peer in (server, player):
        peer.take()
    desk.switchboard.tick(desk.now + 10.5)
    assert player.session is None and idle.session is not None
    assert player.rejected().code is RejectCode.TOO_SLOW
    assert server.told() == [control.Left((7,))]
    assert desk.counters.sessions_too_slow == 1


def test_a_peer_that_reads_slowly_is_not_ended() -> None:
    desk = Desk(player_window=100_000, slow=10.0, lease=1e6)
    server, player = desk.server(), desk.player(7)
    unread: list[bytes] = []
    for _ in range(20):
        for _ in range(200):
            server.send(encoded_id(7), FRAME)
        unread += frames_and_pings(player)[1]
        desk.now += 9.0
        desk.switchboard.tick(desk.now)
        player.say(control.Pong(unread.pop(0)))
        desk.switchboard.tick(desk.now)
    assert player.session is not None


@pytest.mark.parametrize("body", [b"", bytes(16)])
def test_a_pong_without_a_probe_opens_no_window(body: bytes) -> None:
    """A peer that can guess a probe could claim to have read bytes that fill the broker's memory."""
    desk = Desk(player_window=100_000)
    server, player = desk.server(), desk.player(7)
    for _ in range(200):
        server.send(encoded_id(7), FRAME)
    player.take()
    player.say(control.Pong(body))
    server.send(encoded_id(7), FRAME)
    assert player.take() == [] and desk.counters.violations == 1


def test_answers_to_queries_count_too() -> None:
    desk = Desk(backend_window=10_000)
    for number in range(50):
        desk.player(f"player {number}")
    reads, deaf = desk.operator(), desk.operator()
    asked = control.Query(1, control.Subject.PLAYERS)
    for _ in range(200):
        reads.say(asked)
        for _, frame in reads.take():
            if frame[1] == FrameType.PING:
                reads.say(control.Pong(frame[8:]))
        deaf.say(asked)
    assert reads.session is not None and deaf.session is None
    assert desk.counters.sessions_too_slow == 1


# -- rates


def limited(desk: Desk, player: Peer) -> int:
    """Return how many frames bounced to a player. Fail if something else came."""
    bounced = [frame for _, frame in player.take()]
    assert {frame[1] for frame in bounced} <= {FrameType.BOUNCE}
    return len(bounced)


def test_data_over_the_rate_bounces() -> None:
    desk = Desk(player_frames=100.0, backend_queue=50_000)
    desk.server()
    player, other = desk.player(7), desk.player(8)
    player.take()
    for _ in range(150):
        player.send(data())
    player.send(data())
    assert 48 <= limited(desk, player) <= 52
    assert desk.counters.bounced_rate_limited in range(48, 53)
    other.send(data())
    assert limited(desk, other) == 0
    desk.now += 0.5
    for _ in range(60):
        player.send(data())
    assert 9 <= limited(desk, player) <= 11


def test_new_settings_apply_to_connected_players() -> None:
    desk = Desk(player_frames=100.0, max_players=1)
    desk.server()
    player = desk.player(7)
    for _ in range(150):
        player.send(data())
    before = desk.counters.bounced_rate_limited
    assert 48 <= before <= 52
    desk.switchboard.reconfigure(replace(desk.settings, player_frames=1000.0, max_players=2, hello=1.0), 100)
    desk.now += 1.0
    for _ in range(1500):
        player.send(data())
    # What was left of the old credit counts too, a frame of the old rate at the most.
    assert 485 <= desk.counters.bounced_rate_limited - before <= 502
    desk.player(8)
    late = desk.connect()
    desk.now += 1.5
    desk.switchboard.tick(desk.now)
    assert len(desk.wire.closed) == 1 and late.session is None


def test_the_reject_names_the_reason() -> None:
    desk = Desk(player_frames=1.0)
    desk.server()
    player = desk.player(7)
    player.take()
    frame = data(body=b"\x91\xc0")
    while not desk.counters.bounced_rate_limited:
        player.send(frame)
    assert player.bounced() == (b"", Code.RATE_LIMITED, frame)


def test_bytes_count_too() -> None:
    desk = Desk(player_bytes=100_000.0, player_frames=float("inf"))
    desk.server()
    player = desk.player(7)
    player.take()
    for _ in range(150):
        player.send(FRAME)
    assert 48 <= limited(desk, player) <= 52


def test_a_frame_larger_than_a_burst_passes_when_nothing_else_did() -> None:
    desk = Desk(player_bytes=1000.0)
    desk.server()
    player = desk.player(7)
    player.take()
    player.send(data(body=bytes(3000)))
    assert limited(desk, player) == 0
    player.send(data())
    assert limited(desk, player) == 1
    desk.now += 5.0
    player.send(data(body=bytes(3000)))
    assert limited(desk, player) == 0


def test_control_frames_over_the_rate_are_dropped() -> None:
    desk = Desk(player_frames=1.0)
    player = desk.player(7)
    for _ in range(3):
        player.say(control.Ping(b"x"))
    answered = len(player.told())
    assert 0 < answered < 3 and desk.counters.dropped == 3 - answered


def test_a_player_over_its_rate_can_still_say_that_it_reads() -> None:
    desk = Desk(player_frames=1.0, player_window=100)
    player = desk.player(7)
    for _ in range(3):
        player.send(data())
    _, asked = frames_and_pings(player)
    session = player.session
    assert session is not None and session.window.probes
    player.say(control.Pong(asked[-1]))
    assert not session.window.probes and desk.counters.dropped == 0


@pytest.mark.parametrize("pause_s", [0.0, 0.004])
def test_a_flood_from_a_player_that_reads_nothing_is_ended_soon(pause_s: float) -> None:
    desk = Desk(player_frames=100.0, player_window=100_000, player_queue=50_000)
    desk.server()
    player = desk.player(7)
    while player.session is not None:
        player.send(FRAME)
        desk.now += pause_s
    assert desk.counters.bounced_rate_limited < 1000
    assert (desk.counters.sessions_too_fast, desk.counters.sessions_too_slow) == (1, 0)


def test_a_player_that_was_ended_for_a_flood_cannot_join_again_at_once() -> None:
    desk = Desk(player_frames=100.0, player_window=100_000, player_queue=50_000)
    neighbour, player = desk.player(8), desk.player(7)
    ip = player.connection.ip
    while player.session is not None:
        player.send(FRAME)

    def comes_back() -> Peer:
        again = desk.connect()
        again.connection = replace(again.connection, ip=ip)
        again.say(control.Hello(Role.PLAYER, 7))
        return again

    assert comes_back().rejected().code is RejectCode.RATE_LIMITED
    assert desk.player(9).session is not None and neighbour.session is not None
    desk.now += 5.1
    desk.switchboard.tick(desk.now)
    assert comes_back().session is not None


def test_a_player_that_stays_over_its_rate_is_ended() -> None:
    desk = Desk(player_frames=100.0)
    server, player = desk.server(), desk.player(7)
    started = desk.now
    while player.session is not None:
        for _ in range(30):  # three times what is allowed
            player.send(data())
        desk.now += 0.1
        assert desk.now < started + 20.0
    assert EXCESS_S < desk.now - started < 2 * EXCESS_S
    assert desk.counters.sessions_too_fast == 1
    reject = decode(player.take()[-1][1])
    assert isinstance(reject, control.Reject) and reject.code is RejectCode.RATE_LIMITED
    assert decode(server.take()[-1][1]) == control.Left((7,))


def test_a_player_a_little_over_its_rate_is_served_at_it() -> None:
    desk = Desk(player_frames=100.0, backend_queue=100_000)
    desk.server()
    player = desk.player(7)
    for _ in range(600):
        for _ in range(15):
            player.send(data())
        for ping in frames_and_pings(player)[1]:
            player.say(control.Pong(ping))
        desk.now += 0.1
    assert player.session is not None
    assert 0.95 < desk.counters.frames_up / 6000 < 1.05
