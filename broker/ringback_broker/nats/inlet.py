"""What comes from the thread of NATS to the broker's loop, which polls a descriptor."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress

Item = Callable[[float], None]
"""What the loop does with something that has come. It gets the time."""

BURST = 500
"""How many items the loop takes in one step."""


class Inlet:
    """A queue that wakes the loop.

    One thread puts items in, the loop takes them out. Both may do so at the same time: a deque is safe for
    that. Whoever puts items in bounds them.
    """

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer):
            end.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when there is something to take."""
        return self._reader.fileno()

    def put(self, item: Item) -> None:
        """Put an item in. Wake the loop, unless there are items already: it takes those and this one."""
        items = self._items
        items.append(item)
        if len(items) == 1:
            self._wake()

    def take(self, now: float, contain: Callable[[str, Exception], None]) -> None:
        """Do what has come, up to a bound.

        Args:
            contain: takes an exception of one item. The others are done all the same.
        """
        with suppress(BlockingIOError):
            self._reader.recv(4096)
        items = self._items
        for _ in range(min(BURST, len(items))):
            try:
                items.popleft()(now)
            except Exception as error:
                contain("handling what came from NATS", error)
        if items:
            self._wake()

    def _wake(self) -> None:
        with suppress(OSError):  # full: the loop was woken often enough; closed: the broker has ended
            self._writer.send(b"\0")

    def close(self) -> None:
        """Close the descriptors."""
        self._reader.close()
        self._writer.close()
