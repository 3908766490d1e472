"""The link keeper with several addresses: which broker is next, when, and what is said if all fail."""

from __future__ import annotations

import re

import pytest
from support.corefakes import Desk

from ringback.core.link_opener import RESOLVED_WITHIN_S
from ringback.core.link_state import FIRST_DELAY_S
from ringback.core.shell import EndpointEvent
from ringback.errors import BrokerUnreachable, ConnectionLost, IDTaken, Refused, RejectCode, ServerTaken
from ringback.protocol import control
from ringback.protocol.frames import Role

A, B, C = "tcp://192.0.2.1:1", "tcp://192.0.2.2:1", "tcp://192.0.2.3:1"
NAME, OTHER = "tcp://name.test:1", "tcp://other.test:1"


def list_of(*brokers: str, role: Role = Role.PLAYER, start_s: float = 5.0, **options: object) -> Desk:
    """Return a started endpoint that tries these brokers in this order. Those with an IP are known."""
    if role is Role.PLAYER:
        options = {"player_id": 7, **options}
    desk = Desk(role, brokers=brokers, **options)  # type: ignore[arg-type]
    desk.shell.addresses = None
    desk.shell.known = {broker: (broker,) for broker in (A, B, C)}
    desk.core.start(desk.clock.now, start_s)
    return desk


def refuse(desk: Desk, code: RejectCode = RejectCode.FULL) -> None:
    desk.told(control.Reject(code, "because"))


def lose(desk: Desk, why: str = "the connection was refused") -> None:
    desk.core.link_lost(desk.clock.now, why)
    desk.wait(0.0)


def welcomed(*brokers: str, **options: object) -> Desk:
    desk = list_of(*brokers, **options)  # type: ignore[arg-type]
    desk.welcome()
    assert desk.shell.starts.pop() is None
    return desk


# -- a start


def test_the_next_broker_is_tried_at_once() -> None:
    player = list_of(A, B, C)
    lose(player)
    lose(player)
    assert player.shell.dialled == [A, B, C]
    player.welcome()
    assert player.shell.starts == [None]
    assert player.core.broker == player.core.link_address == C
    assert player.shell.events == [(EndpointEvent.CONNECTED, C)]


def test_no_name_is_looked_up_that_is_not_needed() -> None:
    player = list_of(A, NAME)
    player.welcome()
    assert player.shell.asked == [A]


def test_a_name_that_is_unknown_is_followed_by_the_next_broker() -> None:
    player = list_of(NAME, A)
    player.core.take_addresses(player.shell.lookup, (), "no such name", player.clock.now)
    player.wait(0.0)
    assert player.shell.dialled == [A]


def test_a_lookup_that_hangs_gets_its_share_of_the_time() -> None:
    player = list_of(NAME, A)
    number = player.shell.lookup
    player.wait(2.49)
    assert player.shell.dialled == []
    player.wait(0.02)
    assert player.shell.dialled == [A]
    player.core.take_addresses(number, (B,), "", player.clock.now)  # too late
    assert player.shell.dialled == [A]


def test_the_lookup_of_the_last_broker_may_take_longer() -> None:
    player = list_of(A, NAME, start_s=60.0)
    lose(player)
    player.wait(RESOLVED_WITHIN_S - 0.1)
    assert player.shell.dialled == [A]
    player.wait(0.2 + FIRST_DELAY_S)
    assert player.shell.dialled == [A, A]


def test_a_black_hole_gets_its_share_and_all_fit_into_the_start() -> None:
    player = list_of(A, B, C, start_s=3.0)
    player.wait(0.99)
    assert player.shell.dialled == [A]
    player.wait(1.0)
    assert player.shell.dialled == [A, B]
    player.wait(1.0)
    assert player.shell.dialled == [A, B, C]
    player.wait(0.1)
    [error] = player.shell.starts
    assert str(error) == (
        f"no broker answered in time ({A}: the broker is silent; {B}: the broker is silent; {C}: no answer);"
        " start one with `ringback broker`, or give its address"
    )


def test_the_error_names_each_address_and_what_failed_there() -> None:
    player = list_of(A, NAME, B, start_s=1.0)
    lose(player)
    player.core.take_addresses(player.shell.lookup, ("tcp://192.0.2.9:1",), "", player.clock.now)
    player.core.link_answered()
    player.wait(1.0)
    [error] = player.shell.starts
    assert isinstance(error, BrokerUnreachable)
    assert f"({A}: the connection was refused; {NAME} (192.0.2.9): no answer; {B}: not tried)" in str(error)


