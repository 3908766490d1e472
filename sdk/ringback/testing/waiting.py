"""Waiting for something to change, in a thread or in a task: no test needs to sleep."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

PATIENCE_S = 10.0
"""How long a test waits for something by default, in seconds. Long: the machine may be busy."""


class Changes:
    """Wakes those who wait for something: threads, and tasks of any event loop."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._tasks: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def notify(self) -> None:
        """Wake all who wait, so that they check again. Any thread may call this."""
        with self._condition:
            self._condition.notify_all()
            tasks = list(self._tasks)
        for loop, woken in tasks:
            with suppress(RuntimeError):  # the loop is closed, so nobody waits there
                loop.call_soon_threadsafe(woken.set)

    def wait(self, check: Callable[[], bool], timeout_s: float, missing: Callable[[], str]) -> None:
        """Block the thread until a check succeeds.

        Args:
            missing: return what has not happened, for the error.

        Raises:
            TimeoutError: the check did not succeed in time.
        """
        with self._condition:
            if self._condition.wait_for(check, timeout_s):
                return
        raise too_late(missing, timeout_s)

    async def wait_async(
        self, check: Callable[[], bool], timeout_s: float, missing: Callable[[], str]
    ) -> None:
        """Wait in a task until a check succeeds. All else is as in `wait`."""
        task = asyncio.get_running_loop(), asyncio.Event()
        with self._condition:
            self._tasks.append(task)
        try:
            async with asyncio.timeout(timeout_s):
                while not check():
                    await task[1].wait()
                    task[1].clear()
        except TimeoutError:
            raise too_late(missing, timeout_s) from None
        finally:
            with self._condition:
                self._tasks.remove(task)


def too_late(missing: Callable[[], str], timeout_s: float) -> TimeoutError:
    """Return the error of a wait that took too long.

    Args:
        missing: return what has not happened.
    """
    return TimeoutError(f"{missing()}, although the test waited {timeout_s:g} s for it")
