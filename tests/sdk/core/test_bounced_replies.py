"""Bounced replies: how they are kept, and when they are sent again."""

from __future__ import annotations

import msgpack
import pytest
from support.corefakes import DATA_0, Clock, Desk, FakeBroker, TestCall, connected, data

from ringback.core.bounced_replies import FIRST_RESEND_S, LONGEST_RESEND_S
from ringback.errors import Code
from ringback.protocol import control
from ringback.protocol.bounces import bounce
from ringback.protocol.envelopes import CALL, ERROR, RESULT, Encoder
from ringback.protocol.frames import FrameType, Role
from ringback.protocol.limits import Limits
from ringback.protocol.player_ids import encode_player_id

write = Encoder(Limits())


def replied(server: Desk, *, ids: tuple[int, ...] = (1, 2)) -> bytes:
    """Let player 7 call, reply to it, and return the frame with the replies."""
    server.gets(data(*(write.call(number, "k", None, None) for number in ids)), encode_player_id(7))
    for execution in server.handle():
        execution(execution.id)
    server.flush()
    [(address, frame)] = server.shell.take_sent()
    assert address == encode_player_id(7)
    return frame


def test_replies_that_found_a_queue_full_are_sent_again(server: Desk) -> None:
    frame = replied(server)
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
    frames = [replied(server, ids=(1,)), replied(server, ids=(2, 3))]
    for frame in frames:
        server.gets(bounce(Code.OVERLOADED, frame), encode_player_id(7))
    server.wait(FIRST_RESEND_S)
    assert [envelope[:2] for [*body] in server.bodies() for envelope in body] == [
        [RESULT, 1],
        [RESULT, 2],
        [RESULT, 3],
    ]


def test_a_reply_comes_back_after_its_route_was_forgotten(server: Desk) -> None:
    frame = replied(server)
    other = server.call(8, timeout_s=0.01)
    server.wait(0.02)
    assert other.done and encode_player_id(7) + DATA_0 not in server.peers
    server.shell.take_sent()
    server.gets(bounce(Code.OVERLOADED, frame), encode_player_id(7))
    server.wait(FIRST_RESEND_S)
    assert server.shell.take_sent() == [(encode_player_id(7), frame)]


def test_replies_are_not_sent_again_when_nobody_is_there(server: Desk) -> None:
    frame = replied(server)
    for code in (Code.UNKNOWN_PLAYER, Code.NO_SERVER, Code.DRAINING):
        server.gets(bounce(code, frame), encode_player_id(7))
    server.wait(5.0)
    assert server.shell.take_sent() == []
    server.check_at_rest()


def test_waiting_replies_are_forgotten_when_the_player_leaves(server: Desk) -> None:
    frame = replied(server)
    server.told(control.Joined((7,)))
    server.gets(bounce(Code.OVERLOADED, frame), encode_player_id(7))
    server.told(control.Left((7,)))
    server.check_at_rest()
    server.wait(5.0)
    assert server.shell.take_sent() == []


def test_waiting_replies_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the bound a short error waits in the place of a result, because the call may have no timeout."""
    monkeypatch.setattr("ringback.core.bounced_replies.MAX_RETURNED", 15)
    monkeypatch.setattr("ringback.core.bounced_replies.SHORT_REPLY_BYTES", 3)
    server = connected(Role.SERVER, limits=Limits(max_queued_bytes=10))
    frame = replied(server, ids=tuple(range(1, 20)))
    server.gets(bounce(Code.OVERLOADED, frame), encode_player_id(7))
    assert server.counters.late_replies == 4
    server.wait(FIRST_RESEND_S)
    [body] = server.bodies()
    kinds = [envelope[0] for envelope in body]
    assert kinds == sorted(kinds) and set(kinds) == {RESULT, ERROR} and len(body) == 15
    assert {(word[2], word[4]) for word in body if word[0] == ERROR} == {(Code.OVERLOADED, 2)}


def test_a_reply_that_nobody_can_read_bounces_as_an_error(server: Desk) -> None:
    """Otherwise a caller without a timeout would wait for ever."""
    server.gets(data(write.call(5, "k", None, None)), encode_player_id(7))
    [execution] = server.handle()
    unreadable = msgpack.packb([RESULT, 5, [{(1, 2): 3}]])  # a shell that encodes worse than ours
    server.core.reply(execution, unreadable, None, server.clock.now)
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


def test_a_slow_player_gets_its_replies_in_the_end() -> None:
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


def test_a_short_reply_is_kept_as_it_is_over_the_bound() -> None:
    server = connected(Role.SERVER, limits=Limits(max_queued_bytes=1))
    for frame in [replied(server, ids=(1,)), replied(server, ids=(2,))]:
        server.gets(bounce(Code.OVERLOADED, frame), encode_player_id(7))
    server.wait(FIRST_RESEND_S)
    [body] = server.bodies()
    assert [envelope[0] for envelope in body] == [RESULT, RESULT]


def test_a_bounced_call_that_cannot_be_read_ends_and_is_not_sent_again(server: Desk) -> None:
    # An encoder that is worse than ours: a list cannot be a key where it is decoded.
    call = TestCall(1)
    envelope = msgpack.packb([CALL, 1, "k", {(1, 2): 3}, None])
    server.core.call(call, FrameType.DATA, encode_player_id(7), envelope)
    server.flush()
    [(encoded_id, frame)] = server.shell.take_sent()
    server.gets(bounce(Code.OVERLOADED, frame), encoded_id)
    assert call.outcome == (Code.OVERLOADED, "no")
    server.wait(5.0)
    assert server.shell.take_sent() == []
    server.check_at_rest()
