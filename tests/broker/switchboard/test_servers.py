"""The switchboard: one server follows another, by standing by or by a hand-over."""

from __future__ import annotations

from typing import Any

import pytest
from support.switchboards import Desk, Peer, check_tables, data, encoded_id, relay

from ringback.errors import Code, RejectCode
from ringback.protocol import control
from ringback.protocol.frames import FIRST_OWN_LINK, Role
from ringback_broker.admission.hello import MAX_OTHER_SERVERS
from ringback_broker.peers.connection import Side

HAND_OVER = control.Order(7, control.What.HAND_OVER)


def server(desk: Desk, **fields: Any) -> Peer:
    """Return a server that may stand by, and that knows of link numbers of servers."""
    peer = desk.connect(Side.BACKEND)
    peer.say(control.Hello(Role.SERVER, **{"standby": True, "server_links": True, "ticket": b"", **fields}))
    return peer


def player(desk: Desk, player_id: int) -> Peer:
    peer = desk.connect()
    peer.say(control.Hello(Role.PLAYER, player_id, server_links=True))
    peer.take()
    return peer


def welcome_of(peer: Peer) -> control.Welcome:
    [*joined, welcome] = peer.told()
    assert isinstance(welcome, control.Welcome) and all(type(frame) is control.Joined for frame in joined)
    return welcome


def events(desk: Desk) -> list[tuple[str, str]]:
    return [(event, name) for event, name, _ in desk.wire.reports if "server" in name]


def test_a_server_stands_by() -> None:
    desk = Desk()
    first, seven, operator = server(desk), desk.player(7), desk.operator()
    welcome = first.told()[0]
    assert isinstance(welcome, control.Welcome)
    assert (welcome.link, welcome.own_link, welcome.standby) == (0, FIRST_OWN_LINK, None)
    second = server(desk)
    told = welcome_of(second)
    assert (told.link, told.own_link, told.standby) == (0, FIRST_OWN_LINK + 1, True)
    assert told.server and told.retiring is None
    assert not seven.take() and not operator.take() and not first.take()
    desk.player(8)
    assert first.told() == [control.Joined((8,))] and not second.take()
    seven.leave()
    assert first.told() == operator.told() == [control.Left((7,))] and not second.take()
    assert events(desk) == [("joined", "server"), ("joined", "standby server")]
    snapshot = desk.switchboard.snapshot(desk.now, _Lags())
    assert (snapshot.sessions["server"], snapshot.standbys, snapshot.retiring) == (1, 1, 0)
    check_tables(desk)


class _Lags:
    def read(self) -> Any:
        return (), 0.0


@pytest.mark.parametrize("says_bye", [True, False])
def test_the_server_that_waited_longest_takes_over(says_bye: bool) -> None:
    desk = Desk()
    seven = player(desk, 7)
    old = desk.player(8)
    operator = desk.operator()
    first, second, third = server(desk), server(desk), server(desk)
    own_link = welcome_of(first).own_link
    for peer in (second, third, seven, old, operator):
        peer.take()
    if says_bye:
        first.say(control.Bye())
    else:
        first.leave()
    assert seven.told() == [control.ServerDown(own_link), control.ServerUp()]
    assert old.told() == operator.told() == [control.ServerDown(), control.ServerUp()]
    [joined, welcome] = second.told()
    assert joined == control.Joined((7, 8))
    assert isinstance(welcome, control.Welcome) and welcome.standby is None and welcome.server
    assert not third.take()
    seven.send(data(0, b"call"))
    assert second.take() == [(encoded_id(7), data(0, b"call"))]
    assert desk.counters.takeovers == 1 and desk.counters.hand_overs == 0
    assert events(desk)[-2:] == [("left", "server"), ("acting", "server")]
    check_tables(desk)


def test_a_standby_that_leaves_is_missed_by_nobody() -> None:
    desk = Desk()
    server(desk)
    seven = player(desk, 7)
    second = server(desk)
    second.leave()
    assert not seven.take()
    assert events(desk)[-1] == ("left", "standby server")
    check_tables(desk)


def test_a_standby_that_is_gone_is_passed_over() -> None:
    desk = Desk()
    first, second, third = server(desk), server(desk), server(desk)
    third.take()
    desk.wire.gone.add(second.routing_id)
    first.leave()  # the WELCOME of the second does not find it
    assert isinstance(third.told()[-1], control.Welcome)
    assert second.session is None
    check_tables(desk)


