"""How an asyncio task waits for a call. The only code that stands in for a future of asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol


class Waker(Protocol):
    """The shell, as a waiter sees it."""

    def wake(self, waiter: Waiter) -> None:
        """Let the task of a waiter go on, in this step or in a later round of the loop."""


class Waiter:
    """What a task awaits while a call is pending: the part of `asyncio.Future` that a task uses.

    A future resumes its task by a callback in the next round of the loop. The shell resumes all tasks as soon
    as it has read all messages, and sends what they trigger in the same step. With a real future, a call
    takes 4.5 % more instructions with 64 calls in flight, and 10 % more alone (docs/decisions/0033).
    """

    __slots__ = ("_asyncio_future_blocking", "_cancelled", "_context", "_loop", "_step", "_waker")

    def __init__(self, waker: Waker) -> None:
        # A task recognises a future by this attribute, and sets it to False when it begins to wait.
        self._asyncio_future_blocking = True
        self._waker = waker
        self._loop = asyncio.get_running_loop()
        self._step: Callable[[Waiter], Any] | None = None
        self._context: Context | None = None
        self._cancelled = False

    def wake(self) -> None:
        """Note that the call has ended, so that the task goes on."""
        if self._step is not None:
            self._waker.wake(self)

    def go_on(self) -> None:
        """Run the next step of the task."""
        step, self._step = self._step, None
        if step is not None:
            assert self._context is not None
            self._context.run(step, self)

    # -- what a task calls

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop of the task."""
        return self._loop

    def add_done_callback(self, step: Callable[[Waiter], Any], *, context: Context) -> None:
        """Keep the next step of the task."""
        self._step, self._context = step, context

    def result(self) -> None:
        """Raise CancelledError if the task was cancelled; the outcome is in the call."""
        if self._cancelled:
            raise asyncio.CancelledError

    def cancel(self, msg: str | None = None) -> bool:
        """Resume the task with CancelledError. Return False if it does not wait any more."""
        if self._step is None:
            return False
        self._cancelled = True
        self._loop.call_soon(self.go_on)
        return True
