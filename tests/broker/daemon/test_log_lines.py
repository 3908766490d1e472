"""Lines of the log about peers: bounded, and never like another line."""

from __future__ import annotations

import logging

import pytest

from ringback_broker.daemon.log_lines import EVENTS_A_TICK, LogLines
from ringback_broker.operations.events import PeerEvent


def test_log_lines_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    lines = LogLines()
    with caplog.at_level(logging.DEBUG, "ringback.broker"):
        for _ in range(EVENTS_A_TICK + 50):
            lines.log_event(PeerEvent("refused", "x" * 10_000))
        lines.tick(0.0)
        assert len(caplog.messages) == EVENTS_A_TICK + 1
        assert "50 more" in caplog.messages[-1]
        assert max(map(len, caplog.messages)) < 400
        caplog.clear()
        lines.log_event(PeerEvent("refused", "x"))
        lines.tick(1.0)
        assert caplog.messages == ["refused  x"]


def test_a_text_of_a_peer_cannot_look_like_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "ringback.broker"):
        LogLines().log_event(PeerEvent("refused", "a\nready players=tcp://evil backend=\x1b[0m", ip="there"))
    assert caplog.messages == ["refused there a?ready players=tcp://evil backend=?[0m"]
