"""An event loop that runs in turns, in the thread of another loop, and never waits."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Coroutine
from typing import Any

ROUNDS = 4
"""How many rounds of the event loop one turn has at most. In each, what came to a socket is read once."""


class _Selector(selectors.DefaultSelector):
    """Tells the event loop what has come. When there is nothing to do, it ends the turn: it never waits."""

    def __init__(self) -> None:
        super().__init__()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.waits = False
        self.rounds = 0
        self.due = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.waits:
            return super().select(timeout)
        found = super().select(0)
        self.rounds += 1
        idle = not found and (timeout is None or timeout > 0)
        if idle or self.rounds >= ROUNDS:
            now = time.monotonic()
            self.due = now if not idle else float("inf") if timeout is None else now + timeout
            assert self.loop is not None
            self.loop.stop()
        return found


class Turns:
    """An event loop. Whoever has it calls `run` when `fileno` is readable, and when `due` has come.

    Attributes:
        loop: the event loop.
        due: when it has something to do, on the monotonic clock, even if nothing comes.
    """

    def __init__(self) -> None:
        self._selector = _Selector()
        self.loop = self._selector.loop = asyncio.SelectorEventLoop(self._selector)
        self.due = 0.0

    def fileno(self) -> int:
        """Return a descriptor that is readable when something has come; -1: the event loop is closed."""
        return -1 if self.loop.is_closed() else self._selector.fileno()

    def run(self) -> None:
        """Do what can be done now, up to a bound."""
        selector = self._selector
        selector.rounds = 0
        self.loop.run_forever()
        self.due = selector.due

    def end(self, main: asyncio.Future[Any], within_s: float) -> None:
        """Wait for a task to end, cancel all that are left, and close the event loop."""
        self._selector.waits = True
        self._complete(asyncio.wait({main}, timeout=within_s))
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        if left:
            self._complete(asyncio.wait(left, timeout=within_s))
        self.close()

    def _complete(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.loop.run_until_complete(coroutine)

    def close(self) -> None:
        """Close the event loop, which has no tasks any more."""
        self.loop.close()
