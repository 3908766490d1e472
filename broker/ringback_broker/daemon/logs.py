"""A log that cannot stop the broker: a thread of its own waits for a slow pipe or a full disk."""

from __future__ import annotations

import json
import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Full, Queue
from typing import Any

MAX_WAITING = 10_000
"""Lines that may wait. More are dropped; a line says how many once there is room."""

DROPS = "%d lines of the log were dropped: %s"

TOO_SLOW = "it was read too slowly"

LAST_LINES_S = 1.0
"""How long `close` waits for lines that are not written yet."""

SAY_EACH_S = 10.0
"""How often the log says at most that the audit log cannot be written."""

log = logging.getLogger("ringback.broker")

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
        drops: the line that says how many lines were dropped and why, with %d for the number and %s for the
            reason.
        failed: takes each failure to write, in the thread. None: nobody hears of it.

    Attributes:
        unwritten: how many lines could not be written.
    """

    def __init__(
        self,
        descriptor: int,
        max_waiting: int = MAX_WAITING,
        drops: str = DROPS,
        failed: Callable[[OSError], None] | None = None,
    ) -> None:
        super().__init__()
        self.unwritten = 0
        self._drops = drops
        self._failed = failed
        self._descriptor = descriptor
        self._lines: Queue[str | None] = Queue(max_waiting)
        self._dropped = 0
        self._is_torn = False
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
        ends, reported, why = False, 0, TOO_SLOW
        while not ends:
            line = self._lines.get()
            ends = line is None
            if line is not None and (error := self._write_line(line)) is not None:
                self.unwritten += 1
                why = error.strerror or str(error)
                if self._failed is not None:
                    self._failed(error)
                continue
            dropped = self._dropped + self.unwritten - reported  # callers count up what they drop
            if dropped and self._write_line(self._drops % (dropped, why)) is None:
                reported, why = reported + dropped, TOO_SLOW

    def _write_line(self, line: str) -> OSError | None:
        """Write a line, or return why that is not possible. A full disk is no reason to stop.

        If only a part of a line could be written, the next one begins on a line of its own.
        """
        before = "\n" if self._is_torn else ""
        data = f"{before}{line}\n".encode(errors="backslashreplace")
        try:
            while data:
                try:
                    data = data[os.write(self._descriptor, data) :]
                    self._is_torn = bool(data)
                except BlockingIOError:  # somebody made the descriptor non-blocking
                    select.select([], [self._descriptor], [])
        except OSError as error:
            return error
        return None

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


class _AuditFailures:
    """Says in the log that the audit log cannot be written, and not for each line."""

    def __init__(self) -> None:
        self._said_at = float("-inf")

    def __call__(self, error: OSError) -> None:
        now = time.monotonic()
        if now >= self._said_at + SAY_EACH_S:
            self._said_at = now
            log.warning("the audit log cannot be written, and loses lines: %s", error.strerror)


@contextmanager
def audit_to(path: str) -> Iterator[None]:
    """Append the audit log to a file while the context lasts. Only the owner can read a new file.

    Raises:
        OSError: the file cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    drops = '{"event": "lines dropped", "lines": %d, "reason": "%s"}'
    handler = WaitingLog(descriptor, drops=drops, failed=_AuditFailures())
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
