"""Containment: what is done with an exception that one piece of work raises, so that all others go on."""

from __future__ import annotations

import threading


def asks_to_exit(error: BaseException) -> bool:
    """Return whether an exception is to end the process: Ctrl-C, or a signal handler that calls `sys.exit`.

    Python raises these in the main thread alone. In any other thread they come from a handler or callback.
    """
    return (
        isinstance(error, (KeyboardInterrupt, SystemExit))
        and threading.current_thread() is threading.main_thread()
    )
