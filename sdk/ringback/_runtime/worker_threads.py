"""The worker threads of the blocking face: all endpoints of a process share them.

With threads for each endpoint, nearly each call to one of many endpoints would wake a thread of its own, and
all of them wait for the interpreter lock (GIL).
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from typing import Any, Protocol

from ringback._runtime.log import log
from ringback.systems import in_forked_child

Job = tuple[Context, Callable[..., Any], tuple[Any, ...]]


class Jobs(Protocol):
    """The pool of an endpoint, as the threads see it.

    Attributes:
        log_name: return what the log calls the endpoint.
    """

    log_name: Callable[[], str]

    def take(self) -> Job:
        """Return the next job. The thread holds the lock."""
        ...

    def run(self, job: Job) -> None:
        """Run a job. This never raises."""

    def ended(self) -> None:
        """Take note that a job has ended. The thread holds the lock."""


class WorkerThreads:
    """Threads that run the jobs of all pools.

    A ready job never waits for another job: if no thread sleeps, a new one comes. One thread at a time is
    called. When it is there, it takes a job, and calls the next thread if more jobs are ready. So a batch of
    short jobs wakes one or two threads, and not one for each job.

    Attributes:
        lock: held for each change of a pool or of what is here, and never while a job runs.
        ready: the pool of each job that may run now. Whoever adds one calls a thread next.
        process: the process of these threads.
    """

    def __init__(self) -> None:
        self._begin()
        in_forked_child(self._begin)

    def _begin(self) -> None:
        """Begin without threads. Those of the parent do not exist in a forked child."""
        self.process = os.getpid()
        self.lock = threading.RLock()
        self.ready: deque[Jobs] = deque()
        self._sleeping: list[threading.Lock] = []
        self._kept = 0
        self._called = False

    def keep(self, number: int) -> None:
        """Let this many more threads sleep when they have no job. Below 0: this many fewer."""
        with self.lock:
            self._kept += number
            while len(self._sleeping) > max(0, self._kept):
                self._sleeping.pop().release()

    def call(self) -> None:
        """Have a thread come, if a job is ready and no thread is on its way."""
        if self._called or not self.ready:
            return
        with self.lock:
            if self._called or not self.ready:
                return
            if self._sleeping:
                self._sleeping.pop().release()
                self._called = True  # not before: after Ctrl-C in between, no thread would ever be called
                return
            pool = self.ready[0]
        self._start(pool)

    def _start(self, pool: Jobs) -> None:
        try:
            self._called = True  # not before: Ctrl-C in between would leave it so. At worst, two threads come
            threading.Thread(target=self._work, name="ringback-worker", daemon=True).start()
        except RuntimeError as error:  # the existing threads take the job
            self._called = False
            if "interpreter shutdown" not in str(error):  # which Python 3.12 and newer say at the exit
                log.exception("%s: the system has no thread left for another worker", pool.log_name())
        except BaseException:  # Ctrl-C: the next job calls again
            self._called = False
            raise

    def _work(self) -> None:
        process, called = self.process, True
        bell = threading.Lock()
        bell.acquire()
        pool: Jobs | None = None
        while self.process == process:  # else a job has forked, and this is the copy in the child
            job = None
            with self.lock:
                if called:
                    self._called = called = False
                if pool is not None:
                    pool.ended()
                    pool = None
                if self.ready:
                    pool = self.ready.popleft()
                    job = pool.take()
                elif len(self._sleeping) < self._kept:
                    self._sleeping.append(bell)
                else:
                    return
            if pool is None or job is None:
                bell.acquire()
                called = True
            else:
                with suppress(BaseException):  # the job runs all the same, and the next one calls again
                    self.call()
                pool.run(job)


workers = WorkerThreads()
"""The worker threads of this process."""
