"""Calls out, calls in, and every way in which they end."""

from __future__ import annotations

from typing import Any

import pytest
from support.corefakes import DATA_0, Clock, Desk, FakeBroker, TestCall, rows_of

from ringback.core.bounced_replies import FIRST_RESEND_S, LONGEST_RESEND_S
from ringback.core.deadlines import SWEEP_S
from ringback.core.endpoint_state import IDLE_S
from ringback.errors import CallbackError, Code, HandlerError, UnknownCallback
from ringback.protocol import control
from ringback.protocol.bounces import bounce
from ringback.protocol.envelopes import CALL, CANCEL, ERROR, RESULT, Encoder, join
from ringback.protocol.frames import FrameType, Role, header
from ringback.protocol.limits import Limits
from ringback.protocol.player_ids import encode_player_id

write = Encoder(Limits())
CONTEXT = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


def data(*envelopes: bytes, link: int = 0) -> bytes:
    return header(FrameType.DATA, link) + join(list(envelopes))


def connected(role: Role, *, link: int = 0, **settings: Any) -> Desk:
    desk = Desk(role, **settings)
    desk.connect(link=link)
    return desk


@pytest.fixture
def player() -> Desk:
    return connected(Role.PLAYER)


@pytest.fixture
def server() -> Desk:
    return connected(Role.SERVER)


def only_error(desk: Desk) -> tuple[Any, ...]:
    """Gives id, code and executed of the ERROR that is all that was sent."""
    desk.flush()
    [[envelope]] = desk.bodies()
    assert envelope[0] == ERROR
    return envelope[1], envelope[2], envelope[4]


# -- answers


def test_results_and_errors_end_their_calls(player: Desk) -> None:
    calls = [player.call(flush=True) for _ in range(3)]
    player.gets(
        data(
            write.result(3, (1, [2])),
            write.error(1, CallbackError("no", code="SHUT", data={"until": 8})),
            write.result(2, ()),
        )
    )
    assert calls[2].results == (1, [2])
    assert calls[1].results == ()
    error = calls[0].error
    assert (error.code, error.message, error.executed, error.data) == ("SHUT", "no", "yes", {"until": 8})
    assert rows_of(player.counters) == {"calls": 3, "results": 2, "errors": 1}
    player.check_at_rest()


def test_only_calls_with_callbacks_are_given_to_the_shell(player: Desk) -> None:
    silent, heard, watched = (player.call(flush=True) for _ in range(3))
    heard.callback = print
    watched.on_error = print
    player.gets(data(*(write.result(call.id, ()) for call in (silent, heard, watched))))
    assert player.shell.ended == [heard, watched]


def test_waiters_are_woken_once_whenever_they_come(player: Desk) -> None:
    woken: list[str] = []
    call = player.call(flush=True)
    call.add_waiter(lambda: woken.append("early"))
    player.gets(data(write.result(call.id, ())))
    call.add_waiter(lambda: woken.append("late"))
    assert woken == ["early", "late"]


def test_waiters_are_woken_in_the_order_in_which_they_came(player: Desk) -> None:
    woken: list[int] = []
    call = player.call(flush=True)
    for number in range(3):
        call.add_waiter(lambda number=number: woken.append(number))  # type: ignore[misc]
    player.gets(data(write.result(call.id, ())))
    assert woken == [0, 1, 2]


def test_late_and_repeated_answers_are_counted(player: Desk) -> None:
    call = player.call(flush=True)
    for _ in range(3):
        player.gets(data(write.result(call.id, (1,))))
    player.gets(data(write.error(call.id, HandlerError(""))))
    assert (call.results, call.settled) == ((1,), 1)
    assert player.counters.stray_replies == 3


