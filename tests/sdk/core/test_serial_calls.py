"""Serial callbacks: one call of a source at a time, in the order in which they came."""

from __future__ import annotations

from typing import Any

import pytest
from support.corefakes import Desk, connected, envelopes_of

from ringback.core.execution import Execution
from ringback.core.pending_call import PendingCall
from ringback.errors import EXECUTED, Code
from ringback.protocol import control
from ringback.protocol.contexts import ONCE
from ringback.protocol.envelopes import ERROR, RESULT, Encoder, join
from ringback.protocol.frames import FrameType, Role, header
from ringback.protocol.limits import Limits
from ringback.protocol.player_ids import PlayerID, encode_player_id
from ringback.protocol.repeats import REPEAT_KEY

write = Encoder(Limits())
TOKEN = bytes(range(16))
ONCE_CONTEXT = {ONCE: TOKEN.hex()}


def desk_with(role: Role = Role.SERVER, **settings: Any) -> Desk:
    """Return an endpoint whose callbacks `k` and `other` are serial. The key `free` is not."""
    desk = Desk(role, keys=("free",), **settings)
    desk.register("k", serial=True)
    desk.register("other", serial=True)
    desk.connect(lease_ms=100_000_000)
    desk.shell.take_sent()
    return desk


@pytest.fixture
def desk() -> Desk:
    return desk_with()


def call(
    desk: Desk,
    call_id: int,
    source: PlayerID | None = 7,
    *,
    key: str = "k",
    budget_ms: int | None = None,
    context: dict[str, str] | None = None,
    kind: FrameType = FrameType.DATA,
    link: int = 0,
) -> None:
    """Give an endpoint a CALL."""
    envelope = write.call(call_id, key, call_id, budget_ms, context)
    desk.gets(header(kind, link) + join([envelope]), b"" if source is None else encode_player_id(source))


def cancel(desk: Desk, call_id: int, source: PlayerID = 7) -> None:
    desk.gets(header(FrameType.DATA, 0) + join([write.cancel(call_id)]), encode_player_id(source))


def run(desk: Desk) -> list[Execution]:
    """Begin the handlers that may run, and check that it is the turn of each."""
    return desk.handle()


def ids(executions: list[Execution]) -> list[int]:
    return [execution.id for execution in executions]


def over(desk: Desk, execution: Execution, *results: Any) -> None:
    """Have a handler reply and return, as a shell tells the core."""
    execution(*results)
    desk.core.handler_returned(execution)


def sent(desk: Desk) -> list[tuple[Any, ...]]:
    """Return what each reply says: ID and result, or ID, code and `executed`."""
    desk.flush()
    found: list[tuple[Any, ...]] = []
    for _, frame in desk.shell.take_sent():
        for envelope in envelopes_of(frame) if frame[1] in (FrameType.DATA, FrameType.RELAY) else []:
            if envelope[0] == RESULT:
                found.append((envelope[1], *envelope[2]))
            else:
                assert envelope[0] == ERROR
                found.append((envelope[1], Code(envelope[2]), EXECUTED[envelope[4]]))
    return found


def check_at_rest(desk: Desk) -> None:
    desk.check_at_rest()
    assert desk.calls_in.running == 0 and desk.calls_in.serial._queues == {}


# -- turns


def test_calls_of_a_source_run_in_turn_and_others_beside_them(desk: Desk) -> None:
    for call_id in (1, 2, 3):
        call(desk, call_id)
    call(desk, 4, 8)
    call(desk, 5, key="other")
    call(desk, 6, key="free")
    call(desk, 7, key="free")
    first, *others = run(desk)
    assert ids([first, *others]) == [1, 4, 5, 6, 7]
    assert desk.calls_in.running == 7  # those that wait count, too
    for execution in others:
        over(desk, execution)
    assert run(desk) == []
    over(desk, first, "a")
    [second] = run(desk)
    over(desk, second, "b")
    [third] = run(desk)
    assert run(desk) == []
    over(desk, third, "c")
    assert [reply for reply in sent(desk) if reply[0] < 4] == [(1, "a"), (2, "b"), (3, "c")]
    check_at_rest(desk)


def test_a_source_is_the_same_whoever_names_it(desk: Desk) -> None:
    call(desk, 1)
    call(desk, 2, kind=FrameType.RELAY, link=9)
    own = desk.call(7, kind=None, flush=True)
    call(desk, 4, "7")  # another player
    first, other = run(desk)
    assert (first.id, other.id) == (1, 4)
    over(desk, first)
    [second] = run(desk)
    assert second.id == 2
    over(desk, second)
    [third] = run(desk)
    over(desk, third, "own")
    desk.flush()
    assert own.results == ("own",)
    over(desk, other)
    desk.flush()
    check_at_rest(desk)


