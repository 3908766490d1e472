"""Retries: calls that are tried again, as long as that is safe and their time lasts."""

from __future__ import annotations

from math import ceil
from typing import Any

import pytest
from support.corefakes import Desk, TestCall, connected, data, envelopes_of

from ringback.core.progress import Progress
from ringback.core.retried_call import Tries
from ringback.core.retry import Retry
from ringback.errors import (
    CallbackError,
    CallTimeout,
    Code,
    ConnectionLost,
    Executed,
    HandlerError,
    Overloaded,
    RejectCode,
    UnknownCallback,
    call_error,
)
from ringback.protocol import control
from ringback.protocol.bounces import bounce
from ringback.protocol.contexts import ONCE
from ringback.protocol.contexts import PROGRESS as ASKS
from ringback.protocol.envelopes import CALL, CANCEL, Encoder
from ringback.protocol.frames import FrameType, Role
from ringback.protocol.limits import Limits
from ringback.protocol.player_ids import PlayerID, encode_player_id
from ringback.protocol.repeats import NOT_KNOWN, REPEAT_KEY
from ringback.protocol.reports import CallFilter

write = Encoder(Limits())
TOKEN = bytes(range(16))
LONG = {"lease_ms": 100_000_000}


def retried(
    desk: Desk,
    to: PlayerID | None = None,
    *,
    kind: FrameType | None = FrameType.DATA,
    timeout_s: float | None = None,
    payload: Any = "p",
    context: dict[str, str] | None = None,
    retry: Retry | None = None,
    waits: bool = False,
    bounded: bool = True,
) -> TestCall:
    """Make a call that is tried again."""
    now = desk.clock.now
    call = TestCall(next(desk.ids), "k", None if timeout_s is None else now + timeout_s)
    call.began = now
    envelope = desk.shell.encoder.call(call.id, "k", payload, None, context)
    tries = Tries(retry or Retry(), TOKEN, lambda: next(desk.ids), waits, bounded)
    encoded_id = b"" if to is None else encode_player_id(to)
    desk.core.call_with_retry(call, kind, encoded_id, envelope, tries)
    return call


def sent(desk: Desk) -> list[list[Any]]:
    """Return the CALL and CANCEL envelopes that left since the last time."""
    desk.flush()
    frames = [frame for _, frame in desk.shell.take_sent() if frame[1] in (FrameType.DATA, FrameType.RELAY)]
    return [envelope for frame in frames for envelope in envelopes_of(frame)]


def one(desk: Desk) -> list[Any]:
    [envelope] = sent(desk)
    return envelope


def fail(desk: Desk, call_id: int, error: CallbackError, address: bytes = b"") -> None:
    desk.gets(data(write.error(call_id, error)), address)


def fails_with(code: Code, executed: Executed = "no", data: Any = None) -> CallbackError:
    return call_error(code, "it failed", executed, data)


def wait_for_try(desk: Desk, seconds: float = 2.0) -> list[Any]:
    """Let time pass until a try comes, and return its envelope."""
    until = desk.clock.now + seconds
    while desk.clock.now < until:
        due_at = desk.core.due_at()
        assert due_at is not None, "nothing is due"
        desk.clock.now = max(desk.clock.now, due_at)
        desk.core.tick(desk.clock.now)
        if envelopes := [envelope for envelope in sent(desk) if envelope[0] == CALL]:
            [envelope] = envelopes
            assert type(envelope) is list
            return envelope
    raise AssertionError("there was no try")


# -- the first try


def test_the_first_try_carries_a_token(player: Desk) -> None:
    call = retried(player, timeout_s=2.0, context={"traceparent": "x"})
    envelope = one(player)
    assert envelope[2:] == ["k", "p", 2000, {ONCE: TOKEN.hex(), "traceparent": "x"}]
    player.gets(data(write.result(envelope[1], ("done",))))
    assert (call.results, call.settled) == (("done",), 1)
    player.check_at_rest()
    assert player.core.load().waiting == 0


@pytest.mark.parametrize(
    "code", [Code.NO_SERVER, Code.OVERLOADED, Code.RATE_LIMITED, Code.DRAINING, Code.CONNECTION_LOST]
)
def test_what_passes_is_tried_again(player: Desk, code: Code) -> None:
    call = retried(player)
    first = one(player)
    fail(player, first[1], fails_with(code))
    assert not call.done and player.core.load().waiting == 1
    again = wait_for_try(player)
    assert again[1] != first[1] and again[2:] == first[2:]
    player.gets(data(write.result(again[1], ("done",))))
    assert (call.results, call.settled) == (("done",), 1)


