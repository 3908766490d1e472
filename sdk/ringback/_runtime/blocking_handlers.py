"""How the blocking face runs the user's functions in workers: handlers, callbacks, listeners, tokens."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import lru_cache
from typing import Any

from ringback._runtime import call_context
from ringback._runtime.base_shell import MAX_WAITING_PROGRESS
from ringback._runtime.link_keys import check_token
from ringback._runtime.link_steps import LinkSteps
from ringback._runtime.options import BlockingOptions
from ringback._runtime.running_handlers import callback_failed, deliver, encode_reply, run_async, run_plain
from ringback._runtime.worker_pool import Lane, Pool
from ringback.core.execution import Execution
from ringback.core.pending_call import PendingCall
from ringback.core.shell import EndpointEvent
from ringback.core.signatures import name_of
from ringback.errors import CallbackError, HandlerError
from ringback.protocol.envelopes import Encoder
from ringback.protocol.limits import Limits

_handled = threading.local()
"""Its `execution` is the call whose handler the current thread runs, if any."""


class BlockingHandlers(LinkSteps):
    """The jobs of an endpoint in its pool, and the replies.

    Attributes:
        pool: the jobs of this endpoint.
    """

    _context: Context
    """What the user's functions run in copies of. `start` sets it."""

    def __init__(self, options: BlockingOptions) -> None:
        super().__init__(options)
        self._workers = options.workers, options.max_threads
        self._encoders = _encoders(options.accepts)
        # One for each value that waits: threads may count no other way.
        self._waiting_progress: deque[None] = deque()
        self._new_pool()

    def _new_pool(self) -> None:
        """Begin with a pool without jobs."""
        self.pool = Pool(*self._workers, lambda: self.log_name)
        self._lane = Lane(self.pool)

    # -- from any thread

    def encoder(self) -> Encoder:
        """Return the encoder of the current thread."""
        encoder: Encoder | None = getattr(self._encoders, "encoder", None)
        if encoder is None:
            encoder = self._encoders.encoder = Encoder(self._options.accepts)
        return encoder

    def reply(self, execution: Execution, results: tuple[Any, ...], error: CallbackError | None) -> None:
        now = time.monotonic()  # before encoding: a large result takes long
        envelope, error = encode_reply(self.encoder(), execution, results, error)
        self.submit(self.endpoint.reply, execution, envelope, error, now)

    def progress(self, execution: Execution, value: object) -> None:
        envelope = self.encoder().progress(execution.id, value)
        if len(self._waiting_progress) < MAX_WAITING_PROGRESS:
            self._waiting_progress.append(None)
            self.submit(self._send_progress, execution, envelope)
        else:  # the I/O thread does not keep up
            self.endpoint.counters.dropped_progress += 1

    def _send_progress(self, execution: Execution, envelope: bytes) -> None:
        self._waiting_progress.popleft()
        self.endpoint.report(execution, envelope)

    def when_ended(self, ended: Any, function: Callable[[Any], object]) -> Callable[[], None]:
        """Return what has a worker call a function of the user with a call or group that has ended.

        Raises:
            TypeError: the function is not one.
            UsageError: this is a forked child, and the endpoint is the parent's.
        """
        if not callable(function):
            raise TypeError(f"a done callback must be a function, not {type(function).__name__}")
        self.check_process()
        context = call_context.clean_context()
        whose = f"a call of {ended.key!r}" if isinstance(ended, PendingCall) else "a group"
        return lambda: self.pool.submit(context, self._tell, function, ended, f"a done callback of {whose}")

    def tell(self, context: Context, function: Callable[[Any], object], argument: Any, what: str) -> None:
        """Run a function of the user in this thread, a worker. Log what it raises."""
        context.run(self._tell, function, argument, what)

    # -- effects of the core, on the I/O thread

    def run(self, execution: Execution) -> None:
        self.pool.submit(self._context.copy(), self._handle, execution)

    def jobs_waiting(self) -> int:
        return self.pool.waiting_jobs()

    def cancel(self, execution: Execution) -> None:
        """Do nothing: a thread cannot be stopped. The handler can check `execution.cancelled`."""

    def finished(self, call: PendingCall) -> None:
        self.pool.submit(call._context, self._deliver, call)

    def event(self, event: EndpointEvent, argument: Any) -> None:
        for listener in self.listeners[event]:
            what = f"the listener {name_of(listener)}"
            self._lane.submit(self._context.copy(), self._tell, listener, argument, what)

    def fetch_token(self, number: int) -> None:
        if isinstance(self._options.token, str):
            self.endpoint.take_token(number, self._options.token, None, time.monotonic())
        else:
            self.pool.submit(self._context.copy(), self._fetch_token, number)

    def current_execution(self) -> Execution | None:
        execution: Execution | None = getattr(_handled, "execution", None)
        return execution if execution is not None and execution.shell is self else None

    # -- in a worker

    def _handle(self, execution: Execution) -> None:
        _handled.execution = execution
        try:
            awaitable = run_plain(execution)
            if awaitable is not None:
                _finish(run_async(execution, awaitable))
        except BaseException as error:  # also if the system has no descriptor left for a loop
            execution.refuse(HandlerError(f"the handler ended with {type(error).__name__}"))
            self.user_failed(f"the handler of {execution.key!r}")
        finally:
            _handled.execution = None  # a worker that sleeps holds no payload
            if execution.handler.serial:
                self.submit(self.endpoint.handler_returned, execution)

    def _tell(self, function: Callable[..., Any], argument: Any, what: str) -> None:
        try:
            _run(function, argument)
        except BaseException:  # also sys.exit(): this is a worker, and more may wait to be told
            self.user_failed(what)

    def _deliver(self, call: PendingCall) -> None:
        try:
            _run(deliver, call)
        except BaseException as failure:
            callback_failed(call, failure)

    def _fetch_token(self, number: int) -> None:
        token = ""
        error: BaseException | None = None
        assert callable(self._options.token)
        try:
            fetched = self._options.token()
            if hasattr(fetched, "__await__"):
                fetched = _finish(_awaited(fetched))
            token = check_token(fetched)
        except BaseException as failure:  # also sys.exit(): without an outcome there is no link any more
            error = failure
        self.submit(self._take_token, number, token, error)

    def _take_token(self, number: int, token: str, error: BaseException | None) -> None:
        self.endpoint.take_token(number, token, error, time.monotonic())


@lru_cache
def _encoders(_limits: Limits) -> threading.local:
    """Return what has the encoder of each thread, for all endpoints with these limits.

    A thread may use thousands of endpoints. An encoder for each pair of them would take much memory.
    """
    return threading.local()


def _run(function: Callable[[Any], object], argument: Any) -> None:
    """Call a function of the user, and finish what it returns if it is a coroutine function."""
    result = function(argument)
    if hasattr(result, "__await__"):
        _finish(_awaited(result))


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def _finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on a loop of its own. Return its result."""
    import asyncio  # takes as long to import as everything else here, and few programs need it

    return asyncio.run(coroutine)