def test_on_a_player_all_calls_of_a_callback_run_in_turn() -> None:
    desk = desk_with(Role.PLAYER)
    call(desk, 1, None)
    call(desk, 1, None, link=9)
    [first] = run(desk)
    over(desk, first)
    [second] = run(desk)
    over(desk, second)
    desk.flush()
    check_at_rest(desk)


def test_a_turn_lasts_until_the_handler_has_replied_also_if_it_returns_before(desk: Desk) -> None:
    call(desk, 1)
    call(desk, 2)
    [first] = run(desk)
    desk.core.handler_returned(first)  # it keeps its cb
    assert run(desk) == []
    first("late")
    [second] = run(desk)
    desk.core.handler_returned(first)  # its turn is over
    assert run(desk) == []
    over(desk, second)
    assert sent(desk) == [(1, "late"), (2,)]
    check_at_rest(desk)


def test_a_callback_that_is_replaced_has_the_same_turns(desk: Desk) -> None:
    call(desk, 1)
    call(desk, 2)
    desk.register("k", replace=True, serial=True)
    call(desk, 3)
    [first] = run(desk)
    over(desk, first)
    [second] = run(desk)
    over(desk, second)
    [third] = run(desk)
    assert first.handler is second.handler is not third.handler
    over(desk, third)
    desk.flush()
    check_at_rest(desk)


def test_a_call_of_the_endpoint_to_itself_waits_behind_one(desk: Desk) -> None:
    call(desk, 1)
    own, other = desk.call(7, kind=None, flush=True), desk.call(8, kind=None, flush=True)
    far, unsent = desk.call(7, flush=True), PendingCall(9, "k", None, None, None)
    first, beside = run(desk)
    assert [desk.core.waits_behind(one, first) for one in (own, other, far, unsent)] == [True] + 3 * [False]
    assert not desk.core.waits_behind(own, beside)
    over(desk, first)
    [second] = run(desk)
    assert not desk.core.waits_behind(own, first) and not desk.core.waits_behind(own, second)
    for execution in (second, beside):
        over(desk, execution)


# -- bounds


@pytest.mark.parametrize("limits", [Limits(max_in_flight=2), Limits(max_running=2)])
def test_calls_that_wait_count_against_the_limits(limits: Limits) -> None:
    desk = desk_with(limits=limits)
    for call_id in (1, 2, 3):
        call(desk, call_id)
    assert sent(desk) == [(3, Code.OVERLOADED, "no")]
    [first] = run(desk)
    over(desk, first)
    [second] = run(desk)
    over(desk, second)
    sent(desk)
    check_at_rest(desk)


# -- who gives up


def test_a_call_whose_caller_gives_up_before_its_turn_never_runs(desk: Desk) -> None:
    for call_id in (1, 2, 3):
        call(desk, call_id)
    cancel(desk, 2)
    [first] = run(desk)
    over(desk, first)
    [third] = run(desk)
    assert third.id == 3
    over(desk, third)
    assert desk.shell.stopped == []  # the shell never had it
    assert sent(desk) == [(1,), (3,)]
    check_at_rest(desk)


def test_a_call_whose_time_is_over_before_its_turn_never_runs(desk: Desk) -> None:
    call(desk, 1)
    call(desk, 2, budget_ms=100)
    call(desk, 3)
    [first] = run(desk)
    desk.clock.now += 1.0
    desk.core.tick(desk.clock.now)
    assert sent(desk) == [(2, Code.TIMEOUT, "no")]
    over(desk, first)
    [third] = run(desk)
    over(desk, third)
    sent(desk)
    check_at_rest(desk)


def test_the_endpoint_itself_is_told_too_that_its_call_never_ran(desk: Desk) -> None:
    call(desk, 1)
    own, other = (desk.call(source, kind=None, timeout_s=0.1, flush=True) for source in (7, 8))
    first, beside = run(desk)
    desk.wait(1.0)
    assert (own.outcome, other.outcome) == ((Code.TIMEOUT, "no"), (Code.TIMEOUT, "maybe"))
    for execution in (first, beside):
        over(desk, execution)
    assert run(desk) == [] and sent(desk) == [(1,)]
    check_at_rest(desk)


@pytest.mark.parametrize("context", [None, ONCE_CONTEXT])
def test_and_if_it_cancels_its_call_the_turn_does_not_come_meanwhile(
    desk: Desk, context: dict[str, str] | None
) -> None:
    """The handler before it may reply in the same step."""
    call(desk, 1)
    own, other = (desk.call(source, kind=None, flush=True, context=context) for source in (7, 8))
    first, beside = run(desk)
    for one in (own, other):
        desk.core.cancel(one)
    assert (own.outcome, other.outcome) == ((Code.CANCELLED, "no"), (Code.CANCELLED, "maybe"))
    over(desk, first)
    assert run(desk) == []
    over(desk, beside)
    assert sent(desk) == [(1,)]
    check_at_rest(desk)


