"""The dashboard's operator: it asks the broker as any other operator does."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ringback.aio import Operator
from ringback.credentials import KeyPair
from ringback.errors import CallbackError, Draining, Forbidden
from ringback.protocol.control import Subject, named
from ringback.protocol.json_values import parse_schema
from ringback.protocol.player_ids import PlayerID
from ringback.protocol.reports import CallFilter
from ringback_broker.http.dashboard_failures import latest_failures
from ringback_broker.http.dashboard_pace import ASKING_PAUSES, LOOKING_PAUSES, Budget, Paced
from ringback_broker.http.dashboard_totals import (
    Latencies,
    Row,
    Totals,
    add_latencies,
    count_totals,
    growth,
    sums,
)
from ringback_broker.operations.snapshot import Snapshot

CONNECT_S = 3.0
QUERY_S = 3.0
MAX_SINGLES = 64
"""How many single players are kept."""

RATES_WITHIN_S = 60.0
"""There are no rates if the answer before is older than this: they would say nothing about now."""

MAX_EVENTS = 1000


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one subject at one moment.

    Attributes:
        number: grows with each answer.
        rows: all rows, each by the names of its columns. In a realm, each also has `node`.
        missing: the nodes that did not answer, with the reason for each.
    """

    number: int
    rows: list[Row]
    missing: dict[str, str]


@dataclass(frozen=True, slots=True)
class State:
    """What the broker knew at one moment.

    Attributes:
        number: grows with each answer.
        nodes: the rows of the nodes, the broker itself first; of a broker alone, one without a name.
        missing: the nodes that did not answer, with the reason for each.
        callbacks: all rows, each by the names of its columns. In a realm, each also has `node`.
        counters: the broker's counters, by name; in a realm, those of all nodes together.
        rates: by how much each counter grew per second since the answer before; empty for the first answer.
        failed: how many calls of all callbacks failed since the broker started, by the name of their code.
        failed_rates: by how much each of them grew per second since the answer before; empty for the first.
        calls_a_second: calls of all callbacks per second since the answer before; None for the first answer.
        events: the latest events, the oldest first. In a realm, each also has `node`.
        failures: the latest failed calls, the latest first. In a realm, each also has `node`. None: the
            dashboard's operator may not see them.
        latencies: the calls with results of the last minute, over all nodes.
        totals: what the rates are computed from.
    """

    number: int
    nodes: list[Row]
    missing: dict[str, str]
    callbacks: list[Row]
    counters: dict[str, int]
    rates: dict[str, float]
    failed: dict[str, int]
    failed_rates: dict[str, float]
    calls_a_second: float | None
    events: list[Row]
    failures: list[Row] | None
    latencies: Latencies
    totals: Totals


