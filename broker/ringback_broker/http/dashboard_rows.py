"""Filtering, sorting and paging the rows of players and callbacks, so that a page gets only what it shows."""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from heapq import merge
from itertools import islice
from typing import Any

from ringback.protocol.control import Subject
from ringback_broker.http.dashboard_pace import Budget
from ringback_broker.http.dashboard_requests import BadRequest, PageRequest
from ringback_broker.http.dashboard_totals import Row

ListName = tuple[Subject, str, str, bool]
"""What is in a list, and how it is sorted: subject, text to match, column, and whether it descends."""

RowName = tuple[Any, ...]

MAX_LISTS = 16
"""How many lists are kept."""

MAX_WAIT_S = 5.0
"""How long a request waits until a new list may be made. Then it is refused."""

SORTED_AT_ONCE = 1000
"""Rows that are sorted in one go. The thread that routes frames gets the interpreter in between."""

_NAMED_BY = {Subject.PLAYERS: ("node", "player"), Subject.CALLBACKS: ("node", "side", "key")}
"""The columns that tell a row from all others."""

_MATCHED = {Subject.PLAYERS: "player", Subject.CALLBACKS: "key"}
"""The column that a filter looks into."""


class Lists:
    """The lists that were asked for lately. Making them takes a bounded share of the time.

    A list has the names of its rows. The rows themselves are always those of the latest answer.

    Args:
        budget: for making lists.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._making = asyncio.Lock()
        self._kept: OrderedDict[ListName, tuple[int, list[RowName]]] = OrderedDict()
        self._rows: dict[Subject, tuple[int, dict[RowName, Row]]] = {}

    async def page(self, subject: Subject, rows: list[Row], number: int, wanted: PageRequest) -> Row:
        """Return a page, with the counts that belong to it.

        Args:
            rows: all rows.
            number: of the answer that has these rows. Until a new list may be made, an older one is used.

        Raises:
            BadRequest: too many different lists were asked for.
        """
        name = (subject, wanted.match, wanted.sort, wanted.descending)
        kept = self._kept.get(name)
        if kept is None or (kept[0] != number and not self._budget.left_s):
            kept = await self._made(name, rows, number, wanted)
        self._kept.move_to_end(name)
        listed, by_name = kept[1], self._by_name(subject, rows, number)
        offset = min(wanted.offset, max(0, len(listed) - 1) // wanted.limit * wanted.limit)
        shown = listed[offset : offset + wanted.limit]
        return {
            "total": len(rows),
            "matching": len(listed),
            "offset": offset,
            "rows": [by_name[one] for one in shown if one in by_name],
        }

    async def _made(
        self, name: ListName, rows: list[Row], number: int, wanted: PageRequest
    ) -> tuple[int, list[RowName]]:
        try:
            async with asyncio.timeout(MAX_WAIT_S), self._making:
                if (kept := self._kept.get(name)) is not None and kept[0] == number:
                    return kept
                await asyncio.sleep(self._budget.left_s)
        except TimeoutError:
            raise BadRequest(
                429, "too many different filters and orders at one time: try again later"
            ) from None
        begun_at = time.thread_time()
        found = in_order(matching(rows, _MATCHED[name[0]], wanted.match), wanted)
        self._kept[name] = kept = number, [row_name(name[0], row) for row in found]
        self._budget.spend(time.thread_time() - begun_at)
        while len(self._kept) > MAX_LISTS:
            self._kept.popitem(last=False)
        return kept

    def _by_name(self, subject: Subject, rows: list[Row], number: int) -> dict[RowName, Row]:
        """Return the rows of an answer by their names."""
        kept = self._rows.get(subject)
        if kept is None or kept[0] != number:
            begun_at = time.thread_time()
            self._rows[subject] = kept = number, {row_name(subject, row): row for row in rows}
            self._budget.spend(time.thread_time() - begun_at)
        return kept[1]


def row_name(subject: Subject, row: Row) -> RowName:
    """Return what tells a row from all others of its subject."""
    return tuple(row.get(column) for column in _NAMED_BY[subject])


def matching(rows: list[Row], column: str, text: str) -> list[Row]:
    """Return the rows that contain a text in a column."""
    return [row for row in rows if text in str(row[column]).casefold()] if text else rows


def in_order(rows: list[Row], wanted: PageRequest) -> list[Row]:
    """Return rows in the order that a request asks for, those without a value last."""
    column = wanted.sort
    if not column:
        return rows
    there = [(_sort_key(row[column]), place) for place, row in enumerate(rows) if row.get(column) is not None]
    parts = iter(there)
    runs = [sorted(run) for run in iter(lambda: list(islice(parts, SORTED_AT_ONCE)), [])]
    ordered = [rows[place] for _, place in merge(*runs)]
    if wanted.descending:
        ordered.reverse()
    return ordered + [row for row in rows if row.get(column) is None]


def _sort_key(value: Any) -> tuple[int, Any]:
    """Return what rows are sorted by: numbers first, then texts, in which numbers count as numbers."""
    if not isinstance(value, str):
        return 0, value
    parts = re.split(r"([0-9]+)", value.casefold())
    return 1, [int(part) if place % 2 else part for place, part in enumerate(parts)]
