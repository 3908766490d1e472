"""A terminal for tests: one end of a pty, with a program at the other end."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from typing import Any, Self

from support.harness import ENVIRONMENT, PATIENCE_S

_IN_ITS_SESSION = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Make the pty the terminal of the program's session, so that Ctrl-C and Ctrl-Z reach the program."""


class Terminal:
    """A terminal with a program in a session of its own.

    Args:
        command: the program and its arguments.
        environment: variables on top of `ENVIRONMENT`.
        size: lines and columns.
    """

    def __init__(
        self, *command: str, environment: dict[str, str] | None = None, size: tuple[int, int] = (24, 120)
    ) -> None:
        self.shown = ""
        self._ours, self._theirs = os.openpty()
        termios.tcsetwinsize(self._theirs, size)
        self.settings = self.present_settings()
        self.popen = subprocess.Popen(
            [sys.executable, "-c", _IN_ITS_SESSION, *command],
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            start_new_session=True,
            env={**ENVIRONMENT, "TERM": "xterm", **(environment or {})},
        )

    def present_settings(self) -> list[Any]:
        return termios.tcgetattr(self._theirs)

    def send(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def resize(self, lines: int, columns: int) -> None:
        """Change the size. The kernel tells the program."""
        termios.tcsetwinsize(self._ours, (lines, columns))

    def screen(self) -> str:
        """Return what was drawn last, without colours. Each screen begins with the cursor at home."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.shown.rpartition("\x1b[H")[2])

    def wait_for(self, *parts: str) -> str:
        """Wait for a screen that has all these parts, and return it."""
        return self.wait_until(lambda: all(part in self.screen() for part in parts), f"a screen has {parts}")

    def wait_until(self, check: Callable[[], bool], what: str) -> str:
        deadline = time.monotonic() + PATIENCE_S
        while not check():
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([self._ours], [], [], left_s)[0]:
                raise AssertionError(f"this did not happen in time: {what}; the screen is:\n{self.screen()}")
            self.shown += os.read(self._ours, 65536).decode(errors="replace")
        return self.screen()

    def end(self) -> int:
        """Wait for the end of the program. Return its exit code."""
        deadline = time.monotonic() + PATIENCE_S
        while self.popen.poll() is None and time.monotonic() < deadline:
            self._read_for(0.05)
        code = self.popen.wait(0)
        self._read_for(0.0)
        return code

    def _read_for(self, seconds: float) -> None:
        """Read what the program writes. A program whose output nobody reads does not end."""
        while select.select([self._ours], [], [], seconds)[0]:
            self.shown += os.read(self._ours, 65536).decode(errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait(PATIENCE_S)
        os.close(self._ours)
        os.close(self._theirs)
