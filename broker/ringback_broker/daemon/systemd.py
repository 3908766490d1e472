"""Telling systemd how the broker does (sd_notify(3)): a datagram with lines NAME=VALUE to a socket that the
environment names. Packages for it have more code than this, or need libsystemd to be built."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress


class Notifier:
    """Tells what becomes of the broker, where somebody wants to know.

    Args:
        environment: that of the process, with NOTIFY_SOCKET and WATCHDOG_USEC where systemd has set them.

    Attributes:
        watchdog_s: how often `alive` is to be called at least; None: never.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self.watchdog_s: float | None = None
        meant = environment.get("WATCHDOG_PID", str(os.getpid()))
        usec = environment.get("WATCHDOG_USEC", "")
        if self._address and usec.isdecimal() and int(usec) and meant == str(os.getpid()):
            self.watchdog_s = int(usec) / 2e6  # half of it, as sd_watchdog_enabled(3) has it

    def ready(self) -> None:
        self._send("READY=1")

    def alive(self, status: str) -> None:
        self._send(f"WATCHDOG=1\nSTATUS={status}")

    def stopping(self, status: str) -> None:
        self._send(f"STOPPING=1\nSTATUS={status}")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):  # an abstract one
            address = "\0" + address[1:]
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out,
        ):
            out.sendto(text.encode(), address)
