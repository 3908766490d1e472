"""What the log says about peers and about watched calls: bounded, and safe to read."""

from __future__ import annotations

import logging

from ringback.protocol.frames import Role
from ringback.protocol.reports import WatchedCall, duration_ms, way
from ringback_broker.daemon.logs import audit
from ringback_broker.operations.events import PeerEvent

log = logging.getLogger("ringback.broker")

EVENTS_A_TICK = 100
"""Lines about peers between two ticks. One line counts the events that are over it."""

DELAYS_EACH_S = 10.0
"""How often one line counts the joins that were delayed."""

MAX_REASONS = 8
"""How many reasons for delays are counted apart."""

CALLS_A_TICK = 500
"""Lines about watched calls, likewise."""

MAX_DETAIL_CHARS = 300


class LogLines:
    """Writes a line for each event of a peer and for each watched call."""

    def __init__(self) -> None:
        self._events = self._calls = self._refused = 0
        self._delays: dict[str, int] = {}
        self._delays_at = 0.0

    def log_event(self, event: PeerEvent) -> None:
        """Write an event into the audit log, and into the log if there is room until the next tick.

        Joins that are delayed belong to a crowd: one line counts them.
        """
        if event.event == "delayed":
            known = event.reason in self._delays or len(self._delays) < MAX_REASONS
            reason = event.reason if known else "other reasons"
            self._delays[reason] = self._delays.get(reason, 0) + 1
            return
        extra = {"fields": event.fields()}
        audit(**extra["fields"])
        self._events += 1
        if self._events > EVENTS_A_TICK:
            self._refused += event.event == "refused"
            return
        text = _printable(event.detail[:MAX_DETAIL_CHARS])
        session = event.session
        if session is None or event.event == "refused":
            log.warning("%s %s", event.event, text, extra=extra)
        else:
            comes_or_goes = event.event in ("joined", "left")
            level = logging.DEBUG if comes_or_goes and session.role is Role.OPERATOR else logging.INFO
            name, ip = session.name, session.connection.ip
            log.log(level, "%s %s %s (%s)", event.event, name, ip, text, extra=extra)

    def log_call(self, call: WatchedCall) -> None:
        """Write a watched call into the log if there is room until the next tick."""
        self._calls += 1
        if self._calls > CALLS_A_TICK:
            return
        fields = {
            "event": "called",
            "side": call.side.value,
            "player": call.player_id,
            "key": call.key,
            "outcome": call.outcome,
            "ms": duration_ms(call.took_s),
        }
        text = _printable(f"{way(call.side, call.player_id)} {call.key} {call.outcome}")
        took = "-" if fields["ms"] is None else f"{fields['ms']:.3f} ms"
        log.info("called %s %s", text, took, extra={"fields": fields})

    def tick(self, now: float) -> None:
        """Count what had no room, and make room again."""
        if self._events > EVENTS_A_TICK:
            others = self._events - EVENTS_A_TICK - self._refused
            if self._refused:
                log.warning("%d more peers were refused", self._refused)
            if others:
                log.info("%d more sessions began or ended", others)
        if self._delays and now >= self._delays_at:
            self._delays_at = now + DELAYS_EACH_S
            delays, self._delays = self._delays, {}
            for reason, count in delays.items():
                log.info("%d joins were delayed, and come again: %s", count, _printable(reason))
        if self._calls > CALLS_A_TICK:
            log.warning("%d more watched calls ended", self._calls - CALLS_A_TICK)
        self._events = self._calls = self._refused = 0


def _printable(text: str) -> str:
    """Return a text that cannot look like another line: peers choose parts of it."""
    return "".join(char if char.isprintable() else "?" for char in text)
