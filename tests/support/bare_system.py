"""Run a program as on a system that lacks most of what only Unix has.

python tests/support/bare_system.py PROGRAM [ARGUMENT ...]

What is hidden does not exist on Windows. asyncio, pyzmq and msgpack are loaded before some of it is hidden:
their own code for Linux needs it.
"""

from __future__ import annotations

import _socket
import ctypes
import os
import posix
import runpy
import select
import sys
import time
from typing import Any

EARLY: dict[Any, tuple[str, ...]] = {
    select: ("epoll", "poll"),
    _socket: (
        *("AF_UNIX", "AF_NETLINK", "AF_PACKET", "socketpair", "TCP_INFO", "TCP_USER_TIMEOUT", "SO_PEERCRED"),
        *("SO_REUSEPORT", "SOCK_CLOEXEC", "SOCK_NONBLOCK", "MSG_NOSIGNAL", "SCM_RIGHTS", "CMSG_LEN"),
    ),
}
"""What the standard library copies when it is loaded, and does without elsewhere."""

SYSTEM = (
    *("O_CLOEXEC", "O_NONBLOCK", "O_DIRECTORY", "O_NOFOLLOW", "register_at_fork", "fork", "forkpty"),
    *("getuid", "geteuid", "getgid", "getegid", "getpgid", "setsid", "killpg", "uname", "getloadavg"),
    *("fchmod", "chown", "fchown", "mkfifo", "memfd_create", "eventfd", "sched_getaffinity", "sysconf"),
    *("pipe2", "posix_spawn", "wait3", "wait4", "WNOHANG", "statvfs", "openpty", "sendfile"),
)
SIGNALS = (
    *("SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGTSTP", "SIGCONT", "SIGWINCH", "SIGPIPE"),
    *("SIGKILL", "SIGSTOP", "SIGCHLD", "setitimer", "alarm", "pause", "pthread_sigmask", "sigwait"),
)
CLOCKS = ("clock_gettime", "clock_gettime_ns", "clock_getres", "pthread_getcpuclockid", "tzset")
MODULES = ("fcntl", "resource", "termios", "tty", "pty", "pwd", "grp", "syslog", "uvloop")


class _Library(ctypes.CDLL):
    """A library with a name. There is no way to ask for the functions of the program itself."""

    def __init__(self, name: str | None, *arguments: Any, **options: Any) -> None:
        if name is None:
            raise TypeError("bad argument type for built-in operation")
        super().__init__(name, *arguments, **options)


def hide() -> None:
    """Hide all this, and load what may have it before."""
    for module, names in EARLY.items():
        _hide(module, names)
    import asyncio  # noqa: F401
    import signal

    import msgpack  # noqa: F401
    import zmq  # noqa: F401

    for module, names in ((os, SYSTEM), (posix, SYSTEM), (signal, SIGNALS), (time, CLOCKS)):
        _hide(module, names)
    ctypes.CDLL = _Library  # type: ignore[misc]
    if sys.version_info >= (3, 13):
        os.process_cpu_count = os.cpu_count  # as where there is no sched_getaffinity
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    assert not any(name.partition(".")[0] == "ringback" for name in sys.modules)
    sys.addaudithook(_no_proc)


def _hide(module: Any, names: tuple[str, ...]) -> None:
    for name in names:
        if hasattr(module, name):
            delattr(module, name)


def _no_proc(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("open", "os.listdir", "os.scandir") and str(arguments[0]).startswith(("/proc", "/sys")):
        raise FileNotFoundError(f"there is no {arguments[0]} here")


if __name__ == "__main__":
    hide()
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
