"""Progress: what a handler's side sends of it, and what a caller accepts."""

from __future__ import annotations

from typing import Any

from support.corefakes import Clock, Desk, FakeBroker, TestCall, connected, data

from ringback.core.progress import MAX_WAITING, MAX_WAITING_BYTES, Progress
from ringback.errors import Code
from ringback.protocol.bounces import bounce
from ringback.protocol.contexts import PROGRESS as ASKED
from ringback.protocol.contexts import bounded
from ringback.protocol.envelopes import PROGRESS, RESULT, Encoder
from ringback.protocol.frames import Role
from ringback.protocol.limits import MAX_CONTEXT_BYTES, MAX_CONTEXT_PAIRS, Limits
from ringback.protocol.player_ids import encode_player_id

write = Encoder(Limits())
ASKS = {ASKED: "1"}
SEVEN = encode_player_id(7)


class Waiting(Progress):
    """Progress that a test takes."""

    changes = 0

    def changed(self) -> None:
        self.changes += 1


def asking(desk: Desk, to: Any = None) -> tuple[TestCall, Waiting]:
    """Make a call that asks for progress."""
    call = desk.call(to, context=ASKS, flush=True)
    call._progress = progress = Waiting()
    call.add_waiter(progress.end)
    desk.shell.take_sent()
    return call, progress


# -- at the caller


def test_values_wait_in_order_until_the_call_ends(player: Desk) -> None:
    call, progress = asking(player)
    player.gets(
        data(write.progress(call.id, 1), write.progress(call.id, [2]), write.result(call.id, ("done",)))
    )
    assert list(progress.waiting) == [1, [2]] and progress.ended and progress.changes == 3
    assert call.results == ("done",)
    player.gets(data(write.progress(call.id, 3)))
    assert list(progress.waiting) == [1, [2]] and player.counters.stray_progress == 1
    player.check_at_rest()


def test_progress_counts_only_on_the_route_of_a_call_that_asked(server: Desk) -> None:
    call, progress = asking(server, 7)
    plain = server.call(7, flush=True)
    server.gets(data(write.progress(call.id, "forged")), encode_player_id(8))
    server.gets(data(write.progress(plain.id, 1), write.progress(999, 1)), SEVEN)
    assert not progress.waiting and server.counters.stray_progress == 3
    server.gets(data(write.progress(call.id, "mine")), SEVEN)
    assert list(progress.waiting) == ["mine"] and not call.done and not plain.done


def test_the_oldest_values_are_dropped(player: Desk) -> None:
    call, progress = asking(player)
    for number in range(MAX_WAITING + 3):
        player.gets(data(write.progress(call.id, number)))
    assert list(progress.waiting) == list(range(3, MAX_WAITING + 3)) and progress.lost == 3


def test_the_bytes_that_wait_are_bounded(player: Desk) -> None:
    call, progress = asking(player)
    half = MAX_WAITING_BYTES // 2
    for name, size in (("a", half), ("b", half), ("c", 1), ("d", half), ("e", half)):
        progress.take(name, size)
    assert list(progress.waiting) == ["d", "e"] and progress.lost == 3
    assert progress.next_value() == "d"
    progress.take("f", half)
    assert list(progress.waiting) == ["e", "f"] and progress.lost == 3
    progress.take("g", MAX_WAITING_BYTES + 1)  # the latest one is kept
    assert list(progress.waiting) == ["g"] and progress.lost == 5
    for _ in range(40):  # as they come on the wire
        player.gets(data(write.progress(call.id, bytes(1_000_000))))
    assert 10 <= len(progress.waiting) <= 16 and progress.lost > 20


def test_a_cancelled_call_takes_no_more_values(player: Desk) -> None:
    call, progress = asking(player)
    player.core.cancel(call)
    assert progress.ended
    player.gets(data(write.progress(call.id, 1)))
    assert not progress.waiting and player.counters.stray_progress == 1


def test_progress_that_cannot_be_read_is_counted() -> None:
    player = connected(Role.PLAYER, limits=Limits(max_call_bytes=100))
    call, progress = asking(player)
    player.gets(data(write.progress(call.id, bytes(200)), write.progress(call.id, 2)))
    assert list(progress.waiting) == [2] and player.counters.invalid == 1 and not call.done


# -- at the handler's side


