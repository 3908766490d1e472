"""Reading something in a thread: the loop that passes frames on does not wait for a disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Reading(Generic[T]):
    """Something that is read anew now and then.

    Args:
        read: reads it, in a thread of its own.
        name: of that thread.
    """

    def __init__(self, read: Callable[[], T], name: str) -> None:
        self._read = read
        self._name = name
        self._thread: threading.Thread | None = None
        self._result: T | Exception | None = None
        self._again = False

    def start(self) -> None:
        """Has it read; `take` gives what came of it."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        else:
            self._again = True  # what is being read now may be older

    def _run(self) -> None:
        try:
            self._result = self._read()
        except Exception as error:  # it is told of, and what was read before holds
            self._result = error

    def take(self) -> T | Exception | None:
        """Gives what was read since the last time, or why it could not be; None if there is nothing new."""
        if self._thread is None or self._thread.is_alive():
            return None
        self._thread = None
        result, self._result = self._result, None
        if self._again:
            self._again = False
            self.start()
        return result
