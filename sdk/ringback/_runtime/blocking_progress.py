"""Progress in the blocking face: a thread iterates it, or workers call a function."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import Context
from typing import Any

from ringback._runtime.blocking_shell import BlockingShell
from ringback._runtime.wait_times import Wait
from ringback._runtime.worker_pool import waiting
from ringback.core.pending_call import PendingCall
from ringback.core.progress import Progress


class BlockingProgress(Progress):
    """The progress of a call, shared by the I/O thread and those that wait for it."""

    def __init__(self, shell: BlockingShell, deadline: float | None) -> None:
        super().__init__()
        self._shell = shell
        self._deadline = deadline
        self._condition = threading.Condition()

    def take(self, value: Any, size: int) -> None:
        with self._condition:
            super().take(value, size)

    def end(self) -> None:
        with self._condition:
            super().end()

    def changed(self) -> None:
        self._condition.notify_all()


class IteratedProgress(BlockingProgress):
    """The progress that `for value in call.progress()` iterates. Values wait until then."""

    def next_of(self, call: PendingCall) -> Any:
        """Wait for the next value of a call, which this does not hold. Return the value.

        Raises:
            StopIteration: the call has ended.
        """
        shell = self._shell
        shell.check_process()  # in a forked child, the condition may be locked for ever
        wait = Wait()
        with waiting(), self._condition:
            while not self._condition.wait_for(lambda: self.waiting or self.ended, wait.pause()):
                problem = shell.endless_wait(self._deadline, (call,), wait)
                if problem is not None:
                    raise problem
            if not self.waiting:
                raise StopIteration
            return self.next_value()


class ReportedProgress(BlockingProgress):
    """The progress that workers report to a function: in order, and one value at a time."""

    def __init__(
        self,
        shell: BlockingShell,
        deadline: float | None,
        function: Callable[[Any], object],
        context: Context,
        key: str,
    ) -> None:
        super().__init__(shell, deadline)
        self._function = function
        self._context = context
        self._planned = False
        self._what = f"on_progress of a call of {key!r}"
        self._order = threading.Lock()

    def changed(self) -> None:
        if self.waiting and not self._planned:
            self._planned = True
            self._shell.pool.submit(Context(), self.deliver)

    def deliver(self) -> None:
        """Report the values that wait. If another thread does so, this waits until it has."""
        with self._order:
            while True:
                with self._condition:
                    if not self.waiting:
                        self._planned = False
                        return
                    value = self.next_value()
                self._shell.tell(self._context.copy(), self._function, value, self._what)

    def then(self, function: Callable[..., object]) -> Callable[..., object]:
        """Return a function that does the same as another, but after the values that wait are reported."""

        def after(*arguments: Any) -> object:
            self.deliver()
            return function(*arguments)

        return after
