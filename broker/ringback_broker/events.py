"""What has happened to peers lately: for operators who ask why somebody is not there."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Any

from ringback.protocol.control import COLUMNS, Subject
from ringback.protocol.frames import Role
from ringback_broker.session import Report

MAX_EVENTS = 1000

_FIELDS = COLUMNS[Subject.EVENTS][2:]
"""Of a row, after its number and its time: fields of a report, None where it has none."""


class Events:
    """The latest reports, each with a number that only grows."""

    def __init__(self) -> None:
        self._rows: deque[tuple[Any, ...]] = deque(maxlen=MAX_EVENTS)
        self._number = 0

    def add(self, report: Report, unix_s: float) -> None:
        """Takes one, unless an operator only comes or goes: who looks for something would find itself."""
        session = report.session
        if report.event in ("joined", "left") and session is not None and session.role is Role.OPERATOR:
            return
        fields = report.fields()
        self._number += 1
        self._rows.append((self._number, round(unix_s, 3), *map(fields.get, _FIELDS)))

    def after(self, number: int, most: int) -> list[tuple[Any, ...]]:
        """Gives the oldest rows with a higher number."""
        return list(islice((row for row in self._rows if row[0] > number), most))
