"""The blocking face: one I/O thread for each endpoint, handlers in a pool of workers."""

from __future__ import annotations

import inspect
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

import zmq

from ringback._calls import CallBase, unwrap
from ringback._face import Face, OperatorFace, PlayerFace, ServerFace
from ringback._group import GroupBase
from ringback._handling import deliver, encode_answer, log, log_duplicate, run_async, run_plain
from ringback._link import Link
from ringback._pool import Lane, Pool, waiting
from ringback.core.calls import Execution, PendingCall
from ringback.core.endpoint import Endpoint
from ringback.core.shell import Event
from ringback.errors import CallbackError, UsageError
from ringback.protocol.envelopes import Encoder
from ringback.protocol.frames import Role
from ringback.protocol.limits import Limits
from ringback.protocol.names import PlayerID

BURST = 256
"""Messages taken at once before timers and commands have their turn."""


class Call(CallBase):
    """A call that was triggered. It ends exactly once: with results, or with an error."""

    __slots__ = ()
    _face: BlockingFace

    def result(self) -> Any:
        """Waits for the end and gives the result: None for none, the value of one, a tuple of several.

        Raises:
            CallbackError: the call failed; `error.executed` says whether the handler ran.
        """
        self._wait()
        return unwrap(self._outcome())

    @property
    def results(self) -> tuple[Any, ...]:
        """All results as a tuple; waits and raises as `result` does."""
        self._wait()
        return self._outcome()

    @property
    def error(self) -> CallbackError | None:
        """Waits for the end and gives the error, None on success."""
        self._wait()
        self._seen = True
        return self._error

    def _wait(self) -> None:
        if self._done:
            return
        done = threading.Lock()
        done.acquire()
        self.add_waiter(done.release)
        with waiting():
            done.acquire()


class CallGroup(GroupBase[Call]):
    """The calls of one trigger on many players. Iterating gives (player ID, call) as the calls end."""

    def __init__(self) -> None:
        super().__init__()
        self._condition = threading.Condition()

    def __iter__(self) -> Iterator[tuple[PlayerID, Call]]:
        position = 0
        while True:
            self._wait(lambda: len(self._ended) > position or self._complete)  # noqa: B023
            if position == len(self._ended):
                self._result()
                return
            yield self._ended[position]
            position += 1

    def all(self) -> dict[PlayerID, Call]:
        """Waits until all calls have ended, and gives each player's.

        Raises:
            CallbackError: it could not be found out who is connected.
        """
        self._wait(lambda: self._complete)
        return self._result()

    def _wait(self, until: Callable[[], bool]) -> None:
        with waiting(), self._condition:
            self._condition.wait_for(until)

    def _changed(self) -> None:
        with self._condition:
            self._condition.notify_all()


