"""The switchboard: where frames go, and how they bounce."""

from __future__ import annotations

import pytest
from support.switchboards import Desk, data, encoded_id, relay

from ringback.errors import Code, RejectCode
from ringback.protocol import control
from ringback.protocol.control import decode
from ringback.protocol.frames import HEADER, HEADER_BYTES, VERSION, FrameType, Role
from ringback_broker.peers.connection import Side
from ringback_broker.switchboard.sending import MAX_BACKLOG


def test_the_server_gets_a_players_data_with_the_players_id() -> None:
    desk = Desk()
    server, player, other = desk.server(), desk.player(7), desk.player("seven")
    server.take()
    player.send(data(body=b"call"))
    other.send(data(body=b"another"))
    assert server.take() == [
        (encoded_id(7), data(body=b"call")),
        (encoded_id("seven"), data(body=b"another")),
    ]
    assert not player.take() and not other.take()
    assert (desk.counters.frames_up, desk.counters.bytes_up) == (2, 8 + 4 + 8 + 7)


def test_a_player_gets_the_servers_data_without_an_id_part() -> None:
    desk = Desk()
    server, player, other = desk.server(), desk.player(7), desk.player("7")
    server.take()
    server.send(encoded_id("7"), data(body=b"call"))
    assert other.take() == [(b"", data(body=b"call"))]
    assert not player.take() and not server.take()
    assert (desk.counters.frames_down, desk.counters.bytes_down) == (1, 12)


def test_an_operator_and_a_player_talk_over_the_operators_link() -> None:
    desk = Desk()
    server, first, second, player = desk.server(), desk.operator(), desk.operator(), desk.player(7)
    server.take()
    assert (first.link, second.link) == (1, 2)
    second.send(encoded_id(7), data(2, b"call"))
    assert player.take() == [(b"", data(2, b"call"))]
    player.send(data(2, b"answer"))
    assert second.take() == [(encoded_id(7), data(2, b"answer"))]
    assert not first.take() and not server.take()


def test_an_operator_and_the_server_talk_in_the_name_of_a_source() -> None:
    desk = Desk()
    server, operator = desk.server(), desk.operator()
    operator.send(encoded_id("not there"), relay(1, b"call"))
    assert server.take() == [(encoded_id("not there"), relay(1, b"call"))]
    server.send(encoded_id("not there"), relay(1, b"answer"))
    assert operator.take() == [(encoded_id("not there"), relay(1, b"answer"))]
    assert desk.counters.frames_relayed == 2


def test_links_of_operators_are_not_used_again() -> None:
    desk = Desk()
    player = desk.player(7)
    first = desk.operator()
    first.leave()
    assert desk.operator().link == 2
    player.send(data(1, b"a late answer"))
    assert player.bounced() == (b"", Code.NO_SERVER, data(1, b"a late answer"))


@pytest.mark.parametrize("link", [0, 1, 99, 2**32 - 1])
def test_data_for_an_unknown_link_bounces(link: int) -> None:
    desk = Desk()
    player = desk.player()
    player.send(data(link, b"call"))
    assert player.bounced() == (b"", Code.NO_SERVER, data(link, b"call"))
    assert desk.counters.bounced_no_server == 1


@pytest.mark.parametrize("role", [Role.SERVER, Role.OPERATOR])
def test_data_for_a_player_that_is_not_connected_bounces(role: Role) -> None:
    desk = Desk()
    peer = desk.join(role)
    peer.send(encoded_id(7), data(peer.link, b"call"))
    assert peer.bounced() == (encoded_id(7), Code.UNKNOWN_PLAYER, data(peer.link, b"call"))
    peer.send(b"not an ID", data(peer.link))
    assert peer.bounced() == (b"not an ID", Code.UNKNOWN_PLAYER, data(peer.link))
    assert desk.counters.bounced_unknown_player == 2


def test_a_relay_without_its_receiver_bounces() -> None:
    desk = Desk()
    operator = desk.operator()
    operator.send(encoded_id(7), relay(1))
    assert operator.bounced() == (encoded_id(7), Code.NO_SERVER, relay(1))
    server = desk.server()
    server.send(encoded_id(7), relay(99))
    assert server.bounced() == (encoded_id(7), Code.NO_SERVER, relay(99))


