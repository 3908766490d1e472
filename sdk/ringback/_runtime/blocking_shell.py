"""The shell of the blocking face: one I/O thread for each endpoint, handlers in a pool of workers."""

from __future__ import annotations

import inspect
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

import zmq

from ringback._runtime.handlers import deliver, encode_answer, log, run_async, run_plain
from ringback._runtime.link import Link
from ringback._runtime.link_keys import check_token
from ringback._runtime.shell import ShellBase
from ringback._runtime.worker_pool import Lane, Pool, never_waits
from ringback.core.calls import Execution, PendingCall
from ringback.core.endpoint import Endpoint
from ringback.core.shell import EndpointEvent
from ringback.errors import CallbackError
from ringback.protocol.envelopes import Encoder

BURST = 256
"""Messages taken at once before timers and commands have their turn."""


class BlockingShell(ShellBase):
    """The I/O thread and its socket, and the pool of workers."""

    def __init__(self, *arguments: Any, workers: int, max_threads: int) -> None:
        super().__init__(*arguments)
        self.pool = Pool(workers, max_threads)
        self.ended = threading.Event()
        self._lane = Lane(self.pool)
        self._local = threading.local()
        self._commands: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._sleeping = False
        self._started: SimpleQueue[Exception | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._blocked = False
        self._last_commands = threading.RLock()
        self._workers = (workers, max_threads)

    # -- from any thread

    def start(self, timeout_s: float) -> None:
        self.pool = Pool(*self._workers)
        self._lane = Lane(self.pool)
        self._started = SimpleQueue()  # what an earlier start left there is not this one's
        self.ended.clear()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self.running = True
        thread = threading.Thread(target=self._run, args=(timeout_s,), name="ringback-io", daemon=True)
        thread.start()
        self._thread = thread  # only now may `stop` wait for it
        try:
            error = self._started.get()
        except BaseException:  # Ctrl-C
            self.stop()
            raise
        if error is not None:
            self.stop()
            raise error

    def stop(self) -> None:
        """Ends the I/O thread and waits for it; a second time does nothing."""
        thread = self._thread
        if thread is None:
            return
        self.submit(self._end)
        if thread is not threading.current_thread():
            thread.join()
        self._thread = None

    def submit(self, function: Callable[..., None], *arguments: Any) -> None:
        self._commands.append((function, arguments))
        if self._sleeping:
            self._sleeping = False
            with suppress(OSError):  # full: it is awake; closed: it has ended
                self._wake_out.send(b"\0")
        elif self.ended.is_set():
            self._take_last_commands()

    def encoder(self) -> Encoder:
        encoder: Encoder | None = getattr(self._local, "encoder", None)
        if encoder is None:
            encoder = self._local.encoder = Encoder(self._limits)
        return encoder

    def reply(self, execution: Execution, results: tuple[Any, ...], error: CallbackError | None) -> None:
        envelope = encode_answer(self.encoder(), execution, results, error)
        self.submit(self.endpoint.reply, execution, envelope, time.monotonic())

    # -- the I/O thread

    def _run(self, timeout_s: float) -> None:
        endpoint = self.endpoint
        never_waits()
        try:
            endpoint.start(time.monotonic(), timeout_s)
            while self.running:
                self._step(endpoint)
        except BaseException as error:
            log.exception("the I/O thread failed; the endpoint is closed")
            self._started.put(error if isinstance(error, Exception) else None)
        finally:
            self.running = False
            self._end_of_thread(endpoint)

    def _step(self, endpoint: Endpoint) -> None:
        now = time.monotonic()
        endpoint.tick(now)
        self._take_commands()
        if not self._blocked:
            self._blocked = not endpoint.flush(now)
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
        for source, flags in ready:
            if link is not None and source is link.socket:
                if flags & zmq.POLLOUT:
                    self._blocked = False
                if flags & zmq.POLLIN:
                    self._receive(endpoint, link)
            elif link is not None and source is link.monitor:
                self._check_link(endpoint, link)
            else:
                with suppress(BlockingIOError):
                    self._wake_in.recv(4096)

    def _take_last_commands(self) -> None:
        """Ends what came too late for the I/O thread: what is triggered now fails, an answer is dropped."""
        with self._last_commands:
            while self._commands:
                function, arguments = self._commands.popleft()
                function(*arguments)

    def _take_commands(self) -> None:
        for _ in range(len(self._commands)):
            function, arguments = self._commands.popleft()
            function(*arguments)

    def _receive(self, endpoint: Endpoint, link: Link) -> None:
        now = time.monotonic()
        for _ in range(BURST):
            if self._link is not link:
                return
            message = link.receive()
            if message is None:
                return
            endpoint.receive(message[0], message[1], now)

    def _check_link(self, endpoint: Endpoint, link: Link) -> None:
        loss = link.lost()
        if loss is not None:
            # What came before the end is taken first; a REJECT says more than a closed connection.
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
            self.pool.close()
            self._sleeping = False
            self.ended.set()
            self._take_last_commands()
            self._wake_in.close()
            self._wake_out.close()

    # -- what the core asks for, on the I/O thread

    def open_link(self, heartbeat_ms: int) -> None:
        self._link = self._new_link(heartbeat_ms)
        self._blocked = False

    def fetch_token(self, number: int) -> None:
        if isinstance(self._token, str):
            self.endpoint.take_token(number, self._token, None, time.monotonic())
        else:
            self.pool.submit(self._fetch_token, number)

    def _fetch_token(self, number: int) -> None:
        token, error = "", None
        assert callable(self._token)
        try:
            given = self._token()
            if inspect.iscoroutine(given):
                given = _finish(given)
            token = check_token(given)
        except Exception as failure:
            error = failure
        self.submit(self._take_token, number, token, error)

    def _take_token(self, number: int, token: str, error: Exception | None) -> None:
        self.endpoint.take_token(number, token, error, time.monotonic())

    def close_link(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
        self._blocked = False  # what goes to this endpoint itself need not wait for another link

    def want_flush(self) -> None:
        """Every step flushes."""

    def run(self, execution: Execution) -> None:
        self.pool.submit(self._handle, execution)

    def jobs_waiting(self) -> int:
        return self.pool.waiting_jobs()

    def cancel(self, execution: Execution) -> None:
        """A thread can't be stopped; `execution.cancelled` tells the handler."""

    def finished(self, call: PendingCall) -> None:
        self.pool.submit(self._call_user, deliver, call)

    def event(self, event: EndpointEvent, argument: Any) -> None:
        for listener in self._listeners[event]:
            self._lane.submit(self._call_user, listener, argument)

    def started(self, error: Exception | None) -> None:
        self._started.put(error)

    # -- workers

    def _handle(self, execution: Execution) -> None:
        awaitable = run_plain(execution)
        if awaitable is not None:
            _finish(run_async(execution, awaitable))

    def _call_user(self, function: Callable[..., Any], argument: Any) -> None:
        """Runs a callback or listener."""
        result = function(argument)
        if inspect.iscoroutine(result):
            _finish(result)


def _finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs what a coroutine function gave, on a loop of its own."""
    import asyncio  # takes as long to import as all else here, and few need it

    return asyncio.run(coroutine)