def test_a_standby_that_is_known_to_be_gone_is_not_asked() -> None:
    desk = Desk()
    first, second, third = server(desk), server(desk), server(desk)
    for peer in (first, second, third):
        peer.take()
    assert second.session is not None
    desk.switchboard.state.endings.not_found(second.session)
    first.say(HAND_OVER)
    assert isinstance(third.told()[-1], control.Welcome) and not second.take()


def test_without_standby_another_server_is_refused() -> None:
    desk = Desk()
    server(desk)
    for fields in ({"standby": None}, {"standby": False}):
        assert server(desk, **fields).rejected().code is RejectCode.SERVER_TAKEN
    peer = desk.connect(Side.BACKEND)
    peer.say(control.Hello(Role.SERVER, standby=True))
    assert peer.rejected().code is RejectCode.PROTOCOL_ERROR


def test_only_so_many_servers_stand_by() -> None:
    desk = Desk()
    first = server(desk)
    others = [server(desk) for _ in range(MAX_OTHER_SERVERS)]
    assert server(desk).rejected().code is RejectCode.FULL
    first.say(HAND_OVER)  # one that retires counts too
    assert server(desk).rejected().code is RejectCode.FULL
    others[3].leave()
    assert welcome_of(server(desk)).standby
    check_tables(desk)


def test_a_standby_sends_no_data() -> None:
    desk = Desk()
    server(desk)
    for frame in (data(0), data(FIRST_OWN_LINK + 1), relay(1)):
        second = server(desk)
        second.take()
        second.send(encoded_id(7), frame)
        assert second.rejected().code is RejectCode.PROTOCOL_ERROR


def test_a_hand_over() -> None:
    desk = Desk()
    first = server(desk)
    seven, operator = player(desk, 7), desk.operator()
    operator.send(encoded_id(7), relay(operator.link, b"asked before"))
    own = welcome_of_first(first)
    second = server(desk)
    for peer in (second, seven, operator):
        peer.take()
    first.send(encoded_id(7), data(own, b"a call"))
    assert seven.take() == [(b"", data(own, b"a call"))]
    first.say(HAND_OVER)
    [retire, answer] = first.told()
    assert isinstance(retire, control.Welcome) and retire.retiring and retire.own_link == own
    assert answer == control.Answer(7, None)
    [joined, welcome] = second.told()
    assert joined == control.Joined((7,))
    assert isinstance(welcome, control.Welcome) and not welcome.standby and not welcome.retiring
    assert not seven.take() and not operator.take()  # nobody else notices
    check_tables(desk)

    seven.send(data(0, b"a new call"))
    assert second.take() == [(encoded_id(7), data(0, b"a new call"))]
    seven.send(data(own, b"an answer"))
    assert first.take() == [(encoded_id(7), data(own, b"an answer"))]
    first.send(encoded_id(7), data(0, b"a reply"))
    first.send(encoded_id(7), data(own, b"another call"))
    assert seven.take() == [(b"", data(0, b"a reply")), (b"", data(own, b"another call"))]
    first.send(encoded_id(7), relay(operator.link, b"a reply"))
    assert operator.take() == [(encoded_id(7), relay(operator.link, b"a reply"))]
    operator.send(encoded_id(7), relay(operator.link, b"asked now"))
    assert second.take() == [(encoded_id(7), relay(operator.link, b"asked now"))]
    desk.player(8)
    assert second.told() == [control.Joined((8,))] and not first.take()
    seven.leave()
    assert second.told() == first.told() == [control.Left((7,))]
    operator.take()

    eight = player(desk, 9)
    first.say(control.Bye(finished=True))
    assert not eight.take() and not operator.take()
    assert events(desk)[-3:] == [
        ("acting", "server"),
        ("ordered", "retiring server"),
        ("left", "retiring server"),
    ]
    assert desk.counters.hand_overs == 1 and desk.counters.takeovers == 0
    check_tables(desk)


def welcome_of_first(peer: Peer) -> int:
    """Return the link number of its own of a server that joined before all others."""
    [*_, own] = [decoded.own_link for decoded in _welcomes(peer)]
    assert own is not None
    return own


def _welcomes(peer: Peer) -> list[control.Welcome]:
    frames = [control.decode(frame) for part, frame in peer.take() if not part]
    return [frame for frame in frames if isinstance(frame, control.Welcome)]