def test_a_frame_for_a_full_queue_bounces() -> None:
    desk = Desk()
    server, player, operator = desk.server(), desk.player(7), desk.operator()
    server.take()
    for sender, parts, receiver in (
        (player, (data(),), server),
        (player, (data(1),), operator),
        (server, (encoded_id(7), data()), player),
        (server, (encoded_id(7), relay(1)), operator),
        (operator, (encoded_id(7), data(1)), player),
        (operator, (encoded_id(7), relay(1)), server),
    ):
        desk.wire.full = {receiver.routing_id}
        sender.send(*parts)
        where = b"" if sender is player else parts[0]
        assert sender.bounced() == (where, Code.OVERLOADED, parts[-1])
        assert receiver.session is not None and not receiver.take()
    assert (desk.counters.bounced_overloaded, desk.counters.dropped) == (6, 0)
    assert (desk.counters.frames_up, desk.counters.frames_down, desk.counters.frames_relayed) == (0, 0, 0)


@pytest.mark.parametrize("role", [Role.PLAYER, Role.SERVER])
def test_a_bounce_without_room_waits(role: Role) -> None:
    """It is the only news of calls that may have no time limit."""
    desk = Desk()
    sender = desk.join(role)
    parts = (data(),) if role is Role.PLAYER else (encoded_id(7), data())
    desk.wire.full = {sender.routing_id}
    sender.send(*parts)
    sender.say(control.Ping(b"later"))
    assert sender.take() == []
    desk.wire.full = set()
    sender.say(control.Ping(b"does not overtake it"))
    assert sender.take() == []
    desk.switchboard.flush()
    (where, bounced), *pongs = sender.take()
    assert (where, bounced[HEADER_BYTES:]) == (b"" if role is Role.PLAYER else parts[0], parts[-1])
    assert [decode(pong) for _, pong in pongs] == [
        control.Pong(b"later"),
        control.Pong(b"does not overtake it"),
    ]
    assert desk.counters.dropped == 0


def test_bounces_that_wait_are_bounded() -> None:
    desk = Desk()
    player = desk.player()
    desk.wire.full = {player.routing_id}
    for _ in range(MAX_BACKLOG[Role.PLAYER]):
        player.send(data())
    assert player.session is not None
    player.send(data())
    assert player.session is None and desk.counters.sessions_too_slow == 1


def test_a_receiver_that_ends_with_its_sender_is_not_kept() -> None:
    """The bounce ends the sender. The frame that tells the receiver finds the receiver gone."""
    desk = Desk()
    server, player = desk.server(), desk.player(7)
    assert player.session is not None
    player.session.spent = 10**9
    desk.wire.gone = {server.routing_id}
    player.send(data())
    desk.two_ticks()
    assert player.session is None and server.session is None
    assert not desk.switchboard.state.endings.gone


def test_a_bounce_to_a_sender_that_is_gone_is_counted() -> None:
    """Frames that the sender sent before may still be queued, so its session does not end at once."""
    desk = Desk()
    player = desk.player()
    desk.wire.gone = {player.routing_id}
    player.send(data())
    assert (desk.counters.bounced_no_server, desk.counters.dropped) == (1, 1)
    assert player.session is not None
    desk.switchboard.tick(desk.now)
    desk.switchboard.tick(desk.now)
    assert player.session is None and not desk.switchboard.state.endings.gone


