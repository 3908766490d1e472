"""Exceptions that nothing handles, in work that nobody waits for: the dashboard logs them, and goes on."""

from __future__ import annotations

import asyncio
import logging

log = logging.getLogger("ringback.broker.faults")

RETRY_S = 60.0
"""The longest pause after work that fails again and again."""


class Faults:
    """Logs the exceptions of one kind of work, each with its traceback, and equal ones once.

    Args:
        what: the work, for people.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._latest: tuple[type[Exception], str] | None = None

    def log(self, error: Exception) -> None:
        """Log an exception, unless it is like the one before."""
        kind = (type(error), str(error))
        if kind != self._latest:
            self._latest = kind
            text = "%s failed, and the dashboard goes on; this is a fault of ringback"
            log.error(text, self._what, exc_info=error, extra={"kind": (self._what, type(error))})


async def pause(closing: asyncio.Event, pause_s: float) -> None:
    """Wait for some time, or until the dashboard closes."""
    try:
        async with asyncio.timeout(pause_s):
            await closing.wait()
    except TimeoutError:
        pass
