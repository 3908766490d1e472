"""An endpoint: frames that come, keys, bundles, and its load."""

from __future__ import annotations

import pytest
from support.corefakes import DATA_0, Clock, Desk, FakeBroker, data, rows_of

from ringback.core.link_state import FIRST_DELAY_S
from ringback.errors import (
    Code,
    ServerTaken,
)
from ringback.protocol import control
from ringback.protocol.bundles import bundle
from ringback.protocol.control import encode
from ringback.protocol.envelopes import Encoder, join
from ringback.protocol.frames import HEADER, FrameType, Role, header
from ringback.protocol.limits import Limits
from ringback.protocol.player_ids import encode_player_id

write = Encoder(Limits())


def connected(role: Role, *, link: int = 0, lease_ms: int = 30_000) -> Desk:
    desk = Desk(role)
    desk.connect(link=link, lease_ms=lease_ms)
    desk.shell.events.clear()
    return desk


# -- keys


def test_many_registrations_take_one_keys_frame() -> None:
    player = connected(Role.PLAYER)
    handles = [player.register(f"k{number}") for number in range(50)]
    player.flush()
    assert player.shell.told() == [control.Keys(("k", *(f"k{number}" for number in range(50))))]
    player.flush()
    assert player.shell.take_sent() == []
    for handle in handles:
        handle.unregister()
        handle.unregister()
    player.flush()
    assert player.shell.told() == [control.Keys(("k",))]


def test_registrations_without_a_link_are_in_hello() -> None:
    player = connected(Role.PLAYER)
    player.core.link_lost(player.clock.now, "cut")
    player.register("new")
    player.flush()
    player.wait(FIRST_DELAY_S)
    [hello] = player.shell.told()
    assert isinstance(hello, control.Hello) and hello.keys == ("k", "new")
    player.register("newer")
    player.flush()
    assert player.shell.take_sent() == []
    player.welcome()
    player.flush()
    assert player.shell.told() == [control.Keys(("k", "new", "newer"))]


# -- frames that come


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


# -- over a broker


def test_a_server_is_replaced() -> None:
    clock = Clock()
    broker = FakeBroker(clock)
    player = broker.add(Desk(Role.PLAYER, clock=clock))
    first, second = (broker.add(Desk(Role.SERVER, clock=clock)) for _ in range(2))
    broker.start(player, first)
    second.core.start(clock.now, 1.0)
    broker.run()
    second.core.tick(clock.now + 1.0)
    assert isinstance(second.shell.starts.pop(), ServerTaken)
    call = player.call()
    broker.run()
    [execution] = first.handle()
    first.core.close()
    broker.run()
    assert call.outcome == (Code.SERVER_LOST, "maybe")
    alone = player.call()
    broker.run()
    assert alone.outcome == (Code.NO_SERVER, "no")
    broker.start(second)
    assert list(second.core.players) == [player.core.player_id]
    execution("too late")
    call = player.call()
    broker.run()
    for execution in second.handle():
        execution("hello")
    broker.run()
    assert call.results == ("hello",)
    for desk in (player, first, second):
        desk.check_at_rest()


def test_a_broker_comes_back() -> None:
    clock = Clock()
    broker = FakeBroker(clock)
    server = broker.add(Desk(Role.SERVER, clock=clock))
    player = broker.add(Desk(Role.PLAYER, clock=clock))
    broker.start(server, player)
    broker.down = True
    broker.cut(server)
    broker.cut(player)
    broker.wait(3.0)
    assert not server.core.connected and not player.core.connected
    broker.down = False
    broker.wait(1.1)
    assert server.core.connected and player.core.connected
    assert list(server.core.players) == [player.core.player_id]


# -- bundles that come, and what an endpoint holds


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


def test_what_an_endpoint_holds() -> None:
    server = connected(Role.SERVER)
    assert set(server.core.load()) == {0}
    server.gets(data(write.call(1, "k", None, None)), encode_player_id(7))
    server.call(8)
    load = server.core.load()
    assert load._replace(queued_bytes=0) == (1, 1, 1, 1, 2, 1, 0, 0, 0, 0)
    assert load.queued_bytes == server.outbox.queued_bytes > 0