def test_the_error_has_the_whole_round_before() -> None:
    player = list_of(A, B, start_s=1.0)
    while not player.shell.starts:
        if player.shell.link_open:
            lose(player)
        player.wait(0.05)
    assert f"in time ({A}: the connection was refused; {B}: the connection was refused);" in str(
        player.shell.starts[0]
    )


def test_the_error_if_no_name_is_known() -> None:
    player = list_of(NAME, OTHER, start_s=1.0)
    player.core.take_addresses(player.shell.lookup, (), "no such name", player.clock.now)
    player.wait(1.0)
    [error] = player.shell.starts
    assert str(error) == (
        f"no broker can be found: {NAME}: no such name; {OTHER}: its name is not resolved yet; check DNS"
    )


def test_the_error_if_the_token_does_not_come() -> None:
    player = list_of(A, B, start_s=1.0, needs_token=True)
    player.wait(1.0)
    [error] = player.shell.starts
    assert f"{A}: the function for tokens has not returned; {B}: not tried" in str(error)


def test_the_brokers_of_a_round_share_a_token() -> None:
    player = list_of(A, B, needs_token=True)
    player.core.take_token(player.shell.asked_for, "one", None, player.clock.now)
    number = player.shell.asked_for
    player.shell.take_sent()
    lose(player)
    [hello] = player.shell.told()
    assert isinstance(hello, control.Hello) and hello.token == "one"
    lose(player)
    player.wait(FIRST_DELAY_S)
    assert player.shell.asked_for > number and not player.shell.link_open


def test_without_a_token_no_broker_is_tried() -> None:
    player = list_of(A, B, needs_token=True)
    player.core.take_token(player.shell.asked_for, "", OSError("no route"), player.clock.now)
    player.wait(0.0)
    assert player.shell.dialled == [] and player.shell.asked == [A]


# -- refusals


@pytest.mark.parametrize("code", [RejectCode.FULL, RejectCode.DRAINING])
def test_a_broker_that_takes_nobody_is_followed_by_the_next_at_once(code: RejectCode) -> None:
    player = list_of(A, B)
    refuse(player, code)
    player.wait(0.0)
    assert player.shell.dialled == [A, B]
    player.welcome()
    assert player.shell.starts == [None]


def test_a_start_fails_when_all_brokers_are_full() -> None:
    player = list_of(A, B)
    refuse(player)
    player.wait(0.0)
    refuse(player)
    [error] = player.shell.starts
    assert isinstance(error, Refused) and error.code is RejectCode.FULL
    assert error.message == f"no broker lets this endpoint in: {A}: FULL: because; {B}: FULL: because"
    player.wait(10.0)
    assert player.shell.dialled == [A, B]


@pytest.mark.parametrize("first", [True, False])
def test_a_start_goes_on_if_a_broker_that_is_gone_may_come_back(first: bool) -> None:
    player = list_of(A, B)
    for full in (first, not first):
        if full:
            refuse(player)
        else:
            lose(player)
        player.wait(0.0)
    assert player.shell.starts == [] and player.shell.dialled == [A, B]
    player.wait(FIRST_DELAY_S)
    assert player.shell.dialled == [A, B, A]
    player.wait(5.0)
    [error] = player.shell.starts
    assert isinstance(error, Refused) and error.code is RejectCode.FULL
    for broker in (A, B):
        assert broker in error.message


def test_one_broker_with_two_ips_that_is_full_fails_a_start() -> None:
    player = list_of(NAME)
    player.core.take_addresses(player.shell.lookup, (A, B), "", player.clock.now)
    refuse(player)
    player.wait(0.0)
    lose(player)
    [error] = player.shell.starts
    assert isinstance(error, Refused) and error.code is RejectCode.FULL
    assert error.message.endswith(f": {A}: FULL: because; {B}: the connection was refused")


def test_the_time_of_a_start_ends_while_the_first_broker_has_refused() -> None:
    player = list_of(A, B, start_s=1.0)
    refuse(player, RejectCode.DRAINING)
    player.wait(1.0)
    [error] = player.shell.starts
    assert isinstance(error, Refused) and error.code is RejectCode.DRAINING and A in error.message


def test_a_refusal_of_this_endpoint_ends_a_start() -> None:
    player = list_of(A, B)
    refuse(player, RejectCode.ID_TAKEN)
    [error] = player.shell.starts
    assert isinstance(error, IDTaken) and player.shell.dialled == [A]
    assert error.message == f"the broker at {A} refuses: because"


def test_a_server_waits_at_all_brokers_for_the_one_that_it_replaces() -> None:
    server = list_of(A, B, role=Role.SERVER, start_s=1.0)
    while not server.shell.starts:
        if server.shell.link_open:
            refuse(server, RejectCode.SERVER_TAKEN)
        server.wait(0.05)
    assert isinstance(server.shell.starts[0], ServerTaken)
    assert server.shell.dialled[:4] == [A, B, A, B]


