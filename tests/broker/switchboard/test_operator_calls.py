"""Calls of operators to players of other nodes: each has one outcome, wherever the player goes."""

from __future__ import annotations

from typing import Any

import pytest
from support.realms import RealmDesks
from support.switchboards import Peer, data, encoded_id

from ringback.errors import Code
from ringback.protocol import control
from ringback.protocol.control import decode
from ringback.protocol.frames import FrameType, Role
from ringback_broker.cluster import callees
from ringback_broker.cluster.pairs import SILENT_S
from ringback_broker.peers.connection import Sent, Side
from ringback_broker.switchboard import operator_calls

SEVEN = encoded_id(7)


def serve(realm: RealmDesks, name: str) -> Peer:
    peer = realm[name].connect(Side.BACKEND)
    peer.say(control.Hello(Role.SERVER, ticket=b"", server_links=True))
    peer.take()
    return peer


def player(realm: RealmDesks, name: str, ticket: bytes = b"") -> Peer:
    """Let player 7 join, with the ticket of where it was before."""
    peer = realm[name].connect()
    peer.say(control.Hello(Role.PLAYER, 7, ticket=ticket))
    [welcome] = peer.told()
    assert isinstance(welcome, control.Welcome)
    return peer


def ticket_of(peer: Peer) -> bytes:
    assert peer.session is not None
    return peer.session.ticket


def calls_of(realm: RealmDesks, name: str) -> Any:
    return realm[name].realm._operator_calls


def bodies(peer: Peer) -> list[bytes]:
    return [frame[8:] for _, frame in peer.take() if frame[1] == FrameType.DATA]


def lefts(peer: Peer) -> int:
    """Return how often a peer was told that player 7 has left. Fail if calls came."""
    return peer.told().count(control.Left((7,)))


def call(operator: Peer, body: bytes = b"call") -> None:
    operator.send(SEVEN, data(operator.link, body))


@pytest.fixture
def realm() -> RealmDesks:
    """Return three nodes. The seat is at a, operators are at b, and player 7 begins at c."""
    realm = RealmDesks("a", "b", "c")
    serve(realm, "a")
    return realm


# -- there and back


def test_an_operator_calls_a_player_of_another_node(realm: RealmDesks) -> None:
    there, operator = player(realm, "c"), realm["b"].operator()
    for body in (b"one", b"two"):
        call(operator, body)
        assert there.take() == [(b"", data(operator.link, body))]
        there.send(data(operator.link, b"reply"))
        assert operator.take() == [(SEVEN, data(operator.link, b"reply"))]
    assert realm["c"].counters.frames_down == 2
    realm.check()


def test_no_server_is_needed() -> None:
    realm = RealmDesks("a", "b")
    there, operator = player(realm, "a"), realm["b"].operator()
    call(operator)
    assert bodies(there) == [b"call"]


def test_a_player_is_looked_up_once(realm: RealmDesks) -> None:
    there, operator = player(realm, "c"), realm["b"].operator()
    realm["b"].after = lambda: None
    for body in (b"1", b"2", b"3"):
        call(operator, body)
    assert [key for _, key, _, _ in realm.records.asked] == ["p.Bw"]
    realm.settle()
    assert bodies(there) == [b"1", b"2", b"3"]
    call(operator, b"4")
    assert not realm.records.asked and len(calls_of(realm, "b")) == 0
    realm.settle()
    assert bodies(there) == [b"4"]


def test_the_node_with_the_seat_knows_the_player_already(realm: RealmDesks) -> None:
    there, operator = player(realm, "c"), realm["a"].operator()
    realm["a"].after = lambda: None
    call(operator)
    assert not realm.records.asked
    realm.settle()
    assert bodies(there) == [b"call"]


def test_nobody_has_the_player(realm: RealmDesks) -> None:
    operator = realm["b"].operator()
    call(operator)
    assert operator.bounced() == (SEVEN, Code.UNKNOWN_PLAYER, data(operator.link, b"call"))


