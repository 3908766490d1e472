"""The rate limit: how much a player may send in a second."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.switchboards import Desk, Peer, data, frames_and_pings

from ringback.errors import Code, RejectCode
from ringback.protocol import control
from ringback.protocol.control import decode
from ringback.protocol.frames import FrameType, Role
from ringback_broker.switchboard.rate_limit import EXCESS_S

FRAME = data(body=bytes(992))


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


def passed(desk: Desk, player: Peer, frames: int, size: int = 8) -> int:
    """Send frames at one moment. Return how many passed."""
    before = desk.counters.frames_up
    for _ in range(frames):
        player.send(data(body=bytes(size - 8)))
    taken: int = desk.counters.frames_up - before
    for ping in frames_and_pings(player)[1]:
        player.say(control.Pong(ping))
    return taken


@pytest.mark.parametrize("rest_s", [0.0, 0.5, 1.0, 60.0])
@pytest.mark.parametrize("started_at", [0.0, 1000.0, 1e7])
@pytest.mark.parametrize("rate", [1, 3, 100, 1000, 9999])
def test_so_many_frames_pass_at_once_and_then_one_after_another(
    rate: int, started_at: float, rest_s: float
) -> None:
    desk = Desk(player_frames=float(rate), backend_queue=50_000)
    desk.now = started_at
    desk.server()
    player = desk.player(7)
    player.take()
    desk.now += rest_s  # a rest saves no more than one burst
    assert passed(desk, player, rate + 1) == rate
    for _ in range(3):
        desk.now += 0.4 / rate
        assert passed(desk, player, 1) == 0
        desk.now += 0.6 / rate
        assert passed(desk, player, 2) == 1
    desk.now += 60.0
    assert passed(desk, player, rate + 1) == rate


@pytest.mark.parametrize("size", [8, 100, 1000])
def test_so_many_bytes_pass_at_once_and_then_one_frame_after_another(size: int) -> None:
    desk = Desk(player_bytes=100.0 * size, backend_queue=50_000)
    desk.server()
    player = desk.player(7)
    desk.now += 10.0
    assert passed(desk, player, 101, size) == 100
    desk.now += 0.009
    assert passed(desk, player, 1, size) == 0
    desk.now += 0.0011
    assert passed(desk, player, 2, size) == 1


def test_one_rate_takes_nothing_of_the_other() -> None:
    desk = Desk(player_frames=100.0, player_bytes=100_000.0, backend_queue=50_000)
    desk.server()
    player = desk.player(7)
    assert passed(desk, player, 101, 1000) == 100  # both at their edge


def test_no_window_of_a_second_lets_more_than_twice_the_rate_pass() -> None:
    desk = Desk(player_frames=50.0, backend_queue=50_000)
    desk.server()
    player = desk.player(7)
    times = []
    for step in range(4000):
        desk.now += 0.001
        if step % 1000 < 300 or step > 2000:
            times += [desk.now] * passed(desk, player, 1)
    for first in times:
        assert len([at for at in times if first <= at < first + 1.0]) <= 100
