"""Calls in: running handlers, the limits that refuse calls, and replies."""

from __future__ import annotations

from typing import Any

import pytest
from support.corefakes import DATA_0, Desk, connected, data, only_error, rows_of

from ringback.core.endpoint_state import IDLE_S
from ringback.errors import CallbackError, Code, HandlerError, InvalidPayload, UnknownCallback
from ringback.protocol import control
from ringback.protocol.bounces import bounce
from ringback.protocol.envelopes import CANCEL, ERROR, RESULT, Encoder, join
from ringback.protocol.frames import FrameType, Role, header
from ringback.protocol.limits import Limits
from ringback.protocol.player_ids import encode_player_id

write = Encoder(Limits())
CONTEXT = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


def test_a_call_is_handled_on_its_route(server: Desk) -> None:
    server.gets(
        header(FrameType.RELAY, 9) + join([write.call(5, "k", {"a": 1}, None)]), encode_player_id("s")
    )
    [execution] = server.shell.waiting
    assert (execution.source, execution.payload, execution.key) == ("s", {"a": 1}, "k")
    assert execution.begin(server.clock.read) == ("s", {"a": 1}, execution)
    execution(1, 2)
    assert execution.replied
    server.flush()
    [(address, frame)] = server.shell.take_sent()
    assert (address, frame[:8]) == (encode_player_id("s"), header(FrameType.RELAY, 9))
    assert server.counters.executions == 1


def test_the_context_of_a_call_is_kept_for_its_handler(player: Desk) -> None:
    player.gets(data(write.call(5, "k", [1], None, CONTEXT), write.call(6, "k", [2], 900)))
    [traced, plain] = player.handle()
    assert (traced.context, traced.payload, traced.deadline) == (CONTEXT, [1], None)
    assert (plain.context, plain.payload, plain.deadline) == (None, [2], player.clock.now + 0.9)


def test_an_unknown_key(player: Desk) -> None:
    player.gets(data(write.call(5, "nothing", None, None)))
    assert only_error(player) == (5, Code.UNKNOWN_CALLBACK, 0)
    assert player.counters.refused == 1 and player.shell.waiting == []


def test_an_unreadable_call_gets_a_reply(player: Desk) -> None:
    player.gets(DATA_0 + join([b"\x93\x01\x05\xa1k", write.call(6, "k", None, None)]))
    assert [execution.id for execution in player.handle()] == [6]
    assert only_error(player) == (5, Code.INVALID_PAYLOAD, 0)


def test_a_call_id_twice_runs_once(player: Desk) -> None:
    for _ in range(2):
        player.gets(data(write.call(5, "k", None, None), write.call(5, "k", None, None)))
    [execution] = player.handle()
    assert player.counters.invalid == 3
    execution(1)
    player.flush()
    assert player.bodies() == [[[RESULT, 5, [1]]]]


def test_the_same_id_of_two_callers_is_two_calls(server: Desk) -> None:
    for source in (7, 8):
        server.gets(data(write.call(5, "k", None, None)), encode_player_id(source))
    for execution in server.handle():
        execution(execution.source)
    server.flush()
    assert server.bodies() == [[[RESULT, 5, [7]]], [[RESULT, 5, [8]]]]


def test_bytes_in_flight_are_bounded_for_each_caller() -> None:
    server = connected(Role.SERVER, limits=Limits(max_in_flight_bytes=2000))
    calls = [write.call(number, "k", bytes(1500), None) for number in (1, 2, 3)]
    server.gets(data(*calls), encode_player_id(7))
    server.gets(data(calls[0]), encode_player_id(8))
    first, _, other = server.handle()
    assert other.source == 8
    assert only_error(server) == (3, Code.OVERLOADED, 0)
    first()
    server.gets(data(calls[2]), encode_player_id(7))
    assert [execution.id for execution in server.handle()] == [3]
    server.told(control.Left((7, 8)))
    assert server.calls_in.running == 0


