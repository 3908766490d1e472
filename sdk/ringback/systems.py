"""What differs between operating systems. The SDK runs on all that have CPython and pyzmq."""

from __future__ import annotations

import os
from collections.abc import Callable


def in_forked_child(function: Callable[[], None]) -> None:
    """Run a function in each forked child of this process. Windows has no fork, so there is none."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


def others_may_read(mode: int) -> bool:
    """Return whether users other than the owner may read a file with this mode.

    On Windows, a mode says nothing about that. The file's access control list does; it comes from the folder.
    """
    return os.name == "posix" and bool(mode & 0o077)
