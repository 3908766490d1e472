"""An exception of one piece of work is contained: what is behind it is done all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from support.corefakes import DATA_0, Clock, Desk, TestCall, data

from ringback.core import reporter
from ringback.core.deadlines import Deadlines
from ringback.core.execution import Execution, reply_error
from ringback.core.pending_call import PendingCall
from ringback.core.reporter import Reporter
from ringback.errors import CallbackError, Code, HandlerError
from ringback.protocol import control
from ringback.protocol.bounces import bounce
from ringback.protocol.bundles import bundle
from ringback.protocol.control import decode
from ringback.protocol.envelopes import Encoder, join
from ringback.protocol.frames import FrameType, Role
from ringback.protocol.limits import MAX_TERMS_CHARS, Limits
from ringback.protocol.player_ids import encode_player_id
from ringback.protocol.reports import CallFilter

write = Encoder(Limits())
SEVEN = encode_player_id(7)


class Planted(BaseException):
    """Not an Exception: nothing catches it by chance."""


def planted(*_: Any) -> Any:
    raise Planted


@pytest.fixture
def server() -> Desk:
    desk = Desk(Role.SERVER)
    desk.connect(report_ms=1000)
    desk.shell.contains = True
    return desk


def contained(desk: Desk) -> list[str]:
    """Return what failed, since the last time. Fail if it did not fail by a planted exception."""
    found, desk.shell.contained = desk.shell.contained, []
    assert all(type(error) is Planted for _, error in found), found
    return [what for what, _ in found]


def calls(*numbers: int) -> bytes:
    return data(*(write.call(number, "k", None, None) for number in numbers))


def test_a_call_whose_handler_cannot_start(server: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    run = server.shell.run

    def fails_once(execution: Execution) -> None:
        if execution.id == 1:
            raise Planted
        run(execution)

    monkeypatch.setattr(server.shell, "run", fails_once)
    server.gets(calls(1, 2), SEVEN)
    assert [execution.id for execution in server.handle()] == [2]
    assert contained(server) == ["handling an envelope"]


def test_waiters_that_raise(server: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    woken = []
    first, second = server.call(7, flush=True), server.call(7, flush=True)
    for wake in (planted, lambda: woken.append(1), planted, lambda: woken.append(2)):
        first.add_waiter(wake)
    first.on_error = second.on_error = planted
    monkeypatch.setattr(server.shell, "finished", planted)
    server.told(control.Left((7,)))
    assert woken == [1, 2]
    assert first.outcome == second.outcome == (Code.PLAYER_LEFT, "maybe")
    assert contained(server) == [
        "waking those who wait for a call",
        "running a callback",
        "running a callback",
    ]
    server.check_at_rest()


def test_a_waiter_that_raises_where_the_call_has_ended() -> None:
    call = PendingCall(1, "k", None, None, None)
    call.settle((), None)
    with pytest.raises(Planted):
        call.add_waiter(planted)


def test_handlers_that_cannot_be_stopped(server: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    server.gets(calls(1, 2), SEVEN)
    executions = server.handle()
    monkeypatch.setattr(server.shell, "cancel", planted)
    server.told(control.Left((7,)))
    assert all(execution.cancelled for execution in executions)
    assert contained(server) == ["stopping a handler"] * 2
    server.check_at_rest()


@pytest.mark.parametrize(
    ("owner", "name", "what"),
    [
        (Deadlines, "sweep", "looking for deadlines"),
        (Reporter, "report", "reporting calls"),
    ],
)
def test_what_is_due_and_fails(
    server: Desk, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, what: str
) -> None:
    """All else that is due is done, and it is tried again a second later, not at each step."""
    call = server.call(7, timeout_s=0.5, flush=True)
    server.shell.take_sent()
    real = getattr(owner, name)
    failures = []

    def fails(self: Any, now: float) -> None:
        failures.append(now)
        if owner is Reporter:
            self.report_at = now + 1.0
        raise Planted

    monkeypatch.setattr(owner, name, fails)
    server.wait(1.0)
    assert 1 <= len(failures) <= 2
    assert contained(server) == [what] * len(failures)
    monkeypatch.setattr(owner, name, real)
    server.wait(3.0)
    assert call.outcome == (Code.TIMEOUT, "maybe")


def test_replies_that_cannot_be_sent_again(server: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    server.gets(calls(1), SEVEN)
    [execution] = server.handle()
    execution(1)
    server.flush()
    [(address, frame)] = server.shell.take_sent()
    server.gets(bounce(Code.OVERLOADED, frame), address)
    real = server.bounced.resend
    monkeypatch.setattr(server.bounced, "resend", planted)
    server.wait(0.5)
    assert contained(server) == ["sending replies again"]
    monkeypatch.setattr(server.bounced, "resend", real)
    server.wait(0.8)
    server.flush()
    replies = [frame for address, frame in server.shell.take_sent() if address]
    assert replies == [DATA_0 + join([write.result(1, (1,))])]


def test_an_end_whose_last_words_cannot_be_said(server: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    call = server.call(7, flush=True)
    monkeypatch.setattr(Reporter, "report", planted)
    server.core.close()
    assert call.outcome == (Code.CONNECTION_LOST, "maybe")
    assert contained(server) == ["saying BYE"]


def test_a_frame_of_nobody_in_a_bundle(server: Desk) -> None:
    """The frames behind it are of other players."""
    frame = calls(1)
    server.gets(bundle([(SEVEN, frame), (b"\xc0", frame), (encode_player_id(8), frame)]))
    assert [execution.source for execution in server.handle()] == [7, 8]
    assert server.counters.invalid == 1


# -- watched calls


class Exits(list[Any]):
    def __iter__(self) -> Any:
        raise Planted


def watched(server: Desk) -> list[Any]:
    server.wait(1.0)
    server.flush()
    frames = [decode(frame) for _, frame in server.shell.take_sent() if frame[1] == FrameType.REPORT]
    return [call for frame in frames if isinstance(frame, control.Report) for call in frame.calls]


def test_to_watch_a_call_never_stops_it(server: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    server.told(control.Watch((CallFilter(None, None, True),), 250))
    broken = TestCall(99)
    server.core.call(broken, FrameType.DATA, SEVEN, b"\x95\x01\x63\xa1k\x93")  # no envelope of ours
    [(what, _)] = server.shell.contained
    server.shell.contained.clear()
    assert what == "watching a call"
    server.flush()
    server.shell.take_sent()
    server.gets(data(write.result(99, (1,))), SEVEN)
    assert broken.results == (1,)
    server.gets(calls(1), SEVEN)
    [execution] = server.handle()
    execution.payload = Exits()  # the handler keeps the payload, and may change it
    execution(1)
    assert contained(server) == ["watching a call"]
    server.flush()
    assert server.bodies() == [[[2, 1, [1]]]]
    call = server.call(7, flush=True)
    monkeypatch.setattr(CallFilter, "matches", planted)
    server.gets(data(write.result(call.id, ()), write.call(2, "nope", None, None)), SEVEN)
    assert call.results == ()
    assert contained(server) == ["watching a call"] * 2
    server.check_sums()


def test_a_watched_message_is_shown_as_it_was_sent(server: Desk) -> None:
    server.told(control.Watch((CallFilter(None, None, True),), 250))
    server.gets(calls(1), SEVEN)
    [execution] = server.handle()
    execution.fail(CallbackError("a\ud800b", code="OWN"))
    [shown] = watched(server)
    assert msgpack.unpackb(shown.reply) == "a?b"


def test_a_reply_that_came_after_the_time_of_the_last_step(server: Desk) -> None:
    """A worker reads the clock itself. The broker refuses a report from the future."""
    server.told(control.Watch((CallFilter(None, None, True),), 250))
    server.gets(calls(1), SEVEN)
    [execution] = server.handle()
    server.core.reply(execution, write.result(1, ()), None, server.clock.now + 5.0)
    server.core.close()
    frames = [decode(frame) for _, frame in server.shell.take_sent() if frame[1] == FrameType.REPORT]
    [report] = frames
    assert isinstance(report, control.Report) and report.calls[0].age_s == 0.0


def test_a_report_that_is_too_large_for_a_frame_takes_several(
    server: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter, "MAX_FRAME_BYTES", 2000)
    server.told(control.Watch((CallFilter(None, None, True),), 250))
    for number in range(1, 41):
        key = f"{number:04}" + "k" * 200
        server.register(key)
        server.gets(data(write.call(1, key, "p" * 50, None)), encode_player_id(number))
        [execution] = server.handle()
        execution(1)
        call = server.call(number, key=key, flush=True)
        server.gets(data(write.error(call.id, CallbackError(code="NO"))), encode_player_id(number))
    for number in range(1, 41):
        server.gets(data(write.call(2, "k", None, None)), encode_player_id(number))
    server.shell.take_sent()
    server.wait(1.0)
    server.flush()
    frames = [frame for _, frame in server.shell.take_sent() if frame[1] == FrameType.REPORT]
    assert len(frames) > 5 and max(map(len, frames)) <= 2000
    found = [report for frame in frames if isinstance(report := decode(frame), control.Report)]
    rows = [row for report in found for row in report.callbacks]
    assert len({(row.key, row.side) for row in rows}) == len(rows) == 81
    assert sum(sum(row.succeeded) for row in rows) == sum(sum(row.failed.values()) for row in rows) == 40
    assert sum(len(report.players) for report in found) == 40
    assert sum(len(report.calls) for report in found) == 80
    assert len({row[0] for report in found for row in report.latencies or ()}) == 40
    in_flight = [row for report in found for row in report.in_flight or ()]
    assert sorted(in_flight) == [(number, 1) for number in range(1, 41)]


def test_a_route_without_a_player_id_keeps_no_report_back() -> None:
    """An operator takes what the broker sends. The figures of all others are reported."""
    operator = Desk(Role.OPERATOR)
    operator.connect(link=1, report_ms=1000)
    operator.told(control.Watch((CallFilter(None, None, True),), 1000))
    for where in (b"\xc1", SEVEN):
        operator.gets(data(write.call(1, "nope", None, None)), where)
    operator.wait(1.0)
    operator.flush()
    frames = [decode(frame) for _, frame in operator.shell.take_sent() if frame[1] == FrameType.REPORT]
    [report] = frames
    assert isinstance(report, control.Report)
    assert [tuple(player) for player in report.players] == [(7, 1, 1)]
    assert [call.player_id for call in report.calls] == [7]


def test_terms_are_never_longer_than_the_broker_accepts() -> None:
    server = Desk(Role.SERVER, clock=Clock())
    server.register("slow", limit="1." + "0" * 500 + "/s")
    terms = server.core.registry.terms()
    assert terms is not None and len(terms["slow"]) == MAX_TERMS_CHARS


# -- errors of handlers


class Raises(CallbackError):
    """An error of an application whose attributes raise."""

    @property
    def code(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no code")

    @code.setter
    def code(self, value: Any) -> None:
        pass


class NoStr(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __len__(self) -> int:
        return 5

    def __getitem__(self, key: Any) -> str:
        raise RuntimeError("no part")


def with_attributes(**attributes: Any) -> CallbackError:
    error = CallbackError("why", code="OWN")
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


ODD_ERRORS: dict[str, Callable[[], Exception]] = {
    "a code that raises": Raises,
    "a code of another type": lambda: with_attributes(code=404),
    "no code": lambda: with_attributes(code=None),
    "an empty code": lambda: with_attributes(code=""),
    "a long code": lambda: with_attributes(code="x" * 65),
    "a code with a surrogate": lambda: with_attributes(code="\ud800"),
    "a message of another type": lambda: with_attributes(message=[1]),
    "data that cannot be carried": lambda: with_attributes(data={(1, 2): 3}),
}


@pytest.mark.parametrize("odd", ODD_ERRORS, ids=list(ODD_ERRORS))
def test_odd_errors_of_handlers_become_an_error_that_can_be_sent(odd: str) -> None:
    error = reply_error(ODD_ERRORS[odd]())
    try:
        write.error(1, error)
    except CallbackError as problem:
        assert problem.code is Code.INVALID_PAYLOAD  # and the shell sends HANDLER_ERROR
    else:
        assert isinstance(error, HandlerError)


def test_strs_of_own_classes_in_errors_are_read_as_they_are() -> None:
    error = reply_error(with_attributes(code=NoStr("CODE"), message=NoStr("words")))
    assert (error.code, error.message) == ("CODE", "words")
    assert type(error.code) is type(error.message) is str
    assert msgpack.unpackb(write.error(1, error))[2:4] == ["CODE", "words"]
