"""How a program of the blocking face waits for a call or a group."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Protocol

from ringback._roles.calls import CallBase, R_co
from ringback._roles.groups import GroupBase
from ringback._roles.typed_calls import TypedCallBase
from ringback._runtime.blocking_progress import IteratedProgress
from ringback._runtime.blocking_shell import BlockingShell
from ringback._runtime.wait_times import Wait
from ringback._runtime.worker_pool import waiting
from ringback.core.pending_call import Canceller
from ringback.errors import CallbackError
from ringback.protocol.player_ids import PlayerID

if TYPE_CHECKING:
    from concurrent.futures import Future


class _Caller(Canceller, Protocol):
    """The endpoint that triggered a call."""

    _shell: BlockingShell


class Call(CallBase[R_co]):
    """A call that was triggered. It ends exactly once: with results, or with an error."""

    __slots__ = ()
    _endpoint: _Caller

    def result(self, timeout: float | None = None) -> R_co:
        """Wait until the call ends. Return None for no result, the value of one, a tuple of several.

        Args:
            timeout: how long to wait, in seconds; None, the default: until the call ends. A wait that ends
                too early leaves the call alone: it goes on, and may be waited for again.

        Raises:
            CallbackError: the call failed. Its `executed` says whether the handler ran. If its own time was
                over, this is `CallTimeout`.
            TimeoutError: the call has not ended within `timeout`. Unlike `CallTimeout`, which is one too,
                this is no `CallbackError`.
            UsageError: an `allow` function, or a done callback of a future, cannot wait for a call. Without a
                `timeout`: this wait keeps the handler of the call from replying.
        """
        self._wait(timeout)
        return self._result()

    @property
    def results(self) -> tuple[Any, ...]:
        """All results, as a tuple. Waits and raises as `result` does."""
        self._wait()
        return self._outcome()

    @property
    def error(self) -> CallbackError | None:
        """The error of the call, None if it succeeded. Waits until the call ends."""
        self._wait()
        return self._error

    def exception(self, timeout: float | None = None) -> CallbackError | None:
        """Wait until the call ends. Return its error, None if it succeeded.

        Args:
            timeout: how long to wait, in seconds, as for `result`.

        Raises:
            TimeoutError: the call has not ended within `timeout`.
            UsageError: an `allow` function, or a done callback of a future, cannot wait for a call. Without a
                `timeout`: this wait keeps the handler of the call from replying.
        """
        self._wait(timeout)
        return self._error

    def add_done_callback(self, function: Callable[[Call[R_co]], object]) -> None:
        """Have a worker call `function(call)` once the call has ended; soon if it has ended already.

        It may be a coroutine function. What it raises is logged.

        Raises:
            TypeError: it is not a function.
        """
        self.add_waiter(self._endpoint._shell.when_ended(self, function))

    def progress(self) -> Iterator[Any]:
        """Iterate the values that the handler reports by `cb.progress(value)`, until the call ends.

        The call must be triggered with `progress=True`. At most 1024 values, of 16 MiB in all, wait; then
        the oldest is dropped, see `progress_lost`. To leave the loop early does not cancel the call. If the
        call fails, the loop ends, and `result` raises.

        Raises:
            UsageError: the call did not ask for progress, or has an `on_progress`.
        """
        values = self._progress_taker
        if isinstance(values, IteratedProgress):
            return self._iterate(values)
        raise self._no_progress()

    def _iterate(self, values: IteratedProgress) -> Iterator[Any]:
        while True:
            try:
                value = values.next_of(self)
            except StopIteration:
                return
            except BaseException:  # as Ctrl-C
                self.seen()
                raise
            yield value

    def future(self) -> Future[R_co]:
        """Return a future of `concurrent.futures` that ends as the call does.

        Pass it to `wait`, `as_completed` or `asyncio.wrap_future`, which take no call. Cancelling the future
        cancels the call. The future of a cancelled call is cancelled.

        The done callbacks of the future run on the I/O thread, which serves all endpoints of the process, so
        they must not block or wait. Those of the call may. A handler that waits for futures by `wait` or
        `as_completed` keeps its worker busy; one that waits for a call, or by `result` of a future, does not.
        """
        from ringback._roles.call_futures import future_of  # loads logging and more, for few programs

        shell = self._endpoint._shell
        shell.check_process()
        return future_of(self, shell)

    def _wait(self, timeout: float | None = None) -> None:
        wait = Wait(timeout)
        seen, self._seen = self._seen, True  # even if Ctrl-C ends the wait
        if self._done:
            return
        shell = self._endpoint._shell
        if shell.foreign:
            shell.check_process()
        done = threading.Lock()
        done.acquire()
        self.add_waiter(done.release)
        with waiting():
            while not done.acquire(timeout=wait.pause()):
                problem = shell.endless_wait(self.deadline, (self,), wait)
                if problem is None and wait.is_over():
                    problem = shell.gives_up(f"the call of {self.key!r} goes on", timeout, (self,))
                    self._seen = seen
                    with suppress(ValueError):  # it ends just now
                        self._waiters.remove(done.release)
                if self._done:  # meanwhile
                    return
                if problem is not None:
                    try:
                        raise problem
                    finally:
                        del problem  # its traceback has this frame


class TypedCall(TypedCallBase[R_co], Call[R_co]):
    """A call of a contract. A result that does not fit the contract is an error."""

    __slots__ = ()

    def _wait(self, timeout: float | None = None) -> None:
        super()._wait(timeout)
        self.convert()


class CallGroup(GroupBase[Call[R_co]], Generic[R_co]):
    """The calls of one trigger on many players. Iterate it to get (player ID, call) as the calls end.

    Attributes:
        calls: the call of each player, by player ID. Empty until the list of players is known.
    """

    def __init__(self, shell: BlockingShell) -> None:
        super().__init__()
        self._shell = shell
        self._condition = threading.Condition()

    def __iter__(self) -> Iterator[tuple[PlayerID, Call[R_co]]]:
        position = 0
        while True:
            self._wait(lambda: len(self._ended) > position or self._complete)  # noqa: B023
            if position == len(self._ended):
                self._result()
                return
            yield self._ended_at(position)
            position += 1

    def all(self, timeout: float | None = None) -> dict[PlayerID, Call[R_co]]:
        """Wait until all calls have ended. Return the call of each player, by player ID.

        Args:
            timeout: how long to wait, in seconds; None, the default: until all calls have ended. A wait that
                ends too early leaves the group alone.

        Raises:
            CallbackError: the list of connected players could not be read.
            TimeoutError: not all calls have ended within `timeout`.
        """
        self._wait(lambda: self._complete, timeout)
        return self._result()

    def result(self, timeout: float | None = None) -> dict[PlayerID, Call[R_co]]:
        """Wait and return as `all` does: this is the name that a future has for it."""
        return self.all(timeout)

    def future(self) -> Future[dict[PlayerID, Call[R_co]]]:
        """Return a future of `concurrent.futures` that ends as the group does, as that of a call.

        Cancelling the future cancels the calls.
        """
        from ringback._roles.call_futures import future_of_group  # loads logging and more, for few programs

        self._shell.check_process()
        return future_of_group(self, self._shell)

    def exception(self, timeout: float | None = None) -> CallbackError | None:
        """Wait as `all` does. Return why the list of connected players could not be read, None if it could.

        Raises:
            TimeoutError: not all calls have ended within `timeout`.
        """
        self._wait(lambda: self._complete, timeout)
        return self._error

    def add_done_callback(self, function: Callable[[CallGroup[R_co]], object]) -> None:
        """Have a worker call `function(group)` once all calls have ended; soon if they have already.

        It may be a coroutine function. What it raises is logged.

        Raises:
            TypeError: it is not a function.
        """
        self._waiters.append(self._shell.when_ended(self, function))
        self._wake()

    def _wait(self, until: Callable[[], bool], timeout: float | None = None) -> None:
        shell = self._shell
        shell.check_process()  # in a forked child, the condition may be locked for ever
        wait = Wait(timeout)
        try:
            with waiting(), self._condition:
                while not self._condition.wait_for(until, wait.pause()):
                    calls = list(self.calls.values())
                    problem = shell.endless_wait(self.deadline, calls, wait)
                    if problem is None and wait.is_over():
                        problem = shell.gives_up("calls of the group go on", timeout, calls)
                    if problem is not None and not until():
                        try:
                            raise problem
                        finally:
                            del problem  # its traceback has this frame
        except BaseException:  # as Ctrl-C
            self._look()
            raise

    def _changed(self) -> None:
        with self._condition:
            self._condition.notify_all()
        self._wake()
