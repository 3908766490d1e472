"""How the dashboard bounds what it costs, however many people look and however many players there are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from ringback.errors import CallbackError, LinkError

POLL_S = 1.0
"""How often the dashboard asks the broker the same question, however many pages are open."""

ASKING_PAUSES = 33
LOOKING_PAUSES = 50
"""After a piece of work, the pause is this many times as long as the work. The first is for questions to the
broker, the second for what is done with their rows. Both together take less than a twentieth of the time."""

OLD_S = 30.0
"""An answer that is older than this is never used, whatever asking anew costs."""

MISSING_S = 2.5
"""How long a query over a realm may wait for a node that does not answer. The broker does not work then."""


class Budget:
    """The time that one kind of work may take.

    Args:
        pauses: how many times as long as the work the pause after it is.
    """

    def __init__(self, pauses: int) -> None:
        self._pauses = pauses
        self._free_at = 0.0

    def spend(self, worked_s: float) -> None:
        """Note a piece of work that has just ended."""
        self._free_at = max(self._free_at, time.monotonic()) + self._pauses * worked_s

    @property
    def left_s(self) -> float:
        """How long the pause still lasts, in seconds; 0.0 if it is over."""
        return max(0.0, self._free_at - time.monotonic())


class Answered(Protocol):
    """An answer of the broker, or of all nodes of its realm."""

    @property
    def missing(self) -> dict[str, str]:
        """The nodes that did not answer, with the reason for each."""
        ...


A = TypeVar("A", bound=Answered)


class Paced(Generic[A]):
    """The latest answer to one question. It is asked anew when that is due, however many wait for it.

    Args:
        ask: asks the question. It is given the answer before.
        clock: measures the work. The time until the answer is there tells how long the broker works on
            many rows. For one row it mostly tells how busy the machine is, so that needs `time.thread_time`.
    """

    def __init__(
        self,
        ask: Callable[[A | None], Awaitable[A]],
        budget: Budget,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._budget = budget
        self._clock = clock
        self._asking = asyncio.Lock()
        self._next_at = 0.0
        self._old_at = 0.0
        self._answer: A | None = None
        self._failure: LinkError | CallbackError | None = None

    async def latest(self) -> A:
        """Return the answer. It is at most as old as the pause between two of them.

        Raises:
            LinkError, CallbackError: the broker could not be asked.
        """
        async with self._asking:
            now = time.monotonic()
            usable = self._failure is None and now < self._old_at
            if now >= self._next_at and not (usable and self._budget.left_s):
                await self._ask_anew()
            if self._failure is not None:
                raise self._failure
            assert self._answer is not None
            return self._answer

    async def _ask_anew(self) -> None:
        asked_at, begun_at = time.monotonic(), self._clock()
        try:
            self._answer = await self._ask(self._answer)
            self._failure = None
        except (LinkError, CallbackError) as error:
            self._failure = error
        else:
            self._old_at = asked_at + OLD_S
            waited_s = MISSING_S if self._answer.missing else 0.0
            self._budget.spend(max(0.0, self._clock() - begun_at - waited_s))
        self._next_at = time.monotonic() + POLL_S
