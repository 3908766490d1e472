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
"""So many calls are told in one answer, as each may carry its payloads."""

REPORT_S = 0.25
"""How often endpoints report while anything is watched."""


class Watches:
    """What is watched, and the calls that were."""

    def __init__(self) -> None:
        self._until: dict[tuple[CallFilter, bool], float] = {}
        self._calls: deque[tuple[Any, ...]] = deque(maxlen=MAX_CALLS)
        self._number = 0

    def set(self, watched: CallFilter, log: bool, until: float) -> bool:
        """Has calls be watched until then, or not any more; False: too much is watched already."""
        if (watched, log) not in self._until and len(self._until) >= MAX_WATCHES:
            return False
        self._until[watched, log] = until
        return True

    def expire(self, now: float) -> bool:
        """Ends what is over; tells whether anything is."""
        over = [entry for entry, until in self._until.items() if until <= now]
        for entry in over:
            del self._until[entry]
        return bool(over)

    def all(self) -> tuple[CallFilter, ...]:
        """Gives what is watched."""
        return tuple(dict.fromkeys(watched for watched, _ in self._until))

    def take(self, calls: Iterable[WatchedCall], unix_s: float) -> list[WatchedCall]:
        """Keeps calls that were reported; gives those that belong into the log."""
        logged = []
        for call in calls:
            self._number += 1
            self._calls.append((self._number, round(unix_s - call.age_s, 6), *call[1:]))
            if any(log and watched.matches(call.player_id, call.key) for watched, log in self._until):
                logged.append(call)
        return logged

    def rows(self, after: int) -> list[tuple[Any, ...]]:
        """Gives those behind a number: at most a page of them, the oldest first."""
        if not self._calls:
            return []
        known = max(0, after - self._calls[0][0] + 1)
        return list(islice(self._calls, known, known + PAGE))
