"""Questions to the broker: queries, orders, pings, and their answers."""

from __future__ import annotations

from typing import Any

from support.corefakes import Desk, TestCall

from ringback.errors import Code
from ringback.protocol import control
from ringback.protocol.frames import Role
from ringback.protocol.limits import Limits


def connected(role: Role, *, link: int = 0, lease_ms: int = 30_000, **limits: Any) -> Desk:
    desk = Desk(role, limits=Limits(**limits))
    desk.connect(link=link, lease_ms=lease_ms)
    desk.shell.events.clear()
    return desk


def test_a_query() -> None:
    operator = connected(Role.OPERATOR, link=1)
    call = TestCall(77)
    operator.core.query(call, control.Subject.PLAYERS, 5)
    operator.flush()
    assert operator.shell.told() == [control.Query(77, control.Subject.PLAYERS, 5)]
    operator.told(control.Answer(78, ()))
    assert not call.done and operator.counters.stray_replies == 1
    operator.told(control.Answer(77, ([7, 1.5, 2],), 6))
    assert call.results == ([[7, 1.5, 2]], 6)
    operator.check_at_rest()


def test_a_ping() -> None:
    player = connected(Role.PLAYER)
    call = TestCall(2**64 - 1)
    player.core.ping(call)
    player.flush()
    assert player.shell.told() == [control.Ping(b"\xff" * 8)]
    player.told(control.Pong(b"\xff" * 8))
    assert call.results == ()
    player.told(control.Pong(b"\xff" * 8))
    assert player.counters.stray_replies == 1
    player.check_at_rest()


def test_questions_end_like_calls() -> None:
    operator = connected(Role.OPERATOR, link=1)
    timed, cancelled, lost = TestCall(1, deadline=operator.clock.now + 1.0), TestCall(2), TestCall(3)
    for call in (timed, cancelled, lost):
        operator.core.query(call, control.Subject.COUNTERS, 0)
    operator.core.cancel(cancelled)
    operator.wait(1.0)
    assert len(operator.shell.told()) == 3
    operator.core.link_lost(operator.clock.now, "cut")
    unsent = TestCall(4)
    operator.core.ping(unsent)
    assert timed.outcome == (Code.TIMEOUT, "maybe")
    assert cancelled.outcome == (Code.CANCELLED, "maybe")
    assert lost.outcome == (Code.CONNECTION_LOST, "maybe")
    assert unsent.outcome == (Code.CONNECTION_LOST, "no")
    operator.check_at_rest()


def test_an_order_ends_by_its_answer() -> None:
    operator = connected(Role.OPERATOR, link=3)
    done, refused = TestCall(1), TestCall(2)
    operator.core.order(done, control.Order(1, control.What.DRAIN))
    operator.core.order(refused, control.Order(2, control.What.KICK, 7))
    operator.flush()
    assert [type(frame) for frame in operator.shell.told()] == [control.Order, control.Order]
    operator.told(control.Answer(1, None))
    operator.told(control.Answer(2, None, code=Code.UNKNOWN_PLAYER))
    assert done.results == () and refused.outcome == (Code.UNKNOWN_PLAYER, "no")


def test_questions_take_no_room_from_calls_and_need_none() -> None:
    server = connected(Role.SERVER, max_pending=1)
    first, second = server.call(7, flush=True), TestCall(101)
    server.core.ping(second)
    server.flush()
    assert not first.done and not second.done
    assert server.call(7).outcome == (Code.OVERLOADED, "no")
    server.core.cancel(first)
    third = server.call(7, flush=True)
    assert not third.done and not second.done
    server.check_sums()


def test_too_many_questions_at_once() -> None:
    operator = connected(Role.OPERATOR, link=1, max_pending=2)
    calls = [TestCall(number) for number in range(3)]
    for call in calls:
        operator.core.query(call, control.Subject.PLAYERS, 0)
    assert calls[2].outcome == (Code.OVERLOADED, "no") and "2 questions to the broker" in str(calls[2].error)
    operator.flush()
    assert len(operator.shell.told()) == 2
    operator.told(control.Answer(0, ()))
    operator.core.query(again := TestCall(3), control.Subject.PLAYERS, 0)
    assert not again.done
    operator.check_sums()