def test_what_is_no_player_id_is_not_looked_up(realm: RealmDesks) -> None:
    operator = realm["b"].operator()
    realm["b"].after = lambda: None
    operator.send(b"\xc1" * 9, data(operator.link, b"call"))
    assert operator.bounced()[1] is Code.UNKNOWN_PLAYER and not realm.records.asked


def test_a_player_that_is_about_to_leave_is_not_there(realm: RealmDesks) -> None:
    here, operator = player(realm, "b"), realm["b"].operator()
    realm["b"].after = lambda: None
    here.leave()
    operator.take()
    realm.records.asked.clear()  # the record stays a little longer
    call(operator)
    realm.settle()
    assert operator.bounced()[1] is Code.UNKNOWN_PLAYER


def test_records_that_do_not_answer_say_nothing_of_the_player(realm: RealmDesks) -> None:
    player(realm, "c")
    operator = realm["b"].operator()
    realm.records.lose = True
    call(operator)
    assert operator.bounced()[1] is Code.OVERLOADED


def test_a_node_that_lives_may_be_linked_no_more(realm: RealmDesks) -> None:
    player(realm, "c")
    operator = realm["b"].operator()
    realm["c"].realm.other_nodes.pairs.renew("b", "a test", realm.now)
    realm["b"].realm.other_nodes.pairs.renew("c", "a test", realm.now)
    realm["b"].switchboard.tick(realm.now)
    realm["b"].after = lambda: None
    call(operator)
    realm.records.settle(realm.now)
    assert operator.bounced()[1] is Code.OVERLOADED


def test_the_way_to_the_node_may_be_gone(realm: RealmDesks) -> None:
    player(realm, "c")
    operator = realm["b"].operator()
    call(operator)
    realm["b"].frames.outcome = Sent.GONE
    call(operator)
    assert operator.bounced()[1] is Code.OVERLOADED
    realm["b"].frames.outcome = Sent.FULL
    call(operator)
    assert operator.bounced()[1] is Code.OVERLOADED


def test_a_frame_does_not_wait_long(realm: RealmDesks) -> None:
    player(realm, "c")
    operator = realm["b"].operator()
    realm["b"].after = lambda: None
    call(operator)
    realm.records.asked.clear()
    for _ in range(9):
        realm.now += 0.25
        realm["b"].switchboard.tick(realm.now)
        realm["b"].realm.ownership._asking = False
    assert operator.bounced()[1] is Code.OVERLOADED


def test_calls_of_an_operator_that_has_left_are_forgotten(realm: RealmDesks) -> None:
    there, operator, other = player(realm, "c"), realm["b"].operator(), realm["b"].operator()
    realm["b"].after = lambda: None
    call(operator, b"gone")
    call(other, b"call")
    operator.leave()
    realm.settle()
    assert bodies(there) == [b"call"]
    realm["c"].player(8)
    other.send(encoded_id(8), data(other.link, b"gone"))
    other.leave()
    assert len(calls_of(realm, "b")._callees) == 0
    realm.settle()
    assert len(calls_of(realm, "b")._callees) == len(calls_of(realm, "b")) == 0


# -- bounds


def test_one_operator_does_not_take_all_the_room(realm: RealmDesks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_calls, "MAX_FRAMES", 4)
    there = player(realm, "c")
    one, other = realm["b"].operator(), realm["b"].operator()
    realm["b"].after = lambda: None
    for operator in (one, one, one, other, other):
        call(operator)
    assert one.bounced()[1] is Code.OVERLOADED and other.take() == []
    one.send(encoded_id(8), data(one.link, b"call"))
    assert one.bounced()[1] is Code.OVERLOADED
    realm.settle()
    assert len(bodies(there)) == 4 and calls_of(realm, "b")._loads == {}


def test_the_bytes_that_wait_have_a_bound(realm: RealmDesks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_calls, "MAX_BYTES", 100)
    operator = realm["b"].operator()
    realm["b"].after = lambda: None
    call(operator, b"x" * 42)
    assert operator.take() == []
    call(operator, b"")
    assert operator.bounced()[1] is Code.OVERLOADED


