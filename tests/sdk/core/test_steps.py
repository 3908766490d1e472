"""Steps: what is due next, what one flush sends, and when an endpoint leaves the broker by itself."""

from __future__ import annotations

import pytest
from support.corefakes import Desk, TestCall, connected, data, envelopes_of

from ringback.core.bounced_replies import FIRST_RESEND_S
from ringback.core.link_state import FIRST_DELAY_S
from ringback.core.retried_call import Tries
from ringback.core.retry import Retry
from ringback.errors import Code
from ringback.protocol import control
from ringback.protocol.bounces import bounce
from ringback.protocol.contexts import ONCE
from ringback.protocol.envelopes import CALL, Encoder
from ringback.protocol.frames import FIRST_OWN_LINK, FrameType, Role
from ringback.protocol.limits import Limits
from ringback.protocol.player_ids import encode_player_id

write = Encoder(Limits())
SEVEN = encode_player_id(7)
PING_S = 15.0
"""A PING is due after half of the lease."""

OWN_LINK = FIRST_OWN_LINK + 5
TOKEN = bytes(range(16))


def due_in(desk: Desk) -> float:
    due_at = desk.core.due_at()
    assert due_at is not None
    return round(due_at - desk.clock.now, 6)


def told(desk: Desk) -> list[control.ControlFrame]:
    """Flush, and return the control frames that left; REPORT frames may come with them."""
    desk.flush()
    frames = [control.decode(frame) for address, frame in desk.shell.take_sent() if not address]
    return [frame for frame in frames if not isinstance(frame, control.Report)]


# -- what is due


def test_nothing_is_due_before_the_start() -> None:
    assert Desk(Role.PLAYER).core.due_at() is None


def test_a_link_that_is_not_there_in_time_is_due() -> None:
    desk = Desk(Role.PLAYER)
    desk.shell.addresses = None  # nobody says where the broker is
    desk.core.start(desk.clock.now, 3.0)
    assert due_in(desk) == 3.0


def test_the_earliest_is_due(server: Desk) -> None:
    assert due_in(server) == PING_S
    server.call(7, timeout_s=1.0, flush=True)
    assert due_in(server) == 1.0
    server.gets(data(write.call(1, "k", None, None)), SEVEN)
    [execution] = server.handle()
    server.shell.take_sent()
    execution("done")
    server.flush()
    [(_, reply)] = server.shell.take_sent()
    server.gets(bounce(Code.OVERLOADED, reply), SEVEN)
    assert due_in(server) == FIRST_RESEND_S
    server.core.link_lost(server.clock.now, "cut")
    assert due_in(server) == FIRST_DELAY_S


def test_a_report_is_due_only_if_there_is_something_to_report() -> None:
    desk = Desk(Role.SERVER)
    desk.connect(report_ms=1000)
    assert due_in(desk) == PING_S
    desk.wait(1.5)
    assert desk.shell.take_sent() == []
    call = desk.call(7, flush=True)
    desk.shell.take_sent()
    desk.clock.now += 0.25
    desk.core.tick(desk.clock.now)
    desk.flush()
    [(_, report)] = desk.shell.take_sent()
    assert report[1] == FrameType.REPORT
    assert due_in(desk) == 1.0
    desk.told(control.Left((7,)))  # nothing is left of the call but the report
    assert call.outcome == (Code.PLAYER_LEFT, "maybe") and desk.peers == {}
    assert due_in(desk) == 1.0
    desk.wait(1.0)
    assert [frame[1] for _, frame in desk.shell.take_sent()] == [FrameType.REPORT]
    assert due_in(desk) > 1.0


# -- a flush


def test_a_full_link_takes_the_rest_at_the_next_flush(player: Desk) -> None:
    call = player.call()
    player.register("new")
    player.shell.room = 1
    assert not player.flush()
    assert player.shell.told() == [control.Keys(("k", "new"))]
    player.shell.room = None
    assert player.flush()
    assert player.bodies() == [[[CALL, call.id, "k", None, None]]]


def test_keys_that_changed_are_told_once(player: Desk) -> None:
    player.register("new")
    assert told(player) == [control.Keys(("k", "new"))]
    player.core.keys_changed()
    assert told(player) == [control.Keys(("k", "new"))]
    assert told(player) == []


def waits_for_room(desk: Desk) -> TestCall:
    call = TestCall(next(desk.ids))
    envelope = write.call(call.id, "k", bytes(100), None)
    desk.core.call_when_room(call, FrameType.DATA, b"", envelope, True)
    return call


