"""The dashboard's operator: it asks the broker as any other operator does, while somebody looks at the
page."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ringback.aio import Operator
from ringback.credentials import KeyPair
from ringback.errors import CallbackError, Draining, LinkError
from ringback.protocol.control import Subject, named
from ringback.protocol.json_values import parse_schema
from ringback.protocol.significant import rounded
from ringback_broker.operations.snapshot import Snapshot

CONNECT_S = 3.0
QUERY_S = 3.0
POLL_S = 1.0
"""How often it asks the broker, however many pages are open."""

PAUSE_SHARE = 20
"""The pause after an answer is at least this many times as long as the answer took. With many players,
answers take long; so they take at most a twentieth of the broker's time."""

IDLE_S = 90.0
"""It leaves the broker when nobody has asked for this long. No call takes longer."""

RATES_WITHIN_S = 60.0
"""There are no rates if the answer before is older than this: they would say nothing about now."""

MAX_EVENTS = 100

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class State:
    """What the broker knew at one moment.

    Attributes:
        number: grows with each answer.
        players, callbacks: all rows, each by the names of its columns.
        counters: the broker's counters, by name.
        rates: by how much each counter grew per second since the answer before; empty for the first answer.
        failed: how many calls of all callbacks failed since the broker started, by the name of their code.
        failed_rates: by how much each of them grew per second since the answer before; empty for the first.
        calls_a_second: calls of all callbacks per second since the answer before; None for the first answer.
        events: the latest events, the oldest first.
    """

    number: int
    players: list[Row]
    callbacks: list[Row]
    counters: dict[str, int]
    rates: dict[str, float]
    failed: dict[str, int]
    failed_rates: dict[str, float]
    calls_a_second: float | None
    events: list[Row]


class DashboardOperator:
    """Asks the broker once for all pages that are open. It belongs to the event loop that uses it first.

    Args:
        address: where operators connect to the broker.
        keys: its own key pair, with the broker's public key; None: connections are not encrypted.
        look: returns the latest snapshot of the broker.
    """

    def __init__(self, address: str, keys: KeyPair | None, look: Callable[[], Snapshot]) -> None:
        self.look = look
        self._address = address
        self._keys = keys
        self._operator: Operator | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._dialling = asyncio.Lock()
        self._polling = asyncio.Lock()
        self._used_at = 0.0
        self._polled_at = self._next_poll_at = -RATES_WITHIN_S
        self._state: State | None = None
        self._failure: LinkError | CallbackError | None = None
        self._events: deque[Row] = deque(maxlen=MAX_EVENTS)

    async def operator(self) -> Operator:
        """Return an operator that is connected.

        Raises:
            LinkError: the broker cannot be reached, or refuses.
            Draining: the broker drains.
        """
        self._used_at = time.monotonic()
        async with self._dialling:
            if self._operator is None or not self._operator.connected:
                await self._leave()
                if self.look().draining:  # the broker would wait for one more peer to leave
                    raise Draining("the broker is stopping")
                operator = Operator(self._address, connect_timeout=CONNECT_S, key_file=self._keys)
                self._operator = await operator.start()
                self._leave_unused()
            return self._operator

    async def state(self) -> State:
        """Return what the broker knows. It is at most as old as the pause between two answers.

        Raises:
            LinkError, CallbackError: the broker could not be asked.
        """
        async with self._polling:
            begun_at = time.monotonic()
            if begun_at >= self._next_poll_at:
                try:
                    self._state = await self._poll()
                    self._failure = None
                except (LinkError, CallbackError) as error:
                    self._failure = error
                now = time.monotonic()
                self._next_poll_at = now + max(POLL_S, PAUSE_SHARE * (now - begun_at))
            self._used_at = begun_at
            if self._failure is not None:
                self._next_poll_at = min(self._next_poll_at, time.monotonic() + POLL_S)
                raise self._failure
            assert self._state is not None
            return self._state

    async def schema(self, key: str, side: str) -> Any:
        """Return the JSON Schema of what a callback takes; None if it has said nothing that is JSON.

        Raises:
            LinkError, CallbackError: the broker could not be asked.
        """
        for row in await _ask(await self.operator(), Subject.SCHEMAS):
            if (row["key"], row["side"]) == (key, side):
                return parse_schema(row["schema"])
        return None

    async def close(self) -> None:
        """Leave the broker."""
        async with self._dialling:
            await self._leave()

    async def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._operator is not None:
            await self._operator.close()
            self._operator = None

    def _leave_unused(self) -> None:
        left_s = self._used_at + IDLE_S - time.monotonic()
        if left_s > 0:
            self._timer = asyncio.get_running_loop().call_later(left_s, self._leave_unused)
        else:
            self._leaving = asyncio.create_task(self.close())

    async def _poll(self) -> State:
        operator = await self.operator()
        players = await _ask(operator, Subject.PLAYERS)
        callbacks = await _ask(operator, Subject.CALLBACKS)
        counters: dict[str, int] = {
            row["name"]: row["value"] for row in await _ask(operator, Subject.COUNTERS)
        }
        seen = self._events[-1]["number"] if self._events else 0
        self._events += await _ask(operator, Subject.EVENTS, after=seen)
        now, before = time.monotonic(), self._state
        elapsed_s, self._polled_at = now - self._polled_at, now
        rates: dict[str, float] = {}
        failed, failed_rates = _failed(callbacks), dict[str, float]()
        calls_a_second = None
        if before is not None and elapsed_s <= RATES_WITHIN_S:
            rates = {
                name: rounded((value - before.counters[name]) / elapsed_s)
                for name, value in counters.items()
                if name in before.counters
            }
            failed_rates = {
                code: rounded((count - before.failed.get(code, 0)) / elapsed_s)
                for code, count in failed.items()
            }
            calls_a_second = rounded((_calls(callbacks) - _calls(before.callbacks)) / elapsed_s)
        return State(
            1 if before is None else before.number + 1,
            players,
            callbacks,
            counters,
            rates,
            failed,
            failed_rates,
            calls_a_second,
            list(self._events),
        )


async def _ask(operator: Operator, subject: Subject, after: int = 0) -> list[Row]:
    """Return all rows of a subject. Ask for them page by page."""
    rows: list[Row] = []
    following: int | None = after
    while following is not None:
        page, following = await operator.query(subject, after=following, timeout=QUERY_S)
        rows += [named(subject, row) for row in page]
    return rows


def _failed(callbacks: list[Row]) -> dict[str, int]:
    """Return how many calls have failed since the broker started, by the name of the error code."""
    failed: dict[str, int] = {}
    for row in callbacks:
        for code, count in row["failed"].items():
            failed[code] = failed.get(code, 0) + count
    return failed


def _calls(callbacks: list[Row]) -> int:
    """Return how many calls have ended since the broker started."""
    return sum(row["calls"] for row in callbacks)
