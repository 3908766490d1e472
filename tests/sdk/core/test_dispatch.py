"""Dispatch: frames that bounce, peers that are gone, and all roles together."""

from __future__ import annotations

import pytest
from support.corefakes import DATA_0, Clock, Desk, FakeBroker, connected, data

from ringback.errors import Code
from ringback.protocol import control
from ringback.protocol.bounces import bounce
from ringback.protocol.envelopes import Encoder, join
from ringback.protocol.frames import FrameType, Role, header
from ringback.protocol.limits import Limits
from ringback.protocol.player_ids import encode_player_id

write = Encoder(Limits())


@pytest.mark.parametrize("code", [Code.NO_SERVER, Code.UNKNOWN_PLAYER, Code.OVERLOADED, Code.DRAINING])
def test_a_bounce_fails_exactly_its_calls(server: Desk, code: Code) -> None:
    first, second = server.call(7, flush=True), server.call(7)
    third = server.call(7, flush=True)
    elsewhere = server.call(8, flush=True)
    [_, (address, frame), _] = server.shell.take_sent()
    server.gets(bounce(code, frame), address)
    assert second.outcome == third.outcome == (code, "no")
    assert not first.done and not elsewhere.done
    assert second.error.message
    server.gets(bounce(code, frame), address)
    assert second.settled == third.settled == 1
    assert server.counters.stray_replies == 0
    server.check_sums()


@pytest.mark.parametrize(
    ("player_id", "text"),
    [
        (7, "no player with the ID 7 is connected"),
        ("anna", "no player with the ID 'anna' is connected"),
        ("\u0667", "no player with the ID '\u0667' is connected"),
        ("7", "no player with the ID '7' is connected: it is a str, and the int 7 is another ID"),
    ],
)
def test_an_id_that_looks_like_an_int_is_named_as_a_str(
    server: Desk, player_id: int | str, text: str
) -> None:
    call = server.call(player_id, flush=True)
    [(address, frame)] = server.shell.take_sent()
    server.gets(bounce(Code.UNKNOWN_PLAYER, frame), address)
    assert call.error.message == text


def test_a_bounce_with_a_reason_of_a_newer_broker(server: Desk) -> None:
    call = server.call(7, flush=True)
    [(address, frame)] = server.shell.take_sent()
    server.gets(bounce(999, frame), address)
    assert call.outcome == (Code.OVERLOADED, "no")


@pytest.mark.parametrize("inside", [b"", b"\x01\x10", DATA_0, DATA_0 + b"\xc1"])
def test_odd_bounces_harm_nothing(server: Desk, inside: bytes) -> None:
    call = server.call(7, flush=True)
    server.gets(bounce(2, inside), encode_player_id(7))
    server.gets(bounce(2, inside), b"\xc1")
    assert not call.done
    server.check_sums()


def test_a_bounced_body_is_read_without_the_limits_of_a_receiver() -> None:
    player = connected(Role.PLAYER, limits=Limits(max_array_len=6, max_call_bytes=64, max_depth=2))
    player.shell.encoder = Encoder(Limits())
    call = player.call(payload=[[[[1]]], list(range(1000))], flush=True)
    [(_, frame)] = player.shell.take_sent()
    player.gets(bounce(Code.NO_SERVER, frame))
    assert call.outcome == (Code.NO_SERVER, "no")


def test_a_lost_link_ends_everything(server: Desk) -> None:
    sent = server.call(7, flush=True)
    server.gets(data(write.call(5, "k", None, None)), encode_player_id(7))
    [execution] = server.handle()
    unsent = server.call(7)
    elsewhere = server.call(8)
    server.core.link_lost(server.clock.now, "test")
    assert sent.outcome == (Code.CONNECTION_LOST, "maybe")
    assert unsent.outcome == elsewhere.outcome == (Code.CONNECTION_LOST, "no")
    assert execution.cancelled and server.shell.stopped == [execution]
    assert server.call(7).outcome == (Code.CONNECTION_LOST, "no")
    execution(1)
    server.connect()
    server.flush()
    assert [frame for frame in server.shell.take_sent() if frame[1][1] == FrameType.DATA] == []
    assert server.counters.late_replies == 1
    server.check_at_rest()


