"""A log that cannot stop the broker: a thread of its own waits for a slow pipe or a full disk."""

from __future__ import annotations

import json
import logging
import os
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Full, Queue
from typing import Any

MAX_WAITING = 10_000
"""Lines that may wait. More are dropped; a line says how many once there is room."""

DROPS = "%d lines of the log were dropped, because it was read too slowly"

LAST_LINES_S = 1.0
"""How long `close` waits for lines that are not written yet."""


_audit = logging.getLogger("ringback.audit")
_audit.propagate = False


def audit(**fields: Any) -> None:
    """Write a line into the audit log, if there is one."""
    if _audit.isEnabledFor(logging.INFO):
        _audit.info("", extra={"fields": fields})


class _JSONLines(logging.Formatter):
    """Formats a record as a JSON object with the time (UTC, RFC 3339) and the record's fields."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        at = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        fields = {"time": f"{at}.{int(record.msecs):03}Z", **self.fields(record)}
        return json.dumps(fields, ensure_ascii=True)

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        fields: dict[str, Any] = getattr(record, "fields", {})
        return fields


class _JSONLog(_JSONLines):
    """Formats a record of the log likewise, with its level, logger, message and traceback."""

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        fields = {"level": record.levelname, "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return {**fields, **super().fields(record)}


class WaitingLog(logging.Handler):
    """Writes lines to a descriptor in a thread of its own, so that no caller waits.

    The thread calls the system directly. Python's own files have locks, and a stuck thread would hold one at
    the end of the process.

    Args:
        max_waiting: how many lines may wait.
        drops: the line that says how many lines were dropped, with %d for the number.
    """

    def __init__(self, descriptor: int, max_waiting: int = MAX_WAITING, drops: str = DROPS) -> None:
        super().__init__()
        self._drops = drops
        self._descriptor = descriptor
        self._lines: Queue[str | None] = Queue(max_waiting)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="ringback-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put_nowait(self.format(record))
        except Full:
            self._dropped += 1
        except Exception:  # a line that cannot be formatted is its author's mistake
            self.handleError(record)

    def _write(self) -> None:
        ends, reported = False, 0
        while not ends:
            line = self._lines.get()
            ends = line is None
            lines = [] if line is None else [line]
            dropped = self._dropped - reported  # callers count up, and this thread only reads
            reported += dropped
            if dropped:
                lines.append(self._drops % dropped)
            data = "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")
            with suppress(OSError):  # a full disk is no reason to stop
                while data:
                    try:
                        data = data[os.write(self._descriptor, data) :]
                    except BlockingIOError:  # somebody made the descriptor non-blocking
                        select.select([], [self._descriptor], [])

    def close(self) -> None:
        with suppress(Full):  # the thread is stuck, and ends with the process
            self._lines.put(None, timeout=LAST_LINES_S)
            self._thread.join(LAST_LINES_S)
        super().close()


@contextmanager
def log_to_stderr(form: str, level: str) -> Iterator[None]:
    """Make all loggers write to standard error while the context lasts.

    Args:
        form: "text" for people; "json": an object a line.
        level: the lowest level that is written: "debug", "info", "warning" or "error".
    """
    if form == "json":
        handler = WaitingLog(2, drops='{"level": "WARNING", "message": "' + DROPS + '"}')
        handler.setFormatter(_JSONLog())
    else:
        handler = WaitingLog(2)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level.upper())
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


@contextmanager
def audit_to(path: str) -> Iterator[None]:
    """Append the audit log to a file while the context lasts. Only the owner can read a new file.

    Raises:
        OSError: the file cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    handler = WaitingLog(descriptor, drops='{"event": "lines dropped", "lines": %d}')
    handler.setFormatter(_JSONLines())
    _audit.addHandler(handler)
    _audit.setLevel(logging.INFO)
    try:
        yield
    finally:
        _audit.setLevel(logging.NOTSET)
        _audit.removeHandler(handler)
        handler.close()
        os.close(descriptor)
