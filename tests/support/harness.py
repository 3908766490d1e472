"""Real processes for the tests: brokers on free ports, and ways to wait for them."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Self

PATIENCE_S = 30.0
"""How long anything may take before a test fails. It is long, because the machine may be busy."""

READY = re.compile(r"ready players=(\S+) backend=(\S+)")
ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("RINGBACK_")}
ENVIRONMENT["PYTHONPATH"] = os.pathsep.join(str(ROOT / name) for name in ("sdk", "broker", "cli", "tests"))
"""The variables of processes. They import what pytest imports, even if another ringback is installed."""


class Process:
    """A Python process whose output a test reads line by line. Standard error is part of the output.

    Args:
        arguments: of Python.
        prefix: a command that runs another one, with its arguments before that.
        environment: variables on top of `ENVIRONMENT`.
    """

    def __init__(
        self,
        *arguments: str,
        stdin: int | None = subprocess.DEVNULL,
        prefix: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        self.lines: list[str] = []
        self._arrived: SimpleQueue[str | None] = SimpleQueue()
        self.popen = subprocess.Popen(
            [*prefix, sys.executable, "-u", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=stdin,
            text=True,
            env={**ENVIRONMENT, **(environment or {})},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self._arrived.put(line.rstrip("\n"))
        self._arrived.put(None)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait for the next line that matches, and return the match."""
        while True:
            try:
                line = self._arrived.get(timeout=PATIENCE_S)
            except Empty:
                raise AssertionError(f"no line matches {pattern!r}; these came: {self.lines}") from None
            if line is None:
                self._arrived.put(None)
                raise AssertionError(f"the process ended, and no line matches {pattern!r}: {self.lines}")
            self.lines.append(line)
            if match := re.search(pattern, line):
                return match

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def wait(self, patience_s: float = PATIENCE_S) -> int:
        """Wait for the end. Return the exit code."""
        code = self.popen.wait(patience_s)
        self._reader.join(PATIENCE_S)
        return code

    def output(self) -> list[str]:
        """Wait for the end. Return all lines."""
        self.wait()
        while (line := self._arrived.get(timeout=PATIENCE_S)) is not None:
            self.lines.append(line)
        self._arrived.put(None)
        return self.lines

    def kill(self) -> None:
        """End the process with SIGKILL."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGCONT)
            self.popen.kill()
        self.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # it ended before it read everything
                    pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


@dataclass
class BrokerProcess:
    """A broker that `ringback broker` runs."""

    players: str = "tcp://127.0.0.1:0"
    backend: str = "tcp://127.0.0.1:0"
    options: tuple[str, ...] = ()
    environment: dict[str, str] | None = None
    process: Process = field(init=False)
    began: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Start the broker. A second time, start it at the same addresses.

        Between the two, the kernel may have given a port to a connection of another program. Then it tries
        again.
        """
        until = time.monotonic() + PATIENCE_S
        ready = self._begin()
        while ready[1] is None:
            assert self.began and time.monotonic() < until, self.process.output()
            self.process.kill()
            ready = self._begin()
        self.players, self.backend = ready[1], ready[2]
        self.began = True

    def _begin(self) -> re.Match[str]:
        """Start a process. Return its first line of note: that it is ready, or that it cannot listen."""
        self.process = Process(
            "-m",
            "ringback_cli",
            "broker",
            "--players",
            self.players,
            "--backend",
            self.backend,
            *self.options,
            environment=self.environment,
        )
        return self.process.wait_for(f"{READY.pattern}|^BIND_FAILED")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()


def ipc_addresses(folder: Path) -> tuple[str, str]:
    """Return two ipc addresses in a folder."""
    return f"ipc://{folder}/p", f"ipc://{folder}/b"


def eventually(check: Callable[[], bool], what: str) -> None:
    """Check again and again until a condition holds that no event reports.

    Each check takes a round trip of its own, so this polls without sleeping.

    Args:
        what: the condition, in words.
    """
    import time

    deadline = time.monotonic() + PATIENCE_S
    while not check():
        if time.monotonic() > deadline:
            raise AssertionError(f"this did not happen in time: {what}")


def send_until_closed(connection: socket.socket, data: bytes, most: int) -> bool:
    """Send the same bytes until so many are sent. Return whether the other side closed the connection before.

    `sendall` may not notice that: a side that reads no more and closes leaves a sender without room to send.
    """
    connection.setblocking(False)
    unsent = memoryview(data)
    try:
        while most > 0:
            readable, writable, _ = select.select([connection], [connection], [], PATIENCE_S)
            if readable and not connection.recv(65536):
                return True
            if writable:
                sent = connection.send(unsent)
                most -= sent
                unsent = unsent[sent:] or memoryview(data)
            assert readable or writable, "the other side neither reads nor closes"
    except ConnectionError:
        return True
    finally:
        connection.settimeout(PATIENCE_S)
    return False