def test_callees_that_are_forgotten_are_told_of(realm: RealmDesks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callees, "MAX_CALLEES", 1)
    there, operator = player(realm, "c"), realm["b"].operator()
    call(operator)
    realm["c"].player(8)
    operator.send(encoded_id(8), data(operator.link, b"call"))
    assert lefts(operator) == 1
    call(operator)
    assert bodies(there) == [b"call", b"call"]


# -- players leave and move


def test_an_operator_is_told_that_the_player_has_left(realm: RealmDesks) -> None:
    there, operator = player(realm, "c"), realm["b"].operator()
    call(operator)
    there.send(data(operator.link, b"reply"))
    there.leave()
    reply, left = operator.take()
    assert reply == (SEVEN, data(operator.link, b"reply"))
    assert decode(left[1]) == control.Left((7,))
    call(operator)
    assert operator.bounced()[1] is Code.UNKNOWN_PLAYER
    assert calls_of(realm, "c")._callers[realm["c"].switchboard.roster.nodes["b"]] == set()


def test_all_at_the_node_with_the_seat_are_told_once() -> None:
    realm = RealmDesks("a", "b")
    server, there = serve(realm, "a"), player(realm, "b")
    operator = realm["a"].operator()
    call(operator)
    server.take()
    there.leave()
    assert lefts(operator) == lefts(server) == 1


def test_an_operator_is_told_although_the_seat_has_moved() -> None:
    """Its node hears no more of all players then, but still of those whom its operators have called."""
    realm = RealmDesks("a", "b")
    server, there = serve(realm, "a"), player(realm, "b")
    operator = realm["a"].operator()
    call(operator)
    server.leave()
    serve(realm, "b")
    operator.take()
    there.leave()
    assert lefts(operator) == 1


def test_calls_find_a_player_that_has_moved(realm: RealmDesks) -> None:
    old, operator = player(realm, "c"), realm["b"].operator()
    call(operator)
    new = player(realm, "a", ticket_of(old))
    assert lefts(operator) == 1
    call(operator, b"again")
    assert bodies(new) == [b"again"]


def test_a_frame_that_comes_back_is_looked_up_once_more(realm: RealmDesks) -> None:
    old, operator = player(realm, "c"), realm["b"].operator()
    realm["b"].after = lambda: None
    call(operator, b"1")
    realm.records.settle(realm.now)
    call(operator, b"2")  # both are on their way to c
    held = realm["b"].hold()
    new = player(realm, "a", ticket_of(old))
    realm["b"].frames.sent.extend(held)
    realm.settle()
    assert bodies(new) == [b"1", b"2"] and bodies(old) == [] and operator.take() == []
    assert realm["c"].counters.bounced_unknown_player == 2
    realm.check()


def come_back(realm: RealmDesks, operator: Peer, *frames: bytes) -> list[Any]:
    """Have frames come back that were on their way to c when the player left it.

    Returns:
        What the lookup asks the records then.
    """
    old = player(realm, "c")
    realm["b"].after = lambda: None
    call(operator, frames[0])
    realm.records.settle(realm.now)
    for frame in frames[1:]:
        call(operator, frame)
    held = realm["b"].hold()
    old.leave()
    realm["b"].frames.sent.extend(held)
    for name in "bc":
        realm._deliver(realm[name])
    asked, realm.records.asked = list(realm.records.asked), type(realm.records.asked)()
    return asked


def test_what_comes_back_goes_before_what_has_not_left_yet(realm: RealmDesks) -> None:
    operator = realm["b"].operator()
    asked = come_back(realm, operator, b"1", b"2")
    call(operator, b"3")
    new = player(realm, "a")
    realm.records.asked.extend(asked)
    realm.settle()
    assert bodies(new) == [b"1", b"2", b"3"]


def test_replies_from_where_frames_came_back_from_count(realm: RealmDesks) -> None:
    """The player may have joined there again, and have got what was sent later."""
    operator = realm["b"].operator()
    asked = come_back(realm, operator, b"1")
    again = player(realm, "c")
    again.send(data(operator.link, b"reply"))
    for name in "bc":
        realm._deliver(realm[name])
    assert operator.take() == [(SEVEN, data(operator.link, b"reply"))]
    realm.records.asked.extend(asked)
    realm.settle()
    assert bodies(again) == [b"1"]
    again.send(data(operator.link, b"another"))
    realm.settle()
    assert operator.take() == [(SEVEN, data(operator.link, b"another"))]


