"""The handlers of the asyncio face that run in threads, and what they leave for the loop.

The task of a serial handler lasts as long as its thread, and then the next call runs. A thread may outlive
its event loop, and with it the task. The thread itself then says when it has ended.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ringback.core.execution import Execution


class HandlerThreads:
    """What the handlers of one endpoint do in threads now.

    Args:
        outlived: called in the thread of a serial handler that has outlived its loop, once it has ended.

    Attributes:
        waiting_progress: the encoded progress that the loop has yet to send.
        ended: the serial handlers that have outlived their loop and have ended. No loop knows that yet.
    """

    def __init__(self, outlived: Callable[[], None]) -> None:
        self.waiting_progress: deque[tuple[Execution, bytes]] = deque()
        self.ended: deque[Execution] = deque()
        self._outlived = outlived
        self._lock = threading.Lock()
        self._running: set[Execution] = set()
        self._outlive: set[Execution] = set()

    @contextmanager
    def running(self, execution: Execution) -> Iterator[None]:
        """Take note that this thread runs a serial handler."""
        with self._lock:
            self._running.add(execution)
        try:
            yield
        finally:
            with self._lock:
                self._running.remove(execution)
                outlived = execution in self._outlive
                self._outlive.discard(execution)
            if outlived:
                self.ended.append(execution)
                self._outlived()

    def outlive_loop(self) -> frozenset[Execution]:
        """Take note that the loop is closed. Return the serial handlers that still run.

        A handler that begins later must find that its call is cancelled.
        """
        with self._lock:
            self._outlive |= self._running
            return frozenset(self._outlive)
