"""Endpoints and `fork`: a child process inherits the memory of an endpoint, but not its thread."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Inheritable(Protocol):
    """A shell, as a fork sees it."""

    def inherited(self) -> None:
        """Take note, in a forked child, that the endpoint belongs to the parent process."""


_started: WeakSet[Inheritable] = WeakSet()


def note_started(shell: Inheritable) -> None:
    """Tell this shell in each child that is forked from now on."""
    _started.add(shell)


def note_stopped(shell: Inheritable) -> None:
    """Forget a shell: a child may start it."""
    _started.discard(shell)


def _mark() -> None:
    shells = list(_started)
    _started.clear()
    for shell in shells:
        shell.inherited()


# At the fork, so that no call needs to ask for the number of its process.
os.register_at_fork(after_in_child=_mark)
