"""Kicks of players at any node: the node is looked up, and obeys."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest
from support.realms import RealmDesks
from support.switchboards import Peer

from ringback.errors import Code, RejectCode
from ringback.protocol import control
from ringback.protocol.control import Answer, Order, What
from ringback.protocol.frames import Role
from ringback_broker.cluster.messages import Answered
from ringback_broker.cluster.messages import encode as encode_message
from ringback_broker.peers.connection import Side
from ringback_broker.switchboard import kicks

KICK = Order(5, What.KICK, 7, reason="cheats")


@pytest.fixture
def realm() -> RealmDesks:
    return RealmDesks("a", "b", "c")


def answers(peer: Peer) -> list[Answer]:
    return [frame for frame in peer.told() if isinstance(frame, Answer)]


def code_of(operator: Peer) -> Code | None:
    [answer] = answers(operator)
    assert answer.id == KICK.id
    return answer.code


def ticket_of(peer: Peer) -> bytes:
    assert peer.session is not None
    return peer.session.ticket


def player(realm: RealmDesks, name: str, ticket: bytes = b"") -> Peer:
    peer = realm[name].connect()
    peer.say(control.Hello(Role.PLAYER, 7, ticket=ticket))
    peer.take()
    return peer


def test_a_player_is_kicked_wherever_it_is(realm: RealmDesks) -> None:
    operator = realm["b"].operator()
    for name in "abc":
        there = player(realm, name)
        operator.say(KICK)
        assert code_of(operator) is None
        rejected = there.rejected()
        assert (rejected.code, rejected.reason) == (RejectCode.KICKED, "cheats")
    operator.say(KICK)
    assert code_of(operator) is Code.UNKNOWN_PLAYER
    assert len(realm["b"].realm.kicks) == 0
    realm.check()


def test_it_is_logged_where_the_player_is(realm: RealmDesks) -> None:
    operator = realm["b"].operator()
    player(realm, "a")
    operator.say(KICK)
    by = f"operator {operator.link} of node b"
    assert ("ordered", by, f"kick player 7 (cheats), by {by}") in realm["a"].wire.reports


def test_who_may_not_order_is_refused_where_it_is(realm: RealmDesks) -> None:
    operator, there = realm["b"].operator(), player(realm, "a")
    assert operator.session is not None
    operator.session.rights = replace(operator.session.rights, may_order=False)
    realm["b"].after = lambda: None
    operator.say(KICK)
    assert code_of(operator) is Code.FORBIDDEN and not realm.records.asked
    assert there.take() == []


def test_records_that_do_not_answer_say_nothing(realm: RealmDesks) -> None:
    operator = realm["b"].operator()
    player(realm, "a")
    realm.records.lose = True
    operator.say(KICK)
    [answer] = answers(operator)
    assert answer.code is Code.OVERLOADED and "try again" in str(answer.reason)


def test_a_player_that_is_about_to_leave_is_not_there(realm: RealmDesks) -> None:
    here, operator = player(realm, "b"), realm["b"].operator()
    realm["b"].after = lambda: None
    here.leave()
    operator.take()
    realm.records.asked.clear()
    operator.say(KICK)
    realm.settle()
    assert code_of(operator) is Code.UNKNOWN_PLAYER


def test_a_player_that_joins_here_meanwhile_is_kicked_here(realm: RealmDesks) -> None:
    operator = realm["b"].operator()
    realm["b"].after = lambda: None
    operator.say(KICK)
    held, realm.records.asked = list(realm.records.asked), deque()
    here = realm["b"].connect()
    here.say(control.Hello(Role.PLAYER, 7))
    realm.settle()
    here.take()
    realm.records.asked.extend(held)
    realm.settle()
    assert code_of(operator) is None and here.rejected().code is RejectCode.KICKED


def test_a_player_that_has_moved_is_looked_up_once_more(realm: RealmDesks) -> None:
    server = realm["c"].connect(Side.BACKEND)  # its node tells the others who has moved
    server.say(control.Hello(Role.SERVER))
    operator, old = realm["b"].operator(), player(realm, "a")
    realm["b"].after = lambda: None
    operator.say(KICK)
    realm.records.settle(realm.now)
    held = realm["b"].hold()
    new = player(realm, "c", ticket_of(old))
    realm["b"].frames.sent.extend(held)
    realm.settle()
    assert code_of(operator) is None and new.rejected().code is RejectCode.KICKED


def test_it_is_never_looked_up_twice(realm: RealmDesks) -> None:
    operator = realm["b"].operator()
    player(realm, "a")
    realm["a"].after = realm["b"].after = lambda: None
    realm["a"].switchboard.roster.players.clear()  # the record stays
    operator.say(KICK)
    realm.settle()
    assert code_of(operator) is Code.UNKNOWN_PLAYER


def test_nobody_hears_of_the_kick_of_an_operator_that_has_left(realm: RealmDesks) -> None:
    operator, other = realm["b"].operator(), realm["b"].operator()
    there = player(realm, "a")
    realm["b"].after = lambda: None
    operator.say(KICK)
    operator.leave()
    realm.settle()
    assert there.take() == []
    other.say(KICK)
    realm.records.settle(realm.now)
    asking = realm["b"].realm.asking
    other.leave()
    [asked] = asking._asked.values()
    asked.has_moved(realm.now)
    assert len(realm["b"].realm.kicks) == 0 and not realm.records.asked


def test_what_is_no_such_answer_is_passed_on(realm: RealmDesks) -> None:
    """An older node says that it does not know what it was asked."""
    operator = realm["b"].operator()
    player(realm, "a")
    realm["b"].after = lambda: None
    operator.say(KICK)
    realm.records.settle(realm.now)
    [number] = realm["b"].realm.asking._asked
    node = realm["b"].switchboard.roster.nodes["a"]
    realm["b"].realm.other_nodes._node_frames.take(
        node, b"", encode_message(Answered(number, b"")), realm.now
    )
    assert code_of(operator) is Code.INVALID_PAYLOAD


def test_only_some_kicks_wait(realm: RealmDesks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kicks, "MAX_KICKS", 2)
    operator = realm["b"].operator()
    realm["b"].after = lambda: None
    for _ in range(3):
        operator.say(KICK)
    assert code_of(operator) is Code.OVERLOADED
    realm.settle()
    assert [answer.code for answer in answers(operator)] == [Code.UNKNOWN_PLAYER] * 2
