"""Containment: an exception in one piece of the loop's work is logged and counted, and the loop goes on."""

from __future__ import annotations

import logging

from ringback.log_folding import FoldingFilter
from ringback_broker.operations.counters import BrokerCounters

log = logging.getLogger("ringback.broker.faults")

folding = FoldingFilter(log)
"""Folds equal exceptions: a peer may cause one with each frame."""


class Containment:
    """Logs and counts exceptions that nothing handles.

    Args:
        counters: its `faults` grows with each.
    """

    def __init__(self, counters: BrokerCounters) -> None:
        self._counters = counters

    def __call__(self, what: str, error: Exception) -> None:
        """Count an exception, and log it. Equal ones fold.

        Args:
            what: what failed, for people.
        """
        self._counters.faults += 1
        text = "%s failed, and the broker goes on; this is a fault of ringback"
        log.error(text, what, exc_info=error, extra={"kind": (what, type(error))})
