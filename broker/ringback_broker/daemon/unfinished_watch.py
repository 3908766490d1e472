"""The watch for messages without an end: when the broker's memory grows, look which connections fill it.

The memory of the process is one number, so looking at it costs the same with 10,000 players as with none.
Only when it has grown does the watch ask the kernel about each connection.
"""

from __future__ import annotations

import ctypes
import os
import resource
import time
from collections.abc import Callable

from ringback_broker.admission.unfinished import Open, Suspect, Unfinished
from ringback_broker.net.kernel_connection import bytes_read
from ringback_broker.net.router_socket import RouterSocket
from ringback_broker.peers.connection import Side
from ringback_broker.switchboard.switchboard import Switchboard

LOOK_S = 0.025
"""How often the watch looks at the memory."""

LOOK_AGAIN_S = 0.005
"""How often it looks for a while after the memory has grown."""

ALERT_S = 0.25

GROWTH_BYTES = 16 * 1024 * 1024
"""How much the memory grows before the watch asks about each connection."""

SHARE = 0.1
"""How much of the time it may take to ask."""

PATIENCE_S = 1.0
"""In a flood, messages wait in the socket at all times. A message that was whole before this time has been
taken since, because the socket takes messages of all peers in turn."""


_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""What gives free memory back to the system. Only glibc has it, and only glibc needs it."""


class UnfinishedWatch:
    """Finds connections that send a message without an end, and has them closed.

    Args:
        routers: the sockets, by side.
        memory: returns how much memory the process has, in bytes.
    """

    def __init__(
        self,
        switchboard: Switchboard,
        routers: dict[Side, RouterSocket],
        memory: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._switchboard = switchboard
        self._routers = routers
        self._memory = memory
        self._clock = clock
        self._unfinished = Unfinished()
        self._base = memory()
        self._suspects: list[Suspect] = []
        self._settled = True
        self._closed_some = False
        self._suspected_at = self._alert_until = self._ask_at = 0.0

    def look(self, now: float) -> float:
        """Look at the memory, and close what fills it. Return when to look again."""
        if self._suspects:
            self._judge(now)
        memory = self._memory()
        if memory < self._base:
            self._base = memory
        elif memory - self._base >= GROWTH_BYTES:
            self._alert_until, self._settled = now + ALERT_S, False
            if now >= self._ask_at and not self._suspects:
                self._base = memory
                self._ask(now)
        elif not self._settled and now >= self._alert_until and now >= self._ask_at and not self._suspects:
            # What came after the last question, when the memory grew by less.
            self._ask(now)
            self._settled = not self._suspects
            if self._settled and self._closed_some:
                # glibc keeps what the closed connections filled. The next flood would fill that, and the
                # memory of the process would not grow: the watch would see it too late.
                self._closed_some = False
                if _malloc_trim is not None:
                    _malloc_trim(0)
        return now + (LOOK_AGAIN_S if now < self._alert_until else LOOK_S)

    def _ask(self, now: float) -> None:
        """Ask the kernel about each connection."""
        began_at = self._clock()
        connections = (
            Open(side, connection, mark, fresh, count)
            for side, connection, mark, fresh in self._switchboard.connections()
            if (count := bytes_read(connection.descriptor)) is not None
        )
        self._suspects, self._suspected_at = self._unfinished.find(connections), now
        self._ask_at = now + (self._clock() - began_at) / SHARE

    def _judge(self, now: float) -> None:
        """Close the connections that were found, unless a message has come over them since.

        What was read of them by then has been handed over by now if it was a message: nothing waits in the
        socket.
        """
        sides = {suspect.of.side for suspect in self._suspects}
        waiting = any(self._routers[side].has_more() for side in sides)
        if waiting and now - self._suspected_at < PATIENCE_S:
            return
        suspects, self._suspects = self._suspects, []
        marks = {(side, connection): mark for side, connection, mark, _ in self._switchboard.connections()}
        for open_, unfinished in suspects:
            if marks.get((open_.side, open_.connection)) == open_.mark:
                self._switchboard.close_unfinished(open_.side, open_.connection, unfinished)
                self._closed_some = True


class ProcessMemory:
    """How much memory this process has, in bytes. `open` makes one, where the system says it."""

    def __init__(self, statm: int) -> None:
        self._statm = statm
        self._page = resource.getpagesize()

    @classmethod
    def open(cls) -> ProcessMemory | None:
        """Return the memory of this process. None: the system does not say."""
        try:
            return cls(os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            return None

    def __call__(self) -> int:
        return int(os.pread(self._statm, 64, 0).split()[1]) * self._page

    def close(self) -> None:
        os.close(self._statm)
