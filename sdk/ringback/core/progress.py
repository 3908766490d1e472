"""Progress: what a handler reports before its outcome, at the caller."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import Any

MAX_WAITING = 1024
"""How many values of one call may wait for the program. If more come, the oldest is dropped."""


class Progress(ABC):
    """The values of one call that wait for the program.

    Attributes:
        waiting: the values, in the order in which they came.
        lost: how many were dropped, because too many waited.
        ended: whether the call has ended. No value comes after that.
    """

    def __init__(self) -> None:
        self.waiting: deque[Any] = deque()
        self.lost = 0
        self.ended = False

    def __repr__(self) -> str:
        state = "the call has ended" if self.ended else "the call goes on"
        return f"<Progress: {len(self.waiting)} values wait, {state}>"

    def take(self, value: Any) -> None:
        """Keep a value until the program takes it. Only the core calls this."""
        if len(self.waiting) >= MAX_WAITING:
            self.waiting.popleft()
            self.lost += 1
        self.waiting.append(value)
        self.changed()

    def end(self) -> None:
        """Take note that the call has ended. Values that wait may still be taken."""
        self.ended = True
        self.changed()

    @abstractmethod
    def changed(self) -> None:
        """Wake the program, or have its function called."""
