"""The waiting room: calls that wait until the limits have room for them."""

from __future__ import annotations

from typing import Any

import pytest
from support.corefakes import DATA_0, Desk, TestCall, connected, data, envelopes_of

from ringback.errors import Code
from ringback.protocol import control
from ringback.protocol.bounces import bounce
from ringback.protocol.envelopes import CALL, CANCEL, RESULT, Encoder, join
from ringback.protocol.frames import FrameType, Role
from ringback.protocol.limits import Limits
from ringback.protocol.player_ids import PlayerID, encode_player_id

write = Encoder(Limits())


def small(role: Role = Role.PLAYER, **limits: Any) -> Desk:
    return connected(role, limits=Limits(**limits))


def patient(
    desk: Desk,
    to: PlayerID | None = None,
    *,
    kind: FrameType | None = FrameType.DATA,
    timeout_s: float | None = None,
    payload: Any = None,
    context: dict[str, str] | None = None,
    bounded: bool = False,
) -> TestCall:
    """Make a call that waits for room."""
    call_id = next(desk.ids)
    call = TestCall(call_id, "k", None if timeout_s is None else desk.clock.now + timeout_s)
    budget_ms = None if timeout_s is None else int(timeout_s * 1000)
    envelope = desk.shell.encoder.call(call_id, "k", payload, budget_ms, context)
    desk.core.call_when_room(call, kind, b"" if to is None else encode_player_id(to), envelope, bounded)
    return call


def ready(desk: Desk, timeout_s: float | None = None) -> TestCall:
    """Wait for room, as `ready_to_call` does."""
    call = TestCall(next(desk.ids), "ready", None if timeout_s is None else desk.clock.now + timeout_s)
    desk.core.wait_for_room(call)
    desk.flush()
    return call


def sent_calls(desk: Desk) -> list[list[Any]]:
    desk.flush()
    return [envelope for body in desk.bodies() for envelope in body]


def answer(desk: Desk, call: TestCall, address: bytes = b"") -> None:
    desk.gets(data(write.result(call.id, ("done",))), address)


def test_with_room_a_call_leaves_at_once() -> None:
    desk = small(max_pending=1)
    call = patient(desk, timeout_s=2.0, payload=[1], context={"traceparent": "x"})
    assert sent_calls(desk) == [[CALL, call.id, "k", [1], 2000, {"traceparent": "x"}]]
    answer(desk, call)
    assert call.results == ("done",)
    desk.check_at_rest()


@pytest.mark.parametrize("limit", ["max_pending", "max_in_flight"])
def test_calls_over_a_limit_leave_in_order_once_others_have_ended(limit: str) -> None:
    desk = small(**{limit: 2})
    calls = [patient(desk, payload=number) for number in range(5)]
    assert [envelope[3] for envelope in sent_calls(desk)] == [0, 1]
    assert desk.core.load().waiting == 3
    answer(desk, calls[1])
    assert [envelope[3] for envelope in sent_calls(desk)] == [2]
    answer(desk, calls[0])
    answer(desk, calls[2])
    assert [envelope[3] for envelope in sent_calls(desk)] == [3, 4]
    for call in calls[3:]:
        answer(desk, call)
    assert all(call.results == ("done",) for call in calls)
    desk.check_at_rest()
    assert (desk.counters.calls, desk.core.load().waiting) == (5, 0)


def test_calls_wait_for_bytes_to_leave() -> None:
    desk = small(max_queued_bytes=100)
    desk.shell.room = 0
    first = patient(desk, payload=b"x" * 200)
    second = patient(desk, payload=b"y")
    assert not desk.flush() and desk.core.load().waiting == 1
    desk.shell.room = None
    assert [envelope[1] for envelope in sent_calls(desk)] == [first.id, second.id]


def test_a_link_that_fills_again_keeps_what_was_let_out() -> None:
    desk = small(max_queued_bytes=100)
    desk.shell.room = 0
    for payload in (b"x" * 200, b"y"):
        patient(desk, payload=payload)
    desk.shell.room = 1
    assert not desk.flush()
    assert (desk.core.load().waiting, desk.core.load().queued) == (0, 1)


def test_a_call_that_waited_carries_the_time_that_is_left() -> None:
    desk = small(max_pending=1)
    first = patient(desk)
    late = patient(desk, timeout_s=2.0, context={"baggage": "b"}, payload={"a": [1]})
    sent_calls(desk)
    desk.clock.now += 0.5
    answer(desk, first)
    assert sent_calls(desk) == [[CALL, late.id, "k", {"a": [1]}, 1500, {"baggage": "b"}]]


