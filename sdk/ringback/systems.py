"""What differs between operating systems. The SDK runs on all that have CPython and pyzmq."""

from __future__ import annotations

import os
from collections.abc import Callable

UNIX_MODULES = ("fcntl", "resource", "termios")
"""Modules of Python that the broker and some commands import, and that Windows does not have."""


def in_forked_child(function: Callable[[], None]) -> None:
    """Run a function in each forked child of this process. Windows has no fork, so there is none."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


def others_may_read(mode: int) -> bool:
    """Return whether users other than the owner may read a file with this mode.

    On Windows, a mode says nothing about that. The file's access control list does; it comes from the folder.
    """
    return os.name == "posix" and bool(mode & 0o077)


def lack_of_unix(error: ImportError) -> str | None:
    """Return what to say if an import fails where there is no Unix. None: it fails for another reason."""
    if error.name not in UNIX_MODULES:
        return None
    return f"needs Linux or another Unix: this system has no {error.name}"