@pytest.mark.parametrize(
    ("address", "frame_type", "link"),
    [
        (8, FrameType.DATA, 0),
        ("7", FrameType.DATA, 0),
        (7, FrameType.DATA, 1),
        (7, FrameType.RELAY, 0),
        (7, FrameType.RELAY, 1),
    ],
)
def test_an_answer_on_another_route_is_ignored(
    server: Desk, address: int | str, frame_type: FrameType, link: int
) -> None:
    call = server.call(7, flush=True)
    frame = header(frame_type, link) + join([write.result(call.id, ("forged",))])
    server.gets(frame, encode_player_id(address))
    assert not call.done and server.counters.stray_replies == 1
    server.gets(data(write.error(call.id, HandlerError(""))), encode_player_id(8))
    assert not call.done and server.counters.stray_replies == 2
    server.gets(data(write.result(call.id, ("true",))), encode_player_id(7))
    assert call.results == ("true",)


def test_an_operator_can_not_be_answered_by_the_wrong_side() -> None:
    operator = connected(Role.OPERATOR, link=5)
    to_player = operator.call(7, flush=True)
    to_server = operator.call(7, kind=FrameType.RELAY, flush=True)
    assert [frame[:8] for _, frame in operator.shell.take_sent()] == [
        header(FrameType.DATA, 5),
        header(FrameType.RELAY, 5),
    ]
    body = join([write.result(to_player.id, ("p",)), write.result(to_server.id, ("s",))])
    operator.gets(header(FrameType.RELAY, 5) + body, encode_player_id(7))
    assert to_server.results == ("s",) and not to_player.done
    operator.gets(header(FrameType.DATA, 5) + body, encode_player_id(7))
    assert to_player.results == ("p",)
    assert operator.counters.stray_replies == 2


def test_unreadable_answers_fail_their_calls(player: Desk) -> None:
    result, error = player.call(flush=True), player.call(flush=True)
    bad_result = b"\x93\x02" + bytes([result.id]) + b"\x05"
    bad_error = b"\x96\x03" + bytes([error.id]) + b"\xcc\xff\xa0\x01\xc0"
    player.gets(DATA_0 + join([bad_result, bad_error, b"\x01"]))
    assert result.outcome == (Code.INVALID_PAYLOAD, "yes")
    assert error.outcome == (Code.INVALID_PAYLOAD, "maybe")
    assert player.counters.invalid == 3
    player.check_at_rest()


# -- bounces


@pytest.mark.parametrize("code", [Code.NO_SERVER, Code.UNKNOWN_PLAYER, Code.OVERLOADED, Code.DRAINING])
def test_a_bounce_fails_exactly_its_calls(server: Desk, code: Code) -> None:
    first, second = server.call(7, flush=True), server.call(7)
    third = server.call(7, flush=True)
    elsewhere = server.call(8, flush=True)
    [_, (address, frame), _] = server.shell.take_sent()
    server.gets(bounce(code, frame), address)
    assert second.outcome == third.outcome == (code, "no")
    assert not first.done and not elsewhere.done
    assert second.error.message
    server.gets(bounce(code, frame), address)
    assert second.settled == third.settled == 1
    assert server.counters.stray_replies == 0
    server.check_sums()


def test_a_bounce_with_a_reason_of_a_newer_broker(server: Desk) -> None:
    call = server.call(7, flush=True)
    [(address, frame)] = server.shell.take_sent()
    server.gets(bounce(999, frame), address)
    assert call.outcome == (Code.OVERLOADED, "no")


@pytest.mark.parametrize("inside", [b"", b"\x01\x10", DATA_0, DATA_0 + b"\xc1"])
def test_odd_bounces_harm_nothing(server: Desk, inside: bytes) -> None:
    call = server.call(7, flush=True)
    server.gets(bounce(2, inside), encode_player_id(7))
    server.gets(bounce(2, inside), b"\xc1")
    assert not call.done
    server.check_sums()


def test_what_a_bounce_holds_is_read_without_a_receivers_limits() -> None:
    player = connected(Role.PLAYER, limits=Limits(max_array_len=6, max_call_bytes=64, max_depth=2))
    player.shell.encoder = Encoder(Limits())
    call = player.call(payload=[[[[1]]], list(range(1000))], flush=True)
    [(_, frame)] = player.shell.take_sent()
    player.gets(bounce(Code.NO_SERVER, frame))
    assert call.outcome == (Code.NO_SERVER, "no")


