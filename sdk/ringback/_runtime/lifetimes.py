"""How long a started endpoint lives, and what happens when a program forgets to close it, or forks.

The I/O thread or the event loop holds the shell, and the shell holds the endpoint weakly. So an endpoint that
the program drops is collected, and then its link is closed. Only an endpoint with callbacks or listeners is
held: it works for others, whoever holds it (docs/decisions/0051).

A forked child inherits the memory of an endpoint, but not its thread (docs/decisions/0050).
"""

from __future__ import annotations

import atexit
import sys
import threading
import time
import warnings
import weakref
from contextlib import suppress
from typing import Any, Protocol

from ringback.errors import IDTaken, Refused, ServerTaken
from ringback.systems import in_forked_child

EXIT_S = 1.0
"""How long the end of the process waits for all its endpoints to leave."""


class Startable(Protocol):
    """A shell, as this module sees it.

    Attributes:
        process: the process in which it was started; 0 while it is not.
    """

    running: bool
    interrupted: bool
    process: int
    lifetime: Lifetime

    def inherited(self) -> None:
        """Take note, in a forked child, that the endpoint belongs to the parent process."""

    def abandon(self) -> None:
        """Close the endpoint soon, without waiting. Any thread may call this, at any point of a program."""

    def wait_until_left(self, timeout_s: float) -> None:
        """Wait until `abandon` is done."""

    def needs_this_thread(self) -> bool:
        """Return whether it does nothing while the current function blocks its thread."""
        ...


class Lifetime:
    """What a shell knows about the life of its endpoint.

    Args:
        place: what only one endpoint of a broker may have at a time, role and ID; None for an endpoint that
            is in nobody's way.
        addresses: those of the broker, or of several that act as one.
    """

    def __init__(self, place: tuple[object, ...] | None, addresses: tuple[str, ...]) -> None:
        self._place = place
        self._addresses = addresses
        self._endpoint: weakref.ref[Any] | None = None
        self._held: Any = None

    def belongs_to(self, endpoint: Any) -> None:
        """Take note of the endpoint, without holding it."""
        self._endpoint = weakref.ref(endpoint)

    def is_in_the_way_of(self, other: Lifetime) -> bool:
        """Return whether this endpoint has the place that another one wants."""
        same = self._place is not None and self._place == other._place
        return same and not set(self._addresses).isdisjoint(other._addresses)

    def hold(self, wanted: bool) -> None:
        """Hold the endpoint if it is wanted, and let it go otherwise."""
        self._held = self._endpoint() if wanted and self._endpoint is not None else None

    def name(self) -> str | None:
        """Return the name of the endpoint; None if it is collected."""
        endpoint = None if self._endpoint is None else self._endpoint()
        return None if endpoint is None else endpoint._name()


class _Started:
    """The shells of this process that were started."""

    def __init__(self) -> None:
        self._begin()
        # Told at the fork, so that no call needs to ask for the number of its process.
        in_forked_child(self._inherit)
        atexit.register(self.leave)

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._shells: weakref.WeakSet[Startable] = weakref.WeakSet()

    def _inherit(self) -> None:
        """Begin anew in a forked child: the started endpoints are those of the parent."""
        shells = list(self._shells)
        self._begin()
        for shell in shells:
            if shell.process:  # else the child may start it
                shell.inherited()

    def add(self, shell: Startable) -> None:
        """Take note that a shell is started."""
        with self._lock:
            self._shells.add(shell)

    def running(self) -> list[Startable]:
        """Return the shells that run now."""
        with self._lock:
            return [shell for shell in self._shells if shell.running]

    def leave(self) -> None:
        """Close what the program has not closed, at the end of the process."""
        until = time.monotonic() + EXIT_S
        shells = self.running()
        interrupted = getattr(sys, "last_type", None) is KeyboardInterrupt  # it ends the process
        for shell in shells:
            shell.interrupted = interrupted
            with suppress(Exception):  # each of them must leave
                shell.abandon()
        for shell in shells:
            with suppress(Exception):
                shell.wait_until_left(max(0.0, until - time.monotonic()))
        for shell in shells:
            if (name := shell.lifetime.name()) is not None:
                with suppress(ResourceWarning):  # it may be an error
                    warn_unclosed(name, None)


started = _Started()
"""The shells of this process."""


def warn_unclosed(name: str, endpoint: Any, _warn: Any = warnings.warn) -> None:
    """Raise the warning for an endpoint that was not closed. `_warn` is there until the very end."""
    _warn(f"unclosed {name}", ResourceWarning, stacklevel=3, source=endpoint)


def explained(error: Exception | None, shell: Startable) -> Exception | None:
    """Return the error of a start, with advice if an endpoint of this process is in the way."""
    if not isinstance(error, (IDTaken, ServerTaken)):
        return error
    for other in started.running():
        if other is not shell and other.lifetime.is_in_the_way_of(shell.lifetime):
            what = "server" if isinstance(error, ServerTaken) else "player with this ID"
            return _with_advice(
                error,
                f"an earlier {what} of this process is still running: close() it first. In a notebook, keep"
                " it in a variable, and close it before you run its cell again",
            )
    return error


def _with_advice(error: Refused, advice: str) -> Refused:
    return type(error)(error.code, f"{error.message}; {advice}")