def test_a_player_that_is_not_found_again_has_left(realm: RealmDesks) -> None:
    """The calls that came back did not run. Others may have been delivered before, and end too."""
    operator = realm["b"].operator()
    asked = come_back(realm, operator, b"1")
    realm.records.asked.extend(asked)
    realm.settle()
    (address, bounced), (_, left) = operator.take()
    assert address == SEVEN and bounced[1] == FrameType.BOUNCE and bounced.endswith(b"1")
    assert decode(left) == control.Left((7,))


def test_a_player_may_come_to_the_operator_while_it_is_looked_up_again(realm: RealmDesks) -> None:
    operator = realm["b"].operator()
    come_back(realm, operator, b"1")
    here = realm["b"].connect()
    here.say(control.Hello(Role.PLAYER, 7))
    realm.records.settle(realm.now)
    assert lefts(operator) == 1
    assert bodies(here) == [b"1"]


def test_one_that_comes_back_later_follows_at_once(realm: RealmDesks) -> None:
    operator = realm["b"].operator()
    asked = come_back(realm, operator, b"1")
    calls = calls_of(realm, "b")
    number = calls._waiting[SEVEN].after
    new = player(realm, "a")
    realm.records.asked.extend(asked)
    realm.settle()
    assert bodies(new) == [b"1"]
    session = operator.session
    assert calls.take_back(session, SEVEN, data(operator.link, b"2"), number, Code.DRAINING, realm.now)
    realm.settle()
    assert bodies(new) == [b"2"]
    assert not calls.take_back(session, SEVEN, data(), number, Code.OVERLOADED, realm.now)
    assert not calls.take_back(session, encoded_id(8), data(), number, Code.DRAINING, realm.now)


def test_it_is_never_looked_up_twice(realm: RealmDesks) -> None:
    operator = realm["b"].operator()
    asked = come_back(realm, operator, b"1")
    second = player(realm, "a")
    realm.records.asked.extend(asked)
    realm.records.settle(realm.now)
    held = realm["b"].hold()
    third = player(realm, "c", ticket_of(second))
    realm["b"].frames.sent.extend(held)
    realm.settle()
    assert operator.bounced() == (SEVEN, Code.UNKNOWN_PLAYER, data(operator.link, b"1"))
    assert bodies(second) == bodies(third) == []