class _Shell:
    """The I/O thread and its socket; see `ringback.core.shell.Shell`."""

    _endpoint: Endpoint

    def __init__(self, face: BlockingFace, workers: int, max_threads: int) -> None:
        self.pool = Pool(workers, max_threads)
        self.running = False
        self._face = face
        self._lane = Lane(self.pool)
        self._local = threading.local()
        self._commands: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._sleeping = False
        self._link: Link | None = None
        self._started: SimpleQueue[Exception | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._blocked = False
        self._ended = False
        self._last_commands = threading.RLock()
        self._workers = (workers, max_threads)

    # -- from any thread

    def start(self, timeout_s: float) -> None:
        self.pool = Pool(*self._workers)
        self._lane = Lane(self.pool)
        self._started = SimpleQueue()  # what an earlier start left there is not this one's
        self._ended = False
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
        elif self._ended:
            self._take_last_commands()

    def encoder(self) -> Encoder:
        encoder: Encoder | None = getattr(self._local, "encoder", None)
        if encoder is None:
            encoder = self._local.encoder = Encoder(self._face._limits)
        return encoder

    def reply(self, execution: Execution, results: tuple[Any, ...], error: CallbackError | None) -> None:
        envelope = encode_answer(self.encoder(), execution, results, error)
        self.submit(self._face._endpoint.exchange.reply, execution, envelope)

    def duplicate_reply(self, execution: Execution) -> None:
        self._face.counters.duplicate_replies += 1
        log_duplicate(execution)

    # -- the I/O thread

    def _run(self, timeout_s: float) -> None:
        endpoint = self._face._endpoint
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
        why = link.lost()
        if why is not None:
            # What came before the end is taken first; a REJECT says more than a closed connection.
            self._receive(endpoint, link)
            if self._link is link:
                endpoint.link_lost(time.monotonic(), why)

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
            self._ended = True
            self._take_last_commands()
            self._wake_in.close()
            self._wake_out.close()

    # -- what the core asks for, on the I/O thread

    def open_link(self) -> None:
        self._link = Link(self._face.address, trusted=self._face._role is not Role.PLAYER)
        self._blocked = False

    def close_link(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
        self._blocked = False  # what goes to this endpoint itself need not wait for another link

    def send(self, address: bytes, frame: bytes) -> bool:
        return self._link is not None and self._link.send(address, frame)

    def want_flush(self) -> None:
        """Every step flushes."""

    def run(self, execution: Execution) -> None:
        self.pool.submit(self._handle, execution)

    def cancel(self, execution: Execution) -> None:
        """A thread can't be stopped; `execution.cancelled` tells the handler."""

    def finished(self, call: PendingCall) -> None:
        self.pool.submit(self._call_user, deliver, call)

    def event(self, event: Event, argument: Any) -> None:
        for listener in self._face._listeners[event]:
            self._lane.submit(self._call_user, listener, argument)

    def started(self, error: Exception | None) -> None:
        self._started.put(error)

    def warn(self, text: str) -> None:
        log.warning(text)

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


def _finish(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Runs what a coroutine function gave, on a loop of its own."""
    import asyncio  # takes as long to import as all else here, and few need it

    asyncio.run(coroutine)


class BlockingFace(Face[Call, CallGroup]):
    """How a blocking endpoint starts, ends and waits.

    Args:
        address: of the broker: `tcp://HOST:PORT` or `ipc://PATH`; for a player the players' address,
            else the backend's.
        limits: what is accepted from others.
        connect_timeout: how long `start` waits for the broker, in seconds.
        workers: handlers that may run at one time; those that wait for calls of their own do not count.
        max_threads: workers in all.
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
        workers: int = 4,
        max_threads: int = 256,
    ) -> None:
        if type(workers) is not int or type(max_threads) is not int or not 1 <= workers <= max_threads:
            raise ValueError(
                f"workers and max_threads are ints, 1 <= workers <= max_threads, not {workers}, {max_threads}"
            )
        self._worker_counts = (workers, max_threads)
        super().__init__(address, player_id=player_id, limits=limits, connect_timeout=connect_timeout)

    def start(self) -> Self:
        """Connects, and waits until the broker has welcomed this endpoint.

        Afterwards a lost link is opened again by itself.

        Raises:
            BrokerUnreachable: no broker answered within `connect_timeout`.
            Refused: the broker refuses, for example `IDTaken` or `ServerTaken`.
            UsageError: it is started already.
        """
        if self._shell.running:
            raise UsageError("this endpoint is started already")
        self._shell.start(self._connect_timeout_s)
        return self

    def close(self) -> None:
        """Leaves the broker. What is in flight ends with `ConnectionLost`. A second time does nothing."""
        self._shell.stop()

    def run_forever(self) -> None:
        """Starts if need be, and returns only on Ctrl-C, closed."""
        if not self._shell.running:
            self.start()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass
        finally:
            self.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _make_shell(self) -> _Shell:
        return _Shell(self, *self._worker_counts)

    def _make_group(self) -> CallGroup:
        return CallGroup()

    def _encoder(self) -> Encoder:
        return self._shell.encoder()

    def _check_running(self) -> None:
        if not self._shell.running:
            raise UsageError(
                "this endpoint is not started, or closed: call start(), or use it in a `with` block"
            )

    def _submit(self, function: Callable[..., None], *arguments: Any) -> None:
        self._shell.submit(function, *arguments)

    def _keys_changed(self) -> None:
        if self._shell.running:
            self._shell.submit(self._endpoint.keys_changed)


class Server(ServerFace[Call, CallGroup], BlockingFace):
    __doc__ = f"The one server. {BlockingFace.__doc__}"


class Player(PlayerFace[Call, CallGroup], BlockingFace):
    __doc__ = f"""A player. {BlockingFace.__doc__}
        player_id: an int from 1 to 2**63-1 or a str of 1 to 64 bytes; None for one that the broker gives.
    """

    def __init__(self, address: str, player_id: PlayerID | None = None, **settings: Any) -> None:
        super().__init__(address, player_id=player_id, **settings)


class Operator(OperatorFace[Call, CallGroup], BlockingFace):
    __doc__ = f"An operator: a trusted program beside the server. {BlockingFace.__doc__}"
