"""How a task of asyncio waits for a call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol


class Waker(Protocol):
    def wake(self, waiter: Waiter) -> None:
        """Has a waiter's task go on: in this step or in a later round of the loop."""


class Waiter:
    """What a task waits for that awaits a call: so much of a future of asyncio as a task uses.

    A future has its task go on by a callback in the loop's next round. Here the shell has all tasks go on
    once it has taken all that came, and sends what they trigger in the same step.
    """

    __slots__ = ("_asyncio_future_blocking", "_cancelled", "_context", "_loop", "_step", "_waker")

    def __init__(self, waker: Waker) -> None:
        # By this a task knows what it is given. It sets it to False as it begins to wait.
        self._asyncio_future_blocking = True
        self._waker = waker
        self._loop = asyncio.get_running_loop()
        self._step: Callable[[Waiter], Any] | None = None
        self._context: Context | None = None
        self._cancelled = False

    def wake(self) -> None:
        """The call has ended."""
        if self._step is not None:
            self._waker.wake(self)

    def go_on(self) -> None:
        step, self._step = self._step, None
        if step is not None:
            assert self._context is not None
            self._context.run(step, self)

    # -- what a task calls

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(self, step: Callable[[Waiter], Any], *, context: Context) -> None:
        self._step, self._context = step, context

    def result(self) -> None:
        if self._cancelled:
            raise asyncio.CancelledError

    def cancel(self, msg: str | None = None) -> bool:
        if self._step is None:
            return False
        self._cancelled = True
        self._loop.call_soon(self.go_on)
        return True
