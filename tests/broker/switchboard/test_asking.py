"""Questions and orders of operators to other nodes of the realm."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

import pytest
from support.realms import RealmDesks
from support.switchboards import Desk, Peer

from ringback.errors import Code, ProtocolError
from ringback.protocol import control
from ringback.protocol.control import Answer, Order, Query, Subject, What, decode, encode, named
from ringback.protocol.frames import Role
from ringback.protocol.reports import CallFilter
from ringback_broker.cluster.messages import Answered, Question
from ringback_broker.cluster.messages import encode as encode_message
from ringback_broker.operations.snapshot import Lags, RealmView
from ringback_broker.peers.identity import Identity
from ringback_broker.peers.session import Duty
from ringback_broker.switchboard.asking import ANSWER_S, MAX_ASKED


def answers(peer: Peer) -> list[Answer]:
    return [frame for frame in peer.told() if isinstance(frame, Answer)]


def ask(peer: Peer, question: Query | Order) -> Answer:
    """Ask, and return the answer. It must be there once all has been passed on."""
    peer.say(question)
    [answer] = answers(peer)
    assert answer.id == question.id
    return answer


def failed(answer: Answer) -> tuple[Code | None, str]:
    assert answer.rows is None
    return answer.code, answer.reason or ""


def rights(peer: Peer, **changed: Any) -> None:
    """Give an operator other rights, as the access list of its node does it."""
    assert peer.session is not None
    peer.session.rights = replace(peer.session.rights, **changed)


@pytest.fixture
def realm() -> RealmDesks:
    return RealmDesks("a", "b", "c")


def test_a_node_is_asked_by_its_name(realm: RealmDesks) -> None:
    realm["a"].player(1)
    realm["b"].player(2, keys=("k",))
    operator = realm["a"].operator()
    for node, player in (("b", 2), ("a", 1), (None, 1)):
        answer = ask(operator, Query(5, Subject.PLAYERS, node=node))
        assert answer.rows is not None and [row[0] for row in answer.rows] == [player]
    assert ask(operator, Query(6, Subject.PLAYERS, node="c")).rows == ()
    assert len(realm["a"].realm.asking) == 0


def test_the_row_of_one_player(realm: RealmDesks) -> None:
    for player_id in (7, "7", 8):
        realm["b"].player(player_id)
    operator = realm["a"].operator()
    for player_id in (7, "7"):
        rows = ask(operator, Query(5, Subject.PLAYERS, node="b", player_id=player_id)).rows
        assert rows is not None and [row[0] for row in rows] == [player_id]
    assert ask(operator, Query(5, Subject.PLAYERS, node="b", player_id=9)).rows == ()
    assert ask(operator, Query(5, Subject.PLAYERS, player_id=7)).rows == (), "it is not here"


def test_pages_of_another_node(realm: RealmDesks) -> None:
    for number in range(1100):
        realm["b"].player(number + 1)
    operator = realm["a"].operator()
    first = ask(operator, Query(5, Subject.PLAYERS, node="b"))
    assert first.rows is not None and len(first.rows) == 1000 and first.next is not None
    second = ask(operator, Query(6, Subject.PLAYERS, first.next, node="b"))
    assert second.rows is not None and len(second.rows) == 100 and second.next is None


def test_another_node_obeys_orders_and_logs_who_gave_them(realm: RealmDesks) -> None:
    player = realm["b"].player(7)
    operator = realm["a"].operator()
    assert ask(operator, Order(1, What.KICK, 7, node="b")) == Answer(1, None)
    assert player.rejected().code.name == "KICKED"
    by = f"operator {operator.link} of node a"
    assert ("ordered", by, f"kick player 7, by {by}") in realm["b"].wire.reports
    rights(operator, identity=Identity("console", ""))
    assert ask(operator, Order(2, What.KICK, 7, node="b")).code is Code.UNKNOWN_PLAYER
    assert ask(operator, Order(3, What.DRAIN, grace_ms=1500, node="b")) == Answer(3, None)
    assert realm["b"].wire.drains == [1.5] and not realm["a"].wire.drains
    assert ("ordered", by, "drain, by operator 'console' of node a") in realm["b"].wire.reports
    rows = ask(operator, Query(4, Subject.EVENTS, node="b")).rows
    assert rows is not None and named(Subject.EVENTS, rows[-1])["identity"] == "console"


def test_another_node_watches_calls(realm: RealmDesks) -> None:
    operator = realm["a"].operator()
    watcher = realm["b"].operator()
    assert ask(operator, Order(1, What.WATCH, key="k*", for_ms=5000, node="b")) == Answer(1, None)
    assert control.Watch((CallFilter(None, "k*", False),), 250) in watcher.told()
    assert operator.told() == []
    assert ask(operator, Query(2, Subject.CALLS, node="b")).rows == ()


def test_an_operator_without_the_right_is_refused_by_its_own_node(realm: RealmDesks) -> None:
    player = realm["b"].player(7)
    operator = realm["a"].operator()
    rights(operator, may_order=False)
    realm.holds = True
    assert ask(operator, Order(1, What.KICK, 7, node="b")).code is Code.FORBIDDEN
    assert ask(operator, Query(2, Subject.CALLS, node="b")).code is Code.FORBIDDEN
    assert not realm["a"].frames.sent, "nothing crossed"
    realm.holds = False
    assert ask(operator, Query(3, Subject.PLAYERS, node="b")).rows, "it may look at players everywhere"
    assert player.told() == [] and player.session is not None


def test_the_node_that_is_asked_checks_the_rights_too(realm: RealmDesks) -> None:
    player = realm["b"].player(7)
    node = realm["a"].switchboard.roster.nodes["b"]
    asked = Question(99, 5, False, "looker", "10.9.9.9", encode(Order(1, What.KICK, 7)))
    realm["a"].switchboard.sending.notify(node, encode_message(asked))
    realm.settle()
    assert player.told() == [] and player.session is not None
    refused = (
        "refused",
        "operator 5 of node a",
        "10.9.9.9 FORBIDDEN: the operator 'looker' of node a may not give orders",
    )
    assert refused in realm["b"].wire.reports


def test_a_server_cannot_order_another_node(realm: RealmDesks) -> None:
    peer = realm["a"].connect(realm["a"].operator().side)
    peer.say(control.Hello(Role.SERVER, ticket=b"", server_links=True))
    peer.take()
    assert ask(peer, Order(1, What.HAND_OVER, node="b")).code is Code.FORBIDDEN
    assert ask(peer, Order(2, What.HAND_OVER)).code is Code.NO_SERVER


def test_the_server_hands_over_wherever_it_acts(realm: RealmDesks) -> None:
    hello = control.Hello(Role.SERVER, ticket=b"", server_links=True, standby=True)
    operator = realm["a"].operator()
    assert ask(operator, Order(1, What.HAND_OVER)).code is Code.NO_SERVER
    first, second = (realm[name].connect(realm["a"].operator().side) for name in "bc")
    for peer in (first, second):
        peer.say(hello)
    realm.pass_time(3.0)
    assert first.session is not None and first.session.duty is Duty.ACTING
    looker = realm["a"].operator()
    rights(looker, may_order=False)
    assert ask(looker, Order(2, What.HAND_OVER)).code is Code.FORBIDDEN
    assert first.session.duty is Duty.ACTING
    assert ask(operator, Order(3, What.HAND_OVER)) == Answer(3, None)
    realm.pass_time(3.0)
    assert first.session.duty is Duty.RETIRING
    assert second.session is not None and second.session.duty is Duty.ACTING
    assert ask(operator, Query(4, Subject.PLAYERS)).rows == (), "a query is about the own node"


def test_nodes_that_are_not_there_are_named(realm: RealmDesks) -> None:
    operator = realm["a"].operator()
    assert failed(ask(operator, Query(1, Subject.PLAYERS, node="x"))) == (
        Code.UNKNOWN_NODE,
        "the realm has no node 'x'",
    )
    realm.start("berlin")
    realm.pass_time(1.0)
    code, why = failed(ask(operator, Query(1, Subject.PLAYERS, node="berlim")))
    assert (code, why) == (Code.UNKNOWN_NODE, "the realm has no node 'berlim': did you mean 'berlin'?")
    realm["b"].cut = True
    realm.pass_time(6.0)
    code, why = failed(ask(operator, Query(1, Subject.PLAYERS, node="b")))
    assert (code, why) == (Code.UNKNOWN_NODE, "there is no link to the node 'b' now")


def test_a_broker_alone_has_no_nodes() -> None:
    desk = Desk()
    operator = desk.operator()
    assert failed(ask(operator, Query(1, Subject.PLAYERS, node="b"))) == (
        Code.UNKNOWN_NODE,
        "there is no node 'b': this broker is alone",
    )


def test_a_node_that_does_not_answer_in_time(realm: RealmDesks) -> None:
    operator = realm["a"].operator()
    realm.kill("b")
    operator.say(Query(1, Subject.PLAYERS, node="b"))
    realm.pass_time(ANSWER_S - 0.25)
    assert answers(operator) == []
    realm.pass_time(0.5)
    [answer] = answers(operator)
    assert failed(answer) == (Code.TIMEOUT, "the node 'b' did not answer within 2 s")
    assert len(realm["a"].realm.asking) == 0


def test_a_node_that_dies_between_question_and_answer(realm: RealmDesks) -> None:
    operator = realm["a"].operator()
    realm.holds = True
    operator.say(Order(1, What.DRAIN, node="b"))
    operator.say(Query(2, Subject.PLAYERS, node="c"))
    realm.kill("b")
    realm.start("b")  # anew, as another boot
    realm.holds = False
    realm["a"].realm.other_nodes.pairs.renew("b", "test", realm.now)
    realm.settle()
    lost, found = sorted(answers(operator), key=lambda answer: answer.id)
    assert failed(lost) == (Code.CONNECTION_LOST, "the link to the node 'b' was lost before it answered")
    assert found.rows == ()


def test_the_end_of_one_link_ends_no_question_to_others(realm: RealmDesks) -> None:
    operator = realm["a"].operator()
    realm.holds = True
    operator.say(Query(1, Subject.PLAYERS, node="c"))
    operator.say(Query(2, Subject.PLAYERS, node="b"))
    realm["a"].realm.asking.node_ended(realm["a"].switchboard.roster.nodes["b"], realm.now)
    [answer] = answers(operator)
    assert (answer.id, answer.code) == (2, Code.CONNECTION_LOST)
    realm.holds = False
    realm.settle()
    [answer] = answers(operator)
    assert (answer.id, answer.rows) == (1, ())


def test_a_late_answer_is_dropped(realm: RealmDesks) -> None:
    operator = realm["a"].operator()
    operator.say(Query(1, Subject.PLAYERS, node="b"))
    assert len(answers(operator)) == 1
    realm.holds = True
    operator.say(Query(2, Subject.PLAYERS, node="b"))
    realm["a"].realm.asking.tick(realm.now + ANSWER_S)
    assert [answer.code for answer in answers(operator)] == [Code.TIMEOUT]
    realm.holds = False
    realm.settle()
    assert operator.told() == []


def test_no_node_answers_in_the_name_of_another(realm: RealmDesks) -> None:
    operator = realm["a"].operator()
    realm.holds = True
    operator.say(Query(1, Subject.PLAYERS, node="b"))
    asking, nodes = realm["a"].realm.asking, realm["a"].switchboard.roster.nodes
    [number] = asking._asked
    asking.answered(nodes["c"], Answered(number, encode(Answer(1, ((9,),)))), realm.now)
    assert operator.told() == []
    with pytest.raises(ProtocolError, match="not an ANSWER"):
        asking.answered(nodes["b"], Answered(number, b"\x01\x04"), realm.now)
    asking.answered(nodes["b"], Answered(number, encode(Answer(1, ((8,),)))), realm.now)
    assert operator.told() == [Answer(1, ([8],))]


def test_an_operator_that_has_left_gets_nothing(realm: RealmDesks) -> None:
    operator = realm["a"].operator()
    realm.holds = True
    operator.say(Query(1, Subject.PLAYERS, node="b"))
    assert operator.session is not None
    operator.say(control.Bye())
    operator.take()
    realm.holds = False
    realm.settle()
    assert operator.take() == [] and len(realm["a"].realm.asking) == 0
    realm.check()


def test_questions_of_one_operator_to_one_node_are_bounded(realm: RealmDesks) -> None:
    operator, other = realm["a"].operator(), realm["a"].operator()
    realm.holds = True
    for number in range(MAX_ASKED):
        operator.say(Query(number, Subject.PLAYERS, node="b"))
    assert operator.told() == []
    code, why = failed(ask(operator, Query(50, Subject.PLAYERS, node="b")))
    assert (code, why) == (Code.OVERLOADED, "16 questions wait for the node 'b' already")
    for peer, node in ((operator, "c"), (other, "b")):
        peer.say(Query(51, Subject.PLAYERS, node=node))
        assert peer.told() == []
    realm.holds = False
    realm.settle()
    assert len(answers(operator)) == MAX_ASKED + 1 and len(answers(other)) == 1
    assert not realm["a"].realm.asking._counts
    assert ask(operator, Query(52, Subject.PLAYERS, node="b")).rows == ()


def test_a_link_that_is_full_fails_at_once(realm: RealmDesks) -> None:
    operator = realm["a"].operator()
    realm["a"].switchboard.roster.nodes["b"].exhausted = True
    code, why = failed(ask(operator, Query(1, Subject.PLAYERS, node="b")))
    assert (code, why) == (Code.OVERLOADED, "the link to the node 'b' is full")
    realm["a"].switchboard.roster.nodes["b"].exhausted = False
    realm["b"].switchboard.roster.nodes["a"].exhausted = True
    realm["b"].player(7)
    code, why = failed(ask(operator, Query(2, Subject.PLAYERS, node="b")))
    assert (code, why) == (Code.OVERLOADED, "the link from the node 'b' is full")
    assert ask(operator, Order(3, What.KICK, 7, node="b")) == Answer(3, None), "a short answer has room"


def test_a_question_that_an_older_node_does_not_know(realm: RealmDesks) -> None:
    operator = realm["a"].operator()
    realm.holds = True
    operator.say(Query(1, Subject.PLAYERS, node="b"))
    [(name, boot, (*head, frame))] = realm["a"].frames.sent
    newer = frame.replace(b"players", b"planets")
    realm["a"].frames.sent = deque([(name, boot, (*head, newer))])
    realm.holds = False
    realm.settle()
    [answer] = answers(operator)
    assert failed(answer) == (
        Code.INVALID_PAYLOAD,
        "the node 'b' does not know this question: its ringback is older",
    )
    assert sorted(realm["a"].switchboard.roster.nodes) == ["b", "c"], "the link still stands"


def test_an_operator_is_told_the_name_of_its_node(realm: RealmDesks) -> None:
    def welcome(desk: Desk, said: control.Hello) -> str | None:
        peer = desk.connect(desk.operator().side if said.role is not Role.PLAYER else desk.player().side)
        peer.say(said)
        [*_, welcome] = peer.told()
        assert isinstance(welcome, control.Welcome)
        return welcome.node

    assert welcome(realm["a"], control.Hello(Role.OPERATOR)) == "a"
    assert welcome(Desk(), control.Hello(Role.OPERATOR)) == ""
    assert welcome(realm["a"], control.Hello(Role.PLAYER)) is None
    assert welcome(Desk(), control.Hello(Role.SERVER)) is None


# -- the nodes themselves


def nodes(peer: Peer) -> list[dict[str, Any]]:
    rows = ask(peer, Query(1, Subject.NODES)).rows
    assert rows is not None
    return [named(Subject.NODES, row) for row in rows]


def test_an_operator_sees_all_nodes_its_own_first(realm: RealmDesks) -> None:
    operator = realm["b"].operator()
    realm["c"].player(1)
    realm["c"].player(2)
    realm["c"].server()
    realm.pass_time(2.5)
    own, *others = nodes(operator)
    assert [row["node"] for row in (own, *others)] == ["b", "a", "c"]
    assert own["boot"] == realm["b"].realm.ownership.boot.hex() and len(own["boot"]) == 16
    assert own["linked"] and all(row["linked"] for row in others)
    assert own["software"] == others[0]["software"] == "test"
    assert own["since_unix_s"] == others[0]["since_unix_s"] == 1.8e9
    assert (others[1]["players"], others[1]["acting"], others[1]["standbys"]) == (2, 1, 0)
    assert (own["players"], own["acting"]) == (0, 0)
    assert 0 <= own["renewed_s"] <= 2.5 and 0 <= others[0]["renewed_s"] <= 2.5


def test_the_others_soon_see_that_a_node_drains(realm: RealmDesks) -> None:
    operator = realm["b"].operator()
    assert not any(row["draining"] for row in nodes(operator))
    realm["a"].switchboard.drain(10.0)
    realm.pass_time(0.25)
    assert [row["node"] for row in nodes(operator) if row["draining"]] == ["a"]


def test_a_node_that_is_silent_is_seen_as_that(realm: RealmDesks) -> None:
    operator = realm["b"].operator()
    realm.kill("a")
    realm.pass_time(6.0)
    _, dead, alive = nodes(operator)
    assert dead["node"] == "a" and not dead["linked"] and dead["renewed_s"] >= 6.0
    assert alive["linked"] and alive["renewed_s"] <= 2.5
    realm.start("a")
    realm.pass_time(20.0)
    operator = realm["b"].operator()
    assert [row["linked"] for row in nodes(operator)] == [True, True, True]


def test_frames_are_counted_over_some_seconds(realm: RealmDesks) -> None:
    operator = realm["a"].operator()
    realm["a"].counters.frames_up += 100
    realm["a"].counters.frames_relayed += 100
    realm.pass_time(2.0)
    assert 50 <= nodes(operator)[0]["frames_s"] <= 150
    realm.pass_time(4.0)
    assert nodes(operator)[0]["frames_s"] == 0.0


def test_a_snapshot_says_how_a_node_stands(realm: RealmDesks) -> None:
    def view(name: str) -> RealmView | None:
        return realm[name].switchboard.snapshot(realm.now, Lags()).realm

    assert view("a") == RealmView(has_seat=False, others=2, linked=2)
    realm["a"].server()
    realm.kill("b")
    realm.pass_time(6.0)
    assert view("a") == RealmView(has_seat=True, others=2, linked=1)
    assert view("c") == RealmView(has_seat=False, others=2, linked=1)
    assert Desk().switchboard.snapshot(0.0, Lags()).realm is None


def test_a_broker_alone_is_the_one_node() -> None:
    desk = Desk()
    operator = desk.operator()
    desk.server()
    desk.player()
    [row] = nodes(operator)
    assert (row["node"], row["boot"], row["renewed_s"]) == (None, None, None)
    assert (row["players"], row["acting"], row["draining"], row["linked"]) == (1, 1, False, True)


def test_the_rest_of_a_record_may_be_anything(realm: RealmDesks) -> None:
    from ringback_broker.cluster.ownership import decode_node, encode_node

    operator = realm["b"].operator()
    boot, said = decode_node(realm.records.there["node.a"].value)
    realm["a"].cut = True
    realm.records.write(
        "node.a", encode_node(boot, {**said, "software": 5, "players": None, "colour": "red"})
    )
    realm.settle()
    _, row, _ = nodes(operator)
    assert (row["node"], row["software"], row["players"], row["boot"]) == ("a", "", 0, boot.hex())


def test_frames_of_both_are_still_decoded(realm: RealmDesks) -> None:
    asked = Query(1, Subject.NODES, node="b")
    assert decode(encode(asked)) == asked
