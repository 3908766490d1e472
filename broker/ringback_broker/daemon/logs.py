"""A log that can't stop the broker: lines wait for a slow pipe or a full disk in a thread of their own."""

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
"""Lines that may wait; what comes on top is dropped, and counted in a line once there is room."""

DROPS = "%d lines of the log were dropped: it was read too slowly"

LAST_LINES_S = 1.0
"""How long the end waits for lines that are not written yet."""


_audit = logging.getLogger("ringback.audit")
_audit.propagate = False


def audit(**fields: Any) -> None:
    """Writes a line into the audit log, where there is one."""
    if _audit.isEnabledFor(logging.INFO):
        _audit.info("", extra={"fields": fields})


class _JSONLines(logging.Formatter):
    """A line a record: an object with the time (UTC, RFC 3339) and the record's fields."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        at = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        fields = {"time": f"{at}.{int(record.msecs):03}Z", **self.fields(record)}
        return json.dumps(fields, ensure_ascii=True)

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        fields: dict[str, Any] = getattr(record, "fields", {})
        return fields


class _JSONLog(_JSONLines):
    """The same for all that is logged: what one would read, and the fields that some records have."""

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        said = {"level": record.levelname, "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return {**said, **super().fields(record)}


class WaitingLog(logging.Handler):
    """Writes lines to a descriptor from a thread of its own; who logs never waits.

    It writes with nothing of Python's between, whose locks a thread that is stuck would hold at the end.

    Args:
        drops: the line that says how many were dropped, with %d for their number.
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
        except Exception:  # a line that can't be formatted is its author's mistake
            self.handleError(record)

    def _write(self) -> None:
        ends, told = False, 0
        while not ends:
            line = self._lines.get()
            ends = line is None
            lines = [] if line is None else [line]
            dropped = self._dropped - told  # who logs counts up, this thread only reads
            told += dropped
            if dropped:
                lines.append(self._drops % dropped)
            data = "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")
            with suppress(OSError):  # a full disk is no reason to stop
                while data:
                    try:
                        data = data[os.write(self._descriptor, data) :]
                    except BlockingIOError:  # somebody has set it so
                        select.select([], [self._descriptor], [])

    def close(self) -> None:
        with suppress(Full):  # it is stuck, and ends with the process
            self._lines.put(None, timeout=LAST_LINES_S)
            self._thread.join(LAST_LINES_S)
        super().close()


@contextmanager
def log_to_stderr(form: str, level: str) -> Iterator[None]:
    """Has all loggers write to standard error while this lasts.

    Args:
        form: "text" for people; "json": an object a line.
        level: the least that is written: "debug", "info", "warning" or "error".
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
    """Has the audit log go to a file, at its end, while this lasts; only its owner can read a new one.

    Raises:
        OSError: it can't be written.
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
