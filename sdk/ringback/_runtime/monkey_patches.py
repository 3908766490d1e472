"""Patches of gevent and eventlet: the blocking face needs real threads and real queues between them."""

from __future__ import annotations

import sys

from ringback.errors import UsageError

_ADVICE = "or use ringback.aio, or run the endpoint in a process without the patch"


def check_patches() -> None:
    """Raise UsageError if gevent or eventlet has replaced threads or queues.

    A thread is a green one then: the I/O would stop all others, and `start` would never return. Neither
    library is imported for the check. Other patches, such as those of sockets, do no harm.
    """
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None and any(map(gevent.is_module_patched, ("threading", "_thread", "queue"))):
        raise UsageError(
            "the blocking face needs real threads, and gevent.monkey has replaced them: use"
            f" gevent.monkey.patch_all(thread=False, queue=False), {_ADVICE}"
        )
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        raise UsageError(
            "the blocking face needs real threads, and eventlet.monkey_patch has replaced them: use"
            f" eventlet.monkey_patch(thread=False), {_ADVICE}"
        )
