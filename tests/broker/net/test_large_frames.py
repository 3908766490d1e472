"""Large frames at a real broker. It passes them on without a copy, and otherwise like all frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import zmq
from support.harness import BrokerProcess
from support.rawpeers import RawPeer

from ringback.errors import Code, RejectCode
from ringback.protocol import control
from ringback.protocol.bounces import bounce
from ringback.protocol.bundles import bundle, unbundle
from ringback.protocol.control import encode
from ringback.protocol.frames import FrameType, Role, header
from ringback.protocol.player_ids import encode_player_id
from ringback_broker.peers.connection import LARGE_BYTES

DATA = header(FrameType.DATA)
LARGE = DATA + bytes(range(256)) * 128
AT_THE_LIMIT = DATA + bytes(LARGE_BYTES - 8)
SMALL = DATA + b"\x90"
MIXED = (LARGE, LARGE, SMALL, LARGE, AT_THE_LIMIT, LARGE, DATA, SMALL)

Pair = tuple[RawPeer, RawPeer]


@pytest.fixture
def pair(broker: BrokerProcess) -> Iterator[Pair]:
    """Yield a server and player 7."""
    context: zmq.Context[Any] = zmq.Context()
    with RawPeer(context, broker.backend) as server, RawPeer(context, broker.players) as player:
        server.join(Role.SERVER, bundles=True)
        player.join(Role.PLAYER, 7)
        assert server.told() == control.Joined((7,))
        yield server, player
    context.term()


def test_large_frames_arrive_as_they_were_sent(pair: Pair) -> None:
    server, player = pair
    for frame in MIXED:
        player.send(frame)
        assert server.receive() == [encode_player_id(7), frame]
        server.send(encode_player_id(7), frame)
        assert player.receive() == [frame]


def test_large_and_small_frames_keep_their_order(pair: Pair) -> None:
    server, player = pair
    for number in range(200):
        player.send((LARGE if number % 3 else DATA) + b"%d" % number)
    seen: list[bytes] = []
    while len(seen) < 200:
        to, frame = server.receive()
        if to:
            seen.append(frame)
        else:
            seen += unbundle(frame)[1::2]
    assert seen == [(LARGE if number % 3 else DATA) + b"%d" % number for number in range(200)]


def test_large_frames_bounce(pair: Pair) -> None:
    server, player = pair
    for frame in MIXED:
        server.send(encode_player_id(9), frame)
        assert server.receive() == [encode_player_id(9), bounce(Code.UNKNOWN_PLAYER, frame)]
    server.send(b"", encode(control.Bye()))
    assert player.told() == control.ServerDown()
    for frame in MIXED:
        player.send(frame)
        assert player.receive() == [bounce(Code.NO_SERVER, frame)]


def test_control_frames_and_bundles_follow_large_frames(pair: Pair) -> None:
    server, player = pair
    for _ in range(2):
        player.send(LARGE)
        server.receive()
        player.send(encode(control.Ping(b"x")))
        assert player.told() == control.Pong(b"x")
        server.send(b"", bundle([(encode_player_id(7), LARGE), (encode_player_id(7), SMALL)]))
        assert [player.receive(), player.receive()] == [[LARGE], [SMALL]]


@pytest.mark.parametrize("role", [Role.PLAYER, Role.SERVER])
def test_a_message_of_wrong_parts_after_a_large_frame(pair: Pair, role: Role) -> None:
    server, player = pair
    if role is Role.PLAYER:
        player.send(LARGE)
        server.receive()
        player.send(LARGE, LARGE)
        rejected = player.told()
    else:
        server.send(encode_player_id(7), LARGE)
        player.receive()
        server.send(encode_player_id(7), LARGE, LARGE)
        rejected = server.told()
    assert isinstance(rejected, control.Reject) and rejected.code is RejectCode.PROTOCOL_ERROR
