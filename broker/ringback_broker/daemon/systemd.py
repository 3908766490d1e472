"""Telling systemd how the broker does (sd_notify(3)).

That is a datagram with lines NAME=VALUE, sent to a socket that the environment names. Packages for it have
more code than this, or need libsystemd to be built.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

NOTIFY_S = 10.0
"""How often the service manager gets the status, unless its watchdog wants to hear more often."""


class Notifier:
    """Tells the service manager how the broker does. It does nothing if there is no service manager.

    Args:
        environment: the variables of the process. systemd sets NOTIFY_SOCKET and WATCHDOG_USEC.

    Attributes:
        watchdog_s: how often the watchdog needs a sign of life at least; None: there is no watchdog.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._alive_at = 0.0
        self.watchdog_s: float | None = None
        meant = environment.get("WATCHDOG_PID", str(os.getpid()))
        usec = environment.get("WATCHDOG_USEC", "")
        if self._address and usec.isdecimal() and int(usec) and meant == str(os.getpid()):
            self.watchdog_s = int(usec) / 2e6  # half of it, as sd_watchdog_enabled(3) advises

    def ready(self) -> None:
        """Say that the broker is ready."""
        self._send("READY=1")

    def alive(self, status: str, now: float) -> None:
        """Give a sign of life with a status, if one is due."""
        if now >= self._alive_at:
            self._send(f"WATCHDOG=1\nSTATUS={status}")
            self._alive_at = now + (self.watchdog_s or NOTIFY_S)

    def stopping(self, status: str) -> None:
        """Say that the broker stops."""
        self._send(f"STOPPING=1\nSTATUS={status}")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):  # an abstract socket
            address = "\0" + address[1:]
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out,
        ):
            out.sendto(text.encode(), address)