@pytest.mark.parametrize(
    ("code", "executed"),
    [
        (Code.UNKNOWN_CALLBACK, "no"),
        (Code.UNKNOWN_PLAYER, "no"),
        (Code.FORBIDDEN, "no"),
        (Code.INVALID_PAYLOAD, "no"),
        (Code.TIMEOUT, "maybe"),
        (Code.CANCELLED, "maybe"),
        (Code.OVERLOADED, "yes"),
        (Code.HANDLER_ERROR, "yes"),
    ],
)
def test_what_does_not_pass_ends_the_call(player: Desk, code: Code, executed: Executed) -> None:
    call = retried(player)
    fail(player, one(player)[1], fails_with(code, executed))
    assert call.outcome == (code, executed) and call.error.message == "it failed"
    assert player.core.load().waiting == 0


def test_an_error_of_the_application_ends_the_call(player: Desk) -> None:
    call = retried(player)
    fail(player, one(player)[1], CallbackError("no", code="SOLD_OUT", data=[1]))
    assert (call.outcome, call.error.data) == (("SOLD_OUT", "yes"), [1])


class Values(Progress):
    """Progress that a test looks at."""

    def changed(self) -> None:
        """Do nothing: the test looks by itself."""


def test_progress_of_each_try_reaches_the_call(server: Desk) -> None:
    call = TestCall(next(server.ids), "k")
    call._progress = Values()
    envelope = server.shell.encoder.call(call.id, "k", "p", None, {ASKS: "1"})
    tries = Tries(Retry(), TOKEN, lambda: next(server.ids))
    server.core.call_with_retry(call, FrameType.DATA, b"\x07", envelope, tries)
    first = one(server)
    assert first[5] == {ONCE: TOKEN.hex(), ASKS: "1"}
    server.gets(data(write.progress(first[1], "half")), b"\x07")
    lost(server, call)
    again = wait_for_try(server)
    assert again[5] == {ASKS: "1"}
    server.gets(data(write.progress(again[1], "nearly")), b"\x07")
    assert list(call._progress.waiting) == ["half", "nearly"]


# -- when


def test_delays_double_and_are_spread() -> None:
    desk = connected(Role.PLAYER, random=lambda: 0.0)
    desk.core._retries._random = lambda: 0.0
    retried(desk, retry=Retry(5, 0.2, 0.5))
    delays = []
    envelope = one(desk)
    for _ in range(4):
        before = desk.clock.now
        fail(desk, envelope[1], Overloaded(executed="no"))
        envelope = wait_for_try(desk)
        delays.append(desk.clock.now - before)
    assert delays == pytest.approx([0.1, 0.2, 0.25, 0.25])


def test_attempts_are_bounded_and_the_error_says_how_many(player: Desk) -> None:
    call = retried(player, retry=Retry(3))
    envelope = one(player)
    for _ in range(2):
        fail(player, envelope[1], Overloaded("full", executed="no"))
        envelope = wait_for_try(player)
    fail(player, envelope[1], Overloaded("full", executed="no"))
    assert call.outcome == (Code.OVERLOADED, "no")
    assert call.error.message == "full (tried 3 times)"
    player.check_at_rest()
    counters = player.counters
    assert (counters.calls, counters.errors, counters.retries) == (3, 3, 2)


@pytest.mark.parametrize("data", [{"retry_after": 3.0}, {"retry_after": 3}])
def test_a_rate_limit_says_when(player: Desk, data: Any) -> None:
    retried(player)
    fail(player, one(player)[1], fails_with(Code.RATE_LIMITED, data=data))
    player.wait(2.9)
    assert sent(player) == []
    assert wait_for_try(player)[0] == CALL


@pytest.mark.parametrize("data", [None, {}, {"retry_after": "soon"}, {"retry_after": -1}, [1], {"a": 1}])
def test_a_rate_limit_may_say_anything(player: Desk, data: Any) -> None:
    retried(player)
    fail(player, one(player)[1], fails_with(Code.RATE_LIMITED, data=data))
    assert wait_for_try(player, 0.2)[0] == CALL


def test_no_try_comes_after_the_deadline(player: Desk) -> None:
    call = retried(player, timeout_s=1.0)
    envelope = one(player)
    fail(player, envelope[1], fails_with(Code.RATE_LIMITED, data={"retry_after": 1.5}))
    assert call.outcome == (Code.RATE_LIMITED, "no")


