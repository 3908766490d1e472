"""Progress: what a handler reports before its outcome, at the caller."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import Any

MAX_WAITING = 1024
MAX_WAITING_BYTES = 16 * 1024 * 1024
"""How many values of one call may wait for the program, and how many bytes they may have taken on the wire.
If more come, the oldest ones are dropped. The latest one is kept, however large it is."""


class Progress(ABC):
    """The values of one call that wait for the program.

    Attributes:
        waiting: the values, in the order in which they came.
        lost: how many were dropped, because too many waited.
        ended: whether the call has ended. No value comes after that.
    """

    def __init__(self) -> None:
        self.waiting: deque[Any] = deque()
        self._sizes: deque[int] = deque()
        self._bytes = 0
        self.lost = 0
        self.ended = False

    def __repr__(self) -> str:
        state = "the call has ended" if self.ended else "the call goes on"
        return f"<Progress: {len(self.waiting)} values wait, {state}>"

    def take(self, value: Any, size: int) -> None:
        """Keep a value until the program takes it. Only the core calls this.

        Args:
            size: about how many bytes it took on the wire.
        """
        self._bytes += size
        while self.waiting and (len(self.waiting) >= MAX_WAITING or self._bytes > MAX_WAITING_BYTES):
            self.next_value()
            self.lost += 1
        self.waiting.append(value)
        self._sizes.append(size)
        self.changed()

    def next_value(self) -> Any:
        """Return the oldest of the values that wait, which then waits no more."""
        self._bytes -= self._sizes.popleft()
        return self.waiting.popleft()

    def end(self) -> None:
        """Take note that the call has ended. Values that wait may still be taken."""
        self.ended = True
        self.changed()

    @abstractmethod
    def changed(self) -> None:
        """Wake the program, or have its function called."""