def test_a_handler_reports_before_its_reply(server: Desk) -> None:
    server.gets(data(write.call(5, "k", None, None, ASKS)), SEVEN)
    [execution] = server.handle()
    execution.progress(1)
    execution.progress({"done": 2})
    execution("done")
    execution.progress(3)
    server.flush()
    assert server.bodies() == [[[PROGRESS, 5, 1], [PROGRESS, 5, {"done": 2}], [RESULT, 5, ["done"]]]]
    assert server.shell.late == 1
    server.check_at_rest()


def test_a_caller_that_does_not_ask_gets_nothing(server: Desk) -> None:
    server.gets(data(write.call(5, "k", None, None), write.call(6, "k", None, None, {"a": "b"})), SEVEN)
    for execution in server.handle():
        execution.progress(1)
        execution(1)
        execution.progress(2)
    server.flush()
    assert server.bodies() == [[[RESULT, 5, [1]], [RESULT, 6, [1]]]]
    assert server.shell.late == server.counters.dropped_progress == 0


def test_progress_for_nobody_is_dropped(server: Desk) -> None:
    server.gets(data(write.call(5, "k", None, None, ASKS)), SEVEN)
    [execution] = server.handle()
    server.gets(data(write.cancel(5)), SEVEN)
    execution.progress(1)
    assert server.counters.dropped_progress == 0
    server.core.report(execution, write.progress(5, 2))  # it was on its way from another thread
    server.flush()
    assert server.bodies() == [] and server.counters.dropped_progress == 1


def test_progress_leaves_room_for_replies() -> None:
    server = connected(Role.SERVER, limits=Limits(max_queued_bytes=1000))
    server.gets(data(write.call(5, "k", None, None, ASKS)), SEVEN)
    [execution] = server.handle()
    server.shell.room = 0
    for _ in range(10):
        execution.progress(bytes(100))
    assert server.counters.dropped_progress == 7
    execution(bytes(500))
    server.shell.room = None
    server.flush()
    assert [envelope[0] for envelope in server.bodies()[0]] == [PROGRESS] * 3 + [RESULT]


def test_bounced_progress_is_dropped(server: Desk) -> None:
    server.gets(data(write.call(5, "k", None, None, ASKS)), SEVEN)
    [execution] = server.handle()
    execution.progress(1)
    server.flush()
    [(address, frame)] = server.shell.take_sent()
    server.gets(bounce(Code.OVERLOADED, frame), address)
    execution("done")
    server.wait(5.0)
    assert server.bodies() == [[[RESULT, 5, ["done"]]]] and server.counters.dropped_progress == 1
    server.gets(bounce(Code.UNKNOWN_PLAYER, frame), address)
    assert server.counters.dropped_progress == 2
    server.check_at_rest()


# -- both


def test_a_server_that_calls_itself_gets_progress(server: Desk) -> None:
    call = server.call(9, kind=None, context=ASKS)
    call._progress = progress = Waiting()
    call.add_waiter(progress.end)
    server.flush()
    [execution] = server.handle()
    execution.progress(1)
    execution(2)
    server.flush()
    assert list(progress.waiting) == [1] and progress.ended and call.results == (2,)


def test_progress_crosses_a_cancel() -> None:
    clock = Clock()
    broker = FakeBroker(clock)
    server = broker.add(Desk(Role.SERVER, clock=clock))
    player = broker.add(Desk(Role.PLAYER, clock=clock))
    broker.start(server, player)
    call = player.call(context=ASKS)
    call._progress = progress = Waiting()
    broker.run()
    [execution] = server.handle()
    assert repr(execution) == "<Execution of 'k' for 1: not replied>"
    execution.progress("one")
    assert repr(progress) == "<Progress: 0 values wait, the call goes on>"
    player.core.cancel(call)
    broker.run()
    assert repr(execution) == "<Execution of 'k' for 1: nobody waits>"
    assert not progress.waiting and player.counters.stray_progress == 1
    assert execution.cancelled and server.counters.dropped_progress == 0


# -- the context


def test_a_context_has_bounds() -> None:
    traced = {f"name-{number}": "x" for number in range(MAX_CONTEXT_PAIRS)}
    asks = bounded(ASKS, traced)
    assert list(asks) == [ASKED, *list(traced)[:-1]]
    assert bounded(ASKS, {"baggage": "x" * MAX_CONTEXT_BYTES, "traceparent": "y"}) == {
        **ASKS,
        "traceparent": "y",
    }
    assert bounded(ASKS, {ASKED: "forged"}) == ASKS and bounded() == {}