def test_calls_in_flight_are_bounded_over_all_callers() -> None:
    server = connected(Role.SERVER, limits=Limits(max_running=2))
    for player_id in (7, 8, 9):
        server.gets(data(write.call(1, "k", None, None)), encode_player_id(player_id))
    first, second = server.handle()
    assert only_error(server) == (1, Code.OVERLOADED, 0)
    first()
    server.gets(data(write.call(1, "k", None, None)), encode_player_id(9))
    [third] = server.handle()
    assert (second.source, third.source) == (8, 9)


def test_a_reply_that_finds_the_link_full_becomes_an_error() -> None:
    """The outbox is bounded, also when handlers go on replying."""
    server = connected(Role.SERVER, limits=Limits(max_queued_bytes=1000))
    server.gets(data(*(write.call(number, "k", None, None) for number in range(50))), encode_player_id(7))
    server.shell.room = 0
    for execution in server.handle():
        execution(bytes(500))
    assert server.outbox.queued_bytes < 1000 + 600 + 50 * 100
    server.shell.room = None
    server.flush()
    [replies] = server.bodies()
    kinds = [envelope[0] for envelope in replies]
    assert kinds == [RESULT] * 2 + [ERROR] * 48
    assert {(envelope[2], envelope[4]) for envelope in replies[2:]} == {(Code.OVERLOADED, 2)}


def test_a_refusal_that_finds_the_link_full_does_not_say_that_the_handler_ran() -> None:
    server = connected(Role.SERVER, limits=Limits(max_queued_bytes=10))
    server.gets(data(*(write.call(number, "k", None, 10) for number in range(3))), encode_player_id(7))
    server.shell.room = 0
    first, refused, late = server.shell.waiting
    first.begin(server.clock.read)
    first(bytes(100))
    refused.refuse(InvalidPayload("the payload does not fit"))
    server.clock.now += 1.0
    assert late.begin(server.clock.read) is None
    server.shell.room = None
    server.flush()
    [[_, *errors]] = server.bodies()
    assert [tuple(envelope[i] for i in (1, 2, 4)) for envelope in errors] == [
        (1, Code.OVERLOADED, 0),
        (2, Code.OVERLOADED, 0),
    ]


def test_calls_in_flight_are_bounded_for_each_caller() -> None:
    server = connected(Role.SERVER, limits=Limits(max_in_flight=2))
    calls = [write.call(number, "k", None, None) for number in (1, 2, 3)]
    server.gets(data(*calls), encode_player_id(7))
    server.gets(data(*calls[:2]), encode_player_id(8))
    first, *rest = server.handle()
    assert len(rest) == 3
    assert only_error(server) == (3, Code.OVERLOADED, 0)
    first()
    server.gets(data(calls[2]), encode_player_id(7))
    assert [execution.id for execution in server.handle()] == [3]


def test_calls_a_second_are_bounded_for_each_caller() -> None:
    server = connected(Role.SERVER, limits=Limits(max_calls_per_s=10))
    server.gets(data(*(write.call(number, "k", None, None) for number in range(12))), encode_player_id(7))
    assert len(server.handle()) == 10
    server.flush()
    [errors] = server.bodies()
    assert [(envelope[1], envelope[2], envelope[4]) for envelope in errors] == [
        (10, Code.RATE_LIMITED, 0),
        (11, Code.RATE_LIMITED, 0),
    ]
    retry_after = errors[0][5]["retry_after"]
    assert retry_after == pytest.approx(0.1)
    server.gets(data(write.call(20, "k", None, None)), encode_player_id(8))
    assert len(server.handle()) == 1
    server.wait(retry_after / 2)
    server.gets(data(write.call(21, "k", None, None)), encode_player_id(7))
    assert server.handle() == []
    server.wait(retry_after)
    server.gets(data(write.call(22, "k", None, None)), encode_player_id(7))
    assert len(server.handle()) == 1


