"""How a broker stops: it drains, then its loop ends."""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger("ringback.broker")


class Stopping:
    """When the loop ends.

    Args:
        start_draining: called once, with the time that calls in flight have, in seconds.

    Attributes:
        deadline: when the loop ends at the latest, on the loop's clock; None while the broker does not stop.
        forced: whether the broker was asked to stop at once.
    """

    def __init__(self, start_draining: Callable[[float], None]) -> None:
        self.deadline: float | None = None
        self.forced = False
        self._start_draining = start_draining

    def ask(self, times: int, grace_s: float, now: float) -> None:
        """Drain when asked for the first time; stop at once when asked again.

        Args:
            times: how often the broker was asked since the last call.
        """
        if self.deadline is None and times == 1:
            self.drain(grace_s, now)
        elif times:
            log.info("stopping at once")
            self.deadline = now
            self.forced = True

    def drain(self, grace_s: float, now: float) -> None:
        """Let nobody in any more, and stop when all have left or the time is over. A second time, do
        nothing."""
        if self.deadline is not None:
            return
        log.info("stopping: draining for at most %g s; a second signal ends at once", grace_s)
        self.deadline = now + grace_s
        self._start_draining(grace_s)


def log_end(sessions: int) -> None:
    """Log that the loop has ended, and how many sessions were left."""
    if not sessions:
        log.info("stopped: everybody has left")
    else:
        log.warning("stopped with %d peers connected: what they had in flight is lost", sessions)
