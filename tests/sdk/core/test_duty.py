"""The duty of a server: it stands by, acts, hands over and leaves."""

from __future__ import annotations

from typing import Any

import pytest
from support.corefakes import DATA_0, Desk, TestCall, data, only_error

from ringback.core.shell import EndpointEvent
from ringback.errors import Code, RejectCode
from ringback.protocol import control
from ringback.protocol.bounces import bounce
from ringback.protocol.envelopes import Encoder, join
from ringback.protocol.frames import FIRST_OWN_LINK, FrameType, Role, header
from ringback.protocol.limits import Limits
from ringback.protocol.player_ids import encode_player_id
from ringback.protocol.repeats import REPEAT_KEY

OWN = FIRST_OWN_LINK + 5
OWN_HEADER = header(FrameType.DATA, OWN)
SEVEN = encode_player_id(7)
write = Encoder(Limits())


def welcome(**fields: Any) -> control.Welcome:
    given = {"own_link": OWN, "report_ms": 1000, **fields}
    return control.Welcome(0, None, True, 30_000, "test", **given)


def acting(desk: Desk) -> list[bool]:
    return [argument for event, argument in desk.shell.events if event is EndpointEvent.ACTING]


def server(*, limits: Limits | None = None, **fields: Any) -> Desk:
    """Return a server that the broker has welcomed, and that was sent nothing yet."""
    desk = Desk(Role.SERVER, limits=limits)
    desk.core.start(desk.clock.now, 5.0)
    desk.told(welcome(**fields))
    assert desk.shell.starts == [None]
    desk.shell.take_sent()
    return desk


def call_of_seven(desk: Desk, call_id: int = 3) -> None:
    desk.gets(data(write.call(call_id, "k", None, None)), SEVEN)


def told(desk: Desk) -> list[control.ControlFrame]:
    desk.flush()
    return desk.shell.told()


def hands_over(desk: Desk) -> Any:
    """Have a server order a hand-over, and the broker obey. Return the call."""
    call = new_call(desk)
    desk.core.hand_over(call)
    [order] = told(desk)
    assert order == control.Order(call.id, control.What.HAND_OVER)
    desk.told(welcome(retiring=True))
    desk.told(control.Answer(call.id, None))
    assert not call.done
    return call


def new_call(desk: Desk, deadline: float | None = None) -> Any:
    return TestCall(next(desk.ids), "hand over", deadline)


def asked(desk: Desk) -> bytes:
    """Return the body of the PING with which a server asks whether all its replies have arrived."""
    *_, ping = told(desk)
    assert isinstance(ping, control.Ping) and ping.body.startswith(b"left")
    return ping.body


def test_hello_of_a_server_that_may_stand_by() -> None:
    desk = Desk(Role.SERVER, standby=True)
    desk.core.start(desk.clock.now, 5.0)
    [hello] = desk.shell.told()
    assert isinstance(hello, control.Hello) and (hello.standby, hello.server_links) == (True, True)


def test_it_stands_by_and_then_acts() -> None:
    desk = server(standby=True)
    assert desk.core.connected and not desk.core.acting and acting(desk) == []
    assert desk.call(7).outcome == (Code.NO_SERVER, "no")
    desk.told(control.Joined((7, 8)))
    assert list(desk.core.players) == [7, 8]
    desk.told(welcome())
    assert desk.core.acting and acting(desk) == [True]
    assert [event for event, _ in desk.shell.events].count(EndpointEvent.CONNECTED) == 1
    call = desk.call(7, flush=True)
    assert [frame[:8] for _, frame in desk.shell.take_sent()] == [OWN_HEADER]
    desk.gets(data(write.result(call.id, (5,)), link=OWN), SEVEN)
    assert call.results == (5,)
    desk.core.link_lost(desk.clock.now, "test")
    assert not desk.core.acting and acting(desk) == [True, False]


def test_a_standby_takes_no_data() -> None:
    desk = server(standby=True)
    call_of_seven(desk)
    assert desk.counters.invalid == 1 and desk.shell.waiting == []


