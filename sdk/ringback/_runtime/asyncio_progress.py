"""Progress in the asyncio face: a task iterates it, or the loop calls a function."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from typing import Any

from ringback._runtime.asyncio_shell import AsyncioShell
from ringback.core.progress import Progress


class IteratedProgress(Progress):
    """The progress that `async for value in call.progress()` iterates. Values wait until then."""

    def __init__(self, shell: AsyncioShell) -> None:
        super().__init__()
        self._shell = shell
        self._loop = shell.home
        self._iterators: deque[asyncio.Future[None]] = deque()

    def changed(self) -> None:
        while self._iterators:
            waiter = self._iterators.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def __aiter__(self) -> IteratedProgress:
        return self

    async def __anext__(self) -> Any:
        while not self.waiting:
            if self.ended:
                raise StopAsyncIteration
            self._shell.check_loop(self._loop)
            waiter = self._loop.create_future()
            self._iterators.append(waiter)
            try:
                await waiter
            finally:  # a program that polls gives up often
                with suppress(ValueError):
                    self._iterators.remove(waiter)
        return self.next_value()


class ReportedProgress(Progress):
    """The progress that the loop reports to a function: in order, and one value at a time.

    The shell calls the function once it has read all messages, and before tasks that wait for the call go on.
    """

    def __init__(
        self, shell: AsyncioShell, function: Callable[[Any], object], context: Context, key: str
    ) -> None:
        super().__init__()
        self._shell = shell
        self._function = function
        self._context = context
        self._planned = False
        self._what = f"on_progress of a call of {key!r}"

    def changed(self) -> None:
        if self.waiting and not self._planned:
            self._planned = True
            self._shell.wake(self)

    def go_on(self) -> None:
        """Report the values that wait. After one for a coroutine function, go on when its task has ended."""
        try:
            while self.waiting:
                value = self.next_value()
                if self._shell.tell_progress(
                    self._context.copy(), self._function, value, self.go_on, self._what
                ):
                    return
        except BaseException:  # Ctrl-C or sys.exit(): the next value is reported all the same
            self._planned = False
            raise
        self._planned = False
