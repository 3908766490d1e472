"""Receipts: the handler's side hears that an outcome has arrived, and forgets it."""

from __future__ import annotations

from typing import Any

import pytest
from support.corefakes import Clock, Desk, FakeBroker, TestCall, connected, data, envelopes_of

from ringback.core.receipts import LATER_S, MAX_LATER
from ringback.core.retried_call import Tries
from ringback.core.retry import Retry
from ringback.errors import CallbackError, Executed, Overloaded, call_error
from ringback.protocol import control
from ringback.protocol.envelopes import CALL, CANCEL, Encoder
from ringback.protocol.frames import FrameType, Role
from ringback.protocol.limits import Limits
from ringback.protocol.player_ids import encode_player_id
from ringback.protocol.repeats import REPEAT_KEY

write = Encoder(Limits())


@pytest.fixture
def player() -> Desk:
    return connected(Role.PLAYER, random=lambda: 1.0)


def retried(desk: Desk, to: Any = None, kind: FrameType | None = FrameType.DATA) -> TestCall:
    """Trigger a call that is tried again."""
    call = TestCall(next(desk.ids))
    call.began = desk.clock.now
    tries = Tries(Retry(), bytes(15) + bytes((call.id % 256,)), lambda: next(desk.ids))
    encoded_id = b"" if to is None else encode_player_id(to)
    desk.core.call_with_retry(call, kind, encoded_id, write.call(call.id, "k", "p", None), tries)
    return call


def sent(desk: Desk) -> list[list[Any]]:
    desk.flush()
    frames = [frame for _, frame in desk.shell.take_sent() if frame[1] == FrameType.DATA]
    return [envelope for frame in frames for envelope in envelopes_of(frame)]


def run_one(desk: Desk, error: CallbackError | None = None) -> int:
    """Make a call, and give it an outcome. Return the ID of its CALL."""
    retried(desk)
    call_id: int = sent(desk)[-1][1]
    desk.gets(data(write.result(call_id, ()) if error is None else write.error(call_id, error)))
    return call_id


def test_a_receipt_leaves_with_the_next_call(player: Desk) -> None:
    call_id = run_one(player)
    assert sent(player) == []
    retried(player)
    cancel, call = sent(player)
    assert cancel == [CANCEL, call_id] and call[0] == CALL


def test_receipts_leave_in_time(player: Desk) -> None:
    call_id = run_one(player)
    other = player.call(timeout_s=1.0, flush=True)  # its deadline comes first
    player.shell.take_sent()
    player.wait(LATER_S - 1.0)
    assert sent(player) == [[CANCEL, other.id]]
    player.wait(1.1)
    assert sent(player) == [[CANCEL, call_id]]
    player.wait(3 * LATER_S)
    assert sent(player) == []
    player.check_at_rest()


def test_many_receipts_leave_at_once(player: Desk) -> None:
    calls = [retried(player) for _ in range(MAX_LATER)]
    ids = [envelope[1] for envelope in sent(player)]
    for call_id in ids[:-1]:
        player.gets(data(write.result(call_id, ())))
    assert sent(player) == []
    player.gets(data(write.result(ids[-1], ())))
    assert sent(player) == [[CANCEL, call_id] for call_id in ids]
    assert all(call.done for call in calls)


@pytest.mark.parametrize(("executed", "told"), [("yes", True), ("maybe", False), ("no", False)])
def test_an_outcome_is_what_the_handler_s_side_remembers(
    player: Desk, executed: Executed, told: bool
) -> None:
    call_id = run_one(player, call_error("SOLD_OUT", "", executed))
    player.wait(2 * LATER_S)
    assert ([CANCEL, call_id] in sent(player)) is told


def test_without_a_link_receipts_are_dropped(player: Desk) -> None:
    run_one(player)
    player.core.link_lost(player.clock.now, "cut")
    player.wait(2 * LATER_S)
    player.welcome()
    player.shell.take_sent()
    player.wait(2 * LATER_S)
    assert [envelope for envelope in sent(player) if envelope[0] == CANCEL] == []