def test_a_call_joins_those_that_wait_for_another_peer() -> None:
    desk = small(Role.SERVER, max_in_flight=1)
    first, second, other = patient(desk, 1), patient(desk, 1), patient(desk, 2)
    assert [envelope[1] for envelope in sent_calls(desk)] == [first.id, other.id]
    third = patient(desk, 3)
    assert [envelope[1] for envelope in sent_calls(desk)] == [third.id]
    answer(desk, first, b"\x01")
    assert [envelope[1] for envelope in sent_calls(desk)] == [second.id]


def test_peers_take_turns() -> None:
    desk = small(Role.SERVER, max_pending=1)
    for player_id in (1, 1, 1, 2, 2):
        patient(desk, player_id)
    order = []
    while desk.calls_out.pending:
        desk.flush()
        [(address, frame)] = desk.shell.take_sent()
        [envelope] = envelopes_of(frame)
        order.append(address)
        desk.gets(data(write.result(envelope[1], ())), address)
        desk.flush()
    assert order == [b"\x01", b"\x01", b"\x02", b"\x01", b"\x02"]
    desk.check_at_rest()


def test_at_most_max_pending_calls_wait_except_those_of_a_group() -> None:
    desk = small(max_pending=2)
    for _ in range(4):
        patient(desk, bounded=True)
    refused = patient(desk, bounded=True)
    assert refused.outcome == (Code.OVERLOADED, "no")
    of_group = patient(desk, bounded=False)
    assert not of_group.done and desk.core.load().waiting == 3


def test_calls_of_a_group_share_their_payload() -> None:
    desk = small(Role.SERVER, max_pending=1)
    for player_id in range(1, 5):
        patient(desk, player_id, payload="p" * 100)
    payloads = {
        id(encoded.payload) for queue in desk.core._room._queues.values() for encoded in queue.values()
    }
    assert len(payloads) == 1
    desk.core.close()
    assert desk.core._room._payload == b""


def test_the_deadline_ends_a_wait() -> None:
    desk = small(max_pending=1)
    patient(desk)
    forever, late, later = patient(desk), patient(desk, timeout_s=1.0), patient(desk, timeout_s=3.0)
    desk.wait(1.5)
    assert late.outcome == (Code.TIMEOUT, "no")
    assert not forever.done and not later.done
    desk.wait(2.0)
    assert later.outcome == (Code.TIMEOUT, "no")
    assert desk.core.load().waiting == 1


def test_cancel_ends_a_wait_and_nothing_is_sent() -> None:
    desk = small(max_pending=1)
    first, second, third = patient(desk), patient(desk), patient(desk)
    sent_calls(desk)
    desk.core.cancel(second)
    assert second.outcome == (Code.CANCELLED, "no")
    desk.core.cancel(second)  # once more has no effect
    desk.core.cancel(first)
    assert [envelope[:2] for envelope in sent_calls(desk)] == [[CANCEL, first.id], [CALL, third.id]]
    assert second.settled == 1


def test_a_lost_link_ends_waits_except_those_of_calls_to_oneself() -> None:
    desk = small(Role.SERVER, max_pending=2, max_in_flight=1)
    patient(desk, 1)
    waits = patient(desk, 1)
    own = [patient(desk, 1, kind=None) for _ in range(2)]
    sent_calls(desk)
    desk.core.link_lost(desk.clock.now, "gone")
    assert waits.outcome == (Code.CONNECTION_LOST, "no")
    assert not own[0].done and not own[1].done
    desk.flush()
    for _ in own:
        for execution in desk.handle():
            execution("own")
        desk.flush()
    assert [call.results for call in own] == [("own",), ("own",)]


def test_without_a_link_no_call_waits() -> None:
    desk = small(max_pending=1)
    desk.core.link_lost(desk.clock.now, "gone")
    assert patient(desk).outcome == (Code.CONNECTION_LOST, "no")


def test_a_draining_broker_ends_waits() -> None:
    desk = small(max_pending=1)
    first, waits = patient(desk), patient(desk)
    sent_calls(desk)
    desk.told(control.DrainingNotice(1000))
    desk.flush()
    assert waits.outcome == (Code.DRAINING, "no") and not first.done


def test_a_closed_endpoint_ends_waits() -> None:
    desk = small(max_pending=1)
    patient(desk)
    own, waits, room = patient(desk, 7, kind=None), patient(desk), ready(desk)
    desk.core.close()
    for call in (own, waits, room):
        assert call.outcome == (Code.CONNECTION_LOST, "no")
    assert patient(desk).outcome == (Code.CONNECTION_LOST, "no")
    desk.check_at_rest()
    assert desk.counters.calls == 4  # the wait for room is no call


