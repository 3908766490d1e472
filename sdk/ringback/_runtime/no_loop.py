"""What takes the place of the event loop of an endpoint that is not started, or whose loop is closed."""

from __future__ import annotations

import asyncio
from typing import Any, cast


class _NoLoop:
    """The part of a loop that a shell and a future use. It runs nothing."""

    def get_debug(self) -> bool:
        """Return False; a future asks."""
        return False

    def is_running(self) -> bool:
        """Return False: no function may be used."""
        return False

    def is_closed(self) -> bool:
        """Return False: there is nothing that has to be closed."""
        return False

    def call_soon(self, *_: Any, **__: Any) -> None:
        """Drop a function: nothing would run it."""

    def call_soon_threadsafe(self, *_: Any, **__: Any) -> None:
        """Drop a function, as `call_soon` does."""

    def remove_reader(self, *_: Any) -> bool:
        """Return False: a closed loop has no readers."""
        return False


NOWHERE = cast(asyncio.AbstractEventLoop, _NoLoop())
"""The home of an endpoint that is not started. It is the loop of no task, so no task waits on it."""