@pytest.mark.parametrize(
    ("role", "links", "told"),
    [(Role.PLAYER, (0, 0), True), (Role.OPERATOR, (3, 4), False)],
    ids=["to the broker, a player stays who it is", "an operator becomes somebody else"],
)
def test_the_receipt_of_a_repeat_must_be_the_last_of_its_call(
    role: Role, links: tuple[int, int], told: bool
) -> None:
    """The broker drops what comes late from an earlier link of a player, and passes on that of an operator.

    A node that is stopped passes it on when it goes on, after the receipt, and the handler would run again.
    """
    caller = connected(role, random=lambda: 1.0, link=links[0])
    to = None if role is Role.PLAYER else 7
    call = retried(caller, to)
    assert [envelope[2] for envelope in sent(caller)] == ["k"]
    caller.core.link_lost(caller.clock.now, "cut")
    caller.wait(0.1)
    caller.welcome(link=links[1])
    caller.shell.take_sent()
    caller.wait(0.1)
    [[_, call_id, key, *_]] = sent(caller)
    assert key == REPEAT_KEY
    caller.gets(data(write.result(call_id, ()), link=links[1]), b"" if to is None else encode_player_id(to))
    assert call.results == ()
    caller.wait(LATER_S + 0.1)
    assert sent(caller) == ([[CANCEL, call_id]] if told else [])


def test_a_try_that_did_not_run_does_not_keep_the_receipt_back() -> None:
    operator = connected(Role.OPERATOR, random=lambda: 1.0, link=3)
    retried(operator, 7)
    operator.core.link_lost(operator.clock.now, "cut")  # the frame has not left
    operator.shell.take_sent()
    operator.wait(0.1)
    operator.welcome(link=4)
    operator.shell.take_sent()
    operator.wait(0.1)
    [[_, call_id, key, *_]] = sent(operator)
    assert key == "k"
    operator.gets(data(write.result(call_id, ()), link=4), encode_player_id(7))
    operator.wait(LATER_S + 0.1)
    assert sent(operator) == [[CANCEL, call_id]]


def test_receipts_go_to_the_peer_of_their_call() -> None:
    server = connected(Role.SERVER, random=lambda: 1.0)
    server.told(control.Joined((7, 8)))
    for to in (7, 8):
        retried(server, to)
        call_id = sent(server)[0][1]
        server.gets(data(write.result(call_id, ())), encode_player_id(to))
    server.wait(LATER_S + 0.1)
    server.flush()
    addresses = {address for address, frame in server.shell.take_sent() if frame[1] == FrameType.DATA}
    assert addresses == {encode_player_id(7), encode_player_id(8)}


def test_the_handler_s_side_forgets_what_has_arrived() -> None:
    clock = Clock()
    broker = FakeBroker(clock)
    server = broker.add(Desk(Role.SERVER, clock=clock))
    player = broker.add(Desk(Role.PLAYER, clock=clock))
    broker.start(server, player)
    for _ in range(5):
        call = retried(player)
        broker.run()
        assert server.core.load().remembered <= 2
        [execution] = server.handle()
        execution("done")
        broker.run()
        assert call.results == ("done",)
    assert server.core.load().remembered == 1
    broker.wait(LATER_S + 0.1)
    broker.run()
    assert server.core.load().remembered == 0


def test_a_call_to_oneself_is_forgotten_too() -> None:
    server = connected(Role.SERVER, random=lambda: 1.0)
    call = retried(server, "ann", None)
    server.flush()
    [execution] = server.handle()
    execution("done")
    server.flush()
    assert call.results == ("done",) and server.core.load().remembered == 1
    server.wait(LATER_S + 0.1)
    server.flush()
    assert server.core.load().remembered == 0


def test_what_was_refused_has_no_receipt(player: Desk) -> None:
    call_id = run_one(player, Overloaded(executed="no"))
    player.wait(1.0)
    envelopes = sent(player)
    assert [envelope[0] for envelope in envelopes] == [CALL] and envelopes[0][1] != call_id
