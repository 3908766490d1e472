"""The shell of the asyncio face: everything on the event loop, woken by readers on descriptors."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from ringback._runtime import call_context
from ringback._runtime.asyncio_handlers import AsyncioHandlers, outlives_task
from ringback._runtime.base_shell import Ts
from ringback._runtime.lifetimes import explained
from ringback._runtime.link import Link
from ringback._runtime.link_steps import Timer
from ringback._runtime.log import log
from ringback._runtime.no_loop import NOWHERE
from ringback._runtime.options import EndpointOptions
from ringback._runtime.readers import Readers, add_reader, reader_thread
from ringback._runtime.resolver import Found
from ringback._runtime.waiter import GoesOn
from ringback.errors import UsageError

LEAST_EARLY = 24
"""The fewest calls that are worth a message of their own before a step ends (docs/decisions/0072)."""


class AsyncioShell(AsyncioHandlers):
    """The readers on the loop, and the timer. What they read runs as `AsyncioHandlers` says.

    Attributes:
        has_left: is set once this server has handed over and left.
        home: the loop while the endpoint is started; `NOWHERE` otherwise, and in a forked child.
    """

    def __init__(self, options: EndpointOptions) -> None:
        super().__init__(options)
        self.home: asyncio.AbstractEventLoop = NOWHERE
        self._readers: Readers = NOWHERE
        self._woken: deque[GoesOn] = deque()

    async def start(self, timeout_s: float) -> None:
        """Open the link, and wait until the broker has welcomed the endpoint.

        Raises:
            LinkError: the broker did not respond in time, or refused the endpoint.
        """
        self.check_process()
        if self._loop.is_closed():  # it was closed after the endpoint, and has ended no task since
            self._forget_loop()
        self.has_left = asyncio.Event()
        self.home = self._loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._context = call_context.clean_context()
        self._threads.waiting_progress.clear()
        self._take_ended()
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
        loop_is_closed = self._loop.is_closed()
        if loop_is_closed:  # without a close of the endpoint; its tasks and timers are gone
            log.warning(
                "%s: the event loop was closed before this endpoint; its callbacks and listeners do not run",
                self.log_name,
            )
            self._loop = NOWHERE
            if self._readers is not reader_thread:
                self._readers = NOWHERE
            self._timer = self._timer_at = None
            self._woken.clear()
        self.endpoint.close()
        self.home = NOWHERE
        self._ended()
        self.close_link()
        self.forget_broker()
        self._stop_timer()
        if loop_is_closed:
            self._forget_loop()
        for task in self.other_tasks():
            if not outlives_task(self._tasks[task]):
                task.cancel()

    def loop_is_closed(self) -> bool:
        """Return whether the loop of a started endpoint is closed, so that nothing can run it."""
        return self.running and self._loop.is_closed()

    def needs_this_thread(self) -> bool:
        return self.home.is_running() and threading.get_ident() == self.thread

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
        self.thread = 0  # so that a reply checks whose endpoint it is
        # The loop shares its selector with the parent's: no reader may be removed, and nothing may run.
        self._loop = NOWHERE
        self._runnable, self._timer, self._timer_at = [], None, None
        self._threads.waiting_progress.clear()
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

    def submit(self, function: Callable[[*Ts], None], *arguments: *Ts) -> None:
        """Run a function of the core at once: triggering happens on the loop's thread."""
        function(*arguments)

    def submitting(self, function: Callable[[*Ts], None]) -> Callable[[*Ts], None]:
        return function

    # -- steps

    def _soon(self, function: Callable[[], None]) -> None:
        self._loop.call_soon(function, context=self._context.copy())

    def _later(self, at: float, function: Callable[[], None]) -> Timer:
        delay_s = max(0.0, at - time.monotonic()) + 0.001
        return self._loop.call_later(delay_s, function, context=self._context.copy())

    def _watch(self, link: Link) -> None:
        # A reader runs in the context in which it is added: that of whoever opens the link.
        context = self._context.copy()
        self._readers = context.run(add_reader, self._loop, link.socket.fileno(), self._readable)
        context.run(add_reader, self._loop, link.monitor.fileno(), self._monitored)

    def _unwatch(self, link: Link) -> None:
        self._readers.remove_reader(link.socket.fileno())
        self._readers.remove_reader(link.monitor.fileno())

    def _was_read(self) -> None:
        try:
            self._run_runnable()
            self._go_on()
        finally:
            if self._runnable:  # a task that went on has replied, and it is the turn of another call
                self._loop.call_soon(self._run_runnable, context=self._context.copy())

    # -- tasks that wait for calls

    def wake(self, waiter: GoesOn) -> None:
        if not self._woken and not self._taking:
            self._loop.call_soon(self._go_on)
        self._woken.append(waiter)

    def _go_on(self) -> None:
        woken = self._woken
        # Each task is likely to call again. Half of all calls in flight leave as soon as they are there: so
        # the other side works on them while this side goes on.
        half = (len(woken) + self.endpoint.pending) // 2
        left = len(woken) - half if half >= LEAST_EARLY else 0
        try:
            while woken:
                woken.popleft().go_on()
                if len(woken) == left > 0:
                    left = 0
                    self._send_early()
        finally:
            if woken:  # Ctrl-C or sys.exit() in one task: the others go on in the next round
                self._loop.call_soon(self._go_on)

    def _send_early(self) -> None:
        """Send what the tasks have triggered so far."""
        if not self.running:
            return
        try:
            self.endpoint.flush_early(time.monotonic())
        except BaseException as error:
            self.contain("sending", error)
        self.want_flush()  # `_settle` has to look: a send may swallow the edge that reports a message

    # -- effects of the core

    def _found(self, number: int, found: Found) -> None:
        with suppress(RuntimeError):  # the loop is closed, so nobody waits for the link
            self._loop.call_soon_threadsafe(self._take_found, number, found)

    def _take_found(self, number: int, found: Found) -> None:
        self._take_addresses(number, found)
        self._settle()

    def left(self) -> None:
        self.has_left.set()

    def started(self, error: Exception | None) -> None:
        if self._started.done():
            return
        if error is None:
            self._started.set_result(None)
        else:
            self._started.set_exception(explained(error, self) or error)
