"""Calls and groups as futures of `concurrent.futures`: `wait`, `as_completed`, `asyncio.wrap_future`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from ringback._roles.calls import CallBase, R_co
from ringback._roles.groups import C_co, GroupBase
from ringback._runtime.blocking_shell import BlockingShell
from ringback._runtime.wait_times import Wait
from ringback._runtime.worker_pool import waiting
from ringback.errors import Cancelled, fresh
from ringback.protocol.player_ids import PlayerID

R = TypeVar("R")


class CallFuture(Future[R]):
    """A future of a call or a group. To wait for it is to wait for the call.

    A worker that waits is replaced meanwhile, and a wait that would wait for itself is an error.

    Attributes:
        problem: return why a wait for it will not end; None if it still may. It takes the wait.
    """

    problem: Callable[[Wait], Exception | None]

    def result(self, timeout: float | None = None) -> R:
        try:
            self._wait(timeout)
            return super().result(0)
        finally:
            del self  # the traceback of an error has this frame, and the future has the error

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._wait(timeout)
        return super().exception(0)

    def _wait(self, timeout: float | None) -> None:
        if self.done():
            return
        this = Wait(timeout)
        with waiting():
            while not wait([self], this.pause()).done and not this.is_over():
                problem = self.problem(this)
                if problem is not None and not self.done():
                    try:
                        raise problem
                    finally:
                        del problem  # its traceback has this frame


def future_of(call: CallBase[R_co], shell: BlockingShell) -> Future[R_co]:
    """Return a future that ends as a call does. To cancel one of the two cancels the other.

    Args:
        shell: the shell of the call's endpoint. One of its workers converts the result of a typed call.
    """
    call.seen()
    future = CallFuture[R_co]()
    future.problem = partial(shell.endless_wait, call.deadline, (call,))
    future.add_done_callback(partial(_future_ended, call))
    end = partial(_call_ended, future)
    call.add_waiter(shell.when_ended(call, end) if call.typed else partial(end, call))
    return future


def future_of_group(group: GroupBase[C_co], shell: BlockingShell) -> Future[dict[PlayerID, C_co]]:
    """Return a future that ends as a group does. To cancel it cancels the calls of the group."""
    group._look()
    future = CallFuture[dict[PlayerID, C_co]]()
    future.problem = lambda wait: shell.endless_wait(group.deadline, list(group.calls.values()), wait)
    future.add_done_callback(partial(_future_ended, group))
    group._waiters.append(partial(_group_ended, future, group))
    group._wake()
    return future


def _group_ended(future: Future[Any], group: GroupBase[Any]) -> None:
    with suppress(InvalidStateError):  # the program has cancelled the future meanwhile
        if group.cancelled():
            future.cancel()
        elif group._error is not None:
            future.set_exception(fresh(group._error))
        else:
            future.set_result(group._result())


def _call_ended(future: Future[Any], call: CallBase[Any]) -> None:
    if call.typed:
        call.convert()
    error = call._error
    with suppress(InvalidStateError):  # the program has cancelled the future meanwhile
        if error is None:
            future.set_result(call._result())
        elif isinstance(error, Cancelled):
            future.cancel()
        else:
            future.set_exception(fresh(error))


def _future_ended(call: CallBase[Any] | GroupBase[Any], future: Future[Any]) -> None:
    if future.cancelled():
        future.set_running_or_notify_cancel()  # wakes those who wait for a cancelled future
        call.cancel()