def answered(server: Desk, *, ids: tuple[int, ...] = (1, 2)) -> bytes:
    """Player 7 calls, and gets answers; gives their frame."""
    server.gets(data(*(write.call(number, "k", None, None) for number in ids)), encode_player_id(7))
    for execution in server.handle():
        execution(execution.id)
    server.flush()
    [(address, frame)] = server.shell.take_sent()
    assert address == encode_player_id(7)
    return frame


def test_answers_that_found_a_queue_full_are_sent_again(server: Desk) -> None:
    frame = answered(server)
    waited: list[float] = []
    for _ in range(8):
        server.gets(bounce(Code.OVERLOADED, frame), encode_player_id(7))
        server.check_sums()
        due_at = server.core.due_at()
        assert due_at is not None
        waited.append(round(due_at - server.clock.now, 6))
        server.wait(waited[-1] - 0.001)
        assert server.shell.take_sent() == []
        server.wait(0.0011)
        assert server.shell.take_sent() == [(encode_player_id(7), frame)]
    assert waited == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]
    assert waited[0] == FIRST_RESEND_S and waited[-1] == LONGEST_RESEND_S
    server.wait(3.0)
    server.gets(bounce(Code.OVERLOADED, frame), encode_player_id(7))
    due_at = server.core.due_at()
    assert due_at == pytest.approx(server.clock.now + FIRST_RESEND_S)


def test_errors_that_found_a_queue_full_are_sent_again_too(server: Desk) -> None:
    server.gets(data(write.call(5, "unknown", None, None)), encode_player_id(7))
    server.flush()
    sent = server.shell.take_sent()
    server.gets(bounce(Code.OVERLOADED, sent[0][1]), encode_player_id(7))
    server.wait(FIRST_RESEND_S)
    assert server.shell.take_sent() == sent


def test_several_bounces_are_resent_together(server: Desk) -> None:
    frames = [answered(server, ids=(1,)), answered(server, ids=(2, 3))]
    for frame in frames:
        server.gets(bounce(Code.OVERLOADED, frame), encode_player_id(7))
    server.wait(FIRST_RESEND_S)
    assert [envelope[:2] for [*body] in server.bodies() for envelope in body] == [
        [RESULT, 1],
        [RESULT, 2],
        [RESULT, 3],
    ]


def test_an_answer_comes_back_after_its_route_was_forgotten(server: Desk) -> None:
    frame = answered(server)
    other = server.call(8, timeout_s=0.01)
    server.wait(0.02)
    assert other.done and encode_player_id(7) + DATA_0 not in server.peers
    server.shell.take_sent()
    server.gets(bounce(Code.OVERLOADED, frame), encode_player_id(7))
    server.wait(FIRST_RESEND_S)
    assert server.shell.take_sent() == [(encode_player_id(7), frame)]


def test_answers_are_not_sent_again_when_nobody_is_there(server: Desk) -> None:
    frame = answered(server)
    for code in (Code.UNKNOWN_PLAYER, Code.NO_SERVER, Code.DRAINING):
        server.gets(bounce(code, frame), encode_player_id(7))
    server.wait(5.0)
    assert server.shell.take_sent() == []
    server.check_at_rest()


def test_waiting_answers_are_forgotten_when_the_player_leaves(server: Desk) -> None:
    frame = answered(server)
    server.told(control.Joined((7,)))
    server.gets(bounce(Code.OVERLOADED, frame), encode_player_id(7))
    server.told(control.Left((7,)))
    server.check_at_rest()
    server.wait(5.0)
    assert server.shell.take_sent() == []