@pytest.mark.parametrize("context", [None, ONCE_CONTEXT])
def test_and_if_it_is_closed(desk: Desk, context: dict[str, str] | None) -> None:
    call(desk, 1)
    own, other = (desk.call(source, kind=None, flush=True, context=context) for source in (7, 8))
    first, beside = run(desk)
    desk.core.close()
    assert (own.outcome, other.outcome) == ((Code.CONNECTION_LOST, "no"), (Code.CONNECTION_LOST, "maybe"))
    for execution in (first, beside):
        over(desk, execution)
    assert run(desk) == []
    check_at_rest(desk)


def test_the_next_call_waits_for_a_handler_that_nobody_waits_for(desk: Desk) -> None:
    """A thread cannot be stopped: it may still pay from the same purse."""
    call(desk, 1)
    call(desk, 2)
    [first] = run(desk)
    cancel(desk, 1)
    assert desk.shell.stopped == [first] and run(desk) == []
    first("for nobody")  # a cb that replies, and goes on
    assert run(desk) == []
    desk.core.handler_returned(first)
    [second] = run(desk)
    over(desk, second)
    assert sent(desk) == [(2,)]
    check_at_rest(desk)


def test_a_handler_that_has_returned_without_a_reply_holds_nobody_up_once_its_caller_gives_up(
    desk: Desk,
) -> None:
    call(desk, 1, budget_ms=100)
    call(desk, 2)
    [first] = run(desk)
    desk.core.handler_returned(first)
    desk.clock.now += 1.0
    desk.core.tick(desk.clock.now)
    desk.flush()
    [second] = run(desk)
    assert sent(desk) == [(1, Code.TIMEOUT, "maybe")]
    over(desk, second)
    sent(desk)
    check_at_rest(desk)


def test_no_call_runs_whose_caller_gives_up_together_with_the_one_before(desk: Desk) -> None:
    """A worker would begin with the second call before the third envelope is read."""
    for call_id in (1, 2, 3):
        call(desk, call_id)
    [first] = run(desk)
    desk.core.handler_returned(first)  # it keeps its cb
    envelopes = [write.cancel(call_id) for call_id in (1, 2)]
    desk.gets(header(FrameType.DATA, 0) + join(envelopes), encode_player_id(7))
    assert desk.shell.waiting == []
    desk.flush()
    [third] = run(desk)
    assert third.id == 3
    desk.core.handler_returned(third)
    call(desk, 4)
    call(desk, 5, kind=FrameType.RELAY, link=9)
    desk.told(control.Left((7,)))
    desk.flush()
    [of_operator] = run(desk)
    assert of_operator.id == 5
    desk.core.handler_returned(of_operator)
    call(desk, 6)
    call(desk, 7, context=ONCE_CONTEXT)
    desk.core.close()
    assert desk.shell.waiting == []
    check_at_rest(desk)


def test_a_player_that_leaves_and_comes_back_waits_for_its_last_handler(desk: Desk) -> None:
    call(desk, 1)
    call(desk, 2)
    [first] = run(desk)
    desk.told(control.Left((7,)))
    assert desk.calls_in.running == 0
    call(desk, 1)
    assert run(desk) == []
    desk.core.handler_returned(first)
    [again] = run(desk)
    over(desk, again, "again")
    assert sent(desk) == [(1, "again")]
    check_at_rest(desk)


def test_a_closed_endpoint_has_nothing_left_but_handlers_that_run(desk: Desk) -> None:
    for call_id in (1, 2):
        call(desk, call_id)
    call(desk, 3, context=ONCE_CONTEXT)
    call(desk, 4, 8, context=ONCE_CONTEXT)
    first, other = run(desk)
    desk.told(control.Left((7, 8)))  # those with a token go on
    desk.core.close()
    assert desk.shell.stopped == [first, other]
    desk.core.handler_returned(first)
    desk.core.handler_returned(other)
    assert run(desk) == []
    check_at_rest(desk)


def test_handlers_that_are_gone_hold_nobody_up(desk: Desk) -> None:
    """An event loop was closed: none of its tasks says that it has ended. A thread may go on."""
    call(desk, 1)
    call(desk, 2, 8)
    _, thread = run(desk)
    desk.told(control.Left((7, 8)))
    desk.core.forget_handlers((thread,))
    call(desk, 1)
    call(desk, 2, 8)
    [again] = run(desk)
    assert again.source == 7
    over(desk, again)
    desk.core.handler_returned(thread)
    [after] = run(desk)
    over(desk, after)
    sent(desk)
    check_at_rest(desk)