def test_one_flush_sends_all_that_waits_for_bytes() -> None:
    """Each frame that leaves makes room for calls, and these leave in the same flush."""
    desk = connected(Role.PLAYER, limits=Limits(max_queued_bytes=1))
    calls = [waits_for_room(desk) for _ in range(5)]
    assert desk.core.load().waiting == 4
    assert desk.flush()
    assert [envelope[1] for body in desk.bodies() for envelope in body] == [call.id for call in calls]
    assert desk.core.load().waiting == 0


def test_calls_wait_for_room_as_long_as_the_link_is_full() -> None:
    desk = connected(Role.PLAYER, limits=Limits(max_queued_bytes=1))
    calls = [waits_for_room(desk) for _ in range(3)]
    desk.shell.room = 1
    assert not desk.flush()
    assert [envelope[1] for body in desk.bodies() for envelope in body] == [calls[0].id]
    assert desk.core.load().waiting == 1  # and one is in the outbox
    desk.shell.room = None
    assert desk.flush()
    assert [body[0][1] for body in desk.bodies()] == [call.id for call in calls[1:]]


# -- it leaves


def has_left(desk: Desk) -> bool:
    """Return whether an endpoint has said BYE, as the last frame of its link."""
    frames = told(desk)
    if control.Bye() not in frames:
        assert desk.core.connected
        return False
    assert frames[-1] == control.Bye() and not desk.core.connected and not desk.shell.link_open
    return True


def test_an_endpoint_leaves_a_broker_that_drains(player: Desk) -> None:
    assert not has_left(player)
    player.told(control.DrainingNotice(10_000))
    assert has_left(player)


def test_it_first_finishes_its_calls(player: Desk) -> None:
    call = player.call(flush=True)
    player.shell.take_sent()
    player.told(control.DrainingNotice(10_000))
    assert not has_left(player)
    player.gets(data(write.result(call.id, ())))
    assert has_left(player)


def test_it_first_finishes_its_handlers(server: Desk) -> None:
    server.gets(data(write.call(1, "k", None, None)), SEVEN)
    [execution] = server.handle()
    server.told(control.DrainingNotice(10_000))
    assert not has_left(server)
    execution("done")
    assert has_left(server)


def test_its_calls_to_itself_need_no_broker(server: Desk) -> None:
    call = server.call(7, kind=None, flush=True)
    [execution] = server.handle()
    server.told(control.DrainingNotice(10_000))
    assert has_left(server)
    execution("done")
    server.flush()
    assert call.results == ("done",)


def acting_server() -> Desk:
    desk = Desk(Role.SERVER)
    desk.core.start(desk.clock.now, 5.0)
    desk.told(control.Welcome(0, None, True, 30_000, "test", own_link=OWN_LINK))
    desk.shell.take_sent()
    return desk


def retires(desk: Desk) -> None:
    desk.told(control.Welcome(0, None, True, 30_000, "test", own_link=OWN_LINK, retiring=True))


def asks_to_leave(desk: Desk) -> bool:
    """Return whether a server that retires has sent the PING before its BYE."""
    return any(isinstance(frame, control.Ping) and frame.body for frame in told(desk))


def test_a_server_that_retires_leaves_when_it_has_finished() -> None:
    desk = acting_server()
    retires(desk)
    assert asks_to_leave(desk)


def test_a_server_that_retires_waits_for_a_call_between_two_tries() -> None:
    desk = acting_server()
    call = TestCall(next(desk.ids))
    call.began = desk.clock.now
    tries = Tries(Retry(), TOKEN, lambda: next(desk.ids))
    desk.core.call_with_retry(call, FrameType.DATA, SEVEN, write.call(call.id, "k", None, None), tries)
    desk.flush()
    [(_, frame)] = desk.shell.take_sent()
    retires(desk)
    desk.gets(bounce(Code.OVERLOADED, frame), SEVEN)
    assert not asks_to_leave(desk)
    desk.wait(1.0)
    [(_, frame)] = [sent for sent in desk.shell.take_sent() if sent[0] == SEVEN]
    [[_, call_id, *_]] = envelopes_of(frame)
    desk.gets(data(write.result(call_id, ("done",)), link=OWN_LINK), SEVEN)
    assert call.results == ("done",)
    assert asks_to_leave(desk)


@pytest.mark.parametrize("comes_back", [False, True])
def test_a_server_that_retires_waits_for_a_handler_whose_caller_may_come_back(comes_back: bool) -> None:
    """The call has a token. Its caller has lost its link, and may ask for the outcome."""
    desk = acting_server()
    desk.gets(data(write.call(1, "k", None, None, {ONCE: TOKEN.hex()})), SEVEN)
    [execution] = desk.handle()
    desk.told(control.Left((7,)))
    retires(desk)
    if comes_back:
        desk.gets(data(write.call(2, "k", None, None, {ONCE: TOKEN.hex()})), SEVEN)
    assert not asks_to_leave(desk)
    execution("done")
    assert asks_to_leave(desk)
