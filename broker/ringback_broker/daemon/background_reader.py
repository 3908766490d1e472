"""Reading in a thread of its own, so that the loop does not wait for a disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class BackgroundReader(Generic[T]):
    """Reads something again and again, whenever `start` is called.

    Args:
        read: reads it. A thread calls this.
        name: of the thread.
    """

    def __init__(self, read: Callable[[], T], name: str) -> None:
        self._read = read
        self._name = name
        self._thread: threading.Thread | None = None
        self._result: T | Exception | None = None
        self._again = False

    def start(self) -> None:
        """Start reading. `take` returns the result later."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        else:
            self._again = True  # what the thread reads now may be older

    def _run(self) -> None:
        try:
            self._result = self._read()
        except BaseException as error:  # `take` returns it, and what was read before holds
            self._result = error if isinstance(error, Exception) else RuntimeError(repr(error))

    def take(self) -> T | Exception | None:
        """Return what was read since the last call, or why it could not be read; None if there is nothing
        new."""
        if self._thread is None or self._thread.is_alive():
            return None
        self._thread = None
        result, self._result = self._result, None
        if self._again:
            self._again = False
            self.start()
        return result
