"""What comes from the event loop of NATS to the broker's loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

Item = Callable[[float], None]
"""What the loop does with something that has come. It gets the time."""

BURST = 500
"""How many items the loop takes in one step."""


class Inlet:
    """A queue. While it has more than the loop takes in one step, nothing is read from NATS."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self.put = self._items.append

    def __len__(self) -> int:
        return len(self._items)

    def take(self, now: float, contain: Callable[[str, Exception], None]) -> None:
        """Do what has come, up to a bound.

        Args:
            contain: takes an exception of one item. The others are done all the same.
        """
        items = self._items
        for _ in range(min(BURST, len(items))):
            try:
                items.popleft()(now)
            except Exception as error:
                contain("handling what came from NATS", error)
