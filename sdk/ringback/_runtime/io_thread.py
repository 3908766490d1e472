"""The I/O thread of the blocking face: one for all started endpoints of a process.

A thread for each endpoint would have to wait for the interpreter lock (GIL) at each message. With 100
endpoints, that costs more than the work itself.
"""

from __future__ import annotations

import heapq
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any, Protocol

import zmq

from ringback._runtime import call_context
from ringback._runtime.worker_pool import never_waits
from ringback.systems import in_forked_child

SPARE_TIMERS = 256
"""How many cancelled timers may be kept beside as many as are needed."""

LONGEST_PAUSE_S = 3600.0
"""How long the thread waits at most. epoll takes no more than some weeks."""

BATCH = 256
"""How many commands run at most before links and timers have their turn."""

LOOK_S = 0.05
"""How often a thread that waits for the I/O thread looks whether that still lives."""


class Runner(Protocol):
    """An endpoint that this thread runs."""

    def obey(self, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        """Run a command. This never raises."""

    def settle(self) -> None:
        """Finish a step that ran commands. This never raises."""

    def socket_failed(self, error: BaseException) -> None:
        """Take note that the thread could not wait for the links. Each has to begin anew."""

    def thread_failed(self, error: BaseException) -> None:
        """End: the thread can't go on."""


class Polled:
    """Descriptors, where the system has no epoll, or gevent or eventlet has taken it away."""

    def __init__(self) -> None:
        self._descriptors: dict[int, None] = {}

    def register(self, descriptor: int, _events: int) -> None:
        """Watch a descriptor."""
        self._descriptors[descriptor] = None

    def unregister(self, descriptor: int) -> None:
        """Watch a descriptor no more."""
        del self._descriptors[descriptor]

    def poll(self, timeout_s: float) -> list[tuple[int, int]]:
        """Wait until descriptors are readable, or the time is over; -1: it never is. Return them."""
        timeout_ms = -1 if timeout_s < 0 else int(timeout_s * 1000) + (timeout_s > 0)
        wanted = [(descriptor, zmq.POLLIN) for descriptor in self._descriptors]
        found: list[tuple[int, int]] = zmq.zmq_poll(wanted, timeout_ms)
        return found

    def close(self) -> None:
        """Watch nothing any more."""
        self._descriptors.clear()


class Alarm:
    """A function that runs at some time, unless it was cancelled."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[[], None]) -> None:
        self.function: Callable[[], None] | None = function

    def cancel(self) -> None:
        """Have it not run."""
        self.function = None


class IOThread:
    """A thread, the commands for it, and what it waits for.

    Commands may come from any thread. All else happens on the thread itself.

    Attributes:
        commands: what other threads want to run: the endpoint, a function and its arguments.
        sleeping: whether the thread waits, and a new command has to wake it.
        over: whether the thread takes no more commands. It ends once no endpoint is left.
        thread: the thread itself.

    Raises:
        OSError: the process has no file descriptor left.
    """

    def __init__(self) -> None:
        self.commands: deque[tuple[Runner, Callable[..., None], tuple[Any, ...]]] = deque()
        self.sleeping = False
        self.over = False
        self.runners: set[Runner] = set()
        self._soon: deque[Callable[[], None]] = deque()
        self._alarms: list[tuple[float, int, Alarm]] = []
        self._numbers = count()
        self._readers: dict[int, Callable[[], None]] = {}
        self._last_commands = threading.RLock()
        self._poller = select.epoll() if hasattr(select, "epoll") else Polled()
        try:
            self._wake_in, self._wake_out = socket.socketpair()
        except OSError:
            self._poller.close()
            raise
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self.add_reader(self._wake_in.fileno(), self._woken)
        context = call_context.clean_context()
        self.thread = threading.Thread(target=context.run, args=(self._run,), name="ringback-io", daemon=True)

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: the system has no thread left.
        """
        try:
            self.thread.start()
        except RuntimeError:
            self._close()
            raise

    # -- from any thread

    @property
    def is_current(self) -> bool:
        """Whether this code runs on the thread."""
        return threading.current_thread() is self.thread

    def submit(self, runner: Runner, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        """Run a function for an endpoint, soon."""
        self.commands.append((runner, function, arguments))
        if self.sleeping:
            self.sleeping = False
            with suppress(OSError):  # the buffer is full: the thread is awake; closed: it has ended
                self._wake_out.send(b"\0")
        elif self.over:
            self._take_last_commands()

    def wait_for(self, ended: threading.Event, timeout_s: float) -> bool:
        """Wait until an endpoint has ended. Return False if that takes too long.

        If it was the last one, wait for the end of the thread too.
        """
        until = time.monotonic() + timeout_s
        while not ended.wait(LOOK_S) and self.thread.is_alive():
            if time.monotonic() >= until:
                return False
        while not self.runners and self.thread.is_alive() and time.monotonic() < until:
            self.thread.join(LOOK_S)
        return True

    def _take_last_commands(self) -> None:
        """Run the commands that came too late for the thread: calls fail, replies are dropped."""
        with self._last_commands:
            while self.commands:
                self._take_commands()

    # -- on the thread

    def call_soon(self, function: Callable[[], None]) -> None:
        """Run a function in the next round. It never raises."""
        self._soon.append(function)

    def call_at(self, at: float, function: Callable[[], None]) -> Alarm:
        """Run a function at a time on the monotonic clock. It never raises."""
        alarm = Alarm(function)
        heapq.heappush(self._alarms, (at, next(self._numbers), alarm))
        if len(self._alarms) > SPARE_TIMERS + 2 * len(self.runners):
            self._alarms = [entry for entry in self._alarms if entry[2].function is not None]
            heapq.heapify(self._alarms)
        return alarm

    def add_reader(self, descriptor: int, function: Callable[[], None]) -> None:
        """Run a function whenever a descriptor is readable. It never raises."""
        self._poller.register(descriptor, zmq.POLLIN)
        self._readers[descriptor] = function

    def remove_reader(self, descriptor: int) -> None:
        """Forget the reader of a descriptor."""
        if self._readers.pop(descriptor, None) is not None:
            self._poller.unregister(descriptor)

    def _run(self) -> None:
        never_waits()
        failed = False
        while self.runners or not _ends(self):
            try:
                self._round()
                failed = False
            except BaseException as error:
                self.sleeping = False
                for runner in list(self.runners):
                    if failed:
                        runner.thread_failed(error)
                    else:
                        runner.socket_failed(error)
                failed = True
            if self is not _current.thread:  # an `allow` function forked, and this is the child
                return
        self._take_last_commands()
        self._close()

    def _round(self) -> None:
        """Do what there is to do, and wait for more."""
        self._take_commands()
        for _ in range(len(self._soon)):
            self._soon.popleft()()
        self.sleeping = True
        ready = self._poller.poll(0 if self.commands or self._soon or not self.runners else self._pause())
        self.sleeping = False
        readers = self._readers
        for descriptor, function in [(one, readers.get(one)) for one, _ in ready]:
            if function is not None and readers.get(descriptor) is function:  # else it was removed just now
                function()
        self._ring()  # last: if the thread was held up, what had come in time counts

    def _take_commands(self) -> None:
        commands, served = self.commands, dict[Runner, None]()
        for _ in range(min(len(commands), BATCH)):
            try:
                runner, function, arguments = commands.popleft()
            except IndexError:  # a late command has run others that came after it
                break
            runner.obey(function, arguments)
            served[runner] = None
        for runner in served:
            runner.settle()

    def _ring(self) -> None:
        """Run the functions whose time has come."""
        now, due = time.monotonic(), list[Alarm]()
        while self._alarms and self._alarms[0][0] <= now:
            due.append(heapq.heappop(self._alarms)[2])
        for alarm in due:
            if alarm.function is not None:
                alarm.function()

    def _pause(self) -> float:
        """Return how long to wait; -1: until something comes."""
        while self._alarms and self._alarms[0][2].function is None:
            heapq.heappop(self._alarms)
        if not self._alarms:
            return -1
        return min(max(0.0, self._alarms[0][0] - time.monotonic()), LONGEST_PAUSE_S)

    def _woken(self) -> None:
        with suppress(BlockingIOError):
            self._wake_in.recv(4096)

    def inherited(self) -> None:
        """Forget all, in a forked child. A function of the user that ran on this thread may have forked."""
        for table in (self.commands, self.runners, self._soon, self._alarms, self._readers):
            table.clear()

    def _close(self) -> None:
        self._poller.close()
        self._wake_in.close()
        self._wake_out.close()


class _Current:
    """The I/O thread of this process, if it has one now."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.thread: IOThread | None = None
        self._of_parents: list[IOThread] = []
        in_forked_child(self._inherit)

    def _inherit(self) -> None:
        """Begin anew in a forked child: the thread of the parent process does not exist there."""
        self.lock = threading.RLock()
        if self.thread is not None:
            self.thread.inherited()
            # Kept, so that the collector does not report sockets that nobody closed.
            self._of_parents.append(self.thread)
            self.thread = None


_current = _Current()


def join(runner: Runner) -> IOThread:
    """Have the I/O thread run an endpoint. Return the thread.

    Raises:
        OSError: the process has no file descriptor left.
        RuntimeError: the system has no thread left.
    """
    with _current.lock:
        thread = _current.thread
        if thread is None or not thread.thread.is_alive():  # Ctrl-C may have come before its start
            thread = _current.thread = IOThread()
            thread.runners.add(runner)
            try:
                thread.start()
            except RuntimeError:
                _current.thread = None
                raise
        else:
            thread.runners.add(runner)
        return thread


def is_current() -> bool:
    """Return whether this code runs on the I/O thread of this process."""
    return _current.thread is not None and _current.thread.is_current


def _ends(thread: IOThread) -> bool:
    """Return whether no endpoint is left, and the thread ends."""
    with _current.lock:
        if thread.runners:
            return False
        thread.over = True
        if _current.thread is thread:
            _current.thread = None
        return True