@pytest.mark.parametrize("unaware", [True, False])
def test_a_server_that_retires_and_dies_takes_calls_with_it(unaware: bool) -> None:
    """Nobody knows whose calls it handled, so all that are in flight to the server end.

    Its program may close it in the moment before it learns that it retires. Then it says BYE, unfinished.
    """
    desk = Desk()
    first = server(desk)
    own = welcome_of_first(first)
    seven, old, operator = player(desk, 7), desk.player(8), desk.operator()
    second = server(desk)
    first.say(HAND_OVER)
    for peer in (seven, old, operator, second):
        peer.take()
    if unaware:
        first.say(control.Bye())
    else:
        first.leave()
    assert seven.told() == [control.ServerDown(own), control.ServerUp()]
    assert old.told() == operator.told() == [control.ServerDown(), control.ServerUp()]
    assert not second.take()
    second.leave()
    assert seven.told() == [control.ServerDown(own + 1)]
    check_tables(desk)


def test_a_server_that_retires_and_dies_after_the_next_one() -> None:
    desk = Desk()
    first, second, seven = server(desk), server(desk), player(desk, 7)
    own = welcome_of_first(first)
    first.say(HAND_OVER)
    second.leave()
    seven.take()
    first.leave()
    assert seven.told() == [control.ServerDown(own)]
    check_tables(desk)


def test_an_operator_orders_a_hand_over() -> None:
    desk = Desk()
    operator = desk.operator()
    operator.say(HAND_OVER)
    assert operator.told() == [control.Answer(7, None, code=Code.NO_SERVER)]
    first = server(desk)
    operator.take()
    operator.say(HAND_OVER)
    assert operator.told() == [control.Answer(7, None, code=Code.NO_SERVER)]
    second = server(desk)
    first.take()
    operator.say(HAND_OVER)
    assert operator.told() == [control.Answer(7, None)]
    [retire] = first.told()
    assert isinstance(retire, control.Welcome) and retire.retiring
    first.say(HAND_OVER)  # at the same time
    assert first.told() == [control.Answer(7, None)]
    assert second.session is desk.switchboard.roster.server
    assert desk.counters.hand_overs == 1
    assert ("ordered", "operator 1") in [(event, name) for event, name, _ in desk.wire.reports]


def test_what_servers_may_not_order() -> None:
    desk = Desk()
    first, second = server(desk), server(desk)
    for peer in (first, second):
        peer.take()
    first.say(control.Order(7, control.What.DRAIN))
    second.say(HAND_OVER)
    for peer in (first, second):
        assert peer.told() == [control.Answer(7, None, code=Code.FORBIDDEN)]
    assert not desk.wire.drains


def test_an_older_server_cannot_hand_over() -> None:
    desk = Desk()
    desk.server()
    server(desk)
    operator = desk.operator()
    operator.say(HAND_OVER)
    assert operator.told() == [control.Answer(7, None, code=Code.NO_SERVER)]


def test_no_server_takes_over_while_the_broker_drains() -> None:
    desk = Desk()
    first, second, seven = server(desk), server(desk), player(desk, 7)
    operator = desk.operator()
    desk.switchboard.drain(5.0)
    assert isinstance(second.told()[-1], control.DrainingNotice)
    operator.take()
    operator.say(HAND_OVER)
    assert operator.told() == [control.Answer(7, None, code=Code.DRAINING)]
    seven.take()
    first.leave()
    assert seven.told() == [control.ServerDown(FIRST_OWN_LINK)]
    assert not second.take()
    check_tables(desk)


# -- tickets


def test_a_server_comes_back_to_its_own_duty() -> None:
    """The server that acts takes its own place again, and not one that stands by."""
    desk = Desk()
    first, second, seven = server(desk), server(desk), player(desk, 7)
    [*_, welcome] = _welcomes(first)
    waiting = welcome_of(second).ticket
    again = server(desk, ticket=welcome.ticket)
    assert first.rejected().code is RejectCode.REPLACED
    assert welcome_of(again).standby is None
    assert seven.told() == [control.ServerDown(FIRST_OWN_LINK), control.ServerUp()]
    assert not second.take()
    assert welcome_of(server(desk, ticket=waiting)).standby
    assert second.rejected().code is RejectCode.REPLACED
    assert server(desk, ticket=waiting, standby=None).rejected().code is RejectCode.SERVER_TAKEN
    assert again.session is desk.switchboard.roster.server
    check_tables(desk)


def test_a_server_that_comes_back_and_is_gone_again() -> None:
    desk = Desk()
    first, second = server(desk), server(desk)
    [*_, welcome] = _welcomes(first)
    second.take()
    again = desk.connect(Side.BACKEND)
    desk.wire.gone.add(again.routing_id)
    again.say(
        control.Hello(Role.SERVER, standby=True, server_links=True, ticket=welcome.ticket),
    )
    assert isinstance(second.told()[-1], control.Welcome)
    assert second.session is desk.switchboard.roster.server
    check_tables(desk)
