"""Lines of the log about peers: bounded, folded, and never like another line."""

from __future__ import annotations

import logging

import pytest
from support.switchboards import Desk

from ringback.protocol.frames import Role
from ringback.protocol.reports import WatchedCall
from ringback_broker.daemon.log_lines import CALLS_A_TICK, EVENTS_A_TICK, REASONS_A_CODE, REFUSALS, LogLines
from ringback_broker.operations.events import PeerEvent


def test_refusals_with_one_code_fold_into_a_count(caplog: pytest.LogCaptureFixture) -> None:
    lines = LogLines()
    with caplog.at_level(logging.DEBUG, "ringback.broker"):
        for number in range(100):
            lines.log_event(PeerEvent("refused", f"player {number} " + "x" * 10_000, ip="there", code="FULL"))
        lines.log_event(PeerEvent("refused", "who are you", ip="there", code="UNAUTHORIZED"))
        lines.tick(0.25)
        assert len(caplog.messages) == REFUSALS + 1
        assert caplog.messages[-1] == "refused there UNAUTHORIZED: who are you"
        lines.tick(5.0)
        assert caplog.messages[REFUSALS + 1 :] == [f"90 more lines like this one: {caplog.messages[0]}"]
        assert max(map(len, caplog.messages)) < 400
        caplog.clear()
        lines.log_event(PeerEvent("refused", "x"))
        lines.tick(6.0)
        assert caplog.messages == ["refused  x"]


def test_refusals_for_another_reason_are_other_lines(caplog: pytest.LogCaptureFixture) -> None:
    """But peers choose parts of reasons, so a flood of reasons folds too."""
    lines = LogLines()
    with caplog.at_level(logging.DEBUG, "ringback.broker"):
        for _ in range(100):
            lines.log_event(PeerEvent("refused", "the token has expired", ip="ip", code="TOKEN_EXPIRED"))
        lines.log_event(PeerEvent("refused", "the token is odd", ip="ip", code="TOKEN_EXPIRED"))
        assert len(caplog.messages) == REFUSALS + 1 and "odd" in caplog.messages[-1]
        caplog.clear()
        for number in range(200):
            lines.log_event(PeerEvent("refused", "x" * number + " is taken", ip="ip", code="ID_TAKEN"))
        assert len(caplog.messages) == REASONS_A_CODE + REFUSALS


def test_joins_that_are_delayed_take_one_line_each_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    lines = LogLines()
    with caplog.at_level(logging.DEBUG, "ringback.broker"):
        for number in range(1000):
            lines.log_event(PeerEvent("delayed", "too many at once", ip=f"192.0.2.{number}"))
        lines.tick(100.0)
        assert caplog.messages == ["1000 joins were delayed, and come again: too many at once"]
        assert [record.levelname for record in caplog.records] == ["INFO"]
        lines.log_event(PeerEvent("delayed", "too many at once"))
        lines.tick(109.0)
        assert len(caplog.messages) == 1
        lines.tick(110.0)
        assert caplog.messages[1:] == ["1 joins were delayed, and come again: too many at once"]
        caplog.clear()
        for number in range(20):
            lines.log_event(PeerEvent("delayed", f"reason {number}"))
        lines.tick(200.0)
        assert len(caplog.messages) == 9 and "12 joins were delayed" in caplog.messages[-1]


def test_sessions_over_the_bound_are_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    lines = LogLines()
    desk = Desk()
    joined = PeerEvent("joined", "sdk", desk.player().session)
    with caplog.at_level(logging.DEBUG, "ringback.broker"):
        for _ in range(EVENTS_A_TICK + 50):
            lines.log_event(joined)
        lines.log_event(PeerEvent("refused", "x"))
        lines.tick(0.25)
    assert caplog.messages[-1] == f"50 more lines like this one: {caplog.messages[0]}"
    assert [record.levelname for record in caplog.records[-2:]] == ["WARNING", "INFO"]


def test_the_last_counts_are_written_when_the_broker_stops(caplog: pytest.LogCaptureFixture) -> None:
    lines = LogLines()
    with caplog.at_level(logging.DEBUG, "ringback.broker"):
        for _ in range(CALLS_A_TICK + 3):
            lines.log_call(WatchedCall(0.0, Role.SERVER, 7, "shop:buy", "OK", 0.001, None, None))
        assert len(caplog.messages) == CALLS_A_TICK
        lines.close()
    assert caplog.messages[-1].startswith("3 more lines like this one: called ")


def test_a_text_of_a_peer_cannot_look_like_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "ringback.broker"):
        LogLines().log_event(PeerEvent("refused", "a\nready players=tcp://evil backend=\x1b[0m", ip="there"))
    assert caplog.messages == ["refused there a?ready players=tcp://evil backend=?[0m"]


@pytest.mark.parametrize(
    ("code", "level"), [("KICKED", logging.INFO), ("REVOKED", logging.INFO), ("TOO_SLOW", logging.WARNING)]
)
def test_a_session_that_the_broker_ends_has_one_line(
    caplog: pytest.LogCaptureFixture, code: str, level: int
) -> None:
    session = Desk().player(7).session
    with caplog.at_level(logging.DEBUG, "ringback.broker"):
        LogLines().log_event(PeerEvent("left", f"{code}: why", session, code=code))
    assert [(line.levelno, line.message) for line in caplog.records] == [
        (level, f"left player 7 {session.connection.ip if session else ''} ({code}: why)")
    ]
