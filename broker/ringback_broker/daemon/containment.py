"""Containment: an exception in one piece of the loop's work is logged and counted, and the loop goes on."""

from __future__ import annotations

import logging
import time

from ringback_broker.operations.counters import BrokerCounters

log = logging.getLogger("ringback.broker")

SAME_S = 10.0
"""How long equal exceptions are only counted once one was logged. A peer may cause one with each frame."""

MAX_KINDS = 64
"""How many kinds of exceptions are told apart."""


class Containment:
    """Logs and counts exceptions that nothing handles.

    Args:
        counters: its `faults` grows with each.
    """

    def __init__(self, counters: BrokerCounters) -> None:
        self._counters = counters
        self._logged_at: dict[tuple[str, type[Exception]], float] = {}

    def __call__(self, what: str, error: Exception) -> None:
        """Count an exception, and log it unless an equal one was logged a moment ago.

        Args:
            what: what failed, for people.
        """
        self._counters.faults += 1
        kind, now = (what, type(error)), time.monotonic()
        if now - self._logged_at.get(kind, now - 2 * SAME_S) < SAME_S:
            return
        if len(self._logged_at) >= MAX_KINDS:
            self._logged_at.clear()
        self._logged_at[kind] = now
        log.error("%s failed, and the broker goes on; this is a fault of ringback", what, exc_info=error)