def test_waiting_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the bound a short word waits in the place of a result: the call may have no time limit."""
    monkeypatch.setattr("ringback.core.bounced_replies.MAX_RETURNED", 15)
    monkeypatch.setattr("ringback.core.bounced_replies.SHORT_BYTES", 3)
    server = connected(Role.SERVER, limits=Limits(max_queued_bytes=10))
    frame = answered(server, ids=tuple(range(1, 20)))
    server.gets(bounce(Code.OVERLOADED, frame), encode_player_id(7))
    assert server.counters.late_replies == 4
    server.wait(FIRST_RESEND_S)
    [body] = server.bodies()
    kinds = [envelope[0] for envelope in body]
    assert kinds == sorted(kinds) and set(kinds) == {RESULT, ERROR} and len(body) == 15
    assert {(word[2], word[4]) for word in body if word[0] == ERROR} == {(Code.OVERLOADED, 2)}


def test_an_answer_that_nobody_can_read_bounces_as_an_error(server: Desk) -> None:
    """A caller without a time limit would wait for ever."""
    server.gets(data(write.call(5, "k", None, None)), encode_player_id(7))
    [execution] = server.handle()
    execution({(1, 2): 3})  # msgpack writes such a map, and reads none
    server.flush()
    [(address, frame)] = server.shell.take_sent()
    server.gets(bounce(Code.OVERLOADED, frame), address)
    server.wait(1.0)
    [[error]] = server.bodies()
    assert (error[0], error[1], error[2], error[4]) == (ERROR, 5, Code.INVALID_PAYLOAD, 2)


def test_a_bounced_cancel_is_dropped(server: Desk) -> None:
    call = server.call(7, flush=True)
    server.shell.take_sent()
    server.core.cancel(call)
    server.flush()
    [(address, frame)] = server.shell.take_sent()
    server.gets(bounce(Code.OVERLOADED, frame), address)
    server.wait(5.0)
    assert server.shell.take_sent() == []
    server.check_at_rest()


# -- calls in


def test_a_call_is_handled_on_its_route(server: Desk) -> None:
    server.gets(
        header(FrameType.RELAY, 9) + join([write.call(5, "k", {"a": 1}, None)]), encode_player_id("s")
    )
    [execution] = server.handle()
    assert (execution.source, execution.payload, execution.key) == ("s", {"a": 1}, "k")
    assert execution.arguments() == ("s", {"a": 1}, execution)
    execution(1, 2)
    assert execution.replied
    server.flush()
    [(address, frame)] = server.shell.take_sent()
    assert (address, frame[:8]) == (encode_player_id("s"), header(FrameType.RELAY, 9))
    assert server.counters.executions == 1


def test_what_a_call_carries_is_kept_for_its_handler(player: Desk) -> None:
    player.gets(data(write.call(5, "k", [1], None, CONTEXT), write.call(6, "k", [2], 900)))
    [traced, plain] = player.handle()
    assert (traced.context, traced.payload, traced.deadline) == (CONTEXT, [1], None)
    assert (plain.context, plain.payload, plain.deadline) == (None, [2], player.clock.now + 0.9)


def test_an_unknown_key(player: Desk) -> None:
    player.gets(data(write.call(5, "nothing", None, None)))
    assert only_error(player) == (5, Code.UNKNOWN_CALLBACK, 0)
    assert player.counters.refused == 1 and player.shell.waiting == []


def test_an_unreadable_call_is_answered(player: Desk) -> None:
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


def test_an_answer_that_finds_the_link_full_becomes_an_error() -> None:
    """What waits is bounded, also when handlers go on answering."""
    server = connected(Role.SERVER, limits=Limits(max_queued_bytes=1000))
    server.gets(data(*(write.call(number, "k", None, None) for number in range(50))), encode_player_id(7))
    server.shell.room = 0
    for execution in server.handle():
        execution(bytes(500))
    assert server.outbox.queued_bytes < 1000 + 600 + 50 * 100
    server.shell.room = None
    server.flush()
    [answers] = server.bodies()
    kinds = [envelope[0] for envelope in answers]
    assert kinds == [RESULT] * 2 + [ERROR] * 48
    assert {(envelope[2], envelope[4]) for envelope in answers[2:]} == {(Code.OVERLOADED, 2)}


def test_calls_in_flight_to_one_peer_are_bounded() -> None:
    """One that does not answer takes the room of no other."""
    server = connected(Role.SERVER, limits=Limits(max_in_flight=2))
    calls = [server.call(7, flush=True) for _ in range(3)]
    assert calls[2].outcome == (Code.OVERLOADED, "no")
    assert not calls[1].done and not server.call(8, flush=True).done


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


def test_a_rate_limit_is_remembered_while_it_says_something() -> None:
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
    frame = answered(server)
    server.gets(bounce(Code.UNKNOWN_PLAYER, frame), encode_player_id(7))
    server.gets(data(write.call(3, "k", None, None)), encode_player_id(7))
    assert server.handle() == []
    assert only_error(server) == (3, Code.RATE_LIMITED, 0)


def test_a_slow_rate_limit_is_remembered_as_long_as_it_says_something() -> None:
    server = connected(Role.SERVER, limits=Limits(max_calls_per_s=0.05))
    server.gets(data(write.call(1, "k", None, None)), encode_player_id(7))
    server.handle()[0]()
    server.wait(IDLE_S + 5.0)
    server.gets(data(write.call(2, "k", None, None)), encode_player_id(7))
    assert server.handle() == []
    server.wait(5.0)
    server.gets(data(write.call(3, "k", None, None)), encode_player_id(7))
    assert len(server.handle()) == 1


def test_calls_of_ones_own_are_bounded() -> None:
    player = connected(Role.PLAYER, limits=Limits(max_pending=2))
    calls = [player.call(flush=True) for _ in range(3)]
    assert calls[2].outcome == (Code.OVERLOADED, "no")
    player.gets(data(write.result(1, ())))
    assert not player.call(flush=True).done
    player.check_sums()


# -- deadlines


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
    """It must not leave later with a budget that is long spent."""
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
    """It sets its timer after a flush; that the link is full does not matter to the deadline."""
    player.shell.room = 0
    player.call(timeout_s=15.0)
    assert not player.flush()
    wanted = player.shell.flushes_wanted
    soon = player.call(timeout_s=0.1)
    assert player.shell.flushes_wanted == wanted + 1
    player.wait(0.2)
    assert soon.outcome == (Code.TIMEOUT, "no")


def test_many_calls_time_out_each_in_its_time(player: Desk) -> None:
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
    """What one call's time-out has another call made for ends in its time too."""
    first = player.call(timeout_s=0.1)
    following: list[Any] = []
    first.add_waiter(lambda: following.append(player.call(timeout_s=0.1)))
    player.wait(0.1)
    assert len(following) == 1
    player.wait(0.11)
    assert following[0].outcome == (Code.TIMEOUT, "maybe")
    player.check_at_rest()