# -- calls with a token


def test_calls_with_a_token_wait_for_their_turn(desk: Desk) -> None:
    call(desk, 1)
    call(desk, 2, context=ONCE_CONTEXT)
    call(desk, 3)
    [first] = run(desk)
    over(desk, first)
    [second] = run(desk)
    over(desk, second, "once")
    [third] = run(desk)
    over(desk, third)
    assert sent(desk) == [(1,), (2, "once"), (3,)]
    check_at_rest(desk)


def test_a_call_with_a_token_that_is_cancelled_before_its_turn_may_run_another_time(desk: Desk) -> None:
    call(desk, 1)
    call(desk, 2, context=ONCE_CONTEXT)
    [first] = run(desk)
    cancel(desk, 2)
    assert desk.core.load().remembered == 0 and desk.shell.stopped == []
    call(desk, 3, context=ONCE_CONTEXT)
    over(desk, first)
    [again] = run(desk)
    over(desk, again, "ran")
    assert sent(desk) == [(1,), (3, "ran")]
    check_at_rest(desk)


def test_a_call_with_a_token_keeps_its_turn_when_its_link_is_lost(desk: Desk) -> None:
    """A repeat may come for it."""
    desk.wait(60.0)
    call(desk, 1, 8, key="free")
    call(desk, 2, context=ONCE_CONTEXT)
    call(desk, 3, context={ONCE: bytes(reversed(TOKEN)).hex()})
    other, first = run(desk)
    desk.told(control.Left((7,)))
    envelope = write.call(5, REPEAT_KEY, ["k", bytes(reversed(TOKEN)), 100, 3], None)
    desk.gets(header(FrameType.DATA, 0) + join([envelope]), encode_player_id(7))
    assert run(desk) == []
    over(desk, first, "first")
    [second] = run(desk)
    over(desk, second, "second")
    over(desk, other)
    assert sorted(sent(desk), key=str) == [(1,), (5, "second")]
    check_at_rest(desk)


def repeat(desk: Desk, call_id: int, budget_ms: int | None) -> None:
    """Give an endpoint a repeat of the call with `ONCE_CONTEXT`."""
    envelope = write.call(call_id, REPEAT_KEY, ["k", TOKEN, 100, 2], budget_ms)
    desk.gets(header(FrameType.DATA, 0) + join([envelope]), encode_player_id(7))


def test_a_call_with_a_token_whose_time_is_over_before_its_turn_never_ran(desk: Desk) -> None:
    call(desk, 1)
    call(desk, 2, budget_ms=100, context=ONCE_CONTEXT)
    repeat(desk, 3, 10_000)
    [first] = run(desk)
    desk.wait(1.0)
    assert sorted(sent(desk)) == [(2, Code.TIMEOUT, "no"), (3, Code.TIMEOUT, "no")]
    assert desk.core.load().remembered == 0 and desk.shell.stopped == []
    over(desk, first)
    assert run(desk) == [] and sent(desk) == [(1,)]
    check_at_rest(desk)


def test_a_repeat_whose_time_is_over_ends_a_call_that_nobody_else_waits_for(desk: Desk) -> None:
    call(desk, 1, kind=FrameType.RELAY, link=9)
    call(desk, 2, context=ONCE_CONTEXT)
    [first] = run(desk)
    desk.told(control.Left((7,)))
    repeat(desk, 3, 100)
    desk.wait(1.0)
    assert sent(desk) == [(3, Code.TIMEOUT, "no")]
    over(desk, first)
    assert run(desk) == []
    desk.flush()
    check_at_rest(desk)


def test_a_repeat_whose_time_is_over_is_not_sure_of_a_call_that_may_still_have_its_turn(desk: Desk) -> None:
    call(desk, 1)
    call(desk, 2, context=ONCE_CONTEXT)
    repeat(desk, 3, 100)
    [first] = run(desk)
    desk.wait(1.0)
    assert sent(desk) == [(3, Code.TIMEOUT, "maybe")]
    over(desk, first)
    [second] = run(desk)
    over(desk, second, "ran")
    assert sent(desk) == [(1,), (2, "ran")]
    check_at_rest(desk)


# -- registering


def test_serial_is_a_bool() -> None:
    with pytest.raises(TypeError, match="serial must be a bool, not str"):
        connected(Role.SERVER).register("x", serial="source")


def test_the_terms_say_it(desk: Desk) -> None:
    desk.register("limited", serial=True, limit="5/s")
    terms = desk.core.registry.terms()
    assert terms == {
        "k": "one call of a source at a time",
        "other": "one call of a source at a time",
        "limited": "at most 5/s from one caller, one call of a source at a time",
    }
