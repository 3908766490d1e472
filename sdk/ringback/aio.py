"""The asyncio face: everything on the event loop, with a reader on the socket's own descriptor.

`Server`, `Player` and `Operator` have the names and signatures of the blocking face; starting and
closing are coroutines, and a call is awaited.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator
from functools import partial
from types import TracebackType
from typing import Any, Self

from ringback import _context
from ringback._calls import CallBase, unwrap
from ringback._face import Face, OperatorFace, PlayerFace, ServerFace
from ringback._group import GroupBase
from ringback._handling import deliver, encode_answer, log, log_duplicate, run_async, run_plain
from ringback._link import POLLIN, Link
from ringback.core.calls import Execution, PendingCall
from ringback.core.endpoint import Endpoint
from ringback.core.shell import Event
from ringback.errors import CallbackError, UsageError
from ringback.protocol.envelopes import Encoder
from ringback.protocol.frames import Role
from ringback.protocol.limits import Limits
from ringback.protocol.names import PlayerID

__all__ = ["Call", "CallGroup", "Operator", "Player", "Server"]

BURST = 64
"""Messages taken at once before the loop does something else."""


class Call(CallBase):
    """A call that was triggered: `await` it. It ends exactly once: with results, or with an error."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, Any]:
        """Gives the result: None for none, the value of one, a tuple of several.

        Cancelling the task that awaits cancels the call.

        Raises:
            CallbackError: the call failed; `error.executed` says whether the handler ran.
        """
        if not self._done:
            future = asyncio.get_running_loop().create_future()
            self.add_waiter(partial(_wake, future))
            try:
                yield from future
            except asyncio.CancelledError:
                self.cancel()
                raise
        return unwrap(self._outcome())

    def result(self) -> Any:
        """Gives the result of a call that has ended, as `await` does.

        Raises:
            CallbackError: the call failed.
            asyncio.InvalidStateError: it has not ended.
        """
        return unwrap(self.results)

    @property
    def results(self) -> tuple[Any, ...]:
        """All results of a call that has ended, as a tuple; raises as `result` does."""
        self._check_done()
        return self._outcome()

    @property
    def error(self) -> CallbackError | None:
        """The error of a call that has ended, None on success."""
        self._check_done()
        self._seen = True
        return self._error

    def _check_done(self) -> None:
        if not self._done:
            raise asyncio.InvalidStateError(f"the call of {self.key!r} has not ended: await it")


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class CallGroup(GroupBase[Call]):
    """The calls of one trigger on many players. `async for` gives (player ID, call) as the calls end."""

    def __init__(self) -> None:
        super().__init__()
        self._event = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[tuple[PlayerID, Call]]:
        position = 0
        while True:
            while position < len(self._ended):
                yield self._ended[position]
                position += 1
            if self._complete:
                self._result()
                return
            await self._next()

    async def all(self) -> dict[PlayerID, Call]:
        """Waits until all calls have ended, and gives each player's.

        Raises:
            CallbackError: it could not be found out who is connected.
        """
        while not self._complete:
            await self._next()
        return self._result()

    async def _next(self) -> None:
        self._event.clear()
        await self._event.wait()

    def _changed(self) -> None:
        self._event.set()


