"""The shell of the asyncio face: everything on the event loop, woken by readers on descriptors."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from types import CoroutineType
from typing import Any

from ringback._runtime import call_context
from ringback._runtime.base_shell import ShellBase, Ts
from ringback._runtime.containment import asks_to_exit
from ringback._runtime.lifetimes import explained
from ringback._runtime.link import POLLIN, POLLOUT
from ringback._runtime.link_keys import check_token
from ringback._runtime.log import folding, log
from ringback._runtime.no_loop import NOWHERE
from ringback._runtime.options import EndpointOptions
from ringback._runtime.resolver import Found
from ringback._runtime.running_handlers import deliver, encode_reply, run_async, run_plain
from ringback._runtime.waiter import Waiter
from ringback.core.execution import Execution
from ringback.core.pending_call import PendingCall
from ringback.core.shell import EndpointEvent
from ringback.core.signatures import is_coroutine_function
from ringback.errors import CallbackError, HandlerError, Overloaded, UsageError
from ringback.protocol.envelopes import Encoder

BURST = 64
"""The reader takes at most this many messages before the loop runs something else. A failed attempt to read
costs as much as ten messages. So the reader first takes one, and twice as many each time more are there."""


class AsyncioShell(ShellBase):
    """The readers on the loop, the timer, and the tasks of handlers.

    Attributes:
        home: the loop while the endpoint is started; `NOWHERE` otherwise, and in a forked child.
        thread: the ident of the loop's thread.
    """

    def __init__(self, options: EndpointOptions) -> None:
        super().__init__(options)
        self.home: asyncio.AbstractEventLoop = NOWHERE
        self._loop: asyncio.AbstractEventLoop = NOWHERE
        self.thread = 0
        self._encoder: Encoder | None = None
        self._runnable: list[Execution] = []
        self._woken: deque[Waiter] = deque()
        self._tasks: dict[asyncio.Task[None], Execution | None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._flush_wanted = False
        self._read_wanted = False
        self._taking = False
        self._burst = 1

    async def start(self, timeout_s: float) -> None:
        """Open the link, and wait until the broker has welcomed the endpoint.

        Raises:
            LinkError: the broker did not respond in time, or refused the endpoint.
        """
        self.check_process()
        self.home = self._loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._context = call_context.clean_context()
        self._runnable = []
        # An earlier loop may have ended too early to reset these two.
        self._flush_wanted = self._read_wanted = False
        self._begin()
        try:
            self.endpoint.start(time.monotonic(), timeout_s)
            self._settle()
            await self._started
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Close the core and the link, and cancel the tasks of handlers. A second call does nothing."""
        if not self.running:
            return
        if self._loop.is_closed():  # without a close of the endpoint; its tasks and timers are gone
            log.warning(
                "the event loop was closed before this endpoint; its callbacks and listeners do not run"
            )
            self._loop = NOWHERE
            self._timer = self._timer_at = None
            self._tasks.clear()
            self._woken.clear()
        self.endpoint.close()
        self.home = NOWHERE
        self._ended()
        self.close_link()
        self.forget_broker()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._timer_at = None
        for task in self.other_tasks():
            task.cancel()

    def loop_is_closed(self) -> bool:
        """Return whether the loop of a started endpoint is closed, so that nothing can run it."""
        return self.running and self._loop.is_closed()

    def misuse(self) -> UsageError:
        """Return the error of a function that is used where it cannot work, and that says why."""
        try:
            self.check_process()
            running: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except UsageError as error:
            return error
        except RuntimeError:
            running = None
        if self.loop_is_closed():
            self.stop()
            return UsageError(
                "the event loop of this endpoint is closed, and the endpoint with it: start it again"
            )
        if not self.running:
            return UsageError(
                "this endpoint is not started, or closed: await start(), or use it in an `async with` block"
            )
        if threading.get_ident() != self.thread:
            return UsageError(
                "an asyncio endpoint may be used only from its loop's thread; from another thread, use"
                " asyncio.run_coroutine_threadsafe, or the blocking face"
            )
        if running is None:
            return UsageError("no event loop runs here: use an asyncio endpoint in a coroutine or a callback")
        return UsageError(
            "this endpoint was started on another event loop: use it there, or close it there first."
            " With pytest-asyncio, give the fixture and its tests the same loop_scope"
        )

    def check_loop(self, home: asyncio.AbstractEventLoop) -> None:
        """Raise UsageError unless this code runs on the loop of a call or group that has not ended.

        Any other loop would wait for ever: nothing wakes it.
        """
        try:
            running: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if self.foreign or running is not home:
            raise self.misuse()

    def inherited(self) -> None:
        super().inherited()
        self.home = NOWHERE
        self.thread = 0  # so that a reply looks whose endpoint it is
        # The loop shares its selector with the parent's: no reader may be removed, and nothing may run.
        self._loop = NOWHERE
        self._runnable, self._timer, self._timer_at = [], None, None
        self._woken.clear()

    def abandon(self) -> None:
        loop = self._loop
        if loop.is_closed() or (not loop.is_running() and threading.get_ident() == self.thread):
            self.stop()  # nobody is within a step
        else:
            with suppress(RuntimeError):  # it was closed just now
                loop.call_soon_threadsafe(self.stop)

    def wait_until_left(self, timeout_s: float) -> None:
        if self.running and self._loop.is_running() and threading.get_ident() != self.thread:
            left = threading.Event()
            self._loop.call_soon_threadsafe(left.set)
            left.wait(timeout_s)

    def other_tasks(self) -> list[asyncio.Task[None]]:
        """Return the tasks of handlers and callbacks, except the current one: it may be closing us."""
        try:
            current = asyncio.current_task()
        except RuntimeError:  # no loop is running now
            current = None
        return [task for task in self._tasks if task is not current]

    def submit(self, function: Callable[[*Ts], None], *arguments: *Ts) -> None:
        """Run a function of the core at once: triggering happens on the loop's thread."""
        function(*arguments)

    def encoder(self) -> Encoder:
        """Return the encoder of the loop's thread."""
        if self._encoder is None:
            self._encoder = Encoder(self._limits)
        return self._encoder

    # -- the socket

    def _readable(self) -> None:
        """Read what has come, run its handlers, and send their replies: each step once for all messages."""
        endpoint, link = self.endpoint, self._link
        if link is None:
            return
        self._taking = True
        try:
            clock = time.monotonic
            for number in range(self._burst):
                message = link.receive()
                if message is None:
                    self._burst = number or 1
                    break
                # Read for each message: a burst may take long, and calls end when their reply is read.
                try:
                    endpoint.receive(message[0], message[1], clock())
                except BaseException as error:
                    self.contain("handling a message", error)
                if self._link is not link:
                    break
            self._run_runnable()
            self._go_on()
        except BaseException as error:  # the step ends all the same: no other edge may come
            self.contain("reading", error)
        finally:
            self._taking = False
        self._settle()

    def _monitored(self) -> None:
        try:
            self._check_link()
        except BaseException as error:
            self.contain("handling a connection event", error)
        self._settle()

    def _check_link(self) -> None:
        link = self._link
        loss = None if link is None else link.lost()
        if link is not None and link.answered:
            self.endpoint.link_answered()
        if link is not None and loss is not None:
            # First read what came before the loss: a REJECT says more than a closed connection.
            while self._link is link and link.events() & POLLIN:
                self._readable()
            if self._link is link:
                self._take_loss(loss)

    def _flush(self) -> None:
        self._flush_wanted = False
        self._settle()

    def _settle(self) -> None:
        """Finish a step: send what waits, look for more to read or room to send, and set the timer.

        The descriptor is edge-triggered. Each send or look may swallow the edge that reports a message or
        room, so it is not enough to wait for the reader.
        """
        if not self.running:
            return
        full = False
        try:
            full = not self.endpoint.flush(time.monotonic())
        except BaseException as error:
            self.contain("sending", error)
        link = self._link
        if link is not None:
            state = link.events()
            if state & POLLIN and not self._read_wanted:
                self._read_wanted = True
                self._burst = min(BURST, 2 * self._burst)
                self._loop.call_soon(self._read_on, context=self._context.copy())
            if full and state & POLLOUT:
                self.want_flush()
        self._set_timer()

    def _read_on(self) -> None:
        self._read_wanted = False
        self._readable()

    def _set_timer(self) -> None:
        due_at = self.endpoint.due_at()
        if due_at is None or (self._timer_at is not None and self._timer_at <= due_at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due_at
        delay_s = max(0.0, due_at - time.monotonic()) + 0.001
        self._timer = self._loop.call_later(delay_s, self._timed, context=self._context.copy())

    def _timed(self) -> None:
        if self.foreign:
            return
        self._timer = self._timer_at = None
        folding.over()
        try:
            self.endpoint.tick(time.monotonic())
        except BaseException as error:
            self.contain("a timer", error)
        self._settle()

    # -- tasks that wait for calls

    def wake(self, waiter: Waiter) -> None:
        if not self._woken and not self._taking:
            self._loop.call_soon(self._go_on)
        self._woken.append(waiter)

    def _go_on(self) -> None:
        woken = self._woken
        try:
            while woken:
                woken.popleft().go_on()
        finally:
            if woken:  # Ctrl-C or sys.exit() in one task: the others go on in the next round
                self._loop.call_soon(self._go_on)

    # -- effects of the core

    def _found(self, number: int, found: Found) -> None:
        with suppress(RuntimeError):  # the loop is closed, so nobody waits for the link
            self._loop.call_soon_threadsafe(self._take_found, number, found)

    def _take_found(self, number: int, found: Found) -> None:
        self._take_addresses(number, found)
        self._settle()

    def open_link(self, address: str, heartbeat_ms: int) -> None:
        link = self._link = self._new_link(address, heartbeat_ms)
        # A reader runs in the context in which it is added: that of whoever opens the link.
        context = self._context.copy()
        context.run(self._loop.add_reader, link.socket.fileno(), self._readable)
        context.run(self._loop.add_reader, link.monitor.fileno(), self._monitored)
        # For events from before there was a reader.
        self._loop.call_soon(self._monitored, context=self._context.copy())

    def fetch_token(self, number: int) -> None:
        if isinstance(self._token, str):
            self.endpoint.take_token(number, self._token, None, time.monotonic())
        else:
            self._context.copy().run(self._start_task, self._fetch_token(number))

    async def _fetch_token(self, number: int) -> None:
        token = ""
        error: BaseException | None = None
        assert callable(self._token)
        on_loop = is_coroutine_function(self._token)
        fetched: Any
        try:
            if on_loop:
                fetched = self._token()
            else:
                fetched, error = await asyncio.to_thread(_outcome_of, self._token)
            if hasattr(fetched, "__await__"):
                on_loop = True
                fetched = await fetched
            if error is None:
                token = check_token(fetched)
        except BaseException as failure:  # without an outcome there is no link any more
            if not self.running or (asks_to_exit(failure) and on_loop):
                raise
            error = failure
        self.endpoint.take_token(number, token, error, time.monotonic())
        self._settle()

    def close_link(self) -> None:
        if self._link is not None:
            self._loop.remove_reader(self._link.socket.fileno())
            self._loop.remove_reader(self._link.monitor.fileno())
            self._link.close(linger=self.endpoint.connected)
            self._link = None

    def want_flush(self) -> None:
        if not self._flush_wanted and not self._taking:
            self._flush_wanted = True
            self._loop.call_soon(self._flush, context=self._context.copy())

    def run(self, execution: Execution) -> None:
        if not self._runnable and not self._taking:
            self._loop.call_soon(self._run_runnable, context=self._context.copy())
        self._runnable.append(execution)

    def _run_runnable(self) -> None:
        runnable, self._runnable = self._runnable, []
        for execution in runnable:
            handler = execution.handler
            context = self._context.copy()
            try:
                if handler.in_thread:
                    execution.task = context.run(self._start_task, self._in_thread(execution), execution)
                elif handler.is_async:
                    execution.task = context.run(self._start_task, self._async(execution), execution)
                else:
                    awaitable = context.run(run_plain, execution)
                    if awaitable is not None:
                        task = run_async(execution, awaitable)
                        execution.task = context.run(self._start_task, task, execution)
            except BaseException as error:  # the handlers behind it are of other callers
                self.contain("a handler", error)

    def _start_task(
        self, coroutine: Coroutine[Any, Any, None], execution: Execution | None = None
    ) -> asyncio.Task[None]:
        """Run a coroutine as a task, in a copy of the current context.

        The task takes the context itself: a task factory of the user may not take `context`.
        """
        task = self._loop.create_task(coroutine)
        self._tasks[task] = execution
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        """Forget a task. If the program cancelled it before its first step, nothing else replies."""
        execution = self._tasks.pop(task, None)
        if execution is None or execution.replied or execution.cancelled or not self.running:
            return
        if task.cancelled():
            execution.cancelled = True  # a thread that gets to it now does not run it
            text = f"the handler was cancelled before it {'ended' if execution.began else 'began'}"
            execution.refuse(HandlerError(text, executed="yes" if execution.began else "no"))

    async def _async(self, execution: Execution) -> None:
        awaitable = run_plain(execution)
        if awaitable is not None:
            await run_async(execution, awaitable)

    async def _in_thread(self, execution: Execution) -> None:
        call_context.deadline.set(execution.deadline)
        context = copy_context()
        try:
            future = self._loop.run_in_executor(None, lambda: context.run(self._run_in_thread, execution))
        except RuntimeError:  # the system has no thread left
            execution.refuse(Overloaded("the system has no thread left for the handler", executed="no"))
            return
        awaitable = await future
        if awaitable is not None:
            await run_async(execution, awaitable)

    def _run_in_thread(self, execution: Execution) -> Any:
        try:
            return run_plain(execution)
        except BaseException as error:  # sys.exit() in a thread ends no program, and so not the loop
            self.contain("a handler", error)
            return None

    def jobs_waiting(self) -> int:
        return len(self._runnable)

    def cancel(self, execution: Execution) -> None:
        if execution.task is not None:
            execution.task.cancel()

    def reply(
        self,
        execution: Execution,
        results: tuple[Any, ...],
        error: CallbackError | None,
        now: float | None = None,
    ) -> None:
        """Send the outcome of a handler.

        Args:
            now: when the handler replied, on the monotonic clock; None: just now.
        """
        if now is None:  # before encoding, and before the loop has time for a reply from another thread
            now = time.monotonic()
        if threading.get_ident() != self.thread:
            self.check_process()
            try:
                self._loop.call_soon_threadsafe(self.reply, execution, results, error, now)
            except RuntimeError:  # the loop is closed, so no caller waits
                self.endpoint.counters.late_replies += 1
            return
        envelope, error = encode_reply(self.encoder(), execution, results, error)
        self.endpoint.reply(execution, envelope, error, now)

    def contain(self, what: str, error: BaseException) -> None:
        if asks_to_exit(error):  # asyncio lets these end the loop; the present step ends first
            self._loop.call_soon(_raise, error)
        else:
            super().contain(what, error)

    def allow_failed(self, key: str, error: BaseException) -> None:
        if asks_to_exit(error):
            self.contain("allow", error)
        else:
            super().allow_failed(key, error)

    def finished(self, call: PendingCall) -> None:
        self._loop.call_soon(self._call_user, deliver, call, context=call._context)

    def event(self, event: EndpointEvent, argument: Any) -> None:
        for listener in self.listeners[event]:
            self._loop.call_soon(self._call_user, listener, argument, context=self._context.copy())

    def _call_user(self, function: Callable[..., Any], argument: Any) -> None:
        """Run a callback or listener. If it is a coroutine function, it becomes a task."""
        try:
            result = function(argument)
            if hasattr(result, "__await__"):
                task = self._start_task(_finish_user(result, self))
                task.add_done_callback(lambda _: _close(result))
        except BaseException as error:
            if asks_to_exit(error):
                raise
            kind = getattr(function, "__qualname__", "")
            log.exception("%s: a listener failed", self.log_name, extra={"kind": kind})

    def started(self, error: Exception | None) -> None:
        if self._started.done():
            return
        if error is None:
            self._started.set_result(None)
        else:
            self._started.set_exception(explained(error, self) or error)


def _close(awaitable: Any) -> None:
    """Close a coroutine whose task was cancelled before it began: Python warns of it otherwise."""
    if isinstance(awaitable, CoroutineType):
        awaitable.close()


def _raise(error: BaseException) -> None:
    raise error


def _outcome_of(function: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """Return what a function returned, and what it raised.

    What a thread raises would go through a future, and no future takes StopIteration.
    """
    try:
        return function(), None
    except BaseException as error:
        return None, error


async def _finish_user(awaitable: Any, shell: AsyncioShell) -> None:
    try:
        await awaitable
    except Exception:
        log.exception("%s: a listener or callback failed", shell.log_name)
