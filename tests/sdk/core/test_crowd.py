"""Many endpoints that come at once to a broker that is slow: do all get in?"""

from __future__ import annotations

import heapq
from collections import deque
from itertools import count
from random import Random

import pytest

from ringback.core import link_state
from ringback.core.link_state import Due, LinkState
from ringback.protocol.frames import FrameType, Role

SERVICE_S = 0.02
"""How long the broker needs for a HELLO, also for one whose sender has given up."""


class Crowd:
    """Endpoints that all come at 0 s, and a broker that takes their HELLOs one after another.

    Attributes:
        welcomed: when each of them was let in, in seconds.
    """

    def __init__(self, size: int) -> None:
        random = Random(1)
        self.links = [LinkState(Role.PLAYER, random.random) for _ in range(size)]
        self.welcomed: dict[int, float] = {}
        self._hellos: deque[tuple[int, int]] = deque()
        self._tries = [0] * size
        self._order = count()
        self._due: list[tuple[float, int, int]] = []
        for number, link in enumerate(self.links):
            link.start(0.0, 5.0)
            self._plan(number)

    def _plan(self, number: int) -> None:
        due_at = self.links[number].due_at()
        assert due_at is not None
        heapq.heappush(self._due, (due_at, next(self._order), number))

    def run(self, until: float) -> None:
        """Let time pass until all are in, or until a time."""
        now = 0.0
        while len(self.welcomed) < len(self.links) and now < until:
            while self._due and self._due[0][0] <= now:
                at, _, number = heapq.heappop(self._due)
                self._tick(number, max(at, now))
            if self._hellos:
                number, tried = self._hellos.popleft()
                now += SERVICE_S
                if tried == self._tries[number] and self.links[number].accept(FrameType.WELCOME, now):
                    self.links[number].welcomed(60.0, now)
                    self.welcomed[number] = now
            else:
                now = max(now, self._due[0][0])

    def _tick(self, number: int, now: float) -> None:
        link, due = self.links[number], self.links[number].due(now)
        if number in self.welcomed or due is Due.NOTHING:
            return
        self._tries[number] += 1
        if due is Due.OPEN:
            link.opened(now)
            link.answered()
            self._hellos.append((number, self._tries[number]))
        else:
            link.gave_up()
            link.lost(now)
        self._plan(number)


def test_a_crowd_gets_in_that_takes_longer_than_the_first_wait() -> None:
    crowd = Crowd(1000)  # 20 s of work
    crowd.run(100.0)
    assert len(crowd.welcomed) == 1000
    assert max(crowd.welcomed.values()) < 80.0


def test_a_crowd_that_always_waits_for_the_same_time_keeps_itself_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Check what the rule is for: without it most never get in, or the test above shows nothing."""
    monkeypatch.setattr(link_state, "MAX_SILENCES", 0)
    crowd = Crowd(1000)
    crowd.run(100.0)
    assert len(crowd.welcomed) < 500
