"""A stand-in for an event loop. An endpoint has it while it is not started, or once its loop is closed."""

from __future__ import annotations

import asyncio
from typing import Any, cast


class _NoLoop:
    """A loop that never runs anything. It has the functions that a shell and a future call on a loop."""

    def get_debug(self) -> bool:
        """Return False. A future asks for this when it is made."""
        return False

    def is_running(self) -> bool:
        """Return False, so that a shell refuses to trigger."""
        return False

    def is_closed(self) -> bool:
        """Return False, so that a shell does not take its endpoint for one whose loop was closed."""
        return False

    def call_soon(self, *_: Any, **__: Any) -> None:
        """Drop a function: nothing would run it."""

    def call_soon_threadsafe(self, *_: Any, **__: Any) -> None:
        """Drop a function, as `call_soon` does."""

    def remove_reader(self, *_: Any) -> bool:
        """Return False: a closed loop has no readers."""
        return False


NOWHERE = cast(asyncio.AbstractEventLoop, _NoLoop())
"""The loop of an endpoint that is not started. No task runs on it, so no task can wait on it."""
