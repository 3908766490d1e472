"""The live tap: the calls that pages of the dashboard watch, one by one."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Any

from ringback.errors import CallbackError, LinkError
from ringback.protocol.control import Subject
from ringback.protocol.reports import CallFilter, duration_ms
from ringback_broker.http.dashboard_faults import RETRY_S, Faults, pause
from ringback_broker.http.dashboard_operator import DashboardOperator, Follower
from ringback_broker.http.dashboard_requests import BadRequest, TapRequest
from ringback_broker.http.dashboard_totals import Row

log = logging.getLogger("ringback.broker")

MAX_FILTERS = 4
"""Filters at one time. The broker has room for 16 watches, of all its operators."""

MAX_CALLS = 1000
"""How many calls are kept, the latest ones."""

MAX_ROWS = 200
"""Calls in one response, the latest ones."""

ASK_S = 0.5
MAX_ASK_S = 2.0
"""The pause before it asks for calls again: at least, and at most. So watches are renewed in time."""

WATCH_S = 10.0
"""How long a watch lasts. It is renewed when half of that is over. So it ends soon after this broker does."""

IDLE_S = 5.0
"""A watch is ended when no page has asked for its calls for this long."""


class Tap:
    """Watches calls while pages ask for them, and keeps the latest. All numbers are its own.

    A call that is dropped has a number too. So a page sees how many it has missed.
    """

    def __init__(self, operator: DashboardOperator) -> None:
        self._operator = operator
        self._asked_at: dict[CallFilter, float] = {}
        self._renew_at: dict[CallFilter, float] = {}
        self._ordering = asyncio.Lock()
        self._closing = asyncio.Event()
        self._follower = Follower(Subject.CALLS)
        self._following: asyncio.Task[None] | None = None
        self._calls: deque[tuple[int, Row]] = deque(maxlen=MAX_CALLS)
        self._number = 0
        self._missing: dict[str, str] = {}

    async def read(self, wanted: TapRequest, by: str) -> dict[str, Any]:
        """Return the calls of a filter that ended since the response before, and see that more are watched.

        Args:
            by: who asks, for the log.

        Raises:
            LinkError, CallbackError: the calls cannot be watched.
            BadRequest: too many filters are used at one time.
        """
        async with self._ordering:
            if wanted.watched not in self._renew_at or not self._follows:
                await self._begin(wanted.watched, by)
            self._asked_at[wanted.watched] = time.monotonic()
        after = self._number if wanted.after is None else min(wanted.after, self._number)
        fresh = [call for number, call in self._calls if number > after]
        chosen = [
            call
            for call in fresh
            if wanted.watched.matches(call["player"], call["key"])
            and not (wanted.errors_only and call["outcome"] == "OK")
        ]
        shown = chosen[-MAX_ROWS:]
        dropped = self._number - after - len(fresh) + len(chosen) - len(shown)
        return {"after": self._number, "calls": shown, "dropped": dropped, "missing": self._missing}

    async def close(self) -> None:
        """Stop. The broker ends its watches soon."""
        self._closing.set()
        if self._following is not None:
            self._following.cancel()

    @property
    def _follows(self) -> bool:
        return self._following is not None and not self._following.done()

    async def _begin(self, watched: CallFilter, by: str) -> None:
        if len(self._renew_at) >= MAX_FILTERS:
            raise BadRequest(429, f"{MAX_FILTERS} filters at one time are allowed: try again later")
        if not self._follows:
            await self._operator.calls(self._follower)  # those that others watched before
            self._follower.lost = 0
        self._asked_at[watched] = time.monotonic()
        self._renew_at[watched] = self._asked_at[watched] + WATCH_S / 2
        try:
            self._missing = await self._operator.watch(watched, WATCH_S)
        except (LinkError, CallbackError):
            del self._renew_at[watched], self._asked_at[watched]
            raise
        keys = "all keys" if watched.pattern is None else repr(watched.pattern)
        whom = "all players" if watched.player_id is None else f"player {watched.player_id!r}"
        log.info("the dashboard watches calls of %s, of %s, for %s", keys, whom, by)
        if not self._follows:
            self._following = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        """Keep what is watched, until no page asks for it any more."""
        lost: int | None = None
        faults, fault_s = Faults("following watched calls"), 0.0
        while self._renew_at and not self._closing.is_set():
            await pause(self._closing, max(fault_s, min(max(ASK_S, self._operator.asking.left_s), MAX_ASK_S)))
            try:
                await self._renew()
                begun_at = time.monotonic()
                rows, _ = await self._operator.calls(self._follower)
                self._operator.asking.spend(time.monotonic() - begun_at)
                now_lost = (await self._operator.state()).counters.get("watched_calls_lost", 0)
            except (LinkError, CallbackError):
                continue  # the page learns of it from its other requests
            except Exception as error:
                faults.log(error)
                fault_s = min(max(2 * fault_s, MAX_ASK_S), RETRY_S)
                continue
            fault_s = 0.0
            self._number += self._follower.lost + max(0, now_lost - (now_lost if lost is None else lost))
            self._follower.lost, lost = 0, now_lost
            for row in rows:
                self._number += 1
                self._calls.append((self._number, _fields(row)))

    async def _renew(self) -> None:
        """Renew the watches of filters that are used, and end the others."""
        async with self._ordering:
            now = time.monotonic()
            for watched, renew_at in list(self._renew_at.items()):
                if now - self._asked_at[watched] > IDLE_S:
                    del self._renew_at[watched], self._asked_at[watched]
                    await self._operator.watch(watched, 0.0)
                elif now >= renew_at:
                    self._missing = await self._operator.watch(watched, WATCH_S)
                    self._renew_at[watched] = now + WATCH_S / 2


def _fields(row: Row) -> Row:
    """Return what a page shows of a watched call. Payloads are not watched."""
    names = ("node", "unix_s", "side", "player", "key", "outcome")
    return {**{name: row[name] for name in names if name in row}, "ms": duration_ms(row["took_s"])}
