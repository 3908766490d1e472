"""The reporter: when an endpoint reports to the broker what it has recorded of calls."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from ringback.core.call_recorder import CallRecorder
from ringback.core.endpoint_state import EndpointState
from ringback.core.outbox import Outbox
from ringback.protocol.control import Report, Watch, encode
from ringback.protocol.limits import MAX_FRAME_BYTES

MIN_REPORT_S = 0.1
"""The shortest interval of reports, whatever a broker asks for."""


_ROWS = ("callbacks", "players", "calls", "latencies", "in_flight", "failures")
"""The fields of a report that have rows."""


class Reporter:
    """The reports of one endpoint.

    Attributes:
        report_at: when the next report is due, on the monotonic clock, in seconds.
    """

    def __init__(self, state: EndpointState, outbox: Outbox) -> None:
        self.report_at = math.inf
        self._state = state
        self._outbox = outbox
        self._interval_s = math.inf

    def begin(self, report_ms: int, now: float) -> None:
        """Begin a session with a broker that wants reports at this interval; 0 for none."""
        state = self._state
        if not report_ms:
            state.recorder = None
            return
        if state.recorder is None:
            state.recorder = CallRecorder(state.contain)
        else:
            state.recorder.begin_session()
        self._report_each(report_ms, now)

    def watch(self, watch: Watch, now: float) -> None:
        """Report the calls that these watches choose, one by one, from now on."""
        if self._state.recorder is not None:
            self._state.recorder.watch(watch.watches)
            self._report_each(watch.report_ms, now)

    def _report_each(self, interval_ms: int, now: float) -> None:
        self._interval_s = max(MIN_REPORT_S, interval_ms / 1000)
        self.report_at = now + self._interval_s

    def report(self, now: float) -> None:
        """Queue the reports of what was recorded since the last time."""
        state = self._state
        self.report_at = now + self._interval_s
        state.forgot_peers = False
        if state.recorder is not None:
            for report in state.recorder.take(state.peers.values(), now):
                for frame in _frames(report):
                    self._outbox.add_control(frame)

    def stop(self) -> None:
        """Report nothing until the next session."""
        self.report_at = math.inf


def _frames(report: Report) -> list[bytes]:
    """Return a report in as many frames as it takes: long keys may make it too large for one."""
    frame = encode(report)
    if len(frame) <= MAX_FRAME_BYTES:
        return [frame]
    first: dict[str, Any] = {}
    second: dict[str, Any] = {}
    for name in _ROWS:
        rows = getattr(report, name) or ()
        middle = (len(rows) + 1) // 2
        first[name], second[name] = rows[:middle], rows[middle:]
    return [*_frames(replace(report, **first)), *_frames(Report(**second))]
