"""Threads that run handlers and callbacks of the blocking face."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from queue import SimpleQueue
from typing import Any

from ringback._runtime.handlers import log
from ringback.errors import UsageError

Job = tuple[Callable[..., Any], tuple[Any, ...]]

_current = threading.local()
"""Its `pool` is the one that the present thread works for, if any. Of an I/O thread it is a `NoPool`."""


class Pool:
    """Workers, of which `size` may be busy at a time. One that waits for a nested call does not count:
    another takes its place, up to `max_threads` in all, so that handlers may wait for each other.
    """

    def __init__(self, size: int, max_threads: int) -> None:
        self._size = size
        self._max_threads = max_threads
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0
        self._waiting = 0
        self._closed = False

    def submit(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Has a function run soon."""
        if self._closed:  # the last words of calls that ended after the workers were told to go
            threading.Thread(target=_run, args=(function, arguments), daemon=True).start()
            return
        self._jobs.put((function, arguments))
        self._grow()

    def waiting_jobs(self) -> int:
        """Tells how many jobs no worker has taken yet."""
        return self._jobs.qsize()

    @contextmanager
    def worker_waits(self) -> Iterator[None]:
        """Around a wait of one of the workers: another may take its place."""
        with self._lock:
            self._waiting += 1
        self._grow()
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1

    def close(self) -> None:
        """Lets the workers end after the jobs that wait already."""
        self._closed = True
        self._jobs.put(None)

    def _grow(self) -> None:
        with self._lock:
            busy = self._threads - self._waiting
            if self._jobs.qsize() <= self._idle or busy >= self._size or self._threads >= self._max_threads:
                return
            self._threads += 1
        try:
            threading.Thread(target=self._work, name="ringback-worker", daemon=True).start()
        except RuntimeError:  # the system has no thread left: the job waits for the workers there are
            log.exception("no thread for another worker")
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
                self._jobs.put(None)  # for the next one, however many there are
                return
            if self._jobs.qsize():  # it came while this worker still counted as idle
                self._grow()
            function, arguments = job
            _run(function, arguments)
            del job, function, arguments


class NoPool:
    """What an I/O thread has in the place of a pool: what waits there for a call waits for itself."""

    def worker_waits(self) -> AbstractContextManager[None]:
        raise UsageError("an `allow` can't wait for a call: it runs on the thread that brings the answer")


def never_waits() -> None:
    """Says that the present thread is an I/O thread."""
    _current.pool = NoPool()


def _run(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        function(*arguments)
    except BaseException:  # a handler's sys.exit() too: it must not cost a worker
        log.exception("a handler or callback failed")


def waiting() -> AbstractContextManager[None]:
    """Around a wait for a call, of whichever endpoint: if this thread is a worker, its pool makes room."""
    pool: Pool | NoPool | None = getattr(_current, "pool", None)
    return nullcontext() if pool is None else pool.worker_waits()


class Lane:
    """Runs jobs of a pool one after the other, in order."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._jobs: deque[Job] = deque()
        self._lock = threading.Lock()
        self._running = False

    def submit(self, function: Callable[..., Any], *arguments: Any) -> None:
        with self._lock:
            self._jobs.append((function, arguments))
            if self._running:
                return
            self._running = True
        self._pool.submit(self._run)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._running = False
                    return
                function, arguments = self._jobs.popleft()
            try:
                function(*arguments)
            except Exception:
                log.exception("a listener failed")