@pytest.mark.parametrize("budget_ms", [0, 5])
def test_a_handler_does_not_start_when_the_budget_is_spent(player: Desk, budget_ms: int) -> None:
    player.gets(data(write.call(5, "k", None, budget_ms)))
    assert len(player.shell.waiting) == (budget_ms > 0)
    player.clock.now += 0.005
    assert player.handle() == []
    assert only_error(player) == (5, Code.TIMEOUT, 0)
    player.check_at_rest()


def test_a_handler_that_is_too_late_is_told_so_and_its_answer_dropped(player: Desk) -> None:
    player.gets(data(write.call(5, "k", None, 100)))
    [execution] = player.handle()
    assert execution.deadline == player.clock.now + 0.1
    player.wait(0.2)
    assert execution.cancelled and player.shell.stopped == [execution]
    execution(1)
    player.flush()
    assert player.shell.take_sent() == [] and player.counters.late_replies == 1
    player.check_at_rest()


# -- cancels


def test_a_call_is_cancelled_before_it_leaves(player: Desk) -> None:
    call = player.call()
    player.core.cancel(call)
    player.core.cancel(call)
    assert call.outcome == (Code.CANCELLED, "no")
    player.flush()
    assert player.shell.take_sent() == []
    player.check_at_rest()


def test_a_call_with_a_context_is_found_in_the_queue_too(server: Desk) -> None:
    """By its first bytes: as it is cancelled, as its time is over, and as whom it is for leaves."""
    cancelled, late = server.call(7, context=CONTEXT), server.call(7, context=CONTEXT, timeout_s=0.01)
    left, kept = server.call(7, context=CONTEXT), server.call(8, context=CONTEXT)
    server.shell.room = 0
    server.core.cancel(cancelled)
    server.wait(0.02)
    server.told(control.Left((7,)))
    assert [call.outcome for call in (cancelled, late, left)] == [
        (Code.CANCELLED, "no"),
        (Code.TIMEOUT, "no"),
        (Code.PLAYER_LEFT, "no"),
    ]
    server.shell.room = None
    server.flush()
    [(address, frame)] = server.shell.take_sent()
    server.gets(bounce(Code.UNKNOWN_PLAYER, frame), address)
    assert kept.outcome == (Code.UNKNOWN_PLAYER, "no")
    server.check_at_rest()


