"""Turns: this node does one thing at a time for each name."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

CLAIM_WITHIN_S = 2.0
"""How long a claim takes at most, and how long a turn is waited for."""

MAX_CLAIMS = 10_000
"""How many names something may be done for, and how many turns may be waited for, in all."""


@dataclass(slots=True, eq=False)
class Turn:
    """What waits until a name is free of other work of this node."""

    begin: Callable[[float], None]
    refuse: Callable[[float], None]
    until: float


class NameTurns:
    """The names that this node does something for, and what waits until it has done so.

    Attributes:
        busy: the names that something is done for.
    """

    def __init__(self) -> None:
        self.busy: set[str] = set()
        self._turns: dict[str, deque[Turn]] = {}
        self._waiting = 0

    def __len__(self) -> int:
        return len(self.busy) + self._waiting

    def when_free(
        self, key: str, begin: Callable[[float], None], refuse: Callable[[float], None], now: float
    ) -> None:
        """Call `begin` now, or once this node does nothing else for a name. `refuse` if it takes too long."""
        if len(self) >= MAX_CLAIMS:
            refuse(now)
        elif key in self.busy:
            self._turns.setdefault(key, deque()).append(Turn(begin, refuse, now + CLAIM_WITHIN_S))
            self._waiting += 1
        else:
            begin(now)

    def free(self, key: str, now: float) -> None:
        """Take note that what was done for a name is done. What waited for that begins."""
        self.busy.discard(key)
        turns = self._turns.get(key)
        while turns and key not in self.busy:
            self._waiting -= 1
            turns.popleft().begin(now)
        if turns is not None and not turns:
            self._turns.pop(key, None)

    def tick(self, now: float) -> None:
        """Refuse what has waited for too long."""
        for key, turns in list(self._turns.items()):
            while turns and now >= turns[0].until:
                self._waiting -= 1
                turns.popleft().refuse(now)
            if not turns:
                self._turns.pop(key, None)

    def clear(self) -> list[Turn]:
        """Forget all. Return what waited."""
        turns = [turn for waiting in self._turns.values() for turn in waiting]
        self.busy.clear()
        self._turns.clear()
        self._waiting = 0
        return turns
