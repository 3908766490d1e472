"""The dashboard's operator: it asks the broker as any other operator does, while somebody looks at the
page."""

from __future__ import annotations

import asyncio
import time
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

MISSING_S = 2.5
"""How long a query over a realm may wait for a node that does not answer. The broker does not work then."""

IDLE_S = 90.0
"""It leaves the broker when nobody has asked for this long. No call takes longer."""

RATES_WITHIN_S = 60.0
"""There are no rates if the answer before is older than this: they would say nothing about now."""

MAX_EVENTS = 100

Row = dict[str, Any]


ByNode = dict[str, dict[str, int]]
"""Values by the name of the node, and by their own name. A broker alone has an empty name."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What grew since brokers started, by node: a node may be missing now and then.

    Attributes:
        counters: the counters.
        failed: how many calls failed, by the name of the error code.
        calls: how many calls ended, under the name `calls`.
    """

    counters: ByNode
    failed: ByNode
    calls: ByNode


@dataclass(frozen=True, slots=True)
class State:
    """What the broker knew at one moment.

    Attributes:
        number: grows with each answer.
        nodes: the rows of the nodes, the broker itself first; of a broker alone, one without a name.
        missing: the nodes that did not answer, with the reason for each.
        players, callbacks: all rows, each by the names of its columns. In a realm, each also has `node`.
        counters: the broker's counters, by name; in a realm, those of all nodes together.
        rates: by how much each counter grew per second since the answer before; empty for the first answer.
        failed: how many calls of all callbacks failed since the broker started, by the name of their code.
        failed_rates: by how much each of them grew per second since the answer before; empty for the first.
        calls_a_second: calls of all callbacks per second since the answer before; None for the first answer.
        events: the latest events, the oldest first. In a realm, each also has `node`.
        totals: what the rates are computed from.
    """

    number: int
    nodes: list[Row]
    missing: dict[str, str]
    players: list[Row]
    callbacks: list[Row]
    counters: dict[str, int]
    rates: dict[str, float]
    failed: dict[str, int]
    failed_rates: dict[str, float]
    calls_a_second: float | None
    events: list[Row]
    totals: Totals


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
        self._events: list[Row] = []
        self._seen: dict[str, tuple[str, int]] = {}  # the boot of each node, and the number of its last event

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
                waited_s = MISSING_S if self._state is not None and self._state.missing else 0.0
                worked_s = max(0.0, now - begun_at - waited_s)
                self._next_poll_at = now + max(POLL_S, PAUSE_SHARE * worked_s)
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
        rows, _ = await _ask(await self.operator(), Subject.SCHEMAS)
        for row in rows:
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
        nodes = await _nodes(operator)
        # At one time: a node that does not answer takes two seconds.
        found = await asyncio.gather(
            *(_ask(operator, subject) for subject in (Subject.PLAYERS, Subject.CALLBACKS, Subject.COUNTERS)),
            self._new_events(operator, nodes),
        )
        players, callbacks, counted, events = (rows for rows, _ in found)
        missing = {name: why for _, without in found for name, why in without.items()}
        self._events = sorted([*self._events, *events], key=lambda row: row["unix_s"])[-MAX_EVENTS:]
        now, before = time.monotonic(), self._state
        elapsed_s, self._polled_at = now - self._polled_at, now
        totals = _totals(callbacks, counted)
        counters, failed = _sums(totals.counters), _sums(totals.failed)
        rates, failed_rates, calls_a_second = dict[str, float](), dict[str, float](), None
        if before is not None and elapsed_s <= RATES_WITHIN_S:
            rates = _rates(totals.counters, before.totals.counters, elapsed_s)
            failed_rates = _rates(totals.failed, before.totals.failed, elapsed_s)
            calls_a_second = _rates(totals.calls, before.totals.calls, elapsed_s).get("calls", 0.0)
        return State(
            1 if before is None else before.number + 1,
            nodes,
            missing,
            players,
            callbacks,
            counters,
            rates,
            failed,
            failed_rates,
            calls_a_second,
            list(self._events),
            totals,
        )

    async def _new_events(self, operator: Operator, nodes: list[Row]) -> tuple[list[Row], dict[str, str]]:
        """Return the events since the last time."""
        boots = {row["node"] or "": row["boot"] or "" for row in nodes}
        seen = {name: self._seen.get(name, (boot, 0)) for name, boot in boots.items()}
        # Of a node that was started anew, the numbers begin anew.
        after = {name: number if boot == boots[name] else 0 for name, (boot, number) in seen.items()}
        rows, missing = await _ask(operator, Subject.EVENTS, after)
        self._seen = {name: (boots[name], number) for name, number in after.items()}
        for row in rows:
            name = row.get("node", "")
            self._seen[name] = boots.get(name, ""), row["number"]
        return rows, missing


async def _nodes(operator: Operator) -> list[Row]:
    """Return the rows of the nodes."""
    rows: list[Row] = []
    following: int | None = 0
    while following is not None:
        page, following = await operator.query(Subject.NODES, after=following, timeout=QUERY_S)
        rows += [named(Subject.NODES, row) for row in page]
    return rows


async def _ask(
    operator: Operator, subject: Subject, after: dict[str, int] | None = None
) -> tuple[list[Row], dict[str, str]]:
    """Return all rows of a subject at all nodes, and the nodes that are missing. Ask page by page."""
    rows: list[Row] = []
    missing: dict[str, str] = {}
    while True:
        page, after, without = await operator.query_realm(subject, after=after, timeout=QUERY_S)
        missing |= without
        for name, *row in page:
            rows.append({**({} if name is None else {"node": name}), **named(subject, row)})
        if after is None:
            return rows, missing


def _totals(callbacks: list[Row], counted: list[Row]) -> Totals:
    """Return what grew since brokers started."""
    totals = Totals({}, {}, {})
    for row in counted:
        name = row.get("node", "")
        totals.counters.setdefault(name, {})[row["name"]] = row["value"]
        totals.failed.setdefault(name, {})
        totals.calls.setdefault(name, {"calls": 0})
    for row in callbacks:
        name = row.get("node", "")
        failed, calls = totals.failed.setdefault(name, {}), totals.calls.setdefault(name, {"calls": 0})
        calls["calls"] += row["calls"]
        for code, count in row["failed"].items():
            failed[code] = failed.get(code, 0) + count
    return totals


def _sums(by_node: ByNode) -> dict[str, int]:
    sums: dict[str, int] = {}
    for values in by_node.values():
        for name, value in values.items():
            sums[name] = sums.get(name, 0) + value
    return sums


def _rates(now: ByNode, before: ByNode, elapsed_s: float) -> dict[str, float]:
    """Return by how much values grew per second at the nodes that answered both times, and still run."""
    grown: dict[str, int] = {}
    for node in now.keys() & before.keys():
        for name, value in now[node].items():
            grown[name] = grown.get(name, 0) + max(0, value - before[node].get(name, 0))
    return {name: rounded(value / elapsed_s) for name, value in grown.items()}
