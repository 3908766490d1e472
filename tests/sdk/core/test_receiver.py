"""Receiver: frames and bundles that come."""

from __future__ import annotations

import pytest
from support.corefakes import DATA_0, Desk, connected, data, rows_of

from ringback.errors import Code
from ringback.protocol import control
from ringback.protocol.bundles import bundle
from ringback.protocol.control import encode
from ringback.protocol.envelopes import Encoder, join
from ringback.protocol.frames import HEADER, FrameType, Role, header
from ringback.protocol.limits import Limits
from ringback.protocol.player_ids import encode_player_id

write = Encoder(Limits())


def test_unexpected_frames_are_counted() -> None:
    player = connected(Role.PLAYER)
    for frame in (
        b"",
        b"\x01\x10",
        header(FrameType.DATA)[:7],
        HEADER.pack(1, 20, 0, 0),
        HEADER.pack(1, 255, 0, 0),
        encode(control.Joined((1,))),
        encode(control.Answer(1, ())),
        encode(control.Hello(Role.PLAYER)),
        header(FrameType.RELAY, 1) + b"\x90",
        header(FrameType.PONG) + bytes(65),
        header(FrameType.SERVER_DOWN) + b"x",
        HEADER.pack(2, FrameType.PONG, 0, 0),
    ):
        before = player.counters.invalid
        player.gets(frame)
        assert player.counters.invalid == before + 1
    assert player.core.connected
    player.told(control.ServerUp())
    player.gets(DATA_0 + b"\x90")
    assert rows_of(player.counters) == {"invalid": 12}


def test_an_id_part_that_is_not_a_player_id() -> None:
    server = connected(Role.SERVER)
    server.gets(DATA_0 + join([write.call(5, "k", None, None)]), b"\xc1")
    assert server.counters.invalid == 1 and server.shell.waiting == []
    assert not server.peers


def test_before_welcome_nothing_is_handled() -> None:
    player = Desk(Role.PLAYER)
    player.core.start(player.clock.now, 5.0)
    player.gets(DATA_0 + join([write.call(5, "k", None, None)]))
    assert player.shell.waiting == [] and player.counters.invalid == 1
    assert player.call().outcome == (Code.CONNECTION_LOST, "no")
    assert Desk(Role.PLAYER).call().outcome == (Code.CONNECTION_LOST, "no")


# -- bundles


def test_a_bundle_is_taken_frame_by_frame() -> None:
    server = connected(Role.SERVER)
    calls = [data(write.call(number, "k", None, None)) for number in (1, 2)]
    server.gets(bundle([(encode_player_id(7), calls[0]), (encode_player_id("x"), calls[1])]))
    assert [(execution.id, execution.source) for execution in server.handle()] == [(1, 7), (2, "x")]


@pytest.mark.parametrize("odd", [b"", b"short", header(FrameType.BUNDLE), header(FrameType.JOINED)])
def test_a_bundle_with_something_else_in_it_spoils_no_call(odd: bytes) -> None:
    server = connected(Role.SERVER)
    sound = data(write.call(1, "k", None, None))
    server.gets(bundle([(encode_player_id(7), odd), (encode_player_id(8), sound)]))
    [execution] = server.handle()
    assert execution.source == 8 and rows_of(server.counters) == {"executions": 1, "invalid": 1}