def test_a_cancel_follows_its_call(player: Desk) -> None:
    call, other = player.call(flush=True), player.call()
    player.core.cancel(call)
    player.flush()
    assert call.outcome == (Code.CANCELLED, "maybe")
    assert player.bodies() == [[[CALL, 1, "k", None, None]], [[CALL, 2, "k", None, None], [CANCEL, 1]]]
    assert not other.done


def test_a_cancel_after_the_end_says_nothing(player: Desk) -> None:
    call = player.call(flush=True)
    player.gets(data(write.result(call.id, (1,))))
    player.shell.take_sent()
    player.core.cancel(call)
    player.flush()
    assert call.results == (1,) and player.shell.take_sent() == []
    unsent = Desk(Role.PLAYER).call()
    player.core.cancel(unsent)
    assert unsent.outcome == (Code.CONNECTION_LOST, "no")


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


def test_a_second_answer_is_counted_by_the_shell(player: Desk) -> None:
    player.gets(data(write.call(5, "k", None, None)))
    [execution] = player.handle()
    execution(1)
    execution(2)
    execution.fail(HandlerError("late"))
    player.flush()
    assert player.bodies() == [[[RESULT, 5, [1]]]]
    assert player.shell.duplicates == 1


def test_what_a_handler_fails_with_is_never_a_code_of_the_protocol(player: Desk) -> None:
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


# -- lost peers


def test_a_lost_link_ends_everything(server: Desk) -> None:
    sent = server.call(7, flush=True)
    server.gets(data(write.call(5, "k", None, None)), encode_player_id(7))
    [execution] = server.handle()
    unsent = server.call(7)
    elsewhere = server.call(8)
    server.core.link_lost(server.clock.now, "test")
    assert sent.outcome == (Code.CONNECTION_LOST, "maybe")
    assert unsent.outcome == elsewhere.outcome == (Code.CONNECTION_LOST, "no")
    assert execution.cancelled and server.shell.stopped == [execution]
    assert server.call(7).outcome == (Code.CONNECTION_LOST, "no")
    execution(1)
    server.connect()
    server.flush()
    assert [frame for frame in server.shell.take_sent() if frame[1][1] == FrameType.DATA] == []
    assert server.counters.late_replies == 1
    server.check_at_rest()


def test_part_of_a_flush_was_sent_when_the_link_broke(player: Desk) -> None:
    calls = [player.call() for _ in range(300)]
    player.shell.room = 1
    player.flush()
    player.core.link_lost(player.clock.now, "test")
    assert [call.error.executed for call in calls] == ["maybe"] * 256 + ["no"] * 44
    player.check_sums()