def test_a_frame_that_comes_back_without_room_to_wait_bounces(
    realm: RealmDesks, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator, old = realm["b"].operator(), player(realm, "c")
    call(operator)
    monkeypatch.setattr(operator_calls, "MAX_FRAMES", 0)
    callee = calls_of(realm, "b")._callees.by_id[SEVEN]
    session, frame = operator.session, data(operator.link, b"x")
    take_back = calls_of(realm, "b").take_back
    assert not take_back(session, SEVEN, frame, callee.number, Code.UNKNOWN_PLAYER, realm.now)
    old.leave()
    assert lefts(operator) == 1


def test_a_call_that_has_ended_is_not_looked_up(realm: RealmDesks) -> None:
    """The operator was told that the player has left. What comes back after that is of ended calls."""
    old, operator = player(realm, "c"), realm["b"].operator()
    call(operator, b"0")
    realm["b"].after = lambda: None
    call(operator, b"1")
    held = realm["b"].hold()
    new = player(realm, "a", ticket_of(old))
    realm["b"].frames.sent.extend(held)
    realm.settle()
    left, bounce = operator.take()
    assert decode(left[1]) == control.Left((7,)) and bounce[1][1] == FrameType.BOUNCE
    assert bodies(new) == []


def test_a_player_whose_connection_is_gone_is_not_looked_up(realm: RealmDesks) -> None:
    """Its session lasts a little longer. What was delivered before may still get a reply."""
    there, operator = player(realm, "c"), realm["b"].operator()
    call(operator)
    realm["c"].wire.gone.add(there.routing_id)
    call(operator, b"lost")
    assert operator.bounced() == (SEVEN, Code.UNKNOWN_PLAYER, data(operator.link, b"lost"))
    there.send(data(operator.link, b"reply"))
    assert bodies(operator) == [b"reply"]
    realm.pass_time(0.5)
    assert lefts(operator) == 1


def test_a_full_player_bounces(realm: RealmDesks) -> None:
    there, operator = player(realm, "c"), realm["b"].operator()
    realm["c"].wire.full.add(there.routing_id)
    call(operator)
    assert operator.bounced()[1] is Code.OVERLOADED


def test_a_player_joins_where_the_operator_is(realm: RealmDesks) -> None:
    operator = realm["b"].operator()
    realm["b"].after = lambda: None
    call(operator, b"1")
    held, realm.records.asked = list(realm.records.asked), type(realm.records.asked)()
    here = realm["b"].connect()
    here.say(control.Hello(Role.PLAYER, 7))
    realm.records.settle(realm.now)
    call(operator, b"2")
    assert bodies(here) == [b"1", b"2"]
    realm.records.asked.extend(held)
    realm.settle()
    assert bodies(here) == [] and len(calls_of(realm, "b")) == 0


def test_a_player_moves_to_where_the_operator_is(realm: RealmDesks) -> None:
    old, operator = player(realm, "c"), realm["b"].operator()
    call(operator)
    player(realm, "b", ticket_of(old))
    assert lefts(operator) == 1  # and not once more when c has heard of it


def test_the_seat_hears_first_where_a_player_is(realm: RealmDesks) -> None:
    """An operator of its node has called the player where it was before."""
    operator = realm["a"].operator()
    old = player(realm, "b")
    call(operator)
    calls_of(realm, "a")._elsewhere.clear()
    player(realm, "c", ticket_of(old))
    assert lefts(operator) == 1


# -- nodes


def test_the_node_of_the_player_dies(realm: RealmDesks) -> None:
    player(realm, "c")
    operator = realm["b"].operator()
    call(operator)
    realm.kill("c")
    realm.pass_time(SILENT_S + 0.5)
    assert lefts(operator) == 1
    call(operator)
    assert operator.bounced()[1] is Code.OVERLOADED  # nobody knows yet whether it lives
    realm.pass_time(20.0)
    call(operator)
    assert operator.bounced()[1] is Code.UNKNOWN_PLAYER


def test_messages_between_the_nodes_are_lost(realm: RealmDesks) -> None:
    there, operator = player(realm, "c"), realm["b"].operator()
    call(operator)
    realm["b"].realm.other_nodes.interrupted(realm.now)
    realm.pass_time(1.5)
    assert lefts(operator) == 1
    assert calls_of(realm, "c")._callers == {}
    there.take()
    call(operator, b"again")
    assert bodies(there) == [b"again"]


def test_a_node_leaves_its_realm(realm: RealmDesks) -> None:
    player(realm, "c")
    operator = realm["b"].operator()
    call(operator)
    operator.send(encoded_id(8), data(operator.link, b"waits"))
    operator.take()
    realm["b"].after = lambda: None
    operator.send(encoded_id(8), data(operator.link, b"waits"))
    realm["b"].realm.ownership.lose("a test", realm.now)
    assert [type(frame) for frame in operator.told()] == [control.Reject]
    calls = calls_of(realm, "b")
    assert len(calls) == len(calls._callees) == 0 and calls._loads == calls._callers == {}


def test_older_nodes_tell_of_no_callees(realm: RealmDesks) -> None:
    """So nobody would know when a call to their players has ended."""
    there = player(realm, "c")
    for name in "ab":
        for node in realm[name].switchboard.roster.nodes.values():
            node.tells_of_callees = False
    operator = realm["b"].operator()
    call(operator)
    assert operator.bounced()[1] is Code.UNKNOWN_PLAYER
    operator = realm["a"].operator()
    call(operator)
    assert bodies(there) == [b"call"]
