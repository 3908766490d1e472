"""The calls and orders that pages of the dashboard make. Each has a line in the log, without its payload."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any

from ringback.errors import CallbackError, ConnectionLost, LinkError, UsageError
from ringback.protocol.json_values import jsonable
from ringback.protocol.significant import rounded
from ringback_broker.http.dashboard_operator import DashboardOperator
from ringback_broker.http.dashboard_requests import (
    BadRequest,
    DrainRequest,
    KickRequest,
    TriggerAllRequest,
    TriggerRequest,
    error_fields,
)

log = logging.getLogger("ringback.broker")

MAX_TRIGGERS = 8
"""Requests at one time that trigger or order something."""

ALL_IN_FLIGHT = 100
"""Of calls to all players, those that are in flight at one time. Each may bring 1 MiB."""

MAX_CODES = 20
"""The outcomes of calls to all players that are counted apart, the most frequent ones."""

ALL_ROWS = 50
ALL_ROW_CHARS = 2000
"""How many outcomes of single players are shown of calls to all players, and how long each may be."""


class DashboardCalls:
    """Makes the calls and orders that requests ask for."""

    def __init__(self, operator: DashboardOperator) -> None:
        self._operator = operator
        self._busy = 0
        self._calls_all = False

    @contextmanager
    def room(self) -> Iterator[None]:
        """Take the room of one request, from before its body is read to its outcome.

        Raises:
            BadRequest: there is none.
        """
        if self._busy >= MAX_TRIGGERS:
            raise BadRequest(429, f"{MAX_TRIGGERS} calls at one time are allowed: try again later")
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1

    async def trigger(self, wanted: TriggerRequest, by: str) -> dict[str, Any]:
        """Trigger a callback. Return its outcome."""
        what = f"triggered {wanted.side} {wanted.key!r} ({wanted.player_id!r})"
        return await _logged(what, by, self._trigger(wanted))

    async def trigger_all(self, wanted: TriggerAllRequest, by: str) -> dict[str, Any]:
        """Trigger a callback of all players. Return how often each outcome came, and the first outcomes."""
        if self._calls_all:
            raise BadRequest(429, "one call to all players at one time is allowed: try again later")
        self._calls_all = True
        try:
            return await _logged(f"triggered player {wanted.key!r} (all)", by, self._trigger_all(wanted))
        finally:
            self._calls_all = False

    async def kick(self, wanted: KickRequest, by: str) -> dict[str, Any]:
        """End the session of a player."""
        return await _logged(f"kicked player {wanted.player_id!r}", by, self._kick(wanted))

    async def drain(self, wanted: DrainRequest, by: str) -> dict[str, Any]:
        """Make the broker, or a node of its realm, drain."""
        where = "the broker" if wanted.node is None else f"node {wanted.node!r}"
        return await _logged(f"drained {where}", by, self._drain(wanted))

    async def _trigger(self, wanted: TriggerRequest) -> dict[str, Any]:
        operator = await self._operator.operator()
        trigger = operator.trigger_client_callback if wanted.side == "player" else operator.trigger_callback
        call = trigger(wanted.key, wanted.player_id, wanted.payload, timeout=wanted.timeout_s)
        await call
        return {"results": list(call.results)}

    async def _trigger_all(self, wanted: TriggerAllRequest) -> dict[str, Any]:
        operator = await self._operator.operator()
        deadline = time.monotonic() + wanted.timeout_s
        ids = await self._operator.player_ids()
        waiting = iter(ids)
        counts: Counter[str] = Counter()
        rows: list[dict[str, Any]] = []

        async def call_some() -> None:
            for player_id in waiting:
                left_s = max(0.0, deadline - time.monotonic())
                error: CallbackError | None = None
                try:
                    call = operator.trigger_client_callback(
                        wanted.key, player_id, wanted.payload, timeout=left_s, wait_for_room=True
                    )
                    await call
                except CallbackError as failed:
                    error = failed
                except UsageError as closed:  # the link was lost, and a new operator has taken its place
                    error = ConnectionLost(str(closed), executed="no")
                counts["OK" if error is None else error.code_name] += 1
                if len(rows) < ALL_ROWS:
                    outcome = (
                        {"results": list(call.results)} if error is None else {"error": error_fields(error)}
                    )
                    rows.append({"player": player_id, **_cut(outcome)})

        await asyncio.gather(*(call_some() for _ in range(min(ALL_IN_FLIGHT, len(ids)))))
        common = dict(counts.most_common(MAX_CODES))
        return {
            "players": len(ids),
            "counts": common,
            "other_codes": counts.total() - sum(common.values()),
            "rows": rows,
        }

    async def _kick(self, wanted: KickRequest) -> dict[str, Any]:
        operator = await self._operator.operator()
        await operator.kick(wanted.player_id, wanted.reason)
        return {}

    async def _drain(self, wanted: DrainRequest) -> dict[str, Any]:
        operator = await self._operator.operator()
        await operator.drain(wanted.grace_s, node=wanted.node)
        return {}


def _cut(outcome: dict[str, Any]) -> dict[str, Any]:
    """Return an outcome; if its JSON is too long, the beginning of that."""
    [value] = outcome.values()
    text = json.dumps(jsonable(value))
    return outcome if len(text) <= ALL_ROW_CHARS else {"cut": text[:ALL_ROW_CHARS], "chars": len(text)}


async def _logged(what: str, by: str, making: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """Return an outcome with the time that it took, and log it."""
    begun_at = time.monotonic()
    try:
        outcome = await making
    except (LinkError, CallbackError) as error:
        outcome = {"error": error_fields(error)}
    told = "done"
    if "error" in outcome:
        # ascii() escapes: a handler chooses its code, and a terminal obeys some characters.
        told = ascii(outcome["error"]["code"])[1:-1]
    elif "results" in outcome:
        told = "results"
    elif "counts" in outcome:
        told = f"{outcome['counts'].get('OK', 0)} of {outcome['players']} players replied with results"
    log.info("the dashboard %s for %s: %s", what, by, told)
    return {**outcome, "took_ms": rounded(1000 * (time.monotonic() - begun_at))}