def test_the_budget_is_what_is_left(player: Desk) -> None:
    retried(player, timeout_s=2.0)
    first = one(player)
    player.clock.now += 0.5
    fail(player, first[1], Overloaded(executed="no"))
    again = wait_for_try(player)
    assert again[4] == ceil(1000 * (1000.0 + 2.0 - player.clock.now))


def test_calls_wait_for_their_next_tries_side_by_side(player: Desk) -> None:
    calls = [retried(player, retry=Retry(20, delay, delay)) for delay in (0.4, 0.1, 0.2)]
    for envelope in sent(player):
        fail(player, envelope[1], Overloaded(executed="no"))
    for position in (1, 2, 0):
        envelope = wait_for_try(player)
        player.gets(data(write.result(envelope[1], ())))
        assert [call.done for call in calls].count(True) == 1 + (1, 2, 0).index(position)
        assert calls[position].done


def test_a_sweep_that_comes_late_makes_no_try(player: Desk) -> None:
    call = retried(player, timeout_s=1.0)
    fail(player, one(player)[1], Overloaded(executed="no"))
    player.clock.now += 5.0
    player.core.tick(player.clock.now)
    assert call.outcome == (Code.TIMEOUT, "no") and sent(player) == []


def test_the_deadline_ends_a_try(player: Desk) -> None:
    call = retried(player, timeout_s=1.0)
    one(player)
    player.wait(2.0)
    assert call.outcome == (Code.TIMEOUT, "maybe")


# -- without a link


def test_a_call_waits_for_a_link_without_using_up_tries(player: Desk) -> None:
    player.core.link_lost(player.clock.now, "gone")
    call = retried(player, retry=Retry(1))
    player.shell.addresses = None  # the lookup of the broker takes long
    player.wait(8.0)
    assert not call.done and player.counters.calls == 0
    player.shell.addresses = ("tcp://broker",)
    player.wait(15.0)
    player.welcome()
    envelope = wait_for_try(player)
    player.gets(data(write.result(envelope[1], ("done",))))
    assert call.results == ("done",)


@pytest.mark.parametrize("code", [RejectCode.REPLACED, RejectCode.KICKED])
def test_no_call_waits_for_a_link_that_does_not_come_back(code: RejectCode) -> None:
    """One call is in flight, one is between two tries, one comes later, and two waits are for room. None has
    a timeout."""
    player = connected(Role.PLAYER, limits=Limits(max_in_flight=1))
    between = retried(player)
    fail(player, one(player)[1], fails_with(Code.OVERLOADED))
    in_flight = retried(player)
    waits = [TestCall(next(player.ids)), TestCall(next(player.ids))]
    player.core.wait_for_room(waits[0])
    player.flush()
    player.told(control.Reject(code, "go away"))
    player.core.wait_for_room(waits[1])
    later = retried(player)
    assert between.outcome == later.outcome == (Code.CONNECTION_LOST, "no")
    assert in_flight.outcome == (Code.CONNECTION_LOST, "maybe")
    assert player.core.ended == f"{code.name}: go away"
    wanted = f"{code.name}: go away; this endpoint does not connect again until you start it"
    assert later.error is not None and later.error.message == wanted
    assert player.call(None).error.message == wanted
    assert [wait.outcome for wait in waits] == [(Code.CONNECTION_LOST, "no")] * 2
    assert player.core.load().waiting == 0
    player.check_at_rest()


def test_without_a_link_until_the_deadline(player: Desk) -> None:
    player.core.link_lost(player.clock.now, "gone")
    call = retried(player, timeout_s=0.3)
    player.wait(1.0)
    assert call.outcome == (Code.CONNECTION_LOST, "no")


def test_a_bounce_of_a_stopping_broker(player: Desk) -> None:
    retried(player)
    player.flush()
    [(_, frame)] = player.shell.take_sent()
    player.gets(bounce(Code.DRAINING, frame))
    assert wait_for_try(player)[2] == "k"


# -- repeats


