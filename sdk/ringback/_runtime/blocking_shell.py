"""The shell of the blocking face: one I/O thread for each endpoint."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

import zmq

from ringback._runtime import call_context
from ringback._runtime.base_shell import Ts
from ringback._runtime.blocking_handlers import BlockingHandlers
from ringback._runtime.lifetimes import explained
from ringback._runtime.link import Link
from ringback._runtime.log import folding, log
from ringback._runtime.monkey_patches import check_patches
from ringback._runtime.options import BlockingOptions
from ringback._runtime.resolver import Found
from ringback._runtime.worker_pool import never_waits
from ringback.core.endpoint import Endpoint
from ringback.errors import (
    BrokerUnreachable,
    CallTimeout,
    ConnectionLost,
    UsageError,
    reason_of,
)

WATCH_S = 1.0
"""How often a thread that waits looks whether the I/O thread can still end its wait."""

GRACE_S = 5.0
"""How long a thread waits for the I/O thread beyond the moment at which its wait is over."""

STOP_S = 10.0
"""How long `stop` waits for the I/O thread."""

BURST = 256
"""The I/O thread reads at most this many messages before it looks at timers and commands again."""


class BlockingShell(BlockingHandlers):
    """The I/O thread and its link.

    Attributes:
        ended: is set once the I/O thread has ended.
    """

    def __init__(self, options: BlockingOptions) -> None:
        super().__init__(options)
        self.ended = threading.Event()
        self._commands: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._sleeping = False
        self._started: SimpleQueue[Exception | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._blocked = False
        self._last_commands = threading.RLock()

    # -- from any thread

    def start(self, timeout_s: float) -> None:
        """Start the I/O thread, and wait until the broker has welcomed the endpoint.

        Raises:
            LinkError: the broker did not respond in time, or refused the endpoint.
        """
        self.check_process()
        check_patches()
        self._new_pool()
        self._started = SimpleQueue()  # an earlier start may have left an outcome in the old queue
        self.ended.clear()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._begin()
        self._context = call_context.clean_context()
        arguments = self._run, timeout_s
        thread = threading.Thread(
            target=self._context.copy().run, args=arguments, name="ringback-io", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            self._ended()
            self._wake_in.close()
            self._wake_out.close()
            raise UsageError("the system has no thread left: close endpoints, or raise its limit") from None
        self._thread = thread  # `stop` waits for it, so it must be started
        try:
            error = self._outcome_of_start(thread, timeout_s)
        except BaseException:  # Ctrl-C
            self.stop()
            raise
        if error is not None:
            self.stop()
            try:
                raise error
            finally:
                del error  # its traceback has this frame

    def _outcome_of_start(self, thread: threading.Thread, timeout_s: float) -> Exception | None:
        give_up_at = time.monotonic() + timeout_s + GRACE_S
        while True:
            alive = thread.is_alive()
            try:
                return self._started.get(timeout=WATCH_S)
            except Empty:
                self.check_process()
                if not alive:
                    return BrokerUnreachable("the I/O thread ended before the broker responded: see the log")
                if time.monotonic() > give_up_at:
                    return BrokerUnreachable(f"the I/O thread did not end the start: {_BLOCKED}")

    def stop(self) -> None:
        """End the I/O thread, and wait until it has ended. A second call does nothing.

        If one of the user's functions blocks the I/O thread, this logs an error and returns. The thread then
        ends once the function returns.
        """
        self.check_process()
        thread = self._thread
        if thread is None:
            return
        self.submit(self._end)
        if thread is not threading.current_thread():
            thread.join(STOP_S)
            if thread.is_alive():
                text = "%s: the I/O thread has not ended for %.0f s: %s"
                log.error(text, self.log_name, STOP_S, _BLOCKED)
                return
        self._thread = None
        self._ended()

    def endless_wait(self, deadline: float | None) -> Exception | None:
        """Return why the I/O thread will not end a wait for a call or a group; None if it still may."""
        thread = self._thread
        if self.foreign or sys.is_finalizing() or (thread is not None and not thread.is_alive()):
            return self._gone()
        if deadline is not None and time.monotonic() > deadline + GRACE_S:
            return CallTimeout(f"the time of the call is over, and nothing ended it: {_BLOCKED}")
        return None

    def _gone(self) -> Exception:
        try:
            self.check_process()
        except UsageError as error:
            return error
        return ConnectionLost("the I/O thread has ended: the process is exiting, or the log says why")

    def inherited(self) -> None:
        super().inherited()
        # Threads of the parent may have held the locks of what is replaced here.
        self._commands = _NoCommands(self.check_process)
        self._sleeping = False
        self.ended = threading.Event()
        self.ended.set()
        self._last_commands = threading.RLock()
        self.pool.inherited()

    def abandon(self) -> None:
        self.submit(self._end)

    def wait_until_left(self, timeout_s: float) -> None:
        self.ended.wait(timeout_s)

    def submit(self, function: Callable[[*Ts], None], *arguments: *Ts) -> None:
        """Run a function of the core on the I/O thread, soon. Any thread may call this."""
        self._commands.append((function, arguments))
        if self._sleeping:
            self._sleeping = False
            with suppress(OSError):  # the buffer is full: the thread is awake; closed: it has ended
                self._wake_out.send(b"\0")
        elif self.ended.is_set():
            self._take_last_commands()

    def commands_waiting(self) -> int:
        return len(self._commands)

    # -- the I/O thread

    def _run(self, timeout_s: float) -> None:
        endpoint = self.endpoint
        never_waits()
        try:
            endpoint.start(time.monotonic(), timeout_s)
            while self.running:
                try:
                    self._step(endpoint)
                except BaseException as error:
                    if self._link is None:
                        raise  # it can wait for nothing any more
                    self.contain("waiting for the link", error)
                    endpoint.link_lost(time.monotonic(), f"the socket failed: {reason_of(error)}")
        except BaseException as error:
            log.exception("%s: the I/O thread failed; the endpoint is closed now", self.log_name)
            self._started.put(error if isinstance(error, Exception) else None)
        finally:
            if not self.foreign:  # an `allow` function forked: the endpoint is the parent's
                self.running = False
                self.lifetime.hold(False)
                self._end_of_thread(endpoint)

    def _step(self, endpoint: Endpoint) -> None:
        now = time.monotonic()
        try:
            endpoint.tick(now)
        except BaseException as error:
            self.contain("a timer", error)
        self._take_commands()
        if not self._blocked:
            try:
                self._blocked = not endpoint.flush(now)
            except BaseException as error:
                self.contain("sending", error)
        due_at = endpoint.due_at()
        self._sleeping = True
        if self._commands or not self.running:
            self._sleeping = False
            return
        timeout_ms = -1 if due_at is None else max(0, int((due_at - time.monotonic()) * 1000) + 1)
        inputs: list[Any] = [(self._wake_in.fileno(), zmq.POLLIN)]
        link = self._link
        if link is not None:
            flags = zmq.POLLIN | zmq.POLLOUT if self._blocked else zmq.POLLIN
            inputs += [(link.socket, flags), (link.monitor, zmq.POLLIN)]
        ready = zmq.zmq_poll(inputs, timeout_ms)
        self._sleeping = False
        if not ready:
            folding.over()
        for source, flags in ready:
            if link is not None and source is link.socket:
                if flags & zmq.POLLOUT:
                    self._blocked = False
                if flags & zmq.POLLIN:
                    self._receive(endpoint, link)
            elif link is not None and source is link.monitor:
                if self._link is not link:  # what came before has ended this link
                    continue
                try:
                    self._check_link(endpoint, link)
                except BaseException as error:
                    self.contain("handling a connection event", error)
            else:
                with suppress(BlockingIOError):
                    self._wake_in.recv(4096)

    def _take_last_commands(self) -> None:
        """Run the commands that came too late for the I/O thread: calls fail, replies are dropped."""
        with self._last_commands:
            while self._commands:
                self._take_commands()

    def _take_commands(self) -> None:
        for _ in range(len(self._commands)):
            function, arguments = self._commands.popleft()
            try:
                function(*arguments)
            except BaseException as error:  # the commands behind it are of other threads
                self.contain("a command", error)

    def _receive(self, endpoint: Endpoint, link: Link) -> None:
        clock = time.monotonic
        for _ in range(BURST):
            if self._link is not link:
                return
            message = link.receive()
            if message is None:
                return
            # Read for each message: a burst may take long, and calls end when their reply is read.
            try:
                endpoint.receive(message[0], message[1], clock())
            except BaseException as error:
                self.contain("handling a message", error)

    def _check_link(self, endpoint: Endpoint, link: Link) -> None:
        loss = link.lost()
        if link.answered:
            endpoint.link_answered()
        if loss is not None:
            # First read what came before the loss: a REJECT says more than a closed connection.
            while self._link is link and link.events() & zmq.POLLIN:
                self._receive(endpoint, link)
            if self._link is link:
                self._take_loss(loss)

    def _end(self) -> None:
        self.running = False

    def _end_of_thread(self, endpoint: Endpoint) -> None:
        self._take_commands()
        try:
            endpoint.close()
        finally:
            self.close_link()
            self.forget_broker()
            self.pool.close()
            self._sleeping = False
            self.ended.set()
            self._take_last_commands()
            self._wake_in.close()
            self._wake_out.close()

    # -- effects of the core, on the I/O thread

    def _found(self, number: int, found: Found) -> None:
        self.submit(self._take_addresses, number, found)

    def open_link(self, address: str, heartbeat_ms: int) -> None:
        self._link = self._new_link(address, heartbeat_ms)
        self._blocked = False

    def close_link(self) -> None:
        if self._link is not None:
            self._link.close(linger=self.endpoint.connected)
            self._link = None
        self._blocked = False  # calls to this endpoint itself do not wait for the next link

    def want_flush(self) -> None:
        """Do nothing: every step flushes."""

    def left(self) -> None:
        self._end()

    def started(self, error: Exception | None) -> None:
        self._started.put(explained(error, self))


_BLOCKED = "an `allow` function, or another function that runs on this thread, blocks it"


class _NoCommands(deque[tuple[Callable[..., None], tuple[Any, ...]]]):
    """The commands of an endpoint in a forked child: there is no I/O thread that could run them."""

    def __init__(self, refuse: Callable[[], None]) -> None:
        super().__init__()
        self._refuse = refuse

    def append(self, _command: object) -> None:
        self._refuse()