def test_a_standby_pings_and_drains() -> None:
    desk = server(standby=True)
    desk.wait(15.1)
    assert desk.shell.told() == [control.Ping()]
    desk.told(control.DrainingNotice(1000))
    assert told(desk) == [control.Bye()]


def test_an_older_broker_lets_a_server_act_without_a_link_of_its_own() -> None:
    desk = server(own_link=None)
    assert desk.core.acting
    desk.call(7, flush=True)
    assert [frame[:8] for _, frame in desk.shell.take_sent()] == [DATA_0]
    call = new_call(desk)
    desk.core.hand_over(call)
    assert call.outcome == (Code.NO_SERVER, "no") and "too old" in str(call.error)


def test_an_older_broker_lets_nobody_stand_by() -> None:
    """The start succeeds all the same, and each attempt asks anew."""
    desk = Desk(Role.SERVER, standby=True)
    desk.core.start(desk.clock.now, 5.0)
    desk.told(control.Reject(RejectCode.SERVER_TAKEN, "taken"))
    assert desk.shell.starts == [None] and not desk.core.connected and not desk.core.acting
    desk.wait(20.0)
    assert desk.shell.starts == [None] and desk.shell.opened > 1
    desk.told(welcome(own_link=None))
    assert desk.core.acting


def test_the_broker_tells_a_server_to_retire() -> None:
    """It leaves at once if nothing is in flight."""
    desk = server()
    desk.told(welcome(retiring=True))
    assert not desk.core.acting and acting(desk) == [True, False]
    body = asked(desk)
    assert told(desk) == []
    desk.told(control.Pong(body))
    assert told(desk) == [control.Bye(finished=True)]
    assert desk.shell.has_left == 1 and not desk.core.connected and not desk.shell.link_open
    assert desk.shell.warnings == []
    assert desk.shell.events[-1] == (EndpointEvent.DISCONNECTED, "this server has handed over")
    desk.wait(100.0)
    assert desk.shell.opened == 1
    assert desk.call(7).outcome == (Code.CONNECTION_LOST, "no")
    desk.check_at_rest()


def test_it_finishes_what_it_has_begun() -> None:
    desk = server()
    call_of_seven(desk)
    mine = desk.call(7, flush=True)
    [execution] = desk.handle()
    desk.shell.take_sent()
    leaving = hands_over(desk)
    assert told(desk) == []
    nested = desk.call(7, flush=True)  # of the handler that runs
    [(_, frame)] = desk.shell.take_sent()
    assert frame[:8] == OWN_HEADER
    desk.gets(data(write.result(nested.id, (5,)), link=OWN), SEVEN)
    execution("done")
    desk.flush()
    [(address, frame)] = desk.shell.take_sent()
    assert (address, frame[:8]) == (SEVEN, DATA_0)
    assert told(desk) == [] and not leaving.done  # its own call is still in flight
    desk.gets(data(write.result(mine.id, (6,)), link=OWN), SEVEN)
    desk.told(control.Pong(asked(desk)))
    assert told(desk) == [control.Bye(finished=True)]
    assert leaving.results == () and mine.results == (6,)
    desk.check_at_rest()


def test_a_reply_that_comes_back_is_sent_again_before_it_leaves() -> None:
    desk = server()
    call_of_seven(desk)
    [execution] = desk.handle()
    hands_over(desk)
    execution("done")
    desk.flush()
    [(_, reply), (_, ping)] = [sent for sent in desk.shell.take_sent() if sent[1][1] != FrameType.REPORT]
    first = control.decode(ping)
    assert isinstance(first, control.Ping)
    desk.gets(bounce(Code.OVERLOADED, reply), SEVEN)
    desk.told(control.Pong(first.body))
    assert told(desk) == []
    desk.wait(0.06)
    again = desk.shell.take_sent()
    assert again[0] == (SEVEN, reply)
    second = control.decode(again[-1][1])
    assert isinstance(second, control.Ping) and second.body != first.body
    desk.told(control.Pong(first.body))  # an old one says nothing of the second attempt
    assert told(desk) == []
    desk.told(control.Pong(second.body))
    assert told(desk) == [control.Bye(finished=True)]