def test_after_a_lost_link_the_call_is_repeated() -> None:
    desk = Desk(Role.PLAYER)
    desk.connect(**LONG)
    call = retried(desk, timeout_s=10.0, payload={"a": [1]}, context={"traceparent": "x"})
    first = one(desk)
    desk.clock.now += 0.5
    desk.core.link_lost(desk.clock.now, "gone")
    desk.wait(0.2)
    desk.welcome(**LONG)
    envelope = wait_for_try(desk)
    assert envelope[1] != first[1] and envelope[2] == REPEAT_KEY and envelope[5] == {"traceparent": "x"}
    key, token, age_ms, payload = envelope[3]
    assert (key, token, payload) == ("k", TOKEN, {"a": [1]})
    assert age_ms == ceil(1000 * (desk.clock.now - 1000.0)) >= 700
    desk.gets(data(write.result(envelope[1], ("done",))))
    assert call.results == ("done",)


def lost(desk: Desk, call: TestCall, to: bytes = b"\x07") -> None:
    """End the first try of a call to player 7 with PLAYER_LEFT."""
    desk.told(control.Left((7,)))
    assert not call.done


def test_the_error_of_the_try_that_may_have_run_is_the_last_one(server: Desk) -> None:
    call = retried(server, 7)
    one(server)
    lost(server, call)
    envelope = wait_for_try(server)
    assert envelope[2] == REPEAT_KEY
    fail(server, envelope[1], UnknownCallback("an old peer"), b"\x07")
    assert call.outcome == (Code.PLAYER_LEFT, "maybe")
    assert call.error.message.endswith("(tried 2 times)")


def test_a_player_that_left_may_come_back(server: Desk) -> None:
    call = retried(server, 7)
    one(server)
    lost(server, call)
    server.wait(0.1)
    server.flush()
    [(_, frame)] = server.shell.take_sent()
    server.gets(bounce(Code.UNKNOWN_PLAYER, frame), b"\x07")
    envelope = wait_for_try(server)
    assert envelope[2] == REPEAT_KEY
    server.gets(data(write.result(envelope[1], ())), b"\x07")
    assert call.results == ()


def test_a_peer_that_cannot_know_ends_the_call(server: Desk) -> None:
    call = retried(server, 7)
    one(server)
    lost(server, call)
    fail(server, wait_for_try(server)[1], ConnectionLost("it began later", data=NOT_KNOWN), b"\x07")
    assert call.outcome == (Code.CONNECTION_LOST, "maybe")


def test_a_handler_that_ran_ends_the_call(server: Desk) -> None:
    call = retried(server, 7)
    one(server)
    lost(server, call)
    fail(server, wait_for_try(server)[1], HandlerError("it failed"), b"\x07")
    assert call.outcome == (Code.HANDLER_ERROR, "yes")


def test_the_deadline_after_a_try_that_may_have_run(server: Desk) -> None:
    call = retried(server, 7, timeout_s=0.3)
    one(server)
    lost(server, call)
    envelope = wait_for_try(server)
    fail(server, envelope[1], CallTimeout("late", executed="no"), b"\x07")
    assert call.outcome == (Code.TIMEOUT, "maybe")


def test_a_repeat_does_not_wait_for_room() -> None:
    desk = connected(Role.SERVER, limits=Limits(max_in_flight=1))
    call = retried(desk, 7, waits=True)
    one(desk)
    lost(desk, call)
    desk.call(7)
    desk.wait(0.2)
    assert not call.done and desk.core._room.calls == 0
    desk.told(control.Left((7,)))
    desk.shell.take_sent()
    assert wait_for_try(desk)[2] == REPEAT_KEY


def test_a_first_try_may_wait_for_room() -> None:
    desk = connected(Role.PLAYER, limits=Limits(max_in_flight=1))
    before = desk.call()
    call = retried(desk, waits=True)
    assert [envelope[1] for envelope in sent(desk)] == [before.id]
    desk.gets(data(write.result(before.id, ())))
    envelope = one(desk)
    assert envelope[5] == {ONCE: TOKEN.hex()}
    desk.gets(data(write.result(envelope[1], ("done",))))
    assert call.results == ("done",)


def test_a_watch_sees_the_payload_of_the_call_in_a_repeat() -> None:
    desk = Desk(Role.SERVER)
    desk.connect(report_ms=1000)
    desk.told(control.Watch((CallFilter(None, None, True),), 1000))
    call = retried(desk, 7)
    one(desk)
    lost(desk, call)
    assert desk.recorder is not None
    wait_for_try(desk)
    assert list(desk.recorder.payloads.values()) == [b"\xa1p"]


def test_without_a_watch_a_repeat_is_recorded_all_the_same() -> None:
    desk = Desk(Role.SERVER)
    desk.connect(report_ms=1000)
    call = retried(desk, 7)
    one(desk)
    lost(desk, call)
    assert wait_for_try(desk)[2] == REPEAT_KEY


