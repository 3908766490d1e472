"""Calls out: how a reply finds its call, cancels, and the limits on calls of one's own."""

from __future__ import annotations

from typing import Any

import pytest
from support.corefakes import DATA_0, Desk, connected, data, envelopes_of, rows_of

from ringback.core.pending_call import PendingCall
from ringback.errors import CallbackError, CallTimeout, Code, HandlerError
from ringback.protocol import control
from ringback.protocol.bounces import bounce
from ringback.protocol.control import encode
from ringback.protocol.envelopes import CALL, CANCEL, Encoder, join
from ringback.protocol.frames import FrameType, Role, header
from ringback.protocol.limits import Limits
from ringback.protocol.player_ids import encode_player_id

write = Encoder(Limits())
CONTEXT = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


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


def test_late_and_repeated_replies_are_counted(player: Desk) -> None:
    call = player.call(flush=True)
    for _ in range(3):
        player.gets(data(write.result(call.id, (1,))))
    player.gets(data(write.error(call.id, HandlerError(""))))
    assert (call.results, call.settled) == ((1,), 1)
    assert player.counters.stray_replies == 3


def test_a_timeout_of_the_handler_s_side_is_no_stray_reply(player: Desk) -> None:
    call = player.call(flush=True)
    player.gets(data(write.result(call.id, (1,))))
    player.gets(data(write.error(call.id, CallTimeout(""))))
    assert call.results == (1,) and player.counters.stray_replies == 0


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
def test_a_reply_on_another_route_is_ignored(
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


def test_an_operator_cannot_get_a_reply_from_the_wrong_side() -> None:
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


def test_unreadable_replies_fail_their_calls(player: Desk) -> None:
    result, error = player.call(flush=True), player.call(flush=True)
    bad_result = b"\x93\x02" + bytes([result.id]) + b"\x05"
    bad_error = b"\x96\x03" + bytes([error.id]) + b"\xcc\xff\xa0\x01\xc0"
    player.gets(DATA_0 + join([bad_result, bad_error, b"\x01"]))
    assert result.outcome == (Code.INVALID_PAYLOAD, "yes")
    assert error.outcome == (Code.INVALID_PAYLOAD, "maybe")
    assert player.counters.invalid == 3
    player.check_at_rest()


def test_calls_in_flight_to_one_peer_are_bounded() -> None:
    """A peer that does not reply takes no room of the others."""
    server = connected(Role.SERVER, limits=Limits(max_in_flight=2))
    calls = [server.call(7, flush=True) for _ in range(3)]
    assert calls[2].outcome == (Code.OVERLOADED, "no")
    assert not calls[1].done and not server.call(8, flush=True).done


def test_calls_of_ones_own_are_bounded() -> None:
    player = connected(Role.PLAYER, limits=Limits(max_pending=2))
    calls = [player.call(flush=True) for _ in range(3)]
    assert calls[2].outcome == (Code.OVERLOADED, "no")
    player.gets(data(write.result(1, ())))
    assert not player.call(flush=True).done
    player.check_sums()


def test_a_call_is_cancelled_before_it_leaves(player: Desk) -> None:
    call = player.call()
    player.core.cancel(call)
    player.core.cancel(call)
    assert call.outcome == (Code.CANCELLED, "no")
    player.flush()
    assert player.shell.take_sent() == []
    player.check_at_rest()


def test_a_call_with_a_context_is_found_in_the_queue_too(server: Desk) -> None:
    """Its first bytes identify it: when it is cancelled, when it times out, and when its player leaves."""
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


def test_calls_are_cancelled_when_their_endpoint_closes(server: Desk) -> None:
    """Also those with a token: no repeat of theirs will come, so their handlers need not go on."""
    sent, other = server.call(7, flush=True), server.call(8, flush=True)
    unsent = server.call(7)
    server.shell.take_sent()
    server.core.close()
    *cancels, bye = server.shell.take_sent()
    assert [(address, envelopes_of(frame)) for address, frame in cancels] == [
        (encode_player_id(7), [[CANCEL, sent.id]]),
        (encode_player_id(8), [[CANCEL, other.id]]),
    ]
    assert bye == (b"", encode(control.Bye()))
    assert [call.outcome for call in (sent, other, unsent)] == [
        (Code.CONNECTION_LOST, "maybe"),
        (Code.CONNECTION_LOST, "maybe"),
        (Code.CONNECTION_LOST, "no"),
    ]
    assert str(sent.error) == str(unsent.error) == "CONNECTION_LOST: the endpoint was closed"


def test_two_threads_may_wake_the_same_waiters() -> None:
    """The other thread takes the last waiter after this one has seen it, and before it pops it."""
    woken: list[int] = []

    class Contested(list[Any]):
        def pop(self, index: Any = -1) -> Any:
            super().pop(index)()
            return super().pop(index)

    call = PendingCall(1, "k", None, None, None)
    call._waiters = Contested([lambda: woken.append(1)])
    call.settle((), None)
    assert woken == [1]