def test_a_bounce_makes_room() -> None:
    desk = small(max_pending=1)
    first, second = patient(desk), patient(desk)
    [(_, frame)] = (desk.flush(), desk.shell.take_sent())[1]
    desk.gets(bounce(Code.NO_SERVER, frame))
    assert first.outcome == (Code.NO_SERVER, "no")
    assert [envelope[1] for envelope in sent_calls(desk)] == [second.id]


# -- waiting for room itself


def test_with_room_the_wait_is_over_at_once() -> None:
    desk = small(max_pending=1)
    call = ready(desk)
    assert call.results == ()
    assert desk.counters.calls == desk.counters.results == 0


@pytest.mark.parametrize("limit", ["max_pending", "max_in_flight"])
def test_a_wait_for_room_ends_when_a_call_ends(limit: str) -> None:
    desk = small(**{limit: 1})
    call = patient(desk)
    room = ready(desk)
    assert not room.done
    answer(desk, call)
    desk.flush()
    assert room.done


def test_a_wait_for_room_lasts_while_calls_wait() -> None:
    desk = small(Role.SERVER, max_in_flight=1)
    first, second = patient(desk, 1), patient(desk, 1)
    room = ready(desk)
    assert not room.done
    answer(desk, first, b"\x01")
    desk.flush()
    assert room.done and not second.done


def test_as_many_waits_end_as_there_is_room() -> None:
    desk = small(max_pending=2)
    calls = [patient(desk), patient(desk)]
    waits = [ready(desk) for _ in range(3)]
    answer(desk, calls[0])
    desk.flush()
    assert [wait.done for wait in waits] == [True, False, False]


def test_a_wait_for_room_outlives_a_lost_link() -> None:
    desk = small()
    desk.core.link_lost(desk.clock.now, "gone")
    room = ready(desk)
    assert not room.done
    desk.wait(1.0)
    desk.welcome()
    desk.flush()
    assert room.done


def test_a_wait_for_room_ends_in_time_or_by_a_cancel() -> None:
    desk = small(max_pending=1)
    patient(desk)
    short, cancelled = ready(desk, timeout_s=0.5), ready(desk)
    desk.core.cancel(cancelled)
    assert cancelled.outcome == (Code.CANCELLED, "no")
    desk.wait(1.0)
    assert short.outcome == (Code.TIMEOUT, "no")
    assert desk.counters.errors == 0


def test_a_result_in_a_frame_with_others_still_makes_room() -> None:
    desk = small(max_pending=2)
    calls = [patient(desk) for _ in range(4)]
    sent_calls(desk)
    desk.gets(DATA_0 + join([write.result(call.id, ()) for call in calls[:2]]))
    assert [envelope[0] for envelope in sent_calls(desk)] == [CALL, CALL]
    assert RESULT not in [envelope[0] for envelope in sent_calls(desk)]


def test_the_end_of_a_wait_is_told_like_that_of_a_call() -> None:
    desk = small(max_pending=1)
    patient(desk)
    room = TestCall(99, "ready")
    room.callback = print
    room.add_waiter(lambda: 1 / 0)
    desk.shell.contains = True
    desk.core.wait_for_room(room)
    desk.core.close()
    assert room.outcome == (Code.CONNECTION_LOST, "no")
    assert desk.shell.ended == [room]
    assert [what for what, _ in desk.shell.contained] == ["waking those who wait for a call"]


def test_a_callback_that_cannot_be_run_is_contained() -> None:
    desk = small()
    room = TestCall(99, "ready")
    room.callback = print
    desk.shell.contains = True
    desk.shell.finished = lambda call: 1 / 0  # type: ignore[method-assign]
    desk.core.wait_for_room(room)
    desk.flush()
    assert [what for what, _ in desk.shell.contained] == ["running a callback"]


@pytest.mark.parametrize("role", [Role.PLAYER, Role.SERVER])
@pytest.mark.parametrize("limit", ["max_pending", "max_in_flight"])
def test_questions_to_the_broker_take_no_room(role: Role, limit: str) -> None:
    desk = small(role, **{limit: 1})
    question = TestCall(next(desk.ids))
    desk.core.ping(question)
    watcher = ready(desk)
    assert watcher.results == ()
    desk.shell.take_sent()
    to = None if role is Role.PLAYER else 7
    first, second = patient(desk, to), patient(desk, to)
    assert [envelope[1] for envelope in sent_calls(desk)] == [first.id] and not second.done
    answer(desk, first, b"" if to is None else encode_player_id(to))
    assert [envelope[1] for envelope in sent_calls(desk)] == [second.id] and not question.done
