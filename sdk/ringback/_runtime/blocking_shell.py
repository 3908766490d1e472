"""The shell of the blocking face: an endpoint on the I/O thread, and the threads that wait for it."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from contextvars import Context
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from ringback._runtime import call_context, io_thread
from ringback._runtime.base_shell import Ts
from ringback._runtime.blocking_handlers import BlockingHandlers
from ringback._runtime.endless_waits import waits_for_itself
from ringback._runtime.io_thread import Alarm, IOThread
from ringback._runtime.lifetimes import explained
from ringback._runtime.link import Link
from ringback._runtime.log import log
from ringback._runtime.monkey_patches import check_patches
from ringback._runtime.options import BlockingOptions
from ringback._runtime.resolver import Found
from ringback._runtime.wait_times import WATCH_S, Wait
from ringback.core.pending_call import PendingCall
from ringback.errors import (
    BrokerUnreachable,
    CallTimeout,
    ConnectionLost,
    UsageError,
    reason_of,
)

STOP_S = 10.0
"""How long `stop` waits for the I/O thread."""


class BlockingShell(BlockingHandlers):
    """An endpoint that the I/O thread runs.

    Attributes:
        ended: is set while the I/O thread does not run this endpoint.
    """

    _io: IOThread
    """The thread that runs this endpoint, or has run it. `start` sets it."""

    _steps: Context
    """The context of the steps of this endpoint. `start` sets it."""

    def __init__(self, options: BlockingOptions) -> None:
        super().__init__(options)
        self.ended = threading.Event()
        self.ended.set()
        self._started: SimpleQueue[Exception | None] = SimpleQueue()
        self._to_stop = False
        self._changing = threading.RLock()
        """Held for a moment while a thread takes note of a start or of an end: others may do so too."""

    # -- from any thread

    def start(self, timeout_s: float) -> None:
        """Have the I/O thread run the endpoint, and wait until the broker has welcomed it.

        Raises:
            LinkError: the broker did not respond in time, or refused the endpoint.
            UsageError: the endpoint is already started.
        """
        self.check_process()
        check_patches()
        if io_thread.is_current():
            raise UsageError(f"an endpoint cannot be started here: {_ON_THE_THREAD}")
        with self._changing:
            leaving = None if self.running else self.ended
        if leaving is not None and not leaving.wait(STOP_S):
            raise UsageError(f"this endpoint was closed, and has not left yet: {_BLOCKED}")
        steps = call_context.clean_context()
        try:
            with self._changing:
                if not self.ended.is_set():
                    raise UsageError("this endpoint is already started")
                outcomes = self._join(steps)
                self.submit(self._open, timeout_s)
            error = self._outcome_of_start(outcomes, timeout_s)
        except BaseException:  # Ctrl-C
            self._stop(steps)
            raise
        if error is not None:
            self._stop(steps)
            try:
                raise error
            finally:
                del error  # its traceback has this frame

    def _join(self, steps: Context) -> SimpleQueue[Exception | None]:
        """Have the I/O thread run this endpoint. Return where the outcome of its start comes."""
        self._new_pool()
        outcomes = self._started = SimpleQueue()  # an earlier start may have left one in the old queue
        self._context = steps.copy()
        self._steps = steps
        try:
            self._io = io_thread.join(self)
        except RuntimeError:
            raise UsageError("the system has no thread left: close endpoints, or raise its limit") from None
        self._to_stop = True  # first: after Ctrl-C in between, the endpoint can be started again
        self.ended = threading.Event()  # a thread may still look at the one of the start before
        self._begin()  # from now on, other threads may use the endpoint
        return outcomes

    def _outcome_of_start(
        self, outcomes: SimpleQueue[Exception | None], timeout_s: float
    ) -> Exception | None:
        wait, deadline = Wait(), time.monotonic() + timeout_s
        while True:
            alive = self._io.thread.is_alive()
            try:
                return outcomes.get(timeout=WATCH_S)
            except Empty:
                self.check_process()
                if not alive:
                    return BrokerUnreachable("the I/O thread ended before the broker responded: see the log")
                if wait.is_late(deadline):
                    return BrokerUnreachable(f"the I/O thread did not end the start: {_BLOCKED}")

    def stop(self) -> None:
        """Leave the broker, and wait until the endpoint has ended. A second call does nothing.

        If one of the user's functions blocks the I/O thread, this logs an error and returns. The endpoint
        then leaves once the function returns.
        """
        self.check_process()
        if self._to_stop:
            self._stop(self._steps)

    def _stop(self, steps: Context) -> None:
        """Do what `stop` does, unless another thread has, and has perhaps started the endpoint again.

        Args:
            steps: the context of what ends.
        """
        self.check_process()
        with self._changing:
            if not self._to_stop or steps is not self._steps:
                return
            ended = self.ended
        self.submit(self._end, steps)
        if not self._io.is_current and not self._io.wait_for(ended, STOP_S):
            text = "%s: the I/O thread has not ended the endpoint for %.0f s: %s"
            log.error(text, self.log_name, STOP_S, _BLOCKED)
            return
        with self._changing:
            if steps is self._steps:
                self._to_stop = False
                self._ended()

    def endless_wait(
        self,
        deadline: float | None,
        calls: Iterable[PendingCall] = (),
        wait: Wait | None = None,
    ) -> Exception | None:
        """Return why a wait for a call or a group will not end; None if it still may.

        Args:
            deadline: when the I/O thread ends it at the latest.
            calls: those that it waits for.
            wait: the wait. None: it has no deadline, and does not end by itself.
        """
        if self.foreign or sys.is_finalizing() or (self._to_stop and not self._io.thread.is_alive()):
            return self._gone()
        if wait is not None and wait.is_late(deadline):
            return CallTimeout(f"the time of the call is over, and nothing ended it: {_BLOCKED}")
        return waits_for_itself(self, calls) if wait is None or wait.give_up_at is None else None

    def gives_up(self, what: str, timeout: float | None, calls: Iterable[PendingCall]) -> TimeoutError:
        """Return the error of a wait that its own timeout ends. It says so if no timeout would do.

        Args:
            what: what goes on.
            calls: those that it waited for.
        """
        text, problem = f"{what}: {timeout} s were not enough", waits_for_itself(self, calls)
        return TimeoutError(text if problem is None else f"{text}; {problem}")

    def needs_this_thread(self) -> bool:
        return False  # on the I/O thread, nothing waits

    def _gone(self) -> Exception:
        try:
            self.check_process()
        except UsageError as error:
            return error
        return ConnectionLost("the I/O thread has ended: the process is exiting, or the log says why")

    def inherited(self) -> None:
        super().inherited()
        # Threads of the parent may have held the locks of what is replaced here.
        self._io = _NoThread(self.check_process)
        self._changing = threading.RLock()
        self.ended = threading.Event()
        self.ended.set()

    def abandon(self) -> None:
        self.submit(self._end, self._steps)

    def wait_until_left(self, timeout_s: float) -> None:
        self.ended.wait(timeout_s)

    def submit(self, function: Callable[[*Ts], None], *arguments: *Ts) -> None:
        """Run a function of the core on the I/O thread, soon. Any thread may call this."""
        self._io.submit(self, function, arguments)

    # -- on the I/O thread

    def obey(self, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        """Run a command. This never raises."""
        self._taking = True
        try:
            if self.ended.is_set():  # the command came too late: its call fails, or its reply is dropped
                function(*arguments)
            else:
                self._steps.run(function, *arguments)
        except BaseException as error:  # the commands behind it are of other threads
            self.contain("a command", error)
        finally:
            self._taking = False

    def settle(self) -> None:
        """Finish a step that ran commands. This never raises."""
        self._settle()

    def socket_failed(self, error: BaseException) -> None:
        """Take note that the thread could not wait for the links. This never raises."""
        self.contain("waiting for the link", error)
        if self._link is not None:
            self.obey(self.endpoint.link_lost, (time.monotonic(), f"the socket failed: {reason_of(error)}"))
            self.settle()

    def thread_failed(self, error: BaseException) -> None:
        """End: the thread can't go on. This never raises."""
        log.error("%s: the I/O thread failed; the endpoint is closed now", self.log_name, exc_info=error)
        self._started.put(error if isinstance(error, Exception) else None)
        self.obey(self._end, (self._steps,))

    def _open(self, timeout_s: float) -> None:
        if self.ended.is_set():  # another thread was faster
            self._started.put(ConnectionLost("the endpoint was closed while it started"))
            return
        self.pool.open()
        try:
            self.endpoint.start(time.monotonic(), timeout_s)
        except BaseException as error:
            log.exception("%s: the endpoint could not be started; it is closed now", self.log_name)
            self._started.put(error if isinstance(error, Exception) else None)
            self._end(self._steps)

    def _end(self, steps: Context) -> None:
        """Leave the broker, and end here.

        Args:
            steps: the context of what ends. The endpoint may have ended before, and have been started again.
        """
        if self.ended.is_set() or steps is not self._steps:
            return
        self.running = False
        self.lifetime.hold(False)
        with ExitStack() as last:  # from the last line to the first, whatever fails
            last.callback(self.ended.set)
            last.callback(self._io.runners.discard, self)
            last.callback(self.pool.close)
            last.callback(self.forget_broker)
            last.callback(self._stop_timer)
            last.callback(self.close_link)
            self.endpoint.close()

    def _soon(self, function: Callable[[], None]) -> None:
        self._io.call_soon(partial(self._steps.run, function))

    def _later(self, at: float, function: Callable[[], None]) -> Alarm:
        return self._io.call_at(at, partial(self._steps.run, function))

    def _watch(self, link: Link) -> None:
        for source, function in ((link.socket, self._readable), (link.monitor, self._monitored)):
            self._io.add_reader(source.fileno(), partial(self._steps.run, function))

    def _unwatch(self, link: Link) -> None:
        self._io.remove_reader(link.socket.fileno())
        self._io.remove_reader(link.monitor.fileno())

    # -- effects of the core, on the I/O thread

    def _found(self, number: int, found: Found) -> None:
        self.submit(self._take_addresses, number, found)

    def left(self) -> None:
        self.submit(self._end, self._steps)

    def started(self, error: Exception | None) -> None:
        self._started.put(explained(error, self))


_ON_THE_THREAD = (
    "this is the thread that reads replies. It runs `allow` functions, and the done callbacks of futures"
)
_BLOCKED = "an `allow` function, or another function that runs on this thread, blocks it"


class _NoThread(IOThread):
    """The thread of an endpoint in a forked child: it does not exist there."""

    def __init__(self, refuse: Callable[[], None]) -> None:
        self.commands = deque()
        self._refuse = refuse

    def submit(self, *_: object) -> None:
        self._refuse()

    def call_soon(self, *_: object) -> None:
        """Do nothing, in a step that has forked."""

    def call_at(self, _at: float, function: Callable[[], None]) -> Alarm:
        """Return an alarm that does not ring."""
        return Alarm(function)

    def add_reader(self, *_: object) -> None:
        """Do nothing, in a step that has forked."""

    def remove_reader(self, *_: object) -> None:
        """Do nothing, in a step that has forked."""