def test_a_full_link_delays_the_leave() -> None:
    desk = server()
    desk.shell.room = 0
    desk.told(welcome(retiring=True))
    assert not desk.flush()
    desk.shell.room = None
    body = asked(desk)
    desk.shell.room = 0
    desk.told(control.Pong(body))
    assert not desk.flush() and desk.core.connected
    desk.shell.room = None
    assert told(desk) == [control.Bye(finished=True)]


def test_calls_that_wait_for_room_are_begun_too() -> None:
    desk = server(limits=Limits(max_in_flight=1))
    calls = [new_call(desk) for _ in range(2)]
    for call in calls:
        envelope = write.call(call.id, "k", None, None)
        desk.core.call_when_room(call, FrameType.DATA, SEVEN, envelope, True)
    desk.flush()
    desk.shell.take_sent()
    desk.told(welcome(retiring=True))
    for call in calls:
        assert not desk.shell.has_left
        desk.gets(data(write.result(call.id, (5,)), link=OWN), SEVEN)
        desk.flush()
        assert call.done
    desk.told(control.Pong(asked_last(desk)))
    assert told(desk)[-1] == control.Bye(finished=True)


def asked_last(desk: Desk) -> bytes:
    frames = [control.decode(frame) for address, frame in desk.shell.take_sent() if not address]
    [*_, ping] = frames
    assert isinstance(ping, control.Ping)
    return ping.body


def test_a_server_that_begins_to_act_does_not_know_earlier_calls() -> None:
    """They went to another server, which may have run them: a repeat of one does not run."""
    desk = server(standby=True)
    desk.wait(20.0)
    desk.told(welcome())
    desk.shell.take_sent()
    repeat = ["k", bytes(16), 5_000, None]
    desk.gets(data(write.call(5, REPEAT_KEY, repeat, None)), SEVEN)
    assert desk.shell.waiting == []
    assert only_error(desk)[1:] == (Code.CONNECTION_LOST, 1)


def test_nobody_stands_by() -> None:
    desk = server()
    call = new_call(desk)
    desk.core.hand_over(call)
    desk.flush()
    desk.told(control.Answer(call.id, None, code=Code.NO_SERVER))
    assert call.outcome == (Code.NO_SERVER, "no") and "no server stands by" in str(call.error)
    assert desk.core.acting


def test_two_wait_for_the_same_hand_over() -> None:
    desk = server()
    call_of_seven(desk)
    [execution] = desk.handle()
    first = hands_over(desk)
    second = new_call(desk)
    desk.core.hand_over(second)
    assert told(desk) == []
    execution()
    desk.told(control.Pong(asked_last(flushed(desk))))
    desk.flush()
    assert first.results == second.results == ()


def flushed(desk: Desk) -> Desk:
    desk.flush()
    return desk


def test_a_standby_does_not_hand_over() -> None:
    desk = server(standby=True)
    call = new_call(desk)
    desk.core.hand_over(call)
    assert call.outcome == (Code.NO_SERVER, "no")


def test_a_hand_over_that_takes_too_long() -> None:
    desk = server()
    call_of_seven(desk)
    [execution] = desk.handle()
    call = new_call(desk, desk.clock.now + 1.0)
    desk.core.hand_over(call)
    desk.flush()
    desk.told(welcome(retiring=True))
    desk.told(control.Answer(call.id, None))
    desk.wait(2.0)
    assert call.outcome == (Code.TIMEOUT, "maybe")
    desk.shell.take_sent()
    desk.core.close()
    assert all(frame[1] == FrameType.REPORT for _, frame in desk.shell.take_sent())
    execution("too late")
    desk.check_at_rest()


def test_a_server_that_closes_before_it_has_finished_says_no_bye() -> None:
    """The broker then tells those who wait. A reply could still come back, and nobody would send it again."""
    desk = server()
    desk.told(welcome(retiring=True))
    desk.flush()
    desk.core.close()
    assert b"\1\4" not in {frame[:2] for _, frame in desk.shell.take_sent()}


def test_a_link_that_is_lost_while_it_retires() -> None:
    desk = server()
    call_of_seven(desk)
    desk.handle()
    call = hands_over(desk)
    desk.core.link_lost(desk.clock.now, "test")
    assert call.outcome == (Code.CONNECTION_LOST, "maybe")
    assert desk.shell.has_left == 1
    desk.wait(100.0)
    assert desk.shell.opened == 1
    desk.core.close()
    desk.core.start(desk.clock.now, 5.0)  # the program may start it again
    desk.told(welcome())
    assert desk.core.acting


