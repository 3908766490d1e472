"""Once: calls with a token do not run twice, and a repeat gets the outcome of the first run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.corefakes import Desk, connected, data, envelopes_of

from ringback.core import remembered_calls
from ringback.core.execution import Execution
from ringback.errors import EXECUTED, CallbackError, Code, InvalidPayload, Overloaded
from ringback.protocol import control
from ringback.protocol.contexts import ONCE
from ringback.protocol.envelopes import ERROR, PROGRESS, RESULT, Encoder, join
from ringback.protocol.frames import FIRST_OWN_LINK, FrameType, Role, header
from ringback.protocol.limits import Limits
from ringback.protocol.repeats import NOT_KNOWN, REPEAT_KEY

write = Encoder(Limits())
VECTORS = Path(__file__).parents[2] / "vectors"
TOKEN, OTHER = bytes(range(16)), bytes(range(16, 32))
SEVEN, EIGHT = b"\x07", b"\x08"


@pytest.fixture
def old() -> Desk:
    """Return a server that has been there for a minute."""
    desk = Desk(Role.SERVER)
    desk.connect(lease_ms=100_000_000)
    desk.wait(60.0)
    return desk


def first(
    desk: Desk,
    call_id: int = 1,
    *,
    token: bytes = TOKEN,
    budget_ms: int | None = None,
    who: bytes = SEVEN,
    key: str = "k",
    context: dict[str, str] | None = None,
    kind: FrameType = FrameType.DATA,
    link: int = 0,
) -> None:
    """Give an endpoint a CALL with a token."""
    envelope = write.call(call_id, key, "p", budget_ms, {ONCE: token.hex(), **(context or {})})
    desk.gets(header(kind, link) + join([envelope]), who)


def repeat(
    desk: Desk,
    call_id: int = 2,
    *,
    token: bytes = TOKEN,
    age_s: float = 1.0,
    budget_ms: int | None = None,
    who: bytes = SEVEN,
    key: str = "k",
    context: dict[str, str] | None = None,
    kind: FrameType = FrameType.DATA,
    link: int = 0,
) -> None:
    """Give an endpoint a repeat."""
    payload = [key, token, int(1000 * age_s), "p"]
    envelope = write.call(call_id, REPEAT_KEY, payload, budget_ms, context)
    desk.gets(header(kind, link) + join([envelope]), who)


def sent(desk: Desk) -> list[list[Any]]:
    desk.flush()
    return sent_before(desk)


def sent_before(desk: Desk) -> list[list[Any]]:
    frames = [frame for _, frame in desk.shell.take_sent() if frame[1] in (FrameType.DATA, FrameType.RELAY)]
    return [envelope for frame in frames for envelope in envelopes_of(frame)]


def only_run(desk: Desk) -> Execution:
    [execution] = desk.handle()
    return execution


def error_of(desk: Desk) -> tuple[int, Code, str]:
    [[kind, call_id, code, _, executed, _]] = sent(desk)
    assert kind == ERROR
    return call_id, Code(code), EXECUTED[executed]


def lose_players(desk: Desk, *player_ids: Any) -> None:
    desk.told(control.Left(player_ids))


# -- a first try


def test_a_call_with_a_token_runs_as_any_other(old: Desk) -> None:
    first(old, context={"traceparent": "x"})
    execution = only_run(old)
    assert (execution.payload, execution.source, execution.context) == ("p", 7, {"traceparent": "x"})
    assert old.calls_in.running == 1
    execution("done")
    assert sent(old) == [[RESULT, 1, ["done"]]]
    old.check_at_rest()
    assert old.core.load().remembered == 1
    execution("again")
    assert old.shell.duplicates == 1


def test_without_a_trace_there_is_no_context(old: Desk) -> None:
    first(old)
    assert only_run(old).context is None


def test_what_is_no_token_has_no_meaning(old: Desk) -> None:
    old.gets(data(write.call(1, "k", "p", None, {ONCE: "odd"})), SEVEN)
    only_run(old)("done")
    assert sent(old) == [[RESULT, 1, ["done"]]]
    assert old.core.load().remembered == 0


def test_a_refused_call_is_not_remembered(old: Desk) -> None:
    first(old, key="nothing")
    assert error_of(old) == (1, Code.UNKNOWN_CALLBACK, "no")
    assert old.core.load().remembered == 0
    first(old, 2)
    only_run(old)("done")
    assert sent(old) == [[RESULT, 2, ["done"]]]


def test_a_call_whose_handler_did_not_run_is_not_remembered(old: Desk) -> None:
    """Its thread could not start, for example. The next try runs it."""
    first(old)
    repeat(old, 2)
    only_run(old).refuse(Overloaded("no thread is left", executed="no"))
    assert [(kind, code, executed) for kind, _, code, _, executed, _ in sent(old)] == 2 * [
        (ERROR, Code.OVERLOADED, EXECUTED.index("no"))
    ]
    assert old.core.load().remembered == 0
    first(old, 3)
    only_run(old)("done")
    assert sent(old) == [[RESULT, 3, ["done"]]]


def test_the_id_of_a_call_in_flight_is_invalid(old: Desk) -> None:
    first(old)
    first(old, token=OTHER)
    assert old.counters.invalid == 1 and len(old.handle()) == 1


# -- it comes again


def test_a_repeat_gets_the_outcome(old: Desk) -> None:
    first(old)
    only_run(old)("done", 2)
    sent(old)
    for number in (2, 3):
        repeat(old, number)
        assert sent(old) == [[RESULT, number, ["done", 2]]]
    assert old.handle() == []
    old.check_at_rest()


def test_a_repeat_gets_an_error_as_it_was(old: Desk) -> None:
    first(old)
    only_run(old).fail(CallbackError("sold out", code="SOLD_OUT", data=[1]))
    assert sent(old) == [[ERROR, 1, "SOLD_OUT", "sold out", 2, [1]]]
    repeat(old)
    assert sent(old) == [[ERROR, 2, "SOLD_OUT", "sold out", 2, [1]]]


def test_a_repeat_waits_for_the_first_run(old: Desk) -> None:
    first(old)
    execution = only_run(old)
    lose_players(old, 7)
    assert not execution.cancelled and old.shell.stopped == []
    assert old.calls_in.running == 1
    repeat(old)
    assert (old.handle(), old.calls_in.running) == ([], 2)
    execution("done")
    assert sent(old) == [[RESULT, 2, ["done"]]]
    old.check_at_rest()


def test_the_outcome_of_a_run_that_nobody_waits_for_is_kept(old: Desk) -> None:
    first(old)
    execution = only_run(old)
    lose_players(old, 7)
    execution("done")
    assert sent(old) == []
    repeat(old)
    assert sent(old) == [[RESULT, 2, ["done"]]]
    assert old.counters.late_replies == 0


def test_all_that_wait_get_the_outcome(old: Desk) -> None:
    first(old)
    execution = only_run(old)
    for number in (2, 3):
        repeat(old, number)
    execution("done")
    assert sorted(sent(old)) == [[RESULT, number, ["done"]] for number in (1, 2, 3)]
    old.check_at_rest()


def test_a_first_try_that_comes_late_does_not_run_again(old: Desk) -> None:
    repeat(old)
    only_run(old)("done")
    first(old)
    assert sent(old) == [[RESULT, 2, ["done"]], [RESULT, 1, ["done"]]]
    assert old.handle() == []


def test_a_token_belongs_to_its_caller(old: Desk) -> None:
    first(old)
    only_run(old)("for seven")
    sent(old)
    repeat(old, who=EIGHT)
    only_run(old)("for eight")
    assert sent(old) == [[RESULT, 2, ["for eight"]]]


def test_an_operator_comes_back_with_another_link(old: Desk) -> None:
    first(old, kind=FrameType.RELAY, link=3)
    only_run(old)("done")
    sent(old)
    repeat(old, kind=FrameType.RELAY, link=4)
    old.flush()
    [(address, frame)] = old.shell.take_sent()
    assert (address, frame[:8]) == (SEVEN, header(FrameType.RELAY, 4))
    assert envelopes_of(frame) == [[RESULT, 2, ["done"]]]


def test_a_repeat_carries_the_trace_and_its_time(old: Desk) -> None:
    repeat(old, budget_ms=500, context={"traceparent": "x"})
    execution = only_run(old)
    assert (execution.key, execution.payload, execution.context) == ("k", "p", {"traceparent": "x"})
    assert execution.deadline == old.clock.now + 0.5


def test_a_repeat_of_odd_form_is_refused(old: Desk) -> None:
    old.gets(data(write.call(1, REPEAT_KEY, ["k"], None)), SEVEN)
    assert error_of(old) == (1, Code.INVALID_PAYLOAD, "no")


def test_the_inner_key_counts_for_permissions_and_figures(old: Desk) -> None:
    old.register("closed", allow={8})
    repeat(old, key="closed")
    assert error_of(old) == (2, Code.FORBIDDEN, "no")
    repeat(old, 3, key="nothing")
    assert error_of(old) == (3, Code.UNKNOWN_CALLBACK, "no")


def progress_of(desk: Desk, execution: Execution, value: Any) -> None:
    """Report progress, as the shells do."""
    desk.core.report(execution, write.progress(execution.id, value))


def test_progress_goes_to_all_that_wait(old: Desk) -> None:
    first(old, 300)
    execution = only_run(old)
    repeat(old, 2)
    progress_of(old, execution, "half")
    assert sorted(sent(old)) == [[PROGRESS, 2, "half"], [PROGRESS, 300, "half"]]
    lose_players(old, 7)
    progress_of(old, execution, "more")
    assert sent(old) == [] and old.counters.dropped_progress == 1
    repeat(old, 4)
    progress_of(old, execution, "nearly")
    execution("done")
    progress_of(old, execution, "late")
    assert sent(old) == [[PROGRESS, 4, "nearly"], [RESULT, 4, ["done"]]]
    assert old.counters.dropped_progress == 2


# -- an unknown token


def test_an_endpoint_that_was_not_there_for_the_first_try_is_not_sure(old: Desk) -> None:
    sure_s = 60.0 - remembered_calls.ON_THE_WAY_S
    repeat(old, age_s=sure_s + 1.0)
    [envelope] = sent(old)
    assert envelope[:3] == [ERROR, 2, Code.CONNECTION_LOST] and envelope[4:] == [1, NOT_KNOWN]
    repeat(old, 3, age_s=sure_s - 1.0)
    only_run(old)("done")
    assert sent(old) == [[RESULT, 3, ["done"]]]


def test_an_outcome_may_have_been_forgotten(old: Desk) -> None:
    old.clock.now += 1000.0
    repeat(old, age_s=remembered_calls.REMEMBER_S - 1.0)
    assert error_of(old) == (2, Code.CONNECTION_LOST, "maybe")


def test_an_idempotent_callback_runs_in_any_case(old: Desk) -> None:
    old.register("safe", idempotent=True)
    repeat(old, age_s=1000.0, key="safe")
    only_run(old)("done")
    assert sent(old) == [[RESULT, 2, ["done"]]]


def test_while_another_server_had_the_place_this_one_knows_nothing(old: Desk) -> None:
    old.core.link_lost(old.clock.now, "gone")
    old.wait(0.1)
    old.gets(b"\x01\x03" + bytes(6) + b"\x82\xa4code\x04\xa6reason\xa5taken")  # REJECT SERVER_TAKEN
    old.wait(3.0)
    old.welcome()
    old.shell.take_sent()
    repeat(old, age_s=4.0)
    assert error_of(old) == (2, Code.CONNECTION_LOST, "maybe")


def test_a_server_that_stood_by_knows_nothing_of_calls_from_before_a_new_link() -> None:
    """Over the old link, they came to another server. The broker has started anew, and this one acts."""
    desk = Desk(Role.SERVER, standby=True)
    desk.core.start(desk.clock.now, 5.0)
    told = control.Welcome(0, None, True, 300_000, "test", own_link=FIRST_OWN_LINK)
    desk.told(replace(told, standby=True))
    desk.wait(100.0)
    desk.core.link_lost(desk.clock.now, "the broker has ended")
    desk.wait(1.0)
    desk.told(told)
    desk.wait(1.0)
    assert desk.core.acting
    desk.shell.take_sent()
    repeat(desk, age_s=3.0)
    assert error_of(desk) == (2, Code.CONNECTION_LOST, "maybe")


# -- cancels and deadlines


def test_a_cancel_stops_the_handler(old: Desk) -> None:
    first(old)
    execution = only_run(old)
    old.gets(data(write.cancel(1)), SEVEN)
    assert execution.cancelled and execution.payload is None
    assert old.shell.stopped == [execution] and sent(old) == []
    repeat(old)
    assert error_of(old) == (2, Code.CANCELLED, "maybe")
    execution("late")
    assert old.counters.late_replies == 1
    old.check_at_rest()


def test_a_cancel_of_a_repeat_stops_the_handler_too(old: Desk) -> None:
    first(old)
    execution = only_run(old)
    repeat(old, 2)
    repeat(old, 3)
    old.gets(data(write.cancel(3)), SEVEN)
    assert old.shell.stopped == [execution]
    assert sorted(envelope[:3] for envelope in sent(old)) == [
        [ERROR, 1, Code.CANCELLED],
        [ERROR, 2, Code.CANCELLED],
    ]
    old.check_at_rest()


def test_the_deadline_stops_the_handler(old: Desk) -> None:
    first(old, budget_ms=500)
    execution = only_run(old)
    repeat(old, budget_ms=10_000)
    old.wait(1.0)
    assert old.shell.stopped == [execution]
    assert sorted(envelope[:3] for envelope in sent_before(old)) == [
        [ERROR, 1, Code.TIMEOUT],
        [ERROR, 2, Code.TIMEOUT],
    ]
    old.check_at_rest()


def test_the_deadline_of_a_repeat_ends_its_wait_alone(old: Desk) -> None:
    first(old)
    execution = only_run(old)
    repeat(old, budget_ms=500)
    old.wait(1.0)
    [envelope] = sent_before(old)
    assert envelope[:3] == [ERROR, 2, Code.TIMEOUT]
    assert not execution.cancelled
    execution("done")
    assert sent(old) == [[RESULT, 1, ["done"]]]
    old.check_at_rest()


def test_the_deadline_also_stops_what_runs_without_a_caller(old: Desk) -> None:
    first(old, budget_ms=500)
    first(old, 5, token=OTHER)
    limited, endless = old.handle()
    lose_players(old, 7)
    old.wait(0.2)
    old.core._once.sweep(old.clock.now)
    assert old.shell.stopped == []
    old.wait(1.0)
    assert old.shell.stopped == [limited] and not endless.cancelled
    repeat(old)
    assert error_of(old) == (2, Code.TIMEOUT, "maybe")


def test_a_handler_without_a_deadline_does_not_run_for_nobody_for_ever(old: Desk) -> None:
    first(old)
    execution = only_run(old)
    lose_players(old, 7)
    old.wait(remembered_calls.REMEMBER_S - 1.0)
    repeat(old)
    old.wait(2 * remembered_calls.REMEMBER_S)
    assert not execution.cancelled
    lose_players(old, 7)
    old.wait(remembered_calls.REMEMBER_S - 1.0)
    assert not execution.cancelled
    old.wait(2.0)
    assert execution.cancelled and old.calls_in.running == 0
    repeat(old, 3)
    assert error_of(old) == (3, Code.CONNECTION_LOST, "maybe")


def test_handlers_without_callers_count_as_running() -> None:
    desk = connected(Role.SERVER, limits=Limits(max_running=1))
    first(desk)
    desk.handle()
    lose_players(desk, 7)
    first(desk, 2, token=OTHER, who=EIGHT)
    assert error_of(desk) == (2, Code.OVERLOADED, "no")
    load = desk.core.load()
    assert (load.running, load.executions) == (1, 1)
    desk.core.close()
    assert desk.calls_in.running == 0


def test_a_repeat_leaves_with_its_player(old: Desk) -> None:
    first(old)
    execution = only_run(old)
    repeat(old)
    lose_players(old, 7)
    assert not execution.cancelled and old.calls_in.running == 1
    execution("done")
    assert sent(old) == [] and old.calls_in.running == 0
    old.check_at_rest()


def test_a_handler_that_cannot_be_stopped_is_contained(old: Desk) -> None:
    old.shell.contains = True
    old.shell.cancel = lambda execution: 1 / 0  # type: ignore[method-assign]
    first(old)
    first(old, 2, token=OTHER)
    old.handle()
    old.gets(data(write.cancel(1)), SEVEN)
    old.core.close()
    assert [what for what, _ in old.shell.contained] == 2 * ["stopping a handler"]


def test_a_closed_endpoint_stops_and_forgets_everything(old: Desk) -> None:
    first(old)
    first(old, 2, token=OTHER)
    executions = old.handle()
    executions[0]("done")
    repeat(old, 3, token=OTHER)
    old.core.close()
    assert executions[1].cancelled and old.shell.stopped == [executions[1]]
    assert old.core.load().remembered == 0
    executions[1]("late")
    assert old.counters.late_replies == 1
    old.check_at_rest()


# -- bounds


def test_outcomes_are_forgotten_in_time(old: Desk) -> None:
    for number in (1, 2):
        first(old, number, token=bytes((number,)) * 16)
        only_run(old)("done")
        sent(old)
        old.wait(60.0)
    assert old.core.load().remembered == 2
    old.wait(remembered_calls.REMEMBER_S - 100.0)
    assert old.core.load().remembered == 1
    old.wait(100.0)
    assert old.core.load().remembered == 0
    assert (old.core._once.memory.size, old.core._once.memory._shares) == (0, {})


def test_a_full_memory_refuses_calls_with_a_token(old: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered_calls, "MAX_REMEMBERED", 2)
    monkeypatch.setattr(remembered_calls, "PLAYER_SHARE", 1)
    for number in (1, 2):
        first(old, number, token=bytes((number,)) * 16)
    assert len(old.handle()) == 2
    first(old, 3)
    assert error_of(old) == (3, Code.OVERLOADED, "no")
    old.gets(data(write.call(4, "k", "p", None)), SEVEN)
    only_run(old)("done")
    assert sent(old) == [[RESULT, 4, ["done"]]]


def test_a_player_cannot_take_all_memory(old: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered_calls, "MAX_REMEMBERED", remembered_calls.PLAYER_SHARE)
    first(old)
    old.handle()
    first(old, 2, token=OTHER)
    assert error_of(old) == (2, Code.OVERLOADED, "no")
    first(old, 2, token=OTHER, who=EIGHT)
    assert len(old.handle()) == 1


def test_outcomes_take_a_bounded_number_of_bytes(old: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered_calls, "MAX_REMEMBERED_BYTES", 1000)
    monkeypatch.setattr(remembered_calls, "PLAYER_SHARE", 1)
    for number in (1, 2):
        first(old, number, token=bytes((number,)) * 16)
    for execution in old.handle():
        execution("x" * 900)
    assert [envelope[0] for envelope in sent(old)] == [RESULT, RESULT]
    repeat(old, 3, token=b"\x02" * 16)
    assert error_of(old) == (3, Code.OVERLOADED, "yes")
    repeat(old, 4, token=b"\x01" * 16)
    assert sent(old) == [[RESULT, 4, ["x" * 900]]]
    assert old.core._once.memory.size <= 1000
    first(old, 5, token=b"\x05" * 16)
    only_run(old)("y" * 100)  # the last one may be short, and is kept in any case
    sent(old)
    assert old.core._once.memory.size > 1000
    first(old, 6, token=b"\x06" * 16)
    assert error_of(old) == (6, Code.OVERLOADED, "no")


def test_repeats_count_against_the_limits() -> None:
    desk = connected(Role.SERVER, limits=Limits(max_in_flight=2))
    first(desk)
    desk.handle()
    repeat(desk, 2)
    repeat(desk, 3)
    assert error_of(desk) == (3, Code.OVERLOADED, "no")


def test_repeats_count_against_the_calls_per_second() -> None:
    desk = connected(Role.SERVER, limits=Limits(max_calls_per_s=2))
    first(desk)
    only_run(desk)("done")
    repeat(desk, 2)
    assert len(sent(desk)) == 2
    repeat(desk, 3)
    assert error_of(desk) == (3, Code.RATE_LIMITED, "no")


def test_a_full_queue_takes_a_short_error_in_place_of_an_outcome() -> None:
    desk = connected(Role.SERVER, limits=Limits(max_queued_bytes=50))
    first(desk)
    first(desk, 2, token=OTHER)
    one, two = desk.handle()
    one("x" * 100)
    desk.shell.room = 0
    desk.flush()
    repeat(desk, 3)
    two("done")
    desk.shell.room = None
    assert [envelope[:3] for envelope in sent(desk)] == [
        [RESULT, 1, ["x" * 100]],
        [ERROR, 3, Code.OVERLOADED],
        [ERROR, 2, Code.OVERLOADED],
    ]


def test_the_short_error_says_what_the_outcome_says_of_the_handler() -> None:
    desk = connected(Role.SERVER, limits=Limits(max_queued_bytes=50))
    first(desk)
    first(desk, 2, token=OTHER)
    one, two = desk.shell.waiting
    one.refuse(InvalidPayload("x" * 100))
    two.refuse(InvalidPayload("the payload does not fit"))
    first(desk, 3, token=b"\x03" * 16)
    desk.shell.waiting[-1]("done")
    repeat(desk, 4, token=b"\x03" * 16)
    found = {envelope[1]: (envelope[2], envelope[4]) for envelope in sent(desk)}
    assert found == {
        1: (Code.INVALID_PAYLOAD, EXECUTED.index("no")),
        2: (Code.OVERLOADED, EXECUTED.index("no")),
        3: (Code.OVERLOADED, EXECUTED.index("yes")),
        4: (Code.OVERLOADED, EXECUTED.index("yes")),
    }


def test_a_run_is_reported_once() -> None:
    desk = Desk(Role.SERVER)
    desk.connect(report_ms=1000)
    first(desk)
    execution = only_run(desk)
    repeat(desk, 2)
    execution("done")
    sent(desk)
    assert desk.recorder is not None
    [report] = desk.recorder.take(list(desk.peers.values()), desk.clock.now)
    [figures] = report.callbacks
    assert (figures.key, figures.in_flight, sum(figures.succeeded)) == ("k", 0, 1)


def test_a_player_as_the_handler_s_side() -> None:
    desk = connected(Role.PLAYER)
    first(desk, who=b"")
    execution = only_run(desk)
    desk.told(control.ServerDown())
    execution("done")
    assert sent(desk) == []
    desk.clock.now += 10.0
    repeat(desk, who=b"")
    assert sent(desk) == [[RESULT, 2, ["done"]]]


def test_calls_are_registered_under_other_keys(server: Desk) -> None:
    with pytest.raises(ValueError, match="reserved"):
        server.register(REPEAT_KEY)


# -- the exchanges of tests/vectors, for clients in other languages


def exchanges() -> list[Any]:
    loaded = json.loads((VECTORS / "tries.json").read_text(encoding="utf-8"))["exchanges"]
    return [pytest.param(exchange, id=exchange["name"]) for exchange in loaded]


@pytest.mark.parametrize("exchange", exchanges())
def test_exchange(exchange: dict[str, Any]) -> None:
    desk = Desk(Role.PLAYER, keys=())
    desk.register("k", idempotent=exchange.get("idempotent", False))
    desk.connect(lease_ms=100_000_000)
    desk.wait(exchange["place_s"])
    runs: list[Execution] = []
    for step in exchange["steps"]:
        if "hex" in step:
            desk.gets(bytes.fromhex(step["hex"]))
            runs += desk.handle()
        elif "replies" in step:
            runs[-1](*step["replies"])
        else:
            assert step["fails"]
            runs[-1].fail(ValueError("planted"))
        envelopes = [without_message(envelope) for envelope in sent(desk)]
        assert len(runs) == step["runs"], step
        assert sorted(envelopes, key=repr) == sorted(map(without_message, step["sends"]), key=repr), step
    assert desk.counters.invalid == 0


def without_message(envelope: list[Any]) -> list[Any]:
    return [*envelope[:3], *envelope[4:]] if envelope[0] == ERROR else envelope
