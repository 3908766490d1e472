"""Connections without a session: how many an IP may have, and what the broker counts and logs of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.switchboards import Desk, Peer

from ringback.protocol import control
from ringback.protocol.frames import Role
from ringback_broker.peers.connection import Side


def came(desk: Desk, side: Side, ip: str) -> Peer:
    """Connect from an IP. The other connections of `Desk` each have an IP of their own."""
    peer = desk.connect(side)
    peer.connection = replace(peer.connection, ip=ip)
    desk.switchboard.accepted(side, peer.connection, desk.now)
    return peer


@pytest.mark.parametrize("side", Side)
def test_an_ip_has_a_limit_of_connections_on_each_side(side: Side) -> None:
    desk = Desk(ip_connections=2)
    first, second, third = (came(desk, side, "192.0.2.1") for _ in range(3))
    assert desk.wire.closed == [(side, third.connection)]
    assert desk.counters.connections_refused == 1
    assert desk.wire.reports == [("refused", "", "192.0.2.1 more than 2 connections of one IP")]
    came(desk, side, "192.0.2.2")
    came(desk, next(other for other in Side if other is not side), "192.0.2.1")
    assert len(desk.wire.closed) == 1
    third.leave()
    first.leave()
    came(desk, side, "192.0.2.1")
    assert len(desk.wire.closed) == 1
    assert second.session is None


def test_an_ip_has_a_limit_of_connections_a_second() -> None:
    desk = Desk(ip_handshakes=4.0)
    for _ in range(4):
        came(desk, Side.PLAYERS, "192.0.2.1").leave()
    came(desk, Side.PLAYERS, "192.0.2.1").leave()
    reports = [detail for _, _, detail in desk.wire.reports]
    assert reports[-1] == "192.0.2.1 more than 4 connections a second of one IP"
    assert len(desk.wire.closed) == 1
    came(desk, Side.BACKEND, "192.0.2.1")  # a server there is not kept out
    assert len(desk.wire.closed) == 1
    desk.now += 0.25
    came(desk, Side.PLAYERS, "192.0.2.1").leave()
    assert len(desk.wire.closed) == 1
    desk.now += 2.0
    desk.switchboard.tick(desk.now)  # by then all of it is forgotten
    for _ in range(4):
        came(desk, Side.PLAYERS, "192.0.2.1").leave()
    assert len(desk.wire.closed) == 1


def crowd(desk: Desk, count: int, side: Side = Side.PLAYERS) -> list[Peer]:
    """Have a crowd connect from one IP at one moment."""
    return [came(desk, side, "192.0.2.1") for _ in range(count)]


def test_a_crowd_that_connects_too_fast_is_delayed() -> None:
    desk = Desk(ip_handshakes=4.0)
    *_, early = crowd(desk, 6)
    assert len(desk.wire.closed) == 2
    assert (desk.counters.joins_delayed, desk.counters.connections_refused) == (2, 0)
    assert (
        desk.wire.reports
        == [
            ("delayed", "", "192.0.2.1 more than 4 connections a second of one IP"),
        ]
        * 2
    )
    early.say(control.Hello(Role.PLAYER))  # said before the connection was closed
    assert desk.counters.stranger_messages == 0 and early.session is None
    for peer in crowd(desk, 3):
        peer.leave()  # given up: the broker was late for them
    assert desk.counters.handshakes_failed == 0
    operator = desk.operator()
    operator.say(control.Query(1, control.Subject.EVENTS))
    assert not any("connections a second" in str(frame) for frame in operator.told())


def test_an_ip_is_in_doubt_after_a_connection_that_never_said_hello() -> None:
    """A burst from there is counted as refused, for a minute."""
    desk = Desk(ip_handshakes=4.0)
    came(desk, Side.PLAYERS, "192.0.2.1").leave()
    for peer in crowd(desk, 5):
        peer.say(control.Hello(Role.PLAYER))
    assert (desk.counters.joins_delayed, desk.counters.connections_refused) == (0, 2)
    desk.now += 61.0
    desk.switchboard.tick(desk.now)
    for peer in crowd(desk, 4):
        peer.say(control.Hello(Role.PLAYER))
    crowd(desk, 1)
    assert (desk.counters.joins_delayed, desk.counters.connections_refused) == (1, 2)


def test_a_flood_is_no_crowd() -> None:
    """An IP that is over the rate for more than a minute is refused."""
    desk = Desk(ip_handshakes=4.0, ip_connections=100_000)
    crowd(desk, 6)
    for _ in range(59):
        desk.now += 1.0
        crowd(desk, 10)
        desk.switchboard.state.connections_by_ip.forget_old(desk.now)
    assert desk.counters.connections_refused == 0 and desk.counters.joins_delayed > 59
    desk.now += 2.0
    crowd(desk, 10)
    assert desk.counters.connections_refused > 0
    desk.now += 6.0  # a pause: the next crowd is another one
    refused = desk.counters.connections_refused
    crowd(desk, 100)
    assert desk.counters.connections_refused == refused


def test_a_few_of_many_connections_are_given_up() -> None:
    """A crowd below the rate: who leaves before HELLO comes again. With few connections, it is a failure."""
    desk = Desk()
    first, *_ = crowd(desk, 60)
    first.leave()
    assert (desk.counters.joins_delayed, desk.counters.handshakes_failed) == (1, 0)
    came(desk, Side.PLAYERS, "192.0.2.2").leave()
    assert desk.counters.handshakes_failed == 1
    doubted, *_ = (came(desk, Side.PLAYERS, "192.0.2.2") for _ in range(60))
    doubted.leave()  # an IP in doubt has no crowd
    assert desk.counters.handshakes_failed == 2


def test_a_connection_that_ends_before_hello_is_reported() -> None:
    desk = Desk(hello=5.0)
    silent = came(desk, Side.PLAYERS, "192.0.2.1")
    left, failed = came(desk, Side.PLAYERS, "192.0.2.2"), came(desk, Side.PLAYERS, "192.0.2.3")
    left.leave()
    desk.switchboard.disconnected(Side.PLAYERS, failed.connection, "it has another key for this broker")
    desk.switchboard.tick(desk.now + 5)
    silent.leave()
    assert desk.counters.handshakes_failed == 3
    assert [detail for _, _, detail in desk.wire.reports] == [
        "192.0.2.2 no HELLO: it left, or does not speak ZeroMQ",
        "192.0.2.3 no HELLO: it has another key for this broker",
        "192.0.2.1 no HELLO: it said nothing for 5 s",
    ]


def test_a_connection_that_was_refused_or_had_a_session_is_not_reported_again() -> None:
    desk = Desk(max_operators=1)
    desk.operator()
    player = desk.player()
    refused = came(desk, Side.BACKEND, "192.0.2.1")
    refused.say(control.Hello(Role.OPERATOR))
    denied = came(desk, Side.PLAYERS, "192.0.2.1")
    desk.switchboard.deny(Side.PLAYERS, "192.0.2.1", "KEY")
    other = came(desk, Side.PLAYERS, "192.0.2.1")
    for peer in (player, refused, denied):
        peer.leave()
    assert (desk.counters.handshakes_failed, desk.counters.handshakes_refused) == (0, 1)
    assert ("refused", "", "192.0.2.1 UNAUTHORIZED: key KEY is not for the players") in desk.wire.reports
    other.leave()
    assert desk.counters.handshakes_failed == 1


def test_connections_on_a_unix_socket_have_no_ip_to_limit() -> None:
    desk = Desk(ip_connections=1, ip_handshakes=1.0)
    for _ in range(5):
        came(desk, Side.PLAYERS, "")
    assert desk.wire.closed == [] and desk.counters.connections_refused == 0


@pytest.mark.parametrize("role", [None, *Role], ids=str)
def test_a_connection_with_a_message_without_an_end_is_closed_at_once(role: Role | None) -> None:
    desk = Desk()
    peer = desk.connect() if role is None else desk.join(role)
    other = desk.player(9)
    peer.take()
    refused = desk.connect()
    refused.say(control.Ping(b""))
    found = {
        connection: (side, mark, fresh) for side, connection, mark, fresh in desk.switchboard.connections()
    }
    assert set(found) == {peer.connection, other.connection, refused.connection}
    assert found[peer.connection][2] and not found[refused.connection][2]
    desk.switchboard.close_unfinished(peer.side, peer.connection, 12345)
    assert desk.wire.closed == [(peer.side, peer.connection)] and not peer.take()
    assert desk.counters.messages_unfinished == 1 and peer.session is None and other.session is not None
    assert any("a message without an end: 12345 bytes" in detail for _, _, detail in desk.wire.reports)
    logged = len(desk.wire.reports)
    peer.leave()  # libzmq reports the end of the connection: it is no news
    assert len(desk.wire.reports) == logged and desk.counters.handshakes_failed == 0


def test_each_message_changes_the_mark_of_its_connection() -> None:
    desk = Desk()
    player = desk.player(7)

    def mark() -> tuple[object, bool]:
        [(_, _, mark, fresh)] = desk.switchboard.connections()
        return mark, fresh

    first = mark()
    assert first[1] and mark() == first
    desk.now += 0.1
    player.say(control.Ping(b""))
    assert mark()[0] != first[0] and not mark()[1]
