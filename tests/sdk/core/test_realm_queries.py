"""Questions to other nodes, and queries over a whole realm."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from support.corefakes import Desk, TestCall

from ringback.errors import Code
from ringback.protocol.control import Answer, Order, Query, Subject, Welcome, What
from ringback.protocol.frames import Role

IDS = (500, 501, 502, 503, 504, 505)


def connected(node: str | None) -> Desk:
    """Return an operator at a broker of a realm; empty: at one that is alone; None: at an older one."""
    desk = Desk(Role.OPERATOR)
    desk.core.start(desk.clock.now, 5.0)
    desk.told(Welcome(3, None, True, 30_000, "test", node=node))
    desk.shell.take_sent()
    return desk


def ask(desk: Desk, after: dict[str, int] | None = None, subject: Subject = Subject.PLAYERS) -> TestCall:
    call = TestCall(77)
    desk.core.query_realm(call, subject, after, iter(IDS))
    desk.flush()
    return call


def asked(desk: Desk) -> list[Any]:
    desk.flush()
    return desk.shell.told()


def test_one_question_to_each_node() -> None:
    desk = connected("b")
    assert desk.core.node == "b"
    call = ask(desk)
    assert asked(desk) == [Query(500, Subject.NODES)]
    desk.told(Answer(500, (["b", "00"], ["a", "00"]), 1000))
    assert asked(desk) == [Query(501, Subject.NODES, 1000)]
    desk.told(Answer(501, (["c", "00"],)))
    assert asked(desk) == [
        Query(502, Subject.PLAYERS, 0, "b"),
        Query(503, Subject.PLAYERS, 0, "a"),
        Query(504, Subject.PLAYERS, 0, "c"),
    ]
    desk.told(Answer(504, ([5, 1.5],)))
    desk.told(Answer(502, ([7, 1.5], [8, 2.5]), 8))
    assert not call.done
    desk.told(Answer(503, ()))
    rows, after, missing = call.results
    assert rows == [["b", 7, 1.5], ["b", 8, 2.5], ["c", 5, 1.5]]
    assert after == {"b": 8} and missing == {}
    more = ask(desk, after)
    assert asked(desk) == [Query(500, Subject.PLAYERS, 8, "b")]
    desk.told(Answer(500, ([9, 0.5],)))
    assert more.results == ([["b", 9, 0.5]], None, {})
    assert ask(desk, {}).results == ([], None, {})
    desk.check_at_rest()


def test_one_player_is_asked_for_everywhere() -> None:
    desk = connected("b")
    call = TestCall(77)
    desk.core.query_realm(call, Subject.PLAYERS, {"a": 0, "b": 0}, iter(IDS), 7)
    assert asked(desk) == [
        Query(500, Subject.PLAYERS, 0, "a", 7),
        Query(501, Subject.PLAYERS, 0, "b", 7),
    ]


@pytest.mark.parametrize("node", ["", None])
def test_a_broker_alone_is_the_one_node(node: str | None) -> None:
    desk = connected(node)
    assert desk.core.node is None
    call = ask(desk)
    assert asked(desk) == [Query(500, Subject.PLAYERS)]
    desk.told(Answer(500, ([5],), 5))
    assert call.results == ([[None, 5]], {"": 5}, {})
    call = ask(desk, {"": 5})
    assert asked(desk) == [Query(500, Subject.PLAYERS, 5)]
    desk.told(Answer(500, (), code=Code.FORBIDDEN))
    assert call.outcome == (Code.FORBIDDEN, "no")
    desk.check_at_rest()


def test_nodes_that_do_not_answer_are_missing() -> None:
    desk = connected("b")
    call = ask(desk, dict.fromkeys("abcde", 0))
    asked(desk)
    desk.told(Answer(500, ([5],)))
    for number, code in enumerate((Code.TIMEOUT, Code.UNKNOWN_NODE, Code.CONNECTION_LOST), 501):
        desk.told(Answer(number, None, code=code, reason=f"reason {number}"))
    desk.told(Answer(504, None, code=Code.OVERLOADED))
    rows, after, missing = call.results
    assert rows == [["a", 5]] and after is None
    assert list(missing) == ["b", "c", "d", "e"] and missing["b"] == "reason 501"


def test_a_node_that_forbids_ends_the_query() -> None:
    desk = connected("b")
    call = ask(desk, {"a": 0, "b": 0}, Subject.CALLS)
    asked(desk)
    desk.told(Answer(500, None, code=Code.FORBIDDEN))
    assert call.outcome == (Code.FORBIDDEN, "no") and call.settled == 1
    desk.told(Answer(501, ()))
    assert call.settled == 1
    desk.check_at_rest()


def test_the_list_of_nodes_may_fail() -> None:
    desk = connected("b")
    call = ask(desk)
    desk.told(Answer(500, None, code=Code.OVERLOADED, reason="no room"))
    assert call.outcome == (Code.OVERLOADED, "no") and call.error.message == "no room"


def test_it_ends_with_the_link_with_its_time_or_by_the_program() -> None:
    desk = connected("b")
    lost, timed, cancelled = TestCall(1), TestCall(2, deadline=desk.clock.now + 1.0), TestCall(3)
    ids = count(500)
    for call in (lost, timed, cancelled):
        desk.core.query_realm(call, Subject.PLAYERS, {"a": 0, "c": 0}, ids)
    desk.core.cancel(cancelled)
    assert cancelled.outcome == (Code.CANCELLED, "maybe")
    desk.wait(1.0)
    assert timed.outcome == (Code.TIMEOUT, "maybe")
    desk.core.link_lost(desk.clock.now, "cut")
    assert lost.outcome == (Code.CONNECTION_LOST, "maybe")
    assert [call.settled for call in (lost, timed, cancelled)] == [1, 1, 1]
    unsent = ask(desk)
    assert unsent.outcome == (Code.CONNECTION_LOST, "no") and desk.core.node is None
    desk.check_at_rest()


def test_an_older_broker_is_asked_nothing_about_nodes() -> None:
    desk = connected(None)
    calls = [TestCall(number) for number in range(3)]
    desk.core.query(calls[0], Subject.NODES, 0)
    desk.core.query(calls[1], Subject.PLAYERS, 0, "b")
    desk.core.order(calls[2], Order(2, What.DRAIN, node="b"))
    assert asked(desk) == []
    assert [call.outcome for call in calls] == [(Code.UNKNOWN_NODE, "no")] * 3
    desk.core.ping(TestCall(9))
    assert len(asked(desk)) == 1


def test_an_order_to_another_node() -> None:
    desk = connected("a")
    call = TestCall(4)
    desk.core.order(call, Order(4, What.DRAIN, node="b"))
    assert asked(desk) == [Order(4, What.DRAIN, node="b")]
    desk.told(Answer(4, None, code=Code.TIMEOUT, reason="the node 'b' did not answer within 2 s"))
    assert call.outcome == (Code.TIMEOUT, "maybe")
    assert call.error.message == "the node 'b' did not answer within 2 s"


def test_a_query_over_the_realm_takes_room_as_questions_do() -> None:
    from ringback.protocol.limits import Limits

    desk = Desk(Role.OPERATOR, limits=Limits(max_pending=1))
    desk.core.start(desk.clock.now, 5.0)
    desk.told(Welcome(3, None, True, 30_000, "test", node="b"))
    desk.core.ping(first := TestCall(9))
    assert ask(desk).outcome == (Code.OVERLOADED, "no") and not first.done
