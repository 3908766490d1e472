"""Signals of the process, and requests of other threads, as bytes that wake the loop."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from types import FrameType as StackFrame
from typing import Any

_STOPPING = (0, signal.SIGTERM, signal.SIGINT)
"""Bytes that ask the broker to stop. 0 comes from `Signals.stop`."""


class Signals:
    """A descriptor to poll, and what to do when bytes come.

    Args:
        stop: called with the number of requests to stop, which may be 0, and with the time.
        reload: called on SIGHUP.
    """

    def __init__(self, stop: Callable[[int, float], None], reload: Callable[[], None]) -> None:
        self._stop = stop
        self._reload = reload
        self._stack = ExitStack()
        self._bytes, self._wake = socket.socketpair()
        for end in (self._bytes, self._wake):
            end.setblocking(False)
            self._stack.enter_context(end)

    def fileno(self) -> int:
        return self._bytes.fileno()

    def close(self) -> None:
        """Put the earlier signal handlers back, and close the descriptors."""
        self._stack.close()

    def handle(self) -> None:
        """Handle SIGTERM, SIGINT and SIGHUP until `close`. Only the main thread may call this."""
        before = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        self._stack.callback(signal.set_wakeup_fd, before)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            previous = signal.signal(number, _wake_only)
            self._stack.callback(signal.signal, number, previous or signal.SIG_DFL)

    def stop(self, times: int = 1) -> None:
        """Ask the loop to stop, so many times at once. Any thread and any signal handler may call this."""
        with suppress(OSError):  # full: it was asked often enough; closed: it has ended
            self._wake.send(bytes(times))

    def take(self, now: float) -> None:
        """Do what the signals ask for."""
        # A program around this broker may handle other signals. They wake the loop too, for nothing.
        numbers = self._bytes.recv(64)
        try:
            if signal.SIGHUP in numbers:
                self._reload()
        finally:  # a reload that fails holds up no request to stop
            self._stop(sum(number in _STOPPING for number in numbers), now)


def _wake_only(_number: int, _frame: StackFrame | None) -> Any:
    """Do nothing: the byte that Python writes to the wake-up descriptor does the work."""