def test_part_of_a_flush_was_sent_when_the_link_broke(player: Desk) -> None:
    calls = [player.call() for _ in range(300)]
    player.shell.room = 1
    player.flush()
    player.core.link_lost(player.clock.now, "test")
    assert [call.error.executed for call in calls] == ["maybe"] * 256 + ["no"] * 44
    player.check_sums()


def test_a_player_leaves(server: Desk) -> None:
    server.told(control.Joined((7, 8)))
    sent, other = server.call(7, flush=True), server.call(8, flush=True)
    unsent, local = server.call(7), server.call(7, kind=None)
    server.gets(data(write.call(5, "k", None, None)), encode_player_id(7))
    server.gets(header(FrameType.RELAY, 1) + join([write.call(5, "k", None, None)]), encode_player_id(7))
    own, relayed = server.handle()
    server.told(control.Left((7,)))
    assert sent.outcome == (Code.PLAYER_LEFT, "maybe")
    assert unsent.outcome == (Code.PLAYER_LEFT, "no")
    assert not other.done and not local.done
    assert own.cancelled and not relayed.cancelled
    assert server.shell.stopped == [own]
    assert encode_player_id(7) + DATA_0 not in server.peers
    server.told(control.Joined((7,)))
    server.shell.take_sent()
    own("of the old session")
    relayed("still wanted")
    server.flush()
    [(_, frame)] = server.shell.take_sent()
    assert frame[:8] == header(FrameType.RELAY, 1)
    server.gets(data(write.result(sent.id, ())), encode_player_id(7))
    assert server.counters.stray_replies == 1


def test_the_server_goes_down(player: Desk) -> None:
    sent, unsent = player.call(flush=True), None
    player.gets(data(write.call(5, "k", None, None), link=3))
    player.gets(data(write.call(5, "k", None, None)))
    of_operator, of_server = player.handle()
    unsent = player.call()
    player.told(control.ServerDown())
    assert sent.outcome == (Code.SERVER_LOST, "maybe")
    assert unsent.outcome == (Code.SERVER_LOST, "no")
    assert of_server.cancelled and not of_operator.cancelled
    assert player.shell.stopped == [of_server]
    player.told(control.ServerUp())
    assert not player.call(flush=True).done


def test_the_server_goes_down_for_an_operator() -> None:
    operator = connected(Role.OPERATOR, link=4)
    relays = [operator.call(source, kind=FrameType.RELAY, flush=True) for source in (7, 8)]
    direct = operator.call(7, flush=True)
    operator.told(control.ServerDown())
    assert {call.outcome for call in relays} == {(Code.SERVER_LOST, "maybe")}
    assert not direct.done
    operator.told(control.Left((7,)))
    assert direct.outcome == (Code.PLAYER_LEFT, "maybe")
    operator.check_at_rest()


def test_all_pairs_of_roles_over_a_broker() -> None:
    clock = Clock()
    broker = FakeBroker(clock)
    server = broker.add(Desk(Role.SERVER, clock=clock))
    player = broker.add(Desk(Role.PLAYER, clock=clock, player_id="p"))
    operators = [broker.add(Desk(Role.OPERATOR, clock=clock)) for _ in range(2)]
    broker.start(server, player, *operators)
    calls = [player.call(), server.call("p")]
    for operator in operators:  # the IDs are the same on purpose
        calls += [operator.call("p"), operator.call("someone", kind=FrameType.RELAY)]
    broker.run()
    for desk in (server, player):
        for execution in desk.handle():
            execution(desk.role, execution.source, execution.route[-4:])
    broker.run()
    assert [call.results[:2] for call in calls] == [
        ("server", "p"),
        ("player", None),
        *[("player", None), ("server", "someone")] * 2,
    ]
    assert calls[2].results[2] != calls[4].results[2]
    for desk in (server, player, *operators):
        desk.check_at_rest()
        assert desk.counters.stray_replies == desk.counters.invalid == 0