def test_a_rate_limit_is_remembered_until_it_is_full_again() -> None:
    server = connected(Role.SERVER, limits=Limits(max_calls_per_s=1))
    server.gets(data(write.call(1, "k", None, 10)), encode_player_id(7))
    server.handle()[0]()
    server.wait(0.1)
    server.gets(data(write.call(2, "k", None, 10)), encode_player_id(7))
    assert server.handle() == []
    server.wait(5.0)
    server.gets(data(write.call(3, "k", None, 10)), encode_player_id(7))
    server.wait(5.0)
    server.call(8, timeout_s=0.1)
    server.wait(1.0)
    assert encode_player_id(7) + DATA_0 not in server.peers


def test_a_bounce_does_not_make_a_rate_limit_forget() -> None:
    server = connected(Role.SERVER, limits=Limits(max_calls_per_s=2))
    server.gets(data(write.call(1, "k", None, None), write.call(2, "k", None, None)), encode_player_id(7))
    for execution in server.handle():
        execution()
    server.flush()
    [(_, frame)] = server.shell.take_sent()
    server.gets(bounce(Code.UNKNOWN_PLAYER, frame), encode_player_id(7))
    server.gets(data(write.call(3, "k", None, None)), encode_player_id(7))
    assert server.handle() == []
    assert only_error(server) == (3, Code.RATE_LIMITED, 0)


def test_a_slow_rate_limit_is_remembered_until_it_is_full_again() -> None:
    server = connected(Role.SERVER, limits=Limits(max_calls_per_s=0.05))
    server.gets(data(write.call(1, "k", None, None)), encode_player_id(7))
    server.handle()[0]()
    server.wait(IDLE_S + 5.0)
    server.gets(data(write.call(2, "k", None, None)), encode_player_id(7))
    assert server.handle() == []
    server.wait(5.0)
    server.gets(data(write.call(3, "k", None, None)), encode_player_id(7))
    assert len(server.handle()) == 1


@pytest.mark.parametrize("budget_ms", [0, 5])
def test_a_handler_does_not_start_when_the_budget_is_spent(player: Desk, budget_ms: int) -> None:
    player.gets(data(write.call(5, "k", None, budget_ms)))
    assert len(player.shell.waiting) == (budget_ms > 0)
    player.clock.now += 0.005
    assert player.handle() == []
    assert only_error(player) == (5, Code.TIMEOUT, 0)
    player.check_at_rest()


def test_a_handler_that_is_too_late_is_told_so_and_its_reply_dropped(player: Desk) -> None:
    player.gets(data(write.call(5, "k", None, 100)))
    [execution] = player.handle()
    assert execution.deadline == player.clock.now + 0.1
    player.wait(0.2)
    assert execution.cancelled and player.shell.stopped == [execution]
    player.flush()
    assert only_error(player) == (5, Code.TIMEOUT, 1)
    execution(1)
    player.flush()
    assert player.shell.take_sent() == [] and player.counters.late_replies == 1
    player.check_at_rest()


def test_a_call_that_waits_for_a_worker_until_its_time_is_over(player: Desk) -> None:
    player.gets(data(write.call(5, "k", None, 100)))
    player.wait(0.2)
    player.flush()
    assert only_error(player) == (5, Code.TIMEOUT, 1)
    assert player.handle() == []
    player.check_at_rest()


@pytest.mark.parametrize("key", ["k", "unknown"])
@pytest.mark.parametrize("budget_ms", [None, 0, 50])
def test_a_second_call_with_an_id_in_flight_does_not_end_the_first(
    player: Desk, key: str, budget_ms: int | None
) -> None:
    player.gets(data(write.call(5, "k", None, None)))
    [execution] = player.handle()
    player.gets(data(write.call(5, key, None, budget_ms)))
    player.gets(data(b"\x95\x01\x05\xa1k\xc0\xff"))  # a budget of -1
    player.flush()
    assert player.shell.take_sent() == [] and player.counters.invalid == 2 and player.handle() == []
    execution(1)
    player.flush()
    assert player.bodies() == [[[RESULT, 5, [1]]]]
    player.check_at_rest()


