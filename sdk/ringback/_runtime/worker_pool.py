"""The worker threads of the blocking face, which run handlers and callbacks."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import Context
from queue import SimpleQueue
from typing import Any, TypeVarTuple

from ringback._runtime.log import log
from ringback.errors import UsageError

Job = tuple[Context, Callable[..., Any], tuple[Any, ...]]
Ts = TypeVarTuple("Ts")

_current = threading.local()
"""Its `pool` is the pool that the current thread works for, if any. An I/O thread has a `NoPool`."""


class Pool:
    """Workers. At most `size` of them are busy at a time.

    A worker that waits for a nested call does not count as busy: another worker takes its place, up to
    `max_threads` in all. So handlers may wait for each other.

    Args:
        log_name: return what the log calls the endpoint of this pool.
    """

    def __init__(self, size: int, max_threads: int, log_name: Callable[[], str]) -> None:
        self.log_name = log_name
        self._size = size
        self._max_threads = max_threads
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0
        self._waiting = 0
        self._closed = False

    def submit(self, context: Context, function: Callable[[*Ts], Any], *arguments: *Ts) -> None:
        """Run a function in a worker, soon, in a context of its own: a worker runs the jobs of many."""
        if self._closed:  # a callback of a call that ended only when the endpoint was closed
            threading.Thread(target=self._run, args=(context, function, arguments), daemon=True).start()
            return
        self._jobs.put((context, function, arguments))
        self._grow()

    def waiting_jobs(self) -> int:
        """Return how many jobs no worker has taken yet."""
        return self._jobs.qsize()

    @contextmanager
    def worker_waits(self) -> Iterator[None]:
        """Let another worker take the place of this one while it waits."""
        with self._lock:
            self._waiting += 1
        self._grow()
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1

    def close(self) -> None:
        """End the workers, after the jobs that wait now."""
        self._closed = True
        self._jobs.put(None)

    def inherited(self) -> None:
        """End this worker, in a child that a handler has forked. Other threads do not exist there."""
        self._lock = threading.Lock()  # another thread may have held the lock
        self._jobs = SimpleQueue()
        self.close()

    def _grow(self) -> None:
        with self._lock:
            busy = self._threads - self._waiting
            if self._jobs.qsize() <= self._idle or busy >= self._size or self._threads >= self._max_threads:
                return
            self._threads += 1
        try:
            threading.Thread(target=self._work, name="ringback-worker", daemon=True).start()
        except RuntimeError as error:  # the existing workers take the job
            if "interpreter shutdown" not in str(error):  # which Python 3.12 and newer say at the exit
                log.exception("%s: the system has no thread left for another worker", self.log_name())
            with self._lock:
                self._threads -= 1

    def _work(self) -> None:
        _current.pool = self
        while True:
            with self._lock:
                surplus = self._threads - self._waiting > self._size
                if surplus:
                    self._threads -= 1
                    return
                self._idle += 1
            job = self._jobs.get()
            with self._lock:
                self._idle -= 1
            if job is None:
                with self._lock:
                    self._threads -= 1
                self._jobs.put(None)  # for the next worker
                return
            if self._jobs.qsize():  # these jobs came while this worker still counted as idle
                self._grow()
            context, function, arguments = job
            self._run(context, function, arguments)
            del job, context, function, arguments

    def _run(self, context: Context, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        try:
            context.run(function, *arguments)
        except BaseException:  # a handler's sys.exit() too: it must not end the worker
            log.exception("%s: a handler or callback failed", self.log_name())


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
