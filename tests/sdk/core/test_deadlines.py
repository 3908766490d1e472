"""Deadlines: time-outs, the sweep, and when idle peers are forgotten."""

from __future__ import annotations

from typing import Any

import pytest
from support.corefakes import Desk, TestCall, connected, data

from ringback.core.deadlines import SWEEP_S
from ringback.core.endpoint_state import IDLE_S
from ringback.errors import Code
from ringback.protocol.envelopes import CALL, CANCEL, ERROR, RESULT, Encoder
from ringback.protocol.frames import Role
from ringback.protocol.limits import Limits
from ringback.protocol.player_ids import encode_player_id

write = Encoder(Limits())


def test_a_call_times_out(player: Desk) -> None:
    call = player.call(timeout_s=1.0, flush=True)
    player.wait(0.999)
    assert not call.done
    player.wait(0.001)
    assert call.outcome == (Code.TIMEOUT, "maybe")
    assert player.bodies() == [[[CALL, 1, "k", None, 1000]], [[CANCEL, 1]]]
    player.gets(data(write.result(call.id, (1,))))
    assert player.counters.stray_replies == 1
    player.check_at_rest()


def test_a_call_times_out_before_it_leaves(player: Desk) -> None:
    """It must not leave later, when its budget is long over."""
    sent = player.call(timeout_s=1.0, flush=True)
    player.shell.room = 0
    late, patient = player.call(timeout_s=1.0), player.call(timeout_s=9.0)
    player.wait(2.0)
    assert sent.outcome == (Code.TIMEOUT, "maybe")
    assert late.outcome == (Code.TIMEOUT, "no")
    player.check_sums()
    player.shell.room = None
    player.flush()
    first, second = player.bodies()
    assert [envelope[1] for envelope in first] == [sent.id]
    assert second == [[CALL, patient.id, "k", None, 9000], [CANCEL, sent.id]]


def test_a_question_to_the_broker_times_out() -> None:
    operator = connected(Role.OPERATOR, link=3)
    question = TestCall(1, deadline=operator.clock.now + 1.0)
    operator.core.ping(question)
    operator.flush()
    operator.shell.take_sent()
    operator.wait(2.0)
    assert question.outcome == (Code.TIMEOUT, "maybe")
    assert operator.shell.take_sent() == []


def test_routes_are_forgotten_without_any_deadline(server: Desk) -> None:
    for player_id in range(1, 100):
        server.gets(data(write.call(1, "k", None, None)), encode_player_id(player_id))
    for execution in server.handle():
        execution()
    server.flush()
    assert len(server.peers) == 99
    server.wait(2 * IDLE_S)
    assert server.peers == {} and server.due_at() == float("inf")


def test_a_deadline_behind_a_full_link_is_told_to_the_shell(player: Desk) -> None:
    """The shell sets its timer after a flush. A full link must not delay the deadline."""
    player.shell.room = 0
    player.call(timeout_s=15.0)
    assert not player.flush()
    wanted = player.shell.flushes_wanted
    soon = player.call(timeout_s=0.1)
    assert player.shell.flushes_wanted == wanted + 1
    player.wait(0.2)
    assert soon.outcome == (Code.TIMEOUT, "no")


def test_many_calls_time_out_on_time(player: Desk) -> None:
    calls = [player.call(timeout_s=0.1 + 0.001 * (number % 700)) for number in range(2100)]
    forever = player.call(flush=True)
    lateness = SWEEP_S + 0.003
    steps = 0
    while player.calls_out.pending > 1:
        due_at = player.core.due_at()
        assert due_at is not None
        player.clock.now = due_at
        player.core.tick(due_at)
        steps += 1
        for call in calls:
            assert call.deadline is not None
            assert call.done or call.deadline > due_at
            if call.done and call.settled == 1:
                assert call.deadline <= due_at < call.deadline + lateness + 0.001
                call.settled = 2
    assert steps <= 0.7 / SWEEP_S + 2
    assert not forever.done
    assert player.due_at() >= player.clock.now + IDLE_S - lateness


@pytest.mark.parametrize("whose", ["own", "others"])
def test_sweeps_are_not_more_frequent_for_new_calls(player: Desk, whose: str) -> None:
    for _ in range(1000):
        player.call()
    sweeps = 0
    sweep = player.core._deadlines.sweep

    def counting(now: float) -> None:
        nonlocal sweeps
        sweeps += 1
        sweep(now)

    player.core._deadlines.sweep = counting  # type: ignore[method-assign]
    for number in range(100):
        if whose == "own":
            player.call(timeout_s=0.0005, call_id=10_000 + number)
        else:
            player.gets(data(write.call(number, "k", None, 1)))
        player.wait(0.001)
    assert 10 <= sweeps <= 0.1 / SWEEP_S + 2
    player.wait(1.0)
    assert player.calls_out.pending == 1000


def test_a_deadline_set_while_others_are_told_is_kept(player: Desk) -> None:
    """A call that is made because another call timed out ends in time too."""
    first = player.call(timeout_s=0.1)
    following: list[Any] = []
    first.add_waiter(lambda: following.append(player.call(timeout_s=0.1)))
    player.wait(0.1)
    assert len(following) == 1
    player.wait(0.11)
    assert following[0].outcome == (Code.TIMEOUT, "maybe")
    player.check_at_rest()


def test_handlers_are_stopped_on_time(player: Desk) -> None:
    player.gets(
        data(write.call(1, "k", None, 100), write.call(2, "k", None, 50), write.call(3, "k", None, 200))
    )
    first, second, third = player.handle()
    player.wait(0.06)
    assert [execution.cancelled for execution in (first, second, third)] == [False, True, False]
    player.wait(0.05)
    assert [execution.cancelled for execution in (first, second, third)] == [True, True, False]
    player.wait(0.1)
    assert third.cancelled
    player.check_at_rest()


def test_a_handler_that_stops_may_reply_for_others_whose_time_is_over_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    player = connected(Role.PLAYER)
    player.gets(data(*(write.call(number, "k", None, 1000) for number in (1, 2))))
    first, second = player.handle()
    monkeypatch.setattr(player.shell, "cancel", lambda execution: second("done"))
    player.wait(1.1)
    [replies] = player.bodies()
    assert [envelope[:3] for envelope in replies] == [[ERROR, 1, Code.TIMEOUT], [RESULT, 2, ["done"]]]
    assert first.cancelled and not second.cancelled