def test_a_cancelled_execution(player: Desk) -> None:
    calls = [write.call(number, "k", None, None) for number in (5, 6)]
    player.gets(data(*calls))
    [waiting] = [execution for execution in player.shell.waiting if execution.id == 5]
    player.gets(data(write.cancel(5), write.cancel(99)))
    [running] = player.handle()
    assert running.id == 6 and waiting.cancelled
    player.gets(data(write.cancel(6)))
    assert running.cancelled and player.shell.stopped == [waiting, running]
    running(1)
    player.flush()
    assert player.shell.take_sent() == [] and player.counters.late_replies == 1
    player.check_at_rest()


def test_a_second_reply_is_counted_by_the_shell(player: Desk) -> None:
    player.gets(data(write.call(5, "k", None, None)))
    [execution] = player.handle()
    execution(1)
    execution(2)
    execution.fail(HandlerError("late"))
    player.flush()
    assert player.bodies() == [[[RESULT, 5, [1]]]]
    assert player.shell.duplicates == 1


def test_a_handler_never_fails_with_a_code_of_the_protocol(player: Desk) -> None:
    """A caller must be able to trust that UNKNOWN_CALLBACK means that nothing ran."""
    player.gets(data(*(write.call(number, "k", None, None) for number in range(4))))
    own, pretends, odd, twice = player.handle()
    own.fail(CallbackError("dear", code="SOLD_OUT", executed="no", data=[1]))
    pretends.fail(UnknownCallback("not so"))
    odd.fail(ValueError("a secret"))
    twice.fail(CallbackError(code="A"))
    twice.fail(CallbackError(code="B"))
    player.flush()
    [errors] = player.bodies()
    assert [(error[2], error[4], error[5]) for error in errors] == [
        ("SOLD_OUT", 2, [1]),
        (Code.HANDLER_ERROR, 2, None),
        (Code.HANDLER_ERROR, 2, None),
        ("A", 2, None),
    ]
    assert "secret" not in errors[2][3]


@pytest.mark.parametrize(
    ("wrong", "found"), [("sold out", "str"), (ValueError, "ValueError"), (None, "NoneType")]
)
def test_a_handler_fails_only_with_an_exception(player: Desk, wrong: Any, found: str) -> None:
    player.gets(data(write.call(5, "k", None, None)))
    [execution] = player.handle()
    with pytest.raises(TypeError, match=rf"^cb\.fail takes an exception, such as .*, not {found}$"):
        execution.fail(wrong)
    assert not execution.replied
    execution(1)
    player.flush()
    assert player.bodies() == [[[RESULT, 5, [1]]]]


def test_an_error_of_the_application_with_an_odd_message_is_a_handler_error(player: Desk) -> None:
    player.gets(data(write.call(5, "k", None, None)))
    [execution] = player.handle()
    error = CallbackError("dear", code="SOLD_OUT")
    error.message = 7  # type: ignore[assignment]
    execution.fail(error)
    assert only_error(player) == (5, Code.HANDLER_ERROR, 2)


def test_a_damaged_cancel_is_counted_and_dropped(player: Desk) -> None:
    player.gets(DATA_0 + b"\x91\x93" + bytes((CANCEL, 5, 0)))
    assert player.flush() and player.shell.take_sent() == []
    assert rows_of(player.counters) == {"invalid": 1}


def test_a_late_reply_does_not_end_a_new_call_with_the_same_id(server: Desk) -> None:
    """A player that comes back has the same route, and may use the ID of an earlier call again."""
    server.gets(data(write.call(5, "k", "old", None)), encode_player_id(7))
    [old] = server.handle()
    server.told(control.Left((7,)))
    server.gets(data(write.call(5, "k", "new", None)), encode_player_id(7))
    [new] = server.handle()
    old("old")
    new("new")
    server.flush()
    assert server.bodies() == [[[RESULT, 5, ["new"]]]] and server.counters.late_replies == 1
    server.check_at_rest()