class _Shell:
    """The reader on the loop; see `ringback.core.shell.Shell`."""

    def __init__(self, face: AsyncioFace) -> None:
        self.running = False
        self.thread = 0
        self._face = face
        self._encoder: Encoder | None = None
        self._link: Link | None = None
        self._runnable: list[Execution] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._flush_wanted = False
        self._taking = False

    @property
    def endpoint(self) -> Endpoint:
        return self._face._endpoint

    async def start(self, timeout_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        self._started: asyncio.Future[None] = self._loop.create_future()
        # Callbacks and listeners run in the context of the start, and not in that of whichever handler
        # was the last to set a timer: its deadline is not theirs.
        self._context = contextvars.copy_context()
        self._context.run(_context.deadline.set, None)
        self._runnable = []
        self._flush_wanted = False  # an earlier loop may have ended before it got there
        self.running = True
        try:
            self.endpoint.start(time.monotonic(), timeout_s)
            self._settle()
            await self._started
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        if not self.running:
            return
        self.endpoint.close()
        self.running = False
        self.close_link()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._timer_at = None
        for task in self.other_tasks():
            task.cancel()

    def other_tasks(self) -> list[asyncio.Task[Any]]:
        """Gives the tasks of handlers and callbacks, without the present one, which may be closing us."""
        try:
            current = asyncio.current_task()
        except RuntimeError:  # no loop runs any more
            current = None
        return [task for task in self._tasks if task is not current]

    def encoder(self) -> Encoder:
        if self._encoder is None:
            self._encoder = Encoder(self._face._limits)
        return self._encoder

    # -- the socket

    def _readable(self) -> None:
        """Takes what has come, runs its handlers, sends their answers: each step once for all of it."""
        endpoint, link = self.endpoint, self._link
        if link is None:
            return
        self._taking = True
        try:
            now = time.monotonic()
            for _ in range(BURST):
                message = link.receive()
                if message is None:
                    break
                endpoint.receive(message[0], message[1], now)
                if self._link is not link:
                    break
            self._run_runnable()
        finally:
            self._taking = False
        self._settle()

    def _monitored(self) -> None:
        link = self._link
        why = None if link is None else link.lost()
        if why is not None:
            # What came before the end is taken first; a REJECT says more than a closed connection.
            self._readable()
            if self._link is link:
                self.endpoint.link_lost(time.monotonic(), why)
        self._settle()

    def _flush(self) -> None:
        self._flush_wanted = False
        self._settle()

    def _settle(self) -> None:
        """After every step: send what waits, look whether something came meanwhile, set the timer.

        The descriptor is edge-triggered, and a send may swallow the edge of what has come.
        """
        if not self.running:
            return
        self.endpoint.flush(time.monotonic())
        link = self._link
        if link is not None and link.events() & POLLIN:
            self._loop.call_soon(self._readable)
        self._set_timer()

    def _set_timer(self) -> None:
        due_at = self.endpoint.due_at()
        if due_at is None or (self._timer_at is not None and self._timer_at <= due_at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due_at
        self._timer = self._loop.call_later(max(0.0, due_at - time.monotonic()) + 0.001, self._timed)

    def _timed(self) -> None:
        self._timer = self._timer_at = None
        self.endpoint.tick(time.monotonic())
        self._settle()

    # -- what the core asks for

    def open_link(self) -> None:
        link = self._link = Link(self._face.address, trusted=self._face._role is not Role.PLAYER)
        self._loop.add_reader(link.socket.fileno(), self._readable)
        self._loop.add_reader(link.monitor.fileno(), self._monitored)
        self._loop.call_soon(self._monitored)  # what was told before there was a reader

    def close_link(self) -> None:
        if self._link is not None:
            self._loop.remove_reader(self._link.socket.fileno())
            self._loop.remove_reader(self._link.monitor.fileno())
            self._link.close()
            self._link = None

    def send(self, address: bytes, frame: bytes) -> bool:
        return self._link is not None and self._link.send(address, frame)

    def want_flush(self) -> None:
        if not self._flush_wanted and not self._taking:
            self._flush_wanted = True
            self._loop.call_soon(self._flush)

    def run(self, execution: Execution) -> None:
        if not self._runnable and not self._taking:
            self._loop.call_soon(self._run_runnable)
        self._runnable.append(execution)

    def _run_runnable(self) -> None:
        runnable, self._runnable = self._runnable, []
        for execution in runnable:
            handler = execution.handler
            if handler.in_thread:
                self._spawn(execution, self._in_thread(execution))
            elif handler.is_async:
                self._spawn(execution, self._async(execution))
            else:
                awaitable = run_plain(execution)
                if awaitable is not None:
                    self._spawn(execution, run_async(execution, awaitable))

    def _spawn(self, execution: Execution, coroutine: Any) -> None:
        task = execution.task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _async(self, execution: Execution) -> None:
        awaitable = run_plain(execution)
        if awaitable is not None:
            await run_async(execution, awaitable)

    async def _in_thread(self, execution: Execution) -> None:
        context = contextvars.copy_context()
        awaitable = await self._loop.run_in_executor(None, context.run, run_plain, execution)
        if awaitable is not None:
            await run_async(execution, awaitable)

    def cancel(self, execution: Execution) -> None:
        if execution.task is not None:
            execution.task.cancel()

    def reply(self, execution: Execution, results: tuple[Any, ...], error: CallbackError | None) -> None:
        if threading.get_ident() != self.thread:
            try:
                self._loop.call_soon_threadsafe(self.reply, execution, results, error)
            except RuntimeError:  # the loop is closed, so nobody waits
                self._face.counters.late_replies += 1
            return
        envelope = encode_answer(self.encoder(), execution, results, error)
        self.endpoint.exchange.reply(execution, envelope)

    def duplicate_reply(self, execution: Execution) -> None:
        self._face.counters.duplicate_replies += 1
        log_duplicate(execution)

    def finished(self, call: PendingCall) -> None:
        self._loop.call_soon(self._call_user, deliver, call, context=self._context.copy())

    def event(self, event: Event, argument: Any) -> None:
        for listener in self._face._listeners[event]:
            self._loop.call_soon(self._call_user, listener, argument, context=self._context.copy())

    def _call_user(self, function: Callable[..., Any], argument: Any) -> None:
        """Runs a callback or listener; one that is a coroutine function becomes a task."""
        try:
            result = function(argument)
        except Exception:
            log.exception("a listener failed")
            return
        if hasattr(result, "__await__"):
            task = self._loop.create_task(_finish_user(result))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def started(self, error: Exception | None) -> None:
        if self._started.done():
            return
        if error is None:
            self._started.set_result(None)
        else:
            self._started.set_exception(error)

    def warn(self, text: str) -> None:
        log.warning(text)


async def _finish_user(awaitable: Any) -> None:
    try:
        await awaitable
    except Exception:
        log.exception("a callback failed")


class AsyncioFace(Face[Call, CallGroup]):
    """How an asyncio endpoint starts and ends.

    It belongs to the loop that it was started on; trigger from there alone. A `cb` may be called from
    any thread.

    Args:
        address: of the broker: `tcp://HOST:PORT` or `ipc://PATH`; for a player the players' address,
            else the backend's.
        limits: what is accepted from others.
        connect_timeout: how long `start` waits for the broker, in seconds.
    """

    _shell: _Shell
    _call_class = Call

    def __init__(
        self,
        address: str,
        *,
        player_id: PlayerID | None = None,
        limits: Limits | None = None,
        connect_timeout: float = 5.0,
    ) -> None:
        super().__init__(address, player_id=player_id, limits=limits, connect_timeout=connect_timeout)

    async def start(self) -> Self:
        """Connects, and waits until the broker has welcomed this endpoint.

        Afterwards a lost link is opened again by itself.

        Raises:
            BrokerUnreachable: no broker answered within `connect_timeout`.
            Refused: the broker refuses, for example `IDTaken` or `ServerTaken`.
            UsageError: it is started already.
        """
        if self._shell.running:
            raise UsageError("this endpoint is started already")
        await self._shell.start(self._connect_timeout_s)
        return self

    async def close(self) -> None:
        """Leaves the broker. What is in flight ends with `ConnectionLost`. A second time does nothing."""
        self._shell.stop()
        tasks = self._shell.other_tasks()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)

    async def run_forever(self) -> None:
        """Starts if need be, and returns only by cancellation, closed."""
        if not self._shell.running:
            await self.start()
        try:
            await asyncio.Event().wait()
        finally:
            await self.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _make_shell(self) -> _Shell:
        return _Shell(self)

    def _make_group(self) -> CallGroup:
        return CallGroup()

    def _encoder(self) -> Encoder:
        return self._shell.encoder()

    def _check_running(self) -> None:
        if not self._shell.running:
            raise UsageError(
                "this endpoint is not started, or closed: await start(), or use it in an `async with` block"
            )
        if threading.get_ident() != self._shell.thread:
            raise UsageError(
                "an asyncio endpoint is used from its loop's thread alone; from another one use"
                " asyncio.run_coroutine_threadsafe, or the blocking face"
            )

    def _submit(self, function: Callable[..., None], *arguments: Any) -> None:
        function(*arguments)

    def _keys_changed(self) -> None:
        if not self._shell.running:
            return
        if threading.get_ident() == self._shell.thread:
            self._endpoint.keys_changed()
        else:
            self._shell._loop.call_soon_threadsafe(self._endpoint.keys_changed)

    def cancel_call(self, call: PendingCall) -> None:
        """What `Call.cancel` does."""
        if threading.get_ident() != self._shell.thread:
            raise UsageError("a call of an asyncio endpoint is cancelled from its loop's thread alone")
        super().cancel_call(call)


class Server(ServerFace[Call, CallGroup], AsyncioFace):
    __doc__ = f"The one server. {AsyncioFace.__doc__}"


class Player(PlayerFace[Call, CallGroup], AsyncioFace):
    __doc__ = f"""A player. {AsyncioFace.__doc__}
        player_id: an int from 1 to 2**63-1 or a str of 1 to 64 bytes; None for one that the broker gives.
    """

    def __init__(self, address: str, player_id: PlayerID | None = None, **settings: Any) -> None:
        super().__init__(address, player_id=player_id, **settings)


class Operator(OperatorFace[Call, CallGroup], AsyncioFace):
    __doc__ = f"An operator: a trusted program beside the server. {AsyncioFace.__doc__}"