@pytest.mark.parametrize(
    ("target", "code"),
    [(Role.PLAYER, Code.UNKNOWN_PLAYER), (Role.SERVER, Code.NO_SERVER), (Role.OPERATOR, Code.NO_SERVER)],
)
def test_a_send_without_a_connection_ends_the_session_of_the_receiver(target: Role, code: Code) -> None:
    desk = Desk()
    server, player, operator = desk.server(), desk.player(7), desk.operator()
    peers = {Role.SERVER: server, Role.PLAYER: player, Role.OPERATOR: operator}
    desk.wire.gone = {peers[target].routing_id}
    for peer in peers.values():
        peer.take()
    if target is Role.PLAYER:
        operator.send(encoded_id(7), data(1))
        asker = operator
    else:
        player.send(data(0 if target is Role.SERVER else 1))
        asker = player
    # Frames that it sent before its connection closed may still come.
    desk.switchboard.tick(desk.now)
    assert peers[target].session is not None
    desk.switchboard.tick(desk.now)
    assert peers[target].session is None
    (_, frame), *others = asker.take()
    assert HEADER.unpack_from(frame)[:3] == (VERSION, FrameType.BOUNCE, code)
    told = [control.decode(frame) for _, frame in others]
    assert (
        told
        == {
            Role.PLAYER: [control.Left((7,))],
            Role.SERVER: [control.ServerDown()],
            Role.OPERATOR: [],
        }[target]
    )


def test_a_relay_without_a_connection_ends_the_session_of_the_server() -> None:
    desk = Desk()
    server, operator = desk.server(), desk.operator()
    desk.wire.gone = {server.routing_id}
    operator.send(encoded_id(7), relay(1))
    desk.two_ticks()
    (_, frame), (_, down) = operator.take()
    assert HEADER.unpack_from(frame)[2] == Code.NO_SERVER
    assert control.decode(down) == control.ServerDown()
    assert desk.switchboard.roster.server is None


def test_two_peers_that_are_gone_end_once_each() -> None:
    desk = Desk()
    server, operator, player = desk.server(), desk.operator(), desk.player(7)
    desk.wire.gone = {server.routing_id, operator.routing_id}
    for peer_link in (0, 1):
        player.send(data(peer_link))
    desk.two_ticks()
    assert server.session is None and operator.session is None
    assert desk.counters.sessions_ended == 2


def test_bounces_of_a_draining_broker_say_so() -> None:
    desk = Desk()
    player, operator = desk.player(7), desk.operator()
    desk.switchboard.drain(5.0)
    assert player.told() == [control.DrainingNotice(5000)]
    assert operator.told() == [control.DrainingNotice(5000)]
    player.send(data())
    assert player.bounced() == (b"", Code.DRAINING, data())
    operator.send(encoded_id("gone"), data(1))
    assert operator.bounced() == (encoded_id("gone"), Code.DRAINING, data(1))
    operator.send(encoded_id(7), data(1, b"delivered"))
    assert player.take() == [(b"", data(1, b"delivered"))]
    desk.wire.full = {player.routing_id}
    operator.send(encoded_id(7), data(1))
    assert operator.bounced() == (encoded_id(7), Code.OVERLOADED, data(1))
    assert desk.counters.bounced_draining == 2


def test_a_frame_of_the_largest_size_is_forwarded_as_it_is() -> None:
    desk = Desk()
    server, player = desk.server(), desk.player(7)
    server.take()
    frame = data(body=bytes(1024 * 1024))
    player.send(frame)
    assert server.take() == [(encoded_id(7), frame)]


WRONG = {
    "shorter than a header": b"\x01\x10\x00",
    "empty": b"",
    "a version of tomorrow": b"\x02" + data()[1:],
    "data with a code": HEADER.pack(1, FrameType.DATA, 1, 0),
    "an unknown type": HEADER.pack(1, 200, 0, 0),
    "type 0": HEADER.pack(1, 0, 0, 0),
    "a second HELLO": control.encode(control.Hello(Role.PLAYER)),
    "a bounce": HEADER.pack(1, FrameType.BOUNCE, 3, 0) + data(),
    "a BYE with a body": HEADER.pack(1, FrameType.BYE, 0, 0) + b"x",
    "KEYS that are not msgpack": HEADER.pack(1, FrameType.KEYS, 0, 0) + b"\xc1",
    "a PING that is too long": HEADER.pack(1, FrameType.PING, 0, 0) + bytes(65),
    "JOINED": control.encode(control.Joined((1,))),
    "WELCOME": control.encode(control.Welcome(0, 1, True, 1, "")),
    "REJECT": control.encode(control.Reject(RejectCode.FULL, "")),
    "SERVER_DOWN": control.encode(control.ServerDown()),
}


