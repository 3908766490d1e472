"""Logs that stay readable when the same thing happens a hundred times: equal lines fold into one.

Lines are equal if they are of one kind: of one template, whatever names and numbers stand in it. The first
lines of a kind are written whole. Those that follow within a window are counted. The count is a line of its
own: it is written with the next line of any kind once the window is over, or at the end of the process. No
thread and no timer is needed for that.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ringback.systems import in_forked_child

WINDOW_S = 5.0
"""How long lines of one kind are counted after the first one, in seconds."""

MAX_KINDS = 256
"""Kinds of lines that are counted at one time. One more ends the oldest window early."""


class Folded(NamedTuple):
    """How many lines of one kind were not written, and the first one that was."""

    number: int
    level: int
    text: str

    def __str__(self) -> str:
        lines = "line" if self.number == 1 else "lines"
        return f"{self.number} more {lines} like this one: {self.text}"


class _Window:
    __slots__ = ("ends_at", "folded", "level", "text", "written")

    def __init__(self, ends_at: float, level: int, text: str) -> None:
        self.ends_at = ends_at
        self.level = level
        self.text = text
        self.written = 1
        self.folded = 0


class LineFolds:
    """Counts the lines of each kind. It writes nothing, and time is an argument.

    Args:
        burst: how many lines of a kind are written in each window.
        window_s: how long a window lasts, in seconds.
    """

    def __init__(self, burst: int = 1, window_s: float = WINDOW_S) -> None:
        self._burst = burst
        self._window_s = window_s
        self._windows: dict[Hashable, _Window] = {}

    def take(self, kind: Hashable, level: int, text: str, now: float) -> tuple[bool, list[Folded]]:
        """Return whether to write a line, and the counts to write before it.

        Args:
            kind: what equal lines have in common.
            level: the level of the line, for the line with the count.
            text: the line.
            now: the time on the monotonic clock, in seconds.
        """
        ended = self.over(now)
        window = self._windows.get(kind)
        if window is None:
            if len(self._windows) >= MAX_KINDS:
                ended += self._end(next(iter(self._windows)))
            self._windows[kind] = _Window(now + self._window_s, level, text)
            return True, ended
        if window.written < self._burst:
            window.written += 1
            return True, ended
        window.folded += 1
        return False, ended

    def over(self, now: float) -> list[Folded]:
        """Return the counts of the windows that are over."""
        ended: list[Folded] = []
        while self._windows:  # in the order in which they end
            kind, window = next(iter(self._windows.items()))
            if now < window.ends_at:
                break
            ended += self._end(kind)
        return ended

    def finish(self) -> list[Folded]:
        """End all windows, and return their counts."""
        return [folded for kind in list(self._windows) for folded in self._end(kind)]

    def _end(self, kind: Hashable) -> list[Folded]:
        window = self._windows.pop(kind)
        return [Folded(window.folded, window.level, window.text)] if window.folded else []


class FoldingFilter(logging.Filter):
    """Folds the lines of one logger. Any thread may log.

    The kind of a line is its level and its template. A caller that logs with `extra={"kind": ...}` tells more
    kinds apart: the kind is hashable, and takes few values.

    Args:
        logger: the logger. Lines with counts go to its handlers.
        clock: return the time on the monotonic clock, in seconds.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._logger = logger
        self._clock = clock
        self.reset()
        logger.addFilter(self)
        atexit.register(self.finish)
        in_forked_child(self.reset)

    def reset(self) -> None:
        """Forget all lines so far, without a word: they belong to the parent of a process, or to a test."""
        self._lock = threading.RLock()
        self._counting = False
        self._folds = LineFolds()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write a line. Write the counts that are due before it."""
        if hasattr(record, "counts"):
            return True
        kind = (record.levelno, record.msg, getattr(record, "kind", None))
        try:
            text = record.getMessage()
        except Exception:  # the text of an error of the program may itself fail; logging says so later
            text = str(record.msg)
        with self._only_once() as entered:
            if not entered:
                return True
            written, ended = self._folds.take(kind, record.levelno, text, self._clock())
        self._write(ended)
        return written

    def over(self) -> None:
        """Write the counts of the windows that are over."""
        ended: list[Folded] = []
        with self._only_once() as entered:
            if entered:
                ended = self._folds.over(self._clock())
        self._write(ended)

    def finish(self) -> None:
        """Write all counts now."""
        ended: list[Folded] = []
        with self._only_once() as entered:
            if entered:
                ended = self._folds.finish()
        self._write(ended)

    @contextmanager
    def _only_once(self) -> Iterator[bool]:
        """Hold the lock. Give False if this thread is counting a line already.

        A signal handler, or what the collector ends, may log at any point of a thread. Such a line is
        written, and not counted.
        """
        with self._lock:
            if self._counting:
                yield False
                return
            self._counting = True
            try:
                yield True
            finally:
                self._counting = False

    def _write(self, ended: list[Folded]) -> None:
        for folded in ended:
            name = self._logger.name
            record = self._logger.makeRecord(
                name, folded.level, "", 0, "%s", (folded,), None, extra={"counts": True}
            )
            self._logger.handle(record)
