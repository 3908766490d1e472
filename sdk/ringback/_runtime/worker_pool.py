"""The pool of an endpoint of the blocking face: how many of its handlers and callbacks run at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import Context
from typing import Any, TypeVarTuple

from ringback._runtime.log import log
from ringback._runtime.worker_threads import Job, Jobs, workers
from ringback.errors import UsageError

Ts = TypeVarTuple("Ts")

_current = threading.local()
"""Its `pool` is the pool whose job the current thread runs, if any. An I/O thread has a `NoPool`."""


class Pool(Jobs):
    """The jobs of one endpoint. At most `size` workers are busy with them at a time.

    A worker that waits for a nested call does not count as busy: another worker takes its place, up to
    `max_threads` in all. So handlers may wait for each other.

    Args:
        log_name: return what the log calls the endpoint of this pool.
    """

    def __init__(self, size: int, max_threads: int, log_name: Callable[[], str]) -> None:
        self.log_name = log_name
        self._size = size
        self._max_threads = max_threads
        self._process = workers.process
        self._jobs: deque[Job] = deque()
        self._ready = 0
        self._threads = 0
        self._waiting = 0
        self._open = False

    def open(self) -> None:
        """Keep threads for this pool, until it is closed."""
        self._open = True
        workers.keep(self._size)

    def close(self) -> None:
        """Keep no threads for this pool any more. Jobs run all the same, also later ones."""
        if self._open:
            self._open = False
            if self._process == workers.process:  # a forked child keeps none for it
                workers.keep(-self._size)

    def submit(self, context: Context, function: Callable[[*Ts], Any], *arguments: *Ts) -> None:
        """Run a function in a worker, soon, in a context of its own: a worker runs the jobs of many."""
        if self._process != workers.process:  # a forked child, and a call of an endpoint closed before
            job = context, function, arguments
            threading.Thread(target=self.run, args=(job,), name="ringback-worker", daemon=True).start()
            return
        with workers.lock:
            self._jobs.append((context, function, arguments))
            self._plan()
        workers.call()
        if self._waiting >= self._max_threads:
            self._warn()

    def waiting_jobs(self) -> int:
        """Return how many jobs no worker has taken yet."""
        return len(self._jobs)

    @contextmanager
    def worker_waits(self) -> Iterator[None]:
        """Let another worker take the place of this one while it waits."""
        with workers.lock:
            self._waiting += 1
            self._plan()
        workers.call()
        try:
            if self._waiting >= self._max_threads:
                self._warn()
            yield
        finally:
            with workers.lock:
                self._waiting -= 1

    def _plan(self) -> None:
        """Make the jobs ready that wait and may run."""
        while (
            len(self._jobs) > self._ready
            and self._threads - self._waiting < self._size
            and self._threads < self._max_threads
            and self._process == workers.process  # else this is a forked child, and the parent runs the job
        ):
            self._threads += 1
            self._ready += 1
            workers.ready.append(self)

    def _warn(self) -> None:
        """Log that no job runs before one of the waits ends. These may wait for the jobs."""
        jobs = len(self._jobs)
        if jobs:
            text = "%s: all %d workers (max_threads) wait for calls, and %d handlers or callbacks wait"
            text += " for a worker: raise max_threads, or have fewer handlers wait"
            log.warning(text, self.log_name(), self._max_threads, jobs)

    # -- in a worker

    def take(self) -> Job:
        self._ready -= 1
        return self._jobs.popleft()

    def run(self, job: Job) -> None:
        context, function, arguments = job
        _current.pool = self
        try:
            context.run(function, *arguments)
        except BaseException:  # a handler's sys.exit() too: it must not end the worker
            with suppress(BaseException):  # of a log handler: the worker serves all endpoints
                log.exception("%s: a handler or callback failed", self.log_name())
        finally:
            _current.pool = None  # a worker that sleeps holds no endpoint

    def ended(self) -> None:
        self._threads -= 1
        self._plan()


class NoPool:
    """The pool of an I/O thread: it rejects waiting, since the I/O thread would wait for itself."""

    def worker_waits(self) -> AbstractContextManager[None]:
        """Raise UsageError."""
        raise UsageError(
            "an `allow` function, or a done callback of a future, cannot wait for a call: it runs on the"
            " thread that reads replies"
        )


def never_waits() -> None:
    """Mark the current thread as an I/O thread."""
    _current.pool = NoPool()


def waiting() -> AbstractContextManager[None]:
    """Return the context in which to wait for a call. A worker that waits is replaced meanwhile."""
    pool: Pool | NoPool | None = getattr(_current, "pool", None)
    return nullcontext() if pool is None else pool.worker_waits()


class Lane:
    """Runs jobs in a pool, one after another and in order."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._jobs: deque[Job] = deque()
        self._lock = threading.Lock()
        self._running = False

    def submit(self, context: Context, function: Callable[[*Ts], Any], *arguments: *Ts) -> None:
        """Run a function in a worker, in a context of its own, after those submitted before it."""
        with self._lock:
            self._jobs.append((context, function, arguments))
            if self._running:
                return
            self._running = True
        self._pool.submit(Context(), self._run)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._running = False
                    return
                context, function, arguments = self._jobs.popleft()
            try:
                context.run(function, *arguments)
            except BaseException:  # also sys.exit(): those behind it wait for their turn
                log.exception("%s: a listener failed", self._pool.log_name())
