"""What the log says about peers and about watched calls: bounded, and safe to read."""

from __future__ import annotations

import logging
import re

from ringback.log_folding import WINDOW_S, Folded, LineFolds
from ringback.protocol.reports import WatchedCall, duration_ms, way
from ringback_broker.daemon.logs import audit
from ringback_broker.operations.events import PeerEvent

log = logging.getLogger("ringback.broker")

EVENTS_A_TICK = 100
"""Lines about peers that join and leave, of each kind, in a quarter of a second. One line counts the rest."""

DELAYS_EACH_S = 10.0
"""How often one line counts the joins that were delayed."""

MAX_REASONS = 8
"""How many reasons for delays are counted apart."""

CALLS_A_TICK = 500
"""Lines about watched calls, likewise."""

REFUSALS = 10
"""Lines about refusals of one IP for one reason in `WINDOW_S` seconds, likewise."""

REASONS_A_CODE = 32
"""IPs and reasons with one code whose lines fold apart. Lines with further ones fold together."""

_FAULTS_OF_PEERS = {"PROTOCOL_ERROR", "TOO_SLOW", "RATE_LIMITED"}
"""Codes of ended sessions that somebody should look at. The others end sessions in the course of things."""

_NUMBERS = re.compile(r"\S*\d\S*")
"""Words with numbers: IDs, limits and public keys."""

TICK_S = 0.25
MAX_DETAIL_CHARS = 300


class LogLines:
    """Writes a line for each event of a peer and for each watched call. Folds what comes in crowds."""

    def __init__(self) -> None:
        self._now = 0.0
        self._events = LineFolds(EVENTS_A_TICK, TICK_S)
        self._refusals = LineFolds(REFUSALS, WINDOW_S)
        self._calls = LineFolds(CALLS_A_TICK, TICK_S)
        self._reasons: dict[str, set[tuple[str, ...]]] = {}
        self._reasons_until = 0.0
        self._delays: dict[str, int] = {}
        self._delays_at = 0.0

    def log_event(self, event: PeerEvent) -> None:
        """Write an event into the audit log, and into the log unless it folds.

        Joins that are delayed belong to a crowd: one line counts them.
        """
        if event.event == "delayed":
            known = event.reason in self._delays or len(self._delays) < MAX_REASONS
            reason = event.reason if known else "other reasons"
            self._delays[reason] = self._delays.get(reason, 0) + 1
            return
        extra = {"fields": event.fields()}
        audit(**extra["fields"])
        text = _printable(event.detail[:MAX_DETAIL_CHARS])
        session = event.session
        level, folds = logging.INFO, self._events
        if session is None or event.event == "refused":
            level, folds = logging.WARNING, self._refusals
            who = "" if session is None else f"{_printable(session.name)} "
            line = f"{event.event} {who}{text}"
        else:
            if event.code in _FAULTS_OF_PEERS:
                level = logging.WARNING
            elif event.is_passing_operator:
                level = logging.DEBUG
            ip = session.connection.ip
            # An order names its operator at the end: the peer that it is about comes first.
            line = f"{event.event} {_printable(session.name)} {ip} ({text})"
            if event.event == "ordered":
                line = f"ordered: {text} at {ip}" if ip else f"ordered: {text}"
        kind = event.event, event.code, self._kind_of(event), level
        written, ended = folds.take(kind, level, line, self._now)
        _log_folded(ended)
        if written:
            log.log(level, "%s", line, extra=extra)

    def _kind_of(self, event: PeerEvent) -> tuple[str, ...]:
        """Return what refusals have in common that fold: the IP, and the reason without its numbers.

        Peers choose parts of some reasons. So only the first kinds of a code stay apart, until the next
        window.
        """
        if event.event != "refused":
            return ()
        if self._now >= self._reasons_until:
            self._reasons_until = self._now + WINDOW_S
            self._reasons.clear()
        reasons = self._reasons.setdefault(event.code, set())
        kind = event.ip, _NUMBERS.sub("#", event.reason[: 2 * MAX_DETAIL_CHARS])[:MAX_DETAIL_CHARS]
        if len(reasons) < REASONS_A_CODE:
            reasons.add(kind)
        return kind if kind in reasons else ()

    def log_call(self, call: WatchedCall) -> None:
        """Write a watched call into the log unless it folds."""
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
        line = f"called {text} {took}"
        written, ended = self._calls.take("called", logging.INFO, line, self._now)
        _log_folded(ended)
        if written:
            log.info("%s", line, extra={"fields": fields})

    def tick(self, now: float) -> None:
        """Count what folded, and make room again."""
        self._now = now
        for folds in (self._events, self._refusals, self._calls):
            _log_folded(folds.over(now))
        if self._delays and now >= self._delays_at:
            self._delays_at = now + DELAYS_EACH_S
            self._log_delays()

    def close(self) -> None:
        """Write the counts that are left."""
        for folds in (self._events, self._refusals, self._calls):
            _log_folded(folds.finish())
        self._log_delays()

    def _log_delays(self) -> None:
        delays, self._delays = self._delays, {}
        for reason, count in delays.items():
            log.info("%d joins were delayed, and come again: %s", count, _printable(reason))


def _log_folded(ended: list[Folded]) -> None:
    for folded in ended:
        log.log(folded.level, "%s", folded)


def _printable(text: str) -> str:
    """Return a text that cannot look like another line: peers choose parts of it."""
    return "".join(char if char.isprintable() else "?" for char in text)