# -- sizes


def test_a_token_may_make_a_call_too_large() -> None:
    desk = connected(Role.PLAYER, limits=Limits(max_call_bytes=100))
    call = retried(desk, payload="x" * 60)
    assert call.outcome == (Code.TOO_LARGE, "no") and sent(desk) == []


# -- cancels, and the end of the endpoint


def test_a_cancel_ends_the_try_under_way(player: Desk) -> None:
    call = retried(player)
    envelope = one(player)
    player.core.cancel(call)
    assert call.outcome == (Code.CANCELLED, "maybe")
    assert one(player) == [CANCEL, envelope[1]]
    player.core.cancel(call)
    assert (call.settled, sent(player)) == (1, [])


def test_a_cancel_of_a_try_that_has_not_left(player: Desk) -> None:
    call = retried(player)
    player.core.cancel(call)
    assert call.outcome == (Code.CANCELLED, "no") and sent(player) == []


def test_a_cancel_between_two_tries(player: Desk) -> None:
    call = retried(player)
    fail(player, one(player)[1], Overloaded(executed="no"))
    player.core.cancel(call)
    assert call.outcome == (Code.CANCELLED, "no")
    player.wait(5.0)
    assert sent(player) == []


def test_a_cancel_after_a_try_that_may_have_run(server: Desk) -> None:
    call = retried(server, 7)
    one(server)
    lost(server, call)
    server.core.cancel(call)
    assert call.outcome == (Code.CANCELLED, "maybe")


def test_a_closed_endpoint_ends_its_calls(player: Desk) -> None:
    between, pending = retried(player), retried(player)
    fail(player, sent(player)[0][1], Overloaded(executed="no"))
    player.core.close()
    assert between.outcome == (Code.CONNECTION_LOST, "no")
    assert pending.outcome == (Code.CONNECTION_LOST, "maybe")
    assert retried(player).outcome == (Code.CONNECTION_LOST, "no")
    player.check_at_rest()


def test_at_most_max_pending_calls_are_tried_again() -> None:
    desk = connected(Role.PLAYER, limits=Limits(max_pending=1))
    retried(desk)
    refused = retried(desk)
    assert refused.outcome == (Code.OVERLOADED, "no")
    assert not retried(desk, bounded=False).done


def test_a_call_to_oneself_is_tried_again(server: Desk) -> None:
    call = retried(server, 7, kind=None)
    server.flush()
    [execution] = server.handle()
    execution("own")
    server.flush()
    assert call.results == ("own",)


def test_the_log_can_say_where_a_call_went(player: Desk) -> None:
    call = retried(player)
    one(player)
    assert call.route == bytes((1, FrameType.DATA, 0, 0, 0, 0, 0, 0))


# -- faults


def test_a_fault_ends_the_call(player: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault at each step, and a try that left before it: its outcome comes too late."""

    def raises(*_: object) -> Any:
        raise SystemExit

    def sends_and_raises(*arguments: Any) -> None:
        player.core.call(*arguments)
        raise MemoryError

    player.shell.contains = True
    retries = player.core._retries
    planned = retried(player)
    with monkeypatch.context() as patch:
        patch.setattr(retries, "_random", raises)
        fail(player, one(player)[1], Overloaded(executed="no"))
    assert planned.outcome == (Code.CANCELLED, "maybe")
    with monkeypatch.context() as patch:
        patch.setattr(retries, "_problem", raises)
        assert retried(player).outcome == (Code.CANCELLED, "no")
    with monkeypatch.context() as patch:
        patch.setattr(retries, "_send", sends_and_raises)
        half = retried(player)
    assert half.outcome == (Code.CANCELLED, "maybe")
    player.gets(data(write.result(one(player)[1], ("late",))))
    assert half.settled == 1 and len(player.shell.contained) == 3
    player.check_at_rest()


def test_a_call_that_a_fault_finds_ended_ends_once(player: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def ends_and_raises(call: TestCall, *outcome: Any) -> None:
        call.settle(*outcome)
        raise MemoryError

    player.shell.contains = True
    call = retried(player)
    monkeypatch.setattr(player.core._retries._calls_out, "end", ends_and_raises)
    fail(player, one(player)[1], UnknownCallback("k"))
    assert call.settled == 1 and player.shell.contained[0][0] == "trying a call again"
