"""How a program of the asyncio face awaits a call or a group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from contextvars import Context
from typing import Any, Generic, Protocol

from ringback._roles.calls import CallBase, R_co
from ringback._roles.groups import GroupBase
from ringback._roles.typed_calls import TypedCallBase
from ringback._runtime.asyncio_progress import IteratedProgress
from ringback._runtime.asyncio_shell import AsyncioShell
from ringback._runtime.done_callbacks import DoneCallback
from ringback._runtime.waiter import Waiter
from ringback.core.pending_call import Canceller
from ringback.errors import CallbackError
from ringback.protocol.player_ids import PlayerID


class _Caller(Canceller, Protocol):
    """The endpoint that triggered a call."""

    _shell: AsyncioShell


class Call(CallBase[R_co]):
    """A call that was triggered: `await` it. It ends exactly once: with results, or with an error."""

    __slots__ = ()
    _endpoint: _Caller

    def __await__(self) -> Generator[Any, None, R_co]:
        """Wait until the call ends. Return None for no result, the value of one, a tuple of several.

        If the task that awaits is cancelled, the call is cancelled too.

        Raises:
            CallbackError: the call failed. Its `executed` says whether the handler ran.
            UsageError: the task runs on another event loop than the endpoint.
        """
        self._seen = True
        if not self._done:
            shell = self._endpoint._shell
            waiter = Waiter(shell)
            self._waiters.append(waiter.wake)  # the core runs on this thread, so there is no outcome yet
            try:
                yield waiter
            except asyncio.CancelledError:
                self.cancel()
                raise
            except RuntimeError:  # a task of another loop rejects the waiter: nothing else is raised here
                raise shell.misuse() from None
        return self._result()

    def result(self) -> R_co:
        """Return the result of a call that has ended, as `await` does.

        Raises:
            CallbackError: the call failed.
            asyncio.InvalidStateError: the call has not ended. Await it first.
        """
        self._check_done()
        return self._result()

    @property
    def results(self) -> tuple[Any, ...]:
        """All results of a call that has ended, as a tuple. Raises as `result` does."""
        self._check_done()
        return self._outcome()

    @property
    def error(self) -> CallbackError | None:
        """The error of a call that has ended, None if it succeeded.

        Raises `asyncio.InvalidStateError` if the call has not ended.
        """
        self._check_done()
        self._seen = True
        return self._error

    def progress(self) -> AsyncIterator[Any]:
        """Iterate the values that the handler reports by `cb.progress(value)`, until the call ends.

        The call must be triggered with `progress=True`. At most 1024 values, of 16 MiB in all, wait; then
        the oldest is dropped, see `progress_lost`. To leave the loop early, or to cancel its task, does not
        cancel the call. If the call fails, the loop ends, and awaiting the call raises.

        Raises:
            UsageError: the call did not ask for progress, or has an `on_progress`.
        """
        values = self._progress_taker
        if isinstance(values, IteratedProgress):
            return values
        raise self._no_progress()

    # -- what asyncio.wait needs of a future

    def exception(self) -> CallbackError | None:
        """Return the error of a call that has ended, None if it succeeded, as a future of asyncio does.

        Raises:
            asyncio.InvalidStateError: the call has not ended.
        """
        return self.error

    def add_done_callback(
        self, function: Callable[[Call[R_co]], object], *, context: Context | None = None
    ) -> None:
        """Call `function(call)` on the event loop once the call has ended; soon if it has ended already.

        Raises:
            TypeError: it is not a function, or it is a coroutine function.
            UsageError: the call has not ended, and this is not the loop of its endpoint.
        """
        if not self._done:
            shell = self._endpoint._shell
            shell.check_loop(shell.home)
        self.add_waiter(DoneCallback(self, function, context))

    def remove_done_callback(self, function: Callable[[Call[R_co]], object]) -> int:
        """Take a function of `add_done_callback` back. Return how often it was there."""
        return DoneCallback.remove(self._waiters, function)

    def _check_done(self) -> None:
        if not self._done:
            raise asyncio.InvalidStateError(f"the call of {self.key!r} has not ended: await it first")


class TypedCall(TypedCallBase[R_co], Call[R_co]):
    """A call of a contract. A result that does not fit the contract is an error."""

    __slots__ = ()

    def _check_done(self) -> None:
        super()._check_done()
        self.convert()


class CallGroup(GroupBase[Call[R_co]], Generic[R_co]):
    """The calls of one trigger on many players. `async for` gives (player ID, call) as the calls end.

    Attributes:
        calls: the call of each player, by player ID. Empty until the list of players is known.
    """

    def __init__(self, shell: AsyncioShell) -> None:
        super().__init__()
        self._shell = shell
        self._loop = shell.home
        self._event = asyncio.Event()

    def __await__(self) -> Generator[Any, None, dict[PlayerID, Call[R_co]]]:
        """Wait as `all()` does."""
        return self.all().__await__()

    def add_done_callback(
        self, function: Callable[[CallGroup[R_co]], object], *, context: Context | None = None
    ) -> None:
        """Call `function(group)` on the event loop once all calls have ended; soon if they have already.

        This and the next function make `asyncio.wait` take a group.

        Raises:
            TypeError: it is not a function, or it is a coroutine function.
            UsageError: not all calls have ended, and this is not the loop of their endpoint.
        """
        if not self._complete:
            self._shell.check_loop(self._loop)
        self._waiters.append(DoneCallback(self, function, context))
        self._wake()

    def remove_done_callback(self, function: Callable[[CallGroup[R_co]], object]) -> int:
        """Take a function of `add_done_callback` back. Return how often it was there."""
        return DoneCallback.remove(self._waiters, function)

    def exception(self) -> CallbackError | None:
        """Return why the list of connected players could not be read, None if it could.

        Raises:
            asyncio.InvalidStateError: not all calls have ended.
        """
        self._check_done()
        return self._error

    def result(self) -> dict[PlayerID, Call[R_co]]:
        """Return the call of each player, by player ID, as `await group` does.

        Raises:
            asyncio.InvalidStateError: not all calls have ended.
            CallbackError: the list of connected players could not be read.
        """
        self._check_done()
        return self._result()

    def _check_done(self) -> None:
        if not self._complete:
            raise asyncio.InvalidStateError("not all calls of the group have ended: await it first")

    async def __aiter__(self) -> AsyncIterator[tuple[PlayerID, Call[R_co]]]:
        position = 0
        while True:
            while position < len(self._ended):
                yield self._ended_at(position)
                position += 1
            if self._complete:
                self._result()
                return
            await self._next()

    async def all(self) -> dict[PlayerID, Call[R_co]]:
        """Wait until all calls have ended. Return the call of each player, by player ID.

        Raises:
            CallbackError: the list of connected players could not be read.
        """
        while not self._complete:
            await self._next()
        return self._result()

    async def _next(self) -> None:
        self._shell.check_loop(self._loop)
        self._event.clear()
        try:
            await self._event.wait()
        except BaseException:  # as a cancel
            self._look()
            raise

    def _changed(self) -> None:
        self._event.set()
        self._wake()
