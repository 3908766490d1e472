"""What a trusted endpoint records of calls, and when it reports what."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from support.corefakes import DATA_0, Desk

from ringback.core.callback_record import CallbackRecord
from ringback.core.calls_in import CROSSING_S
from ringback.errors import CallbackError, Code, HandlerError
from ringback.protocol import control
from ringback.protocol.bounces import bounce
from ringback.protocol.control import decode
from ringback.protocol.envelopes import Encoder, join
from ringback.protocol.frames import FIRST_OWN_LINK, FrameType, Role, header
from ringback.protocol.latencies import FINE_BOUNDS_S, percentile_s
from ringback.protocol.limits import Limits
from ringback.protocol.player_ids import encode_player_id
from ringback.protocol.reports import CLASSES, MAX_CALLBACKS, MAX_WATCHED_BYTES, CallbackFigures, CallFilter

write = Encoder(Limits())


def counting(role: Role = Role.SERVER, **settings: Any) -> Desk:
    desk = Desk(role, **settings)
    desk.connect(link=0 if role is Role.SERVER else 1, report_ms=1000)
    return desk


def called(desk: Desk, *envelopes: bytes, player_id: Any = 7) -> None:
    desk.gets(DATA_0 + join(list(envelopes)), encode_player_id(player_id))


def reports(desk: Desk) -> list[control.Report]:
    """Return the reports since the last time. Other frames are thrown away."""
    desk.flush()
    frames = [decode(frame) for _, frame in desk.shell.take_sent() if frame[1] == FrameType.REPORT]
    return [frame for frame in frames if isinstance(frame, control.Report)]


def report(desk: Desk) -> control.Report:
    """Return the one report of the next second."""
    desk.wait(1.0)
    [found] = reports(desk)
    return found


def succeeded(**classes: int) -> tuple[int, ...]:
    """Return counts by class of latency: c3=1 is one call in class 3."""
    return tuple(classes.get(f"c{number}", 0) for number in range(CLASSES))


def test_a_caller_records_calls_of_a_players_callback() -> None:
    server = counting()
    call = server.call(7, flush=True)
    server.check_sums()
    assert report(server).callbacks == (CallbackFigures("k", Role.PLAYER, 1, 0.0, succeeded(), {}),)
    server.clock.now += 0.2
    called(server, write.result(call.id, ()))
    server.check_sums()
    found = report(server)
    [figures] = found.callbacks
    assert figures[:3] == ("k", Role.PLAYER, 0) and abs(figures.took_s - 1.2) < 1e-9
    assert figures.succeeded == succeeded(c13=1) and figures.failed == {}
    [counted] = found.latencies or ()
    assert counted[:2] == ("k", Role.PLAYER) and counted.counts == (1,)
    assert percentile_s(dict(zip(counted.classes, counted.counts, strict=True)), 0.5) == pytest.approx(
        1.2, rel=0.01
    )
    assert [tuple(player) for player in found.players] == [(7, 1, 0)]
    desk_is_quiet(server)


def test_a_handler_is_measured_from_its_beginning_to_its_reply() -> None:
    """The time before it begins does not count, and neither does the time of the step."""
    server = counting()
    called(server, *(write.call(number, "k", None, None) for number in range(3)))
    waiting, server.shell.waiting = server.shell.waiting, []
    for execution in waiting:  # one after the other, all in one step of the core
        assert execution.begin(server.clock.read)
        server.clock.now += 0.05
        execution(1)
    found = report(server)
    assert found.callbacks[0].took_s == pytest.approx(0.15)
    [counted] = found.latencies or ()
    assert counted.counts == (3,)


def test_a_call_that_never_ran_took_no_time() -> None:
    server = counting(limits=Limits(max_in_flight=2))
    server.register("mine", allow=[8])
    watch(server, CallFilter(None, None, False))
    called(server, write.call(1, "mine", None, None))
    called(server, *(write.call(number, "k", None, None) for number in (2, 3, 4)), write.cancel(3))
    server.clock.now += 0.1
    server.core.tick(server.clock.now)
    ours, *_ = server.handle()
    server.clock.now += 0.02
    server.core.tick(server.clock.now)
    called(server, write.cancel(2))
    assert ours.cancelled
    for _ in range(3):
        server.call(7, flush=True)
    took = [(call.outcome, round(call.took_s, 6)) for item in wait_for_reports(server) for call in item.calls]
    assert took == [
        *(("FORBIDDEN", 0.0), ("OVERLOADED", 0.0), ("CANCELLED", 0.0), ("CANCELLED", 0.02)),
        ("OVERLOADED", 0.0),
    ]


def wait_for_reports(desk: Desk) -> list[control.Report]:
    desk.wait(1.0)
    return reports(desk)


def test_many_classes_of_latency_take_more_than_one_report() -> None:
    server = counting()
    assert server.recorder is not None
    for number in range(MAX_CALLBACKS):
        record = server.recorder._add(f"k{number}", Role.SERVER)
        for bound in FINE_BOUNDS_S[:100]:
            record.succeeded(bound)
    call = server.call(7, flush=True)
    found = wait_for_reports(server)
    assert call.id and len(found) == 3
    rows = [row for item in found for row in item.latencies or ()]
    assert len({row.key for row in rows}) == MAX_CALLBACKS
    assert all(sum(map(len, (row.classes for row in item.latencies or ()))) <= 20_000 for item in found)
    assert sum(sum(row.counts) for row in rows) == 100 * MAX_CALLBACKS


def desk_is_quiet(desk: Desk) -> None:
    desk.wait(5.0)
    assert reports(desk) == []


def test_the_server_records_calls_of_its_callbacks() -> None:
    server = counting()
    called(server, write.call(1, "k", None, None), write.call(2, "k", None, None), player_id="anna")
    first, second = server.handle()
    server.clock.now += 0.004
    server.core.tick(server.clock.now)
    first(1)
    second.fail(CallbackError("shut", code="SHUT"))
    server.check_sums()
    found = report(server)
    [figures] = found.callbacks
    assert figures[:3] == ("k", Role.SERVER, 0) and figures.succeeded == succeeded(c5=1)
    assert figures.failed == {"APPLICATION": 1}
    assert [tuple(player) for player in found.players] == [("anna", 2, 1)]


def test_failed_calls_are_counted_by_code() -> None:
    server = counting(limits=Limits(max_in_flight=1))
    server.register("mine", allow=[8])
    called(server, write.call(1, "mine", None, None), write.call(2, "nope", None, None))
    called(server, write.call(3, "k", None, 100), write.call(4, "k", None, None))
    server.wait(0.5)
    server.call(7, timeout_s=0.1, flush=True)
    server.call(7, flush=True)  # over max_in_flight
    server.wait(0.2)
    for figures in (
        found := {(row.key, row.side): row for item in reports(server) for row in item.callbacks}
    ):
        assert found[figures].succeeded == succeeded() and found[figures].in_flight == 0
    server.wait(1.0)
    found |= {(row.key, row.side): row for item in reports(server) for row in item.callbacks}
    assert {key: row.failed for key, row in found.items()} == {
        ("mine", Role.SERVER): {"FORBIDDEN": 1},
        ("", Role.SERVER): {"UNKNOWN_CALLBACK": 1},
        ("k", Role.SERVER): {"OVERLOADED": 1, "TIMEOUT": 1},
        ("k", Role.PLAYER): {"OVERLOADED": 1, "TIMEOUT": 1},
    }
    server.check_at_rest()


def test_a_caller_that_leaves_or_cancels() -> None:
    server = counting()
    called(server, write.call(1, "k", None, None), write.call(2, "k", None, None))
    called(server, write.cancel(1))
    server.told(control.Left((7,)))
    assert not server.peers
    [figures] = report(server).callbacks
    assert figures.failed == {"CANCELLED": 1, "PLAYER_LEFT": 1} and figures.in_flight == 0


def test_the_last_call_of_a_caller_that_is_forgotten_is_reported() -> None:
    """A sweep for its deadline may come before the next report, and forgets an operator without calls."""
    server = counting()
    head, source = header(FrameType.RELAY, 9), encode_player_id("source")
    server.gets(head + join([write.call(5, "k", None, 500)]), source)
    server.handle()
    server.wait(0.49)
    server.gets(head + join([write.cancel(5)]), source)
    server.wait(0.4)
    assert not server.peers
    [figures] = report(server).callbacks
    assert figures.failed == {"TIMEOUT": 1}
    server.wait(5.0)
    assert reports(server) == []
    server.check_at_rest()


@pytest.mark.parametrize(
    ("before_s", "code"), [(0.0, "TIMEOUT"), (0.9 * CROSSING_S, "TIMEOUT"), (1.1 * CROSSING_S, "CANCELLED")]
)
def test_a_caller_whose_time_is_over_a_little_earlier(before_s: float, code: str) -> None:
    """Its CANCEL and the deadline here cross. The figures must not depend on which of them is first."""
    server = counting()
    watch(server, CallFilter(None, None, True))
    called(server, write.call(1, "k", None, 500))
    server.handle()
    server.clock.now += 0.5 - before_s
    called(server, write.cancel(1))
    server.flush()
    sent = [frame for _, frame in server.shell.take_sent()]
    assert not any(frame[1] == FrameType.DATA for frame in sent)  # the caller wants no reply
    found = report(server)
    assert found.callbacks[0].failed == {code: 1}
    assert [call.outcome for call in found.calls] == [code]
    server.check_at_rest()


def last_words(desk: Desk) -> tuple[CallbackFigures, ...]:
    desk.core.close()
    frames = [decode(frame) for _, frame in desk.shell.take_sent()]
    assert isinstance(frames[0], control.Report) and frames[-1] == control.Bye()
    return frames[0].callbacks


def test_the_last_report_leaves_before_bye() -> None:
    operator = counting(Role.OPERATOR)
    call = operator.call(7, flush=True)
    operator.shell.take_sent()
    operator.gets(
        header(FrameType.DATA, 1) + join([write.error(call.id, HandlerError("x"))]), encode_player_id(7)
    )
    [figures] = last_words(operator)
    assert (figures.key, figures.side, figures.failed) == ("k", Role.PLAYER, {"HANDLER_ERROR": 1})


def test_an_operator_leaves_calls_of_the_server_to_the_server() -> None:
    operator = counting(Role.OPERATOR)
    operator.call(7, kind=FrameType.RELAY, flush=True)
    operator.wait(2.0)
    assert reports(operator) == []


def test_a_server_that_calls_itself_counts_once() -> None:
    server = counting()
    call = server.call(7, kind=None, flush=True)
    [execution] = server.handle()
    execution(1)
    server.flush()
    assert call.results == (1,)
    found = report(server)
    [figures] = found.callbacks
    assert figures[:3] == ("k", Role.SERVER, 0) and sum(figures.succeeded) == 1 and found.players == ()
    server.wait(60.0)
    assert server.peers == {}


def test_nothing_is_counted_where_the_broker_does_not_ask() -> None:
    for role in Role:
        desk = Desk(role)
        desk.connect(report_ms=1000 if role is Role.PLAYER else None)
        desk.call(None if role is Role.PLAYER else 7, flush=True)
        desk.wait(3.0)
        assert reports(desk) == [] and desk.recorder is None


def test_calls_in_flight_are_reported_in_the_next_session_too() -> None:
    server = counting()
    called(server, write.call(1, "k", None, None))
    server.call(9, kind=None, flush=True)  # a call to itself outlives the link
    assert report(server).callbacks[0].in_flight == 2
    server.core.link_lost(server.clock.now, "cut")
    server.wait(1.0)
    server.shell.take_sent()
    server.welcome(report_ms=1000)
    [figures] = report(server).callbacks
    assert figures.in_flight == 1 and figures.failed == {"CONNECTION_LOST": 1}


def test_a_call_that_comes_back_at_once_is_counted_for_its_player() -> None:
    server = counting()
    server.call(7)
    server.flush()
    [(_, frame)] = server.shell.take_sent()
    server.gets(bounce(Code.OVERLOADED, frame), encode_player_id(7))
    assert [tuple(player) for player in report(server).players] == [(7, 1, 1)]
    server.wait(60.0)
    assert server.peers == {}


def test_another_broker_that_wants_no_reports() -> None:
    server = counting()
    called(server, write.call(1, "k", None, None))
    [execution] = server.handle()
    server.call(7, flush=True)
    server.core.link_lost(server.clock.now, "cut")
    server.wait(1.0)
    server.welcome()
    execution(1)
    server.flush()
    server.wait(60.0)
    assert reports(server) == [] and server.recorder is None and server.peers == {}


def test_latencies_are_folded_if_no_report_takes_them() -> None:
    server = counting()
    server.core.link_lost(server.clock.now, "cut")
    for _ in range(40):
        call = server.call(7, kind=None, flush=True)
        for execution in server.handle():
            execution(1)
        server.flush()
        assert call.results == (1,)
        server.wait(1.0)
    [record] = [record for record in server.recorder.records() if record.side is Role.SERVER]
    assert len(record._latencies) <= 11
    figures = record.take()
    assert figures is not None and sum(figures.succeeded) == 40


def test_callbacks_over_the_bound_are_counted_together() -> None:
    server = counting()
    for number in range(MAX_CALLBACKS + 50):
        server.call(7, key=f"k{number}", flush=True)
    rows = {row.key: row.in_flight for row in report(server).callbacks}
    assert len(rows) == MAX_CALLBACKS + 1 and rows[""] == 50


def test_many_players_take_more_than_one_report() -> None:
    server = counting()
    for number in range(1, 1502):
        called(server, write.call(1, "nope", None, None), player_id=number)
    server.wait(1.0)
    found = reports(server)
    assert [len(item.players) for item in found] == [1000, 501]
    assert found[0].callbacks[0].failed == {"UNKNOWN_CALLBACK": 1501}


# -- failed calls


def failures(desk: Desk) -> list[tuple[Any, ...]]:
    """Return the failed calls that the report of the next second lists."""
    return [tuple(call) for call in report(desk).failures or ()]


def test_failed_calls_are_listed_without_a_watch() -> None:
    server = counting()
    called(
        server, *(write.call(number, "k", None, None) for number in (1, 2)), write.call(3, "nope", 1, None)
    )
    replied, failing = server.handle()
    server.clock.now += 0.25
    replied(1)
    failing.fail(CallbackError("come tomorrow", code="OUT_OF_STOCK"))
    call = server.call(8, flush=True)
    server.clock.now += 0.5
    called(server, write.error(call.id, HandlerError("x")), player_id=8)
    found = report(server)
    assert found.calls == () and found.failures_lost is None
    rows = {row.key + row.side: row for row in found.failures or ()}
    assert {name: (row.player_id, row.code) for name, row in rows.items()} == {
        "nopeserver": (7, "UNKNOWN_CALLBACK"),
        "kserver": (7, "OUT_OF_STOCK"),
        "kplayer": (8, "HANDLER_ERROR"),
    }
    took = {name: (row.age_s, row.took_s) for name, row in rows.items()}
    assert took["nopeserver"] == pytest.approx((1.0, 0.0))
    assert took["kserver"] == pytest.approx((0.75, 0.25)) and took["kplayer"] == pytest.approx((0.25, 0.5))
    server.wait(60.0)
    assert reports(server) == []


def test_a_call_that_never_left_or_never_ran_took_no_time() -> None:
    server = counting(limits=Limits(max_in_flight=1))
    for _ in range(2):
        server.call(8, flush=True)
    called(server, write.call(1, "k", None, 100))
    server.wait(0.5)
    found = failures(server)
    assert sorted(row[4] for row in found) == ["OVERLOADED", "TIMEOUT"]
    assert [row[5] for row in found] == [0.0, 0.0]


def test_a_storm_of_errors_costs_little_and_leaves_room_for_other_callbacks() -> None:
    server = counting()
    for number in range(1, 1001):
        called(server, write.call(number, "nope", None, None))
    for number in range(60):
        server.register(f"k{number}", allow=lambda source: False)
        called(server, write.call(2000 + number, f"k{number}", None, None))
    found = report(server)
    listed = [row.key for row in found.failures or ()]
    assert listed == ["nope"] * 5 + [f"k{number}" for number in range(45)]
    assert found.failures_lost == 1060 - 50
    called(server, write.call(3000, "nope", None, None))
    assert [row[3] for row in failures(server)] == ["nope"]


def test_a_failed_call_without_a_player_id_is_not_listed() -> None:
    operator = counting(Role.OPERATOR)
    for where in (b"\xc1", encode_player_id(7)):
        operator.gets(DATA_0 + join([write.call(1, "nope", None, None)]), where)
    assert [row[2] for row in failures(operator)] == [7]


def test_a_call_whose_key_cannot_be_read_is_not_listed() -> None:
    server = counting()
    called(server, msgpack.packb([1, 1, 5, None, None, None]))
    found = report(server)
    assert found.failures is None and found.players[0].errors == 1


# -- calls in flight of players


def in_flight(desk: Desk) -> dict[Any, int]:
    """Return what the reports of the next second say is in flight of players."""
    desk.wait(1.0)
    return {row.player_id: row.in_flight for found in reports(desk) for row in found.in_flight or ()}


def test_calls_in_flight_of_a_player_are_reported_when_their_number_changes() -> None:
    server = counting()
    calls = [server.call(7, flush=True) for _ in range(2)]
    called(server, write.call(1, "k", None, None))
    called(server, write.call(1, "k", None, None), player_id="7")
    assert in_flight(server) == {7: 3, "7": 1}
    called(server, *(write.result(call.id, ()) for call in calls))
    assert in_flight(server) == {7: 1}
    assert in_flight(server) == {}
    for execution in server.handle():
        execution(1)
    assert in_flight(server) == {7: 0, "7": 0}
    server.wait(60.0)
    assert server.peers == {} and in_flight(server) == {}


def test_a_player_may_have_two_routes() -> None:
    """The server calls with a link number of its own. Calls of the player come with number 0."""
    server = Desk(Role.SERVER)
    server.core.start(server.clock.now, 5.0)
    welcome = control.Welcome(0, None, True, 30_000, "test", None, 1000, own_link=FIRST_OWN_LINK)
    server.told(welcome)
    server.shell.take_sent()
    server.call(7, flush=True)
    called(server, write.call(1, "k", None, None))
    assert len(server.peers) == 2 and in_flight(server) == {7: 2}


def test_calls_of_operators_are_not_those_of_the_player_they_name() -> None:
    server = counting()
    server.gets(header(FrameType.RELAY, 9) + join([write.call(5, "k", None, 5000)]), encode_player_id(7))
    server.wait(1.0)
    [found] = reports(server)
    assert found.callbacks[0].in_flight == 1 and found.in_flight is None


def test_a_player_that_has_left_is_reported_again() -> None:
    """The broker forgets what is in flight of it when it leaves, and may get an older report after that."""
    server = counting()
    server.call(7, flush=True)
    assert in_flight(server) == {7: 1}
    server.told(control.Left((7, 8)))
    server.told(control.Joined((7,)))
    server.call(7, flush=True)
    assert in_flight(server) == {7: 1}
    server.told(control.Left((7,)))
    assert in_flight(server) == {7: 0}
    assert in_flight(server) == {}


def test_an_id_part_that_is_no_player_id_is_not_reported() -> None:
    """An operator takes what the broker sends."""
    operator = counting(Role.OPERATOR)
    for where in (b"\xc1", encode_player_id(7)):
        operator.gets(DATA_0 + join([write.call(1, "k", None, None)]), where)
    assert len(operator.peers) == 2 and in_flight(operator) == {7: 1}


def test_a_new_session_hears_of_all_calls_in_flight() -> None:
    server = counting()
    called(server, write.call(1, "k", None, None))
    assert in_flight(server) == {7: 1}
    server.core.link_lost(server.clock.now, "cut")
    server.wait(1.0)
    server.shell.take_sent()
    server.welcome(report_ms=1000)
    called(server, write.call(2, "k", None, None))
    assert in_flight(server) == {7: 1}


def test_many_players_in_flight_take_more_than_one_report() -> None:
    server = counting()
    for number in range(1, 1502):
        called(server, write.call(1, "k", None, None), player_id=number)
    server.wait(1.0)
    assert [len(found.in_flight or ()) for found in reports(server)] == [1000, 501]


# -- watched calls


def watch(desk: Desk, *watches: CallFilter, report_ms: int = 250) -> None:
    desk.told(control.Watch(watches, report_ms))


def test_watched_calls_are_reported_one_by_one() -> None:
    server = counting()
    watch(server, CallFilter(7, "k*", True))
    called(server, write.call(1, "k", {"a": 1}, None), write.call(2, "other", None, None))
    called(server, write.call(1, "k", None, None), player_id="7")
    ours, theirs = server.handle()
    theirs(1)
    server.clock.now += 0.1
    server.core.tick(server.clock.now)
    ours("one", 2)
    call = server.call(7, payload=[5], flush=True)
    called(server, write.error(call.id, CallbackError("shut", code="SHUT")))
    server.wait(0.25)
    [found] = reports(server)
    first, second = found.calls
    assert first[1:5] == (Role.SERVER, 7, "k", "OK") and abs(first.took_s - 0.1) < 1e-9
    assert 0.1 < first.age_s <= 0.25
    assert msgpack.unpackb(first.payload) == {"a": 1} and msgpack.unpackb(first.reply) == ["one", 2]
    assert second[1:5] == (Role.PLAYER, 7, "k", "SHUT")
    assert msgpack.unpackb(second.payload) == [5] and msgpack.unpackb(second.reply) == "shut"
    watch(server)
    called(server, write.call(2, "k", None, None))
    for execution in server.handle():
        execution()
    assert report(server).calls == ()


@pytest.mark.parametrize("ends", ["watch", "session"])
def test_no_payload_is_kept_once_nobody_watches(ends: str) -> None:
    server = counting()
    watch(server, CallFilter(None, None, True))
    call = server.call(7, payload="secret", flush=True)
    assert server.recorder is not None
    assert server.recorder.payloads == {call.id: msgpack.packb("secret")}
    if ends == "watch":
        watch(server)
    else:
        server.core.link_lost(server.clock.now, "cut")
        server.wait(1.0)
        server.welcome(report_ms=1000)
    assert server.recorder.payloads == {}
    called(server, write.result(call.id, ()))
    assert server.recorder.payloads == {}


def test_payloads_are_reported_if_they_are_wanted_and_short() -> None:
    server = counting()
    watch(server, CallFilter(None, None, False))
    call = server.call(7, payload="secret", flush=True)
    called(server, write.result(call.id, ("secret",)))
    server.wait(0.25)
    [found] = reports(server)
    assert [(item.payload, item.reply) for item in found.calls] == [(None, None)]
    watch(server, CallFilter(None, None, True), CallFilter(8, None, False))
    long = "x" * MAX_WATCHED_BYTES
    call = server.call(7, payload=long, flush=True)
    called(server, write.result(call.id, (long,)))
    called(server, write.call(1, "k", long, None))
    [execution] = server.handle()
    execution(long)
    server.wait(0.25)
    [found] = reports(server)
    assert len(found.calls) == 2
    assert all(
        item.payload is None and item.reply is None for item in found.calls if item.side is Role.PLAYER
    )
    assert server.recorder.payloads == {}


def test_watched_calls_over_the_bounds_are_lost_and_counted() -> None:
    server = counting(limits=Limits(max_in_flight=2000))
    watch(server, CallFilter(None, None, True))
    for number in range(600):
        called(server, write.call(number, "nope", number, None))
    server.wait(0.25)
    [found] = reports(server)
    assert (len(found.calls), found.lost) == (500, 100)
    assert [msgpack.unpackb(item.payload or b"") for item in found.calls] == list(range(500))
    for _ in range(300):
        call = server.call(7, payload="x" * 2000, flush=True)
        called(server, write.result(call.id, ()))
    server.wait(0.25)
    [found] = reports(server)
    assert len(found.calls) == 130 and found.lost == 170


def test_a_reply_with_an_error_is_counted_by_its_code() -> None:
    server = counting()
    called(server, write.call(1, "k", None, None))
    [execution] = server.handle()
    execution.refuse(HandlerError("no"))
    [figures] = report(server).callbacks
    assert figures.failed == {Code.HANDLER_ERROR.name: 1}


def test_only_chosen_calls_are_reported_in_both_directions() -> None:
    server = counting()
    watch(server, CallFilter(8, None, True))
    call = server.call(7, flush=True)
    called(
        server, write.result(call.id, ()), write.call(1, "k", None, None), write.call(2, "nope", None, None)
    )
    [execution] = server.handle()
    execution()
    assert report(server).calls == ()


def test_payloads_of_calls_in_that_no_watch_wants_are_not_reported() -> None:
    server = counting()
    watch(server, CallFilter(None, None, False))
    called(server, write.call(1, "k", "secret", None), write.call(2, "nope", "secret", None))
    [execution] = server.handle()
    execution("secret")
    assert [(item.payload, item.reply) for item in report(server).calls] == [(None, None)] * 2


def test_an_abandoned_call_is_reported_with_its_payload() -> None:
    server = counting()
    watch(server, CallFilter(None, None, True))
    called(server, write.call(1, "k", [1], None))
    called(server, write.cancel(1))
    [found] = report(server).calls
    assert found.outcome == "CANCELLED" and msgpack.unpackb(found.payload or b"") == [1]
    assert "no longer waits" in msgpack.unpackb(found.reply or b"")


def test_a_payload_that_cannot_be_encoded_any_more_is_not_reported() -> None:
    """A handler may put anything into its payload. The report shows what can be encoded."""
    server = counting()
    watch(server, CallFilter(None, None, True))
    called(server, write.call(1, "k", {"a": 1}, None))
    [execution] = server.handle()
    execution.payload["a"] = object()
    execution("done")
    [found] = report(server).calls
    assert found.payload is None and msgpack.unpackb(found.reply or b"") == ["done"]


def test_a_call_that_ends_in_the_step_in_which_it_is_made_took_no_time() -> None:
    """A call that is made in a step begins a little after the time of the step."""
    server = counting()
    watch(server, CallFilter(None, None, True))
    call = server.call(7)
    call.began += 0.25
    server.core.cancel(call)
    [found] = report(server).calls
    assert found.outcome == "CANCELLED" and found.took_s == 0.0


def test_a_recorder_begins_amid_an_execution() -> None:
    """A call to oneself outlives its link. The broker of the next link may be the first to want reports.

    The call ends while that broker wants reports, so it is in one.
    """
    server = Desk(Role.SERVER)
    server.connect()
    call = server.call(9, kind=None, flush=True)
    [execution] = server.handle()
    server.core.link_lost(server.clock.now, "cut")
    server.wait(1.0)
    server.welcome(report_ms=1000)
    execution(1)
    server.flush()
    assert call.results == (1,)
    server.wait(3.0)
    [[callback]] = [found.callbacks for found in reports(server)]
    assert (callback.key, sum(callback.succeeded), callback.took_s) == ("k", 1, pytest.approx(1.0, abs=0.5))


def test_a_watch_where_nothing_is_recorded_is_ignored() -> None:
    server = Desk(Role.SERVER)
    server.connect()
    watch(server, CallFilter(None, None, True))
    server.call(7, flush=True)
    server.wait(3.0)
    assert reports(server) == [] and server.recorder is None


def test_a_latency_below_zero_counts_as_zero() -> None:
    """A call that is made in a step may begin after the time of that step."""
    record = CallbackRecord("k", Role.PLAYER)
    record.succeeded(-0.25)
    record.succeeded(0.5)
    counted, figures = record.take_latencies(), record.take()
    assert counted is not None and counted.classes[0] == 0 and counted.counts == (1, 1)
    assert figures is not None and figures.took_s == 0.5
