"""The windows: how much may be on its way to a peer."""

from __future__ import annotations

import pytest
from support.switchboards import Desk, Peer, data, encoded_id, frames_and_pings, relay

from ringback.errors import RejectCode
from ringback.protocol import control
from ringback.protocol.frames import FrameType, Role
from ringback_broker.operations.snapshot import Lags

FRAME = data(body=bytes(992))


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