class DashboardOperator:
    """Asks the broker once for all pages that are open. It belongs to the event loop that uses it first.

    Args:
        address: where operators connect to the broker.
        keys: its own key pair, with the broker's public key; None: connections are not encrypted.
        look: returns the latest snapshot of the broker.

    Attributes:
        asking: the time that questions to the broker may take.
        looking: the time that questions about one player may take, and what is done with rows.
    """

    def __init__(self, address: str, keys: KeyPair | None, look: Callable[[], Snapshot]) -> None:
        self.look = look
        self.asking = Budget(ASKING_PAUSES)
        self.looking = Budget(LOOKING_PAUSES)
        self._address = address
        self._keys = keys
        self._operator: Operator | None = None
        self._dialling = asyncio.Lock()
        self._state = Paced(self._ask_state, self.asking)
        self._players: Paced[Rows] = Paced(partial(self._ask_rows, Subject.PLAYERS), self.asking)
        self._schemas: Paced[Rows] = Paced(partial(self._ask_rows, Subject.SCHEMAS), self.asking)
        self._singles: OrderedDict[tuple[type, PlayerID], Paced[Rows]] = OrderedDict()
        self._asked_at = -RATES_WITHIN_S
        self._events: deque[Row] = deque(maxlen=MAX_EVENTS)
        self._new_events = Follower(Subject.EVENTS)
        self._failures: list[Row] | None = []
        self._new_failures = Follower(Subject.FAILURES)
        self._forbidden_to: Operator | None = None

    async def operator(self) -> Operator:
        """Return an operator that is connected.

        Raises:
            LinkError: the broker cannot be reached, or refuses.
            Draining: the broker drains.
        """
        async with self._dialling:
            if self._operator is None or not self._operator.connected:
                await self._leave()
                if self.look().draining:  # the broker would wait for one more peer to leave
                    raise Draining("the broker is stopping")
                operator = Operator(self._address, connect_timeout=CONNECT_S, key_file=self._keys)
                operator._endpoint.end_with_broker()
                self._operator = await operator.start()
            return self._operator

    async def state(self) -> State:
        """Return what the broker knows, but for its players.

        Raises:
            LinkError, CallbackError: the broker could not be asked.
        """
        return await self._state.latest()

    async def players(self) -> Rows:
        """Return the rows of all players.

        Raises:
            LinkError, CallbackError: the broker could not be asked.
        """
        return await self._players.latest()

    async def player_ids(self) -> list[PlayerID]:
        """Return the IDs of all players that are connected now, each once.

        Raises:
            LinkError, CallbackError: the broker could not be asked.
        """
        begun_at = time.monotonic()
        found = await self._ask_rows(Subject.PLAYERS, None)
        self.asking.spend(time.monotonic() - begun_at)
        # A player that goes to another node just now may be at both.
        return list(dict.fromkeys(row["player"] for row in found.rows))

    async def player(self, player_id: PlayerID) -> Rows:
        """Return the row of one player: one row, or none if it is not connected.

        Raises:
            LinkError, CallbackError: the broker could not be asked.
        """
        name = (type(player_id), player_id)
        single = self._singles.get(name)
        if single is None:
            await asyncio.sleep(min(self.looking.left_s, QUERY_S))
            ask = partial(self._ask_rows, Subject.PLAYERS, player_id=player_id)
            single = self._singles.setdefault(name, Paced(ask, self.looking, time.thread_time))
        self._singles.move_to_end(name)
        while len(self._singles) > MAX_SINGLES:
            self._singles.popitem(last=False)
        return await single.latest()

    async def schema(self, key: str, side: str) -> Any:
        """Return the JSON Schema of what a callback takes; None if it has said nothing that is JSON.

        Raises:
            LinkError, CallbackError: the broker could not be asked.
        """
        for row in (await self._schemas.latest()).rows:
            if (row["key"], row["side"]) == (key, side):
                return parse_schema(row["schema"])
        return None

    async def watch(self, watched: CallFilter, for_s: float) -> dict[str, str]:
        """Have calls watched at all nodes. Return the nodes that do not, with the reason for each.

        Raises:
            LinkError, CallbackError: the broker itself does not watch.
        """
        operator = await self.operator()
        missing: dict[str, str] = {}
        calls = {
            row["node"]: operator.watch(
                watched.player_id, watched.pattern, for_s=for_s, node=row["node"], timeout=QUERY_S
            )
            for row in await _list_nodes(operator)
        }
        for node, call in calls.items():
            try:
                await call
            except CallbackError as error:
                if node in (None, operator.node) or isinstance(error, Forbidden):
                    raise
                missing[node] = error.message
        return missing

    async def calls(self, follower: Follower) -> tuple[list[Row], dict[str, str]]:
        """Return the watched calls since the last time, and the nodes that are missing.

        Raises:
            LinkError, CallbackError: the broker could not be asked.
        """
        operator = await self.operator()
        return await follower.rows(operator, await _list_nodes(operator))

    async def close(self) -> None:
        """Leave the broker."""
        async with self._dialling:
            await self._leave()

    async def _leave(self) -> None:
        if self._operator is not None:
            await self._operator.close()
            self._operator = None

    async def _ask_rows(
        self, subject: Subject, before: Rows | None, player_id: PlayerID | None = None
    ) -> Rows:
        rows, missing = await _ask(await self.operator(), subject, player_id=player_id)
        return Rows(1 if before is None else before.number + 1, rows, missing)

    async def _ask_state(self, before: State | None) -> State:
        operator = await self.operator()
        nodes = await _list_nodes(operator)
        # At one time: a node that does not answer takes two seconds.
        *found, (latencies, _), failures = await asyncio.gather(
            _ask(operator, Subject.CALLBACKS),
            _ask(operator, Subject.COUNTERS),
            self._new_events.rows(operator, nodes),
            _ask(operator, Subject.LATENCIES),
            self._ask_failures(operator, nodes),
        )
        callbacks, counted, events = (rows for rows, _ in found)
        if failures is None:
            self._failures = None
        elif failures or self._failures is None:
            self._failures = latest_failures([*failures, *(self._failures or ())], callbacks)
        missing = {name: why for _, without in found for name, why in without.items()}
        self._events = deque(sorted([*self._events, *events], key=_when), MAX_EVENTS)
        now = time.monotonic()
        elapsed_s, self._asked_at = now - self._asked_at, now
        totals = count_totals(callbacks, counted)
        counters, failed = sums(totals.counters), sums(totals.failed)
        rates, failed_rates, calls_a_second = dict[str, float](), dict[str, float](), None
        if before is not None and elapsed_s <= RATES_WITHIN_S:
            rates = growth(totals.counters, before.totals.counters, elapsed_s)
            failed_rates = growth(totals.failed, before.totals.failed, elapsed_s)
            calls_a_second = growth(totals.calls, before.totals.calls, elapsed_s).get("calls", 0.0)
        return State(
            number=1 if before is None else before.number + 1,
            nodes=nodes,
            missing=missing,
            callbacks=callbacks,
            counters=counters,
            rates=rates,
            failed=failed,
            failed_rates=failed_rates,
            calls_a_second=calls_a_second,
            events=list(self._events),
            failures=self._failures,
            latencies=add_latencies(latencies),
            totals=totals,
        )

    async def _ask_failures(self, operator: Operator, nodes: list[Row]) -> list[Row] | None:
        """Return the calls that failed since the last time; None: the operator may not see them."""
        if operator is self._forbidden_to:  # the broker logs each question that it refuses
            return None
        try:
            rows, _ = await self._new_failures.rows(operator, nodes)  # the other answers say who is missing
        except Forbidden:
            self._forbidden_to = operator
            return None
        return rows