def test_a_player_leaves(server: Desk) -> None:
    server.told(control.Joined((7, 8)))
    sent, other = server.call(7, flush=True), server.call(8, flush=True)
    unsent, local = server.call(7), server.call(7, kind=None)
    server.gets(data(write.call(5, "k", None, None)), encode_player_id(7))
    server.gets(header(FrameType.RELAY, 1) + join([write.call(5, "k", None, None)]), encode_player_id(7))
    own, relayed = server.handle()
    server.told(control.Left((7,)))
    assert sent.outcome == (Code.PLAYER_LEFT, "maybe")
    assert unsent.outcome == (Code.PLAYER_LEFT, "no")
    assert not other.done and not local.done
    assert own.cancelled and not relayed.cancelled
    assert server.shell.stopped == [own]
    assert encode_player_id(7) + DATA_0 not in server.peers
    server.told(control.Joined((7,)))
    server.shell.take_sent()
    own("of the old session")
    relayed("still wanted")
    server.flush()
    [(_, frame)] = server.shell.take_sent()
    assert frame[:8] == header(FrameType.RELAY, 1)
    server.gets(data(write.result(sent.id, ())), encode_player_id(7))
    assert server.counters.stray_replies == 1


def test_the_server_goes_down(player: Desk) -> None:
    sent, unsent = player.call(flush=True), None
    player.gets(data(write.call(5, "k", None, None), link=3))
    player.gets(data(write.call(5, "k", None, None)))
    of_operator, of_server = player.handle()
    unsent = player.call()
    player.told(control.ServerDown())
    assert sent.outcome == (Code.SERVER_LOST, "maybe")
    assert unsent.outcome == (Code.SERVER_LOST, "no")
    assert of_server.cancelled and not of_operator.cancelled
    assert player.shell.stopped == [of_server]
    player.told(control.ServerUp())
    assert not player.call(flush=True).done


def test_the_server_goes_down_for_an_operator() -> None:
    operator = connected(Role.OPERATOR, link=4)
    relays = [operator.call(source, kind=FrameType.RELAY, flush=True) for source in (7, 8)]
    direct = operator.call(7, flush=True)
    operator.told(control.ServerDown())
    assert {call.outcome for call in relays} == {(Code.SERVER_LOST, "maybe")}
    assert not direct.done
    operator.told(control.Left((7,)))
    assert direct.outcome == (Code.PLAYER_LEFT, "maybe")
    operator.check_at_rest()


# -- all together


def test_all_pairs_of_roles_over_a_broker() -> None:
    clock = Clock()
    broker = FakeBroker(clock)
    server = broker.add(Desk(Role.SERVER, clock=clock))
    player = broker.add(Desk(Role.PLAYER, clock=clock, player_id="p"))
    operators = [broker.add(Desk(Role.OPERATOR, clock=clock)) for _ in range(2)]
    broker.start(server, player, *operators)
    calls = [player.call(), server.call("p")]
    for operator in operators:  # ids are the same on purpose
        calls += [operator.call("p"), operator.call("someone", kind=FrameType.RELAY)]
    broker.run()
    for desk in (server, player):
        for execution in desk.handle():
            execution(desk.role, execution.source, execution.route[-4:])
    broker.run()
    assert [call.results[:2] for call in calls] == [
        ("server", "p"),
        ("player", None),
        *[("player", None), ("server", "someone")] * 2,
    ]
    assert calls[2].results[2] != calls[4].results[2]
    for desk in (server, player, *operators):
        desk.check_at_rest()
        assert desk.counters.stray_replies == desk.counters.invalid == 0


def test_a_slow_player_gets_its_answers_in_the_end() -> None:
    clock = Clock()
    broker = FakeBroker(clock)
    server = broker.add(Desk(Role.SERVER, clock=clock))
    player = broker.add(Desk(Role.PLAYER, clock=clock))
    broker.start(server, player)
    call = player.call(timeout_s=10.0)
    broker.run()
    broker.lines[player].full = True
    for execution in server.handle():
        execution("here")
    broker.run()
    refused = server.call(player.core.player_id)
    broker.run()
    assert refused.outcome == (Code.OVERLOADED, "no")
    broker.wait(2.0)
    assert not call.done
    broker.lines[player].full = False
    broker.wait(1.1)
    assert call.results == ("here",)
    server.check_at_rest()
    player.check_at_rest()