@pytest.mark.parametrize("frame", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("role", Role)
def test_a_frame_that_the_protocol_does_not_allow_ends_the_session(role: Role, frame: bytes) -> None:
    desk = Desk()
    peer = desk.join(role)
    peer.send(*([frame] if role is Role.PLAYER else [b"", frame]))
    assert peer.rejected().code is RejectCode.PROTOCOL_ERROR
    assert peer.session is None
    assert (desk.counters.violations, desk.counters.sessions_ended) == (1, 1)


@pytest.mark.parametrize("role", [Role.PLAYER, Role.SERVER])
def test_only_operators_ask(role: Role) -> None:
    desk = Desk()
    peer = desk.join(role)
    peer.say(control.Query(1, control.Subject.COUNTERS))
    assert peer.rejected().code is RejectCode.PROTOCOL_ERROR


def test_a_player_does_not_relay() -> None:
    desk = Desk()
    desk.server()
    player = desk.player()
    player.send(relay(0))
    assert player.rejected().code is RejectCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    ("role", "parts"),
    [
        (Role.SERVER, (encoded_id(7), data(1))),
        (Role.SERVER, (encoded_id(7), relay(0))),
        (Role.OPERATOR, (encoded_id(7), data(0))),
        (Role.OPERATOR, (encoded_id(7), data(2))),
        (Role.OPERATOR, (encoded_id(7), relay(0))),
        (Role.OPERATOR, (encoded_id(7), relay(2))),
        (Role.OPERATOR, (encoded_id(7), relay(99))),
        (Role.OPERATOR, (encoded_id(7), relay(1)[:7])),
        (Role.OPERATOR, (encoded_id(7), data(1)[:7])),
        (Role.OPERATOR, (encoded_id(7), b"")),
        (Role.OPERATOR, (encoded_id(7), HEADER.pack(1, FrameType.RELAY, 1, 1))),
        (Role.SERVER, (encoded_id(7), control.encode(control.Ping()))),
        (Role.SERVER, (b"", data(0))),
        (Role.OPERATOR, (b"", relay(1))),
    ],
)
def test_a_wrong_link_or_id_part_on_the_trusted_side_ends_the_session(
    role: Role, parts: tuple[bytes, bytes]
) -> None:
    desk = Desk()
    peer = desk.join(role)
    desk.join(Role.SERVER if role is Role.OPERATOR else Role.OPERATOR)
    bystander, player = desk.operator(), desk.player(7)
    peer.take()
    peer.send(*parts)
    [frame] = [frame for _, frame in peer.take()]
    rejected = control.decode(frame)
    assert isinstance(rejected, control.Reject) and rejected.code is RejectCode.PROTOCOL_ERROR
    assert not [told for told in player.told() if told != control.ServerDown()]
    assert not [told for told in bystander.told() if told != control.ServerDown()]
    assert desk.counters.violations == 1


@pytest.mark.parametrize(("role", "parts"), [(Role.PLAYER, 2), (Role.SERVER, 1), (Role.OPERATOR, 50)])
def test_a_wrong_number_of_parts_ends_the_session(role: Role, parts: int) -> None:
    desk = Desk()
    peer = desk.join(role)
    peer.send(*[data()] * parts)
    rejected = peer.rejected()
    assert (rejected.code, rejected.reason) == (RejectCode.PROTOCOL_ERROR, f"a message of {parts} parts")
    assert desk.counters.malformed == 1


def test_ping_is_answered() -> None:
    desk = Desk()
    for role in Role:
        peer = desk.join(role)
        peer.take()
        peer.say(control.Ping(b"12345678"))
        assert peer.told() == [control.Pong(b"12345678")]


def test_sides_do_not_share_routing_ids() -> None:
    desk = Desk()
    player = desk.player(7)
    operator = desk.connect(Side.BACKEND)
    operator.routing_id = player.routing_id
    operator.say(control.Hello(Role.OPERATOR))
    operator.told()
    operator.send(encoded_id(7), data(1, b"call"))
    assert player.take() == [(b"", data(1, b"call"))]
    operator.leave()
    assert player.session is not None