class Follower:
    """Reads the new rows of a subject whose rows have numbers that grow, at all nodes.

    Attributes:
        lost: how many rows nodes had dropped before they were read.
    """

    def __init__(self, subject: Subject) -> None:
        self.lost = 0
        self._subject = subject
        self._seen: dict[str, tuple[str, int]] = {}  # the boot of each node, and the number of its last row

    async def rows(self, operator: Operator, nodes: list[Row]) -> tuple[list[Row], dict[str, str]]:
        """Return the rows since the last time, and the nodes that are missing.

        Raises:
            LinkError, CallbackError: the broker could not be asked.
        """
        boots = {row["node"] or "": row["boot"] or "" for row in nodes}
        seen = {name: self._seen.get(name, (boot, 0)) for name, boot in boots.items()}
        # Of a node that was started anew, the numbers begin anew.
        after = {name: number if boot == boots[name] else 0 for name, (boot, number) in seen.items()}
        rows, missing = await _ask(operator, self._subject, after)
        for row in rows:
            name = row.get("node", "")
            self.lost += max(0, row["number"] - after.get(name, 0) - 1)
            after[name] = row["number"]
        self._seen = {name: (boots.get(name, ""), number) for name, number in after.items()}
        return rows, missing


def _when(event: Row) -> float:
    at: float = event["unix_s"]
    return at


async def _list_nodes(operator: Operator) -> list[Row]:
    """Return the rows of the nodes."""
    rows: list[Row] = []
    following: int | None = 0
    while following is not None:
        page, following = await operator.query(Subject.NODES, after=following, timeout=QUERY_S)
        rows += [named(Subject.NODES, row) for row in page]
    return rows


async def _ask(
    operator: Operator,
    subject: Subject,
    after: dict[str, int] | None = None,
    player_id: PlayerID | None = None,
) -> tuple[list[Row], dict[str, str]]:
    """Return all rows of a subject at all nodes, and the nodes that are missing. Ask page by page."""
    rows: list[Row] = []
    missing: dict[str, str] = {}
    while True:
        page, after, without = await operator.query_realm(
            subject, after=after, player_id=player_id, timeout=QUERY_S
        )
        missing |= without
        for name, *row in page:
            rows.append({**({} if name is None else {"node": name}), **named(subject, row)})
        if after is None:
            return rows, missing
