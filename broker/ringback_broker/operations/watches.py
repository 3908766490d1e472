"""Calls that operators watch: which, for how long, and the latest of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Any

from ringback.protocol.reports import CallFilter, WatchedCall

MAX_WATCHES = 16
MAX_CALLS = 1000
PAGE = 100
"""Calls in one answer: few, because each may carry its payloads."""

REPORT_S = 0.25
"""How often endpoints report while anything is watched."""


class Watches:
    """The watches, and the latest calls that they chose."""

    def __init__(self) -> None:
        self._until: dict[tuple[CallFilter, bool], float] = {}
        self._calls: deque[tuple[Any, ...]] = deque(maxlen=MAX_CALLS)
        self._number = 0

    def has_room_for(self, watched: CallFilter, log: bool) -> bool:
        """Return whether a watch exists already, or the limit is not reached."""
        return (watched, log) in self._until or len(self._until) < MAX_WATCHES

    def set(self, watched: CallFilter, log: bool, until: float) -> None:
        """Watch calls until a time.

        Args:
            log: whether the calls go into the log too.
        """
        self._until[watched, log] = until

    def expire(self, now: float) -> bool:
        """End the watches whose time is over. Return whether there were any."""
        over = [entry for entry, until in self._until.items() if until <= now]
        for entry in over:
            del self._until[entry]
        return bool(over)

    def all(self) -> tuple[CallFilter, ...]:
        """Return what is watched."""
        return tuple(dict.fromkeys(watched for watched, _ in self._until))

    def take(self, calls: Iterable[WatchedCall], unix_s: float) -> list[WatchedCall]:
        """Keep watched calls. Return those that belong in the log."""
        logged = []
        for call in calls:
            self._number += 1
            self._calls.append((self._number, round(unix_s - call.age_s, 6), *call[1:]))
            if any(log and watched.matches(call.player_id, call.key) for watched, log in self._until):
                logged.append(call)
        return logged

    def rows(self, after: int) -> list[tuple[Any, ...]]:
        """Return the calls after a number: at most a page of them, the oldest first."""
        if not self._calls:
            return []
        known = max(0, after - self._calls[0][0] + 1)
        return list(islice(self._calls, known, known + PAGE))