def test_no_calls_come_with_the_link_number_of_the_server() -> None:
    """A player would have a second allowance there."""
    desk = server()
    desk.gets(data(write.call(3, "k", None, None), link=OWN), SEVEN)
    assert desk.shell.waiting == [] and desk.counters.invalid == 1
    desk.wait(30.0)
    desk.check_at_rest()


def test_a_player_that_leaves_ends_both_its_routes() -> None:
    desk = server()
    call_of_seven(desk)
    [execution] = desk.handle()
    call = desk.call(7, flush=True)
    desk.told(control.Left((7,)))
    assert call.outcome == (Code.PLAYER_LEFT, "maybe") and execution.cancelled
    desk.check_at_rest()


@pytest.mark.parametrize(("link", "stopped"), [(OWN, True), (OWN + 1, False), (None, False)])
def test_a_player_stops_what_it_does_for_a_server_that_is_gone(link: int | None, stopped: bool) -> None:
    desk = Desk(Role.PLAYER, player_id=7)
    desk.connect()
    desk.gets(OWN_HEADER + join([write.call(3, "k", None, None)]))
    [execution] = desk.handle()
    call = desk.call()
    desk.told(control.ServerDown(link))
    assert call.outcome == (Code.SERVER_LOST, "no")
    assert execution.cancelled is stopped


def test_calls_that_wait_for_room_leave_before_a_server_that_hands_over() -> None:
    """Its own questions to the broker, which end only when it leaves, take no room from them."""
    desk = server(limits=Limits(max_pending=1))
    first = desk.call(7, flush=True)
    desk.shell.take_sent()
    second = new_call(desk)
    desk.core.call_when_room(second, FrameType.DATA, SEVEN, write.call(second.id, "k", None, None))
    handing_over = hands_over(desk)
    desk.gets(data(write.result(first.id, ()), link=OWN), SEVEN)
    desk.flush()
    assert desk.core.load().waiting == 0 and not second.done
    desk.shell.take_sent()
    desk.gets(data(write.result(second.id, ()), link=OWN), SEVEN)
    desk.told(control.Pong(asked(desk)))
    assert told(desk) == [control.Bye(finished=True)]
    assert first.results == second.results == handing_over.results == ()


def test_hand_overs_that_have_ended_are_forgotten() -> None:
    """A server may try to hand over for as long as no other one stands by."""
    desk = server(limits=Limits(max_pending=2))
    for _ in range(5):
        refused, timed = new_call(desk), new_call(desk, desk.clock.now + 1.0)
        for call in (refused, timed):
            desk.core.hand_over(call)
        desk.told(control.Answer(refused.id, None, code=Code.NO_SERVER))
        desk.wait(1.1)
        assert refused.outcome == (Code.NO_SERVER, "no") and timed.outcome == (Code.TIMEOUT, "maybe")
        told(desk)
    call = hands_over(desk)
    assert desk.core._duty._handing_over == [call]
    desk.told(control.Pong(asked(desk)))
    assert told(desk) == [control.Bye(finished=True)]
    assert call.results == () and desk.counters.stray_replies == 0


def test_a_hand_over_that_ends_first_is_no_stray_reply() -> None:
    desk = server()
    call_of_seven(desk)
    call = new_call(desk, desk.clock.now + 1.0)
    desk.core.hand_over(call)
    desk.told(welcome(retiring=True))
    desk.told(control.Answer(call.id, None))
    desk.wait(1.1)
    assert call.outcome == (Code.TIMEOUT, "maybe")
    [execution] = desk.shell.waiting
    execution.begin(desk.clock.read)
    execution()
    desk.flush()
    *_, (_, frame) = desk.shell.take_sent()
    ping = control.decode(frame)
    assert isinstance(ping, control.Ping)
    desk.told(control.Pong(ping.body))
    assert told(desk) == [control.Bye(finished=True)]
    assert desk.counters.stray_replies == 0
