"""How the asyncio face runs the user's functions on the loop: handlers, callbacks, listeners, tokens."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import nullcontext, suppress
from contextvars import Context, copy_context
from functools import partial
from types import CoroutineType
from typing import Any

from ringback._runtime import call_context
from ringback._runtime.base_shell import MAX_WAITING_PROGRESS
from ringback._runtime.containment import asks_to_exit
from ringback._runtime.handler_threads import HandlerThreads
from ringback._runtime.link_keys import check_token
from ringback._runtime.link_steps import LinkSteps
from ringback._runtime.no_loop import NOWHERE
from ringback._runtime.options import EndpointOptions
from ringback._runtime.running_handlers import callback_failed, deliver, encode_reply, run_async, run_plain
from ringback.core.execution import Execution
from ringback.core.pending_call import PendingCall
from ringback.core.shell import EndpointEvent
from ringback.core.signatures import is_coroutine_function, name_of
from ringback.errors import CallbackError, HandlerError, Overloaded
from ringback.protocol.envelopes import Encoder


class AsyncioHandlers(LinkSteps):
    """The handlers that wait for their turn, the tasks of the others, and their replies.

    Attributes:
        thread: the ident of the loop's thread.
    """

    _context: Context
    """What the user's functions run in copies of. `start` sets it."""

    def __init__(self, options: EndpointOptions) -> None:
        super().__init__(options)
        self._loop: asyncio.AbstractEventLoop = NOWHERE
        self.thread = 0
        self._encoder: Encoder | None = None
        self._runnable: list[Execution] = []
        self._tasks: dict[asyncio.Task[None], Execution | None] = {}
        self._threads = HandlerThreads(self._outlived_loop)

    # -- handlers

    def encoder(self) -> Encoder:
        """Return the encoder of the loop's thread."""
        if self._encoder is None:
            self._encoder = Encoder(self._options.accepts)
        return self._encoder

    def run(self, execution: Execution) -> None:
        if not self._runnable and not self._taking:
            self._loop.call_soon(self._run_runnable, context=self._context.copy())
        self._runnable.append(execution)

    def jobs_waiting(self) -> int:
        return len(self._runnable)

    def _run_runnable(self) -> None:
        while self._runnable:  # a handler that replies may let the next one of a serial callback run
            runnable, self._runnable = self._runnable, []
            self._run_all(runnable)

    def _run_all(self, runnable: list[Execution]) -> None:
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
                self.contain(f"the handler of {execution.key!r}", error)
            if handler.serial and execution.task is None:
                self.endpoint.handler_returned(execution)

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
        awaitable = await (self._all_of(execution, future) if execution.handler.serial else future)
        if awaitable is not None:
            await run_async(execution, awaitable)

    async def _all_of(self, execution: Execution, future: asyncio.Future[Any]) -> Any:
        """Return what a thread returns. Raise a cancel by the program once the thread has ended."""
        cancel = None
        while not future.done():
            try:
                await asyncio.wait([future])  # without cancelling it: that would hide when the thread ends
            except asyncio.CancelledError as error:
                cancel = error
                self._task_cancelled(execution)
        if cancel is None:
            return future.result()
        if not future.cancelled():
            _close(future.result())
        try:
            raise cancel
        finally:
            del cancel  # its traceback has this frame

    def _run_in_thread(self, execution: Execution) -> Any:
        try:
            with self._threads.running(execution) if execution.handler.serial else nullcontext():
                return run_plain(execution)
        except BaseException as error:  # sys.exit() in a thread ends no program, and so not the loop
            self.contain(f"the handler of {execution.key!r}", error)
            return None

    def _forget_loop(self) -> None:
        """Forget the tasks of a loop that was closed. The endpoint is closed, and so are all calls.

        Only a handler in a thread may still run, and hold the next call up.
        """
        self._tasks.clear()
        self._runnable.clear()
        self.endpoint.forget_handlers(self._threads.outlive_loop())

    def _outlived_loop(self) -> None:
        """Have the next loop take note, from the thread of a handler that has outlived its own."""
        with suppress(RuntimeError):  # the next one is closed too
            self._loop.call_soon_threadsafe(self._take_ended)

    def _take_ended(self) -> None:
        ended = self._threads.ended
        while ended:
            self.endpoint.handler_returned(ended.popleft())

    def cancel(self, execution: Execution) -> None:
        if execution.task is None or outlives_task(execution) or self._loop is NOWHERE:
            return  # NOWHERE: the loop of the task was closed, and has ended the handler
        execution.task.cancel()

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
        if execution is None:
            return
        if task.cancelled():
            self._task_cancelled(execution)
        if execution.handler.serial:
            self.endpoint.handler_returned(execution)

    def _task_cancelled(self, execution: Execution) -> None:
        """Reply for a handler whose task the program has cancelled."""
        if not execution.replied and not execution.cancelled and self.running:
            execution.cancelled = True  # a thread that gets to it now does not run it
            text = f"the handler was cancelled before it {'ended' if execution.began else 'began'}"
            execution.refuse(HandlerError(text, executed="yes" if execution.began else "no"))

    def other_tasks(self) -> list[asyncio.Task[None]]:
        """Return the tasks of handlers and callbacks, except the current one: it may be closing us."""
        try:
            current = asyncio.current_task()
        except RuntimeError:  # no loop is running now
            current = None
        return [task for task in self._tasks if task is not current]

    def current_execution(self) -> Execution | None:
        try:
            task = asyncio.current_task()
        except RuntimeError:  # no loop is running now
            return None
        return None if task is None else self._tasks.get(task)

    # -- replies

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

    def progress(self, execution: Execution, value: object) -> None:
        if threading.get_ident() == self.thread:
            self.endpoint.report(execution, self.encoder().progress(execution.id, value))
            return
        self.check_process()
        # Encoded here, so that the handler gets the error, and with an encoder of its own: none is shared.
        progress = execution, Encoder(self._options.accepts).progress(execution.id, value)
        waiting_progress = self._threads.waiting_progress
        if len(waiting_progress) >= MAX_WAITING_PROGRESS:  # the loop does not keep up
            self.endpoint.counters.dropped_progress += 1
            return
        waiting_progress.append(progress)
        with suppress(RuntimeError):  # the loop is closed, so no caller waits
            self._loop.call_soon_threadsafe(self._send_progress)

    def _send_progress(self) -> None:
        # One for each call of this, so that a report precedes the reply that its handler gave after it.
        waiting_progress = self._threads.waiting_progress
        if waiting_progress:
            self.endpoint.report(*waiting_progress.popleft())

    # -- callbacks and listeners

    def finished(self, call: PendingCall) -> None:
        failed = partial(callback_failed, call)
        self._loop.call_soon(self._call_user, deliver, call, failed, context=call._context)

    def event(self, event: EndpointEvent, argument: Any) -> None:
        for listener in self.listeners[event]:
            failed = partial(self._user_failed, f"the listener {name_of(listener)}")
            self._loop.call_soon(self._call_user, listener, argument, failed, context=self._context.copy())

    def _call_user(
        self, function: Callable[..., Any], argument: Any, failed: Callable[[BaseException], None]
    ) -> None:
        """Run a callback or listener. If it is a coroutine function, it becomes a task."""
        try:
            result = function(argument)
            if hasattr(result, "__await__"):
                task = self._start_task(_finish_user(result, failed))
                task.add_done_callback(lambda _: _close(result))
        except BaseException as error:
            if asks_to_exit(error):
                raise
            failed(error)

    def _user_failed(self, what: str, _: BaseException) -> None:
        self.user_failed(what)

    def tell_progress(
        self,
        context: Context,
        function: Callable[[Any], object],
        value: Any,
        then: Callable[[], None],
        what: str,
    ) -> bool:
        """Call an `on_progress` of the user. Return whether it is a coroutine function.

        That then runs as a task, and `then` is called when the task has ended.

        Args:
            what: what the log calls the function.
        """
        try:
            awaitable: Any = context.run(function, value)
            if not hasattr(awaitable, "__await__"):
                return False
            task = context.run(self._start_task, _finish_user(awaitable, partial(self._user_failed, what)))
            task.add_done_callback(partial(self._progress_told, awaitable, then))
        except BaseException as error:
            if asks_to_exit(error):
                raise
            self.user_failed(what)
            return False
        return True

    def _progress_told(self, awaitable: Any, then: Callable[[], None], _: object) -> None:
        """Go on with the next value, however the task of the one before has ended."""
        _close(awaitable)
        if self.running:
            then()

    # -- tokens

    def fetch_token(self, number: int) -> None:
        if isinstance(self._options.token, str):
            self.endpoint.take_token(number, self._options.token, None, time.monotonic())
        else:
            self._context.copy().run(self._start_task, self._fetch_token(number))

    async def _fetch_token(self, number: int) -> None:
        token = ""
        error: BaseException | None = None
        assert callable(self._options.token)
        on_loop = is_coroutine_function(self._options.token)
        fetched: Any
        try:
            if on_loop:
                fetched = self._options.token()
            else:
                fetched, error = await asyncio.to_thread(_outcome_of, self._options.token)
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

    # -- what they raise

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


def outlives_task(execution: Execution | None) -> bool:
    """Return whether the task of a handler must last as long as the handler, which runs in a thread.

    The next call of a serial callback runs when the task ends, and must not run beside the thread.
    """
    return execution is not None and execution.handler.serial and execution.handler.in_thread


def _close(awaitable: Any) -> None:
    """Close a coroutine whose task was cancelled before it began: Python warns of it otherwise."""
    if isinstance(awaitable, CoroutineType):
        awaitable.close()


def _raise(error: BaseException) -> None:
    raise error


async def _finish_user(awaitable: Any, failed: Callable[[BaseException], None]) -> None:
    try:
        await awaitable
    except Exception as error:
        failed(error)


def _outcome_of(function: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """Return what a function returned, and what it raised.

    What a thread raises would go through a future, and no future takes StopIteration.
    """
    try:
        return function(), None
    except BaseException as error:
        return None, error
