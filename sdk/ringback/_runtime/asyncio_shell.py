"""The shell of the asyncio face: everything on the event loop, woken by readers on descriptors."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from ringback._runtime import call_context
from ringback._runtime.asyncio_handlers import AsyncioHandlers
from ringback._runtime.base_shell import Ts
from ringback._runtime.lifetimes import explained
from ringback._runtime.link import POLLIN, POLLOUT
from ringback._runtime.log import folding, log
from ringback._runtime.no_loop import NOWHERE
from ringback._runtime.options import EndpointOptions
from ringback._runtime.readers import Readers, add_reader, reader_thread
from ringback._runtime.resolver import Found
from ringback._runtime.waiter import GoesOn
from ringback.errors import UsageError

BURST = 64
"""The reader takes at most this many messages before the loop runs something else. A failed attempt to read
costs as much as ten messages. So the reader first takes one, and twice as many each time more are there."""


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
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._flush_wanted = False
        self._read_wanted = False
        self._burst = 1

    async def start(self, timeout_s: float) -> None:
        """Open the link, and wait until the broker has welcomed the endpoint.

        Raises:
            LinkError: the broker did not respond in time, or refused the endpoint.
        """
        self.check_process()
        self.has_left = asyncio.Event()
        self.home = self._loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._context = call_context.clean_context()
        self._runnable = []
        self._reports.clear()
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
                "%s: the event loop was closed before this endpoint; its callbacks and listeners do not run",
                self.log_name,
            )
            self._loop = NOWHERE
            if self._readers is not reader_thread:
                self._readers = NOWHERE
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
        self.thread = 0  # so that a reply checks whose endpoint it is
        # The loop shares its selector with the parent's: no reader may be removed, and nothing may run.
        self._loop = NOWHERE
        self._runnable, self._timer, self._timer_at = [], None, None
        self._reports.clear()
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

    def wake(self, waiter: GoesOn) -> None:
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
        self._readers = context.run(add_reader, self._loop, link.socket.fileno(), self._readable)
        context.run(add_reader, self._loop, link.monitor.fileno(), self._monitored)
        # For events from before there was a reader.
        self._loop.call_soon(self._monitored, context=self._context.copy())

    def close_link(self) -> None:
        if self._link is not None:
            self._readers.remove_reader(self._link.socket.fileno())
            self._readers.remove_reader(self._link.monitor.fileno())
            self._link.close(linger=self.endpoint.connected)
            self._link = None

    def want_flush(self) -> None:
        if not self._flush_wanted and not self._taking:
            self._flush_wanted = True
            self._loop.call_soon(self._flush, context=self._context.copy())

    def left(self) -> None:
        self.has_left.set()

    def started(self, error: Exception | None) -> None:
        if self._started.done():
            return
        if error is None:
            self._started.set_result(None)
        else:
            self._started.set_exception(explained(error, self) or error)