def test_longer_heartbeats_are_for_the_broker_that_asked_for_them() -> None:
    player = list_of(A, B)
    player.told(control.Reject(RejectCode.HEARTBEAT_TOO_SHORT, "because", heartbeat_ms=5000))
    player.wait(FIRST_DELAY_S)
    assert player.shell.dialled == [A, A] and player.shell.heartbeat_ms == 5000


# -- a lost link


def test_a_lost_link_is_followed_by_one_to_the_next_broker() -> None:
    player = welcomed(A, B, C)
    assert player.core.broker == A
    lose(player, "cut")
    assert player.core.broker == A and player.core.link_address is None
    player.wait(FIRST_DELAY_S)
    assert player.shell.dialled == [A, B]
    player.welcome()
    lose(player, "cut")
    player.wait(FIRST_DELAY_S * 2)
    assert player.shell.dialled == [A, B, C]
    assert [event for event in player.shell.events if event[0] is EndpointEvent.DISCONNECTED] == [
        (EndpointEvent.DISCONNECTED, "cut")
    ] * 2


def test_an_endpoint_shows_its_ticket_at_the_next_broker() -> None:
    player = list_of(A, B)
    player.told(control.Welcome(0, 7, True, 30_000, "test", ticket=b"t" * 16))
    player.shell.take_sent()
    lose(player, "cut")
    player.wait(FIRST_DELAY_S)
    [hello] = player.shell.told()
    assert isinstance(hello, control.Hello) and hello.ticket == b"t" * 16
    assert player.shell.dialled == [A, B]


def test_an_endpoint_stays_at_a_broker_that_lets_it_in() -> None:
    player = list_of(A, B)
    lose(player)
    player.welcome()
    player.wait(20.0)
    player.told(control.Pong(b""))
    player.wait(29.0)
    assert player.shell.dialled == [A, B] and player.core.link_address == B


def test_a_start_after_a_close_begins_where_the_endpoint_was() -> None:
    player = list_of(A, B)
    lose(player)
    player.welcome()
    player.core.close()
    player.core.start(player.clock.now, 5.0)
    assert player.shell.dialled == [A, B, B]


@pytest.mark.parametrize("code", [RejectCode.FULL, RejectCode.DRAINING])
def test_each_broker_is_tried_once_and_then_there_is_a_wait(code: RejectCode) -> None:
    player = welcomed(A, B, C)
    lose(player, "cut")
    player.wait(FIRST_DELAY_S)
    for _ in range(3):
        assert player.shell.link_open
        refuse(player, code)
        player.wait(0.0)
    assert not player.shell.link_open and player.shell.dialled == [A, B, C, A]
    player.wait(2 * FIRST_DELAY_S)
    assert player.shell.dialled == [A, B, C, A, B]


def test_an_id_that_is_taken_is_asked_for_at_the_next_broker_after_a_wait() -> None:
    player = welcomed(A, B)
    lose(player, "cut")
    player.wait(FIRST_DELAY_S)
    refuse(player, RejectCode.ID_TAKEN)
    player.wait(0.0)
    assert player.shell.dialled == [A, B] and not player.shell.link_open
    player.wait(2 * FIRST_DELAY_S)
    assert player.shell.dialled == [A, B, A]


def test_a_broker_that_drains_is_left_for_the_next() -> None:
    player = welcomed(A, B)
    player.told(control.DrainingNotice(10_000))
    player.shell.take_sent()
    player.flush()
    assert player.shell.told() == [control.Bye()] and not player.shell.link_open
    player.wait(FIRST_DELAY_S)
    assert player.shell.dialled == [A, B]


def test_calls_without_a_link_say_so() -> None:
    player = welcomed(A, B)
    lose(player, "cut")
    assert isinstance(player.call().error, ConnectionLost)
    assert player.call().error.message == "there is no link to a broker now"


def test_what_is_logged() -> None:
    player = welcomed(A, B)
    lose(player, "cut")
    for _ in range(3):
        player.wait(FIRST_DELAY_S * 4)
        lose(player)
        lose(player)
    player.wait(1.0)
    player.welcome()
    assert [re.sub(r"in [\d.]+ s", "soon", text) for text in player.shell.warnings] == [
        f"the link to {A} was lost (cut); next attempt soon",
        f"no link to a broker ({B}: the connection was refused; {A}: the connection was refused);"
        " next attempt soon",
        f"there is a link again, to {B}",
    ]
