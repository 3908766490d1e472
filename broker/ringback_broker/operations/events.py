"""What has happened to peers lately: for operators who ask why somebody is not there."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ringback.protocol.control import COLUMNS, Subject
from ringback.protocol.frames import Role
from ringback_broker.peers.session import Session

MAX_EVENTS = 1000

_FIELDS = COLUMNS[Subject.EVENTS][2:]
"""Of a row, after its number and its time: fields of a report, None where it has none."""


@dataclass(frozen=True, slots=True)
class PeerEvent:
    """Something that happened to a peer, for the log and the audit log.

    Attributes:
        event: `joined`, `left`, `refused` or `ordered`.
        reason: why; of one that joined, what its client is.
        session: of one that has one, or had.
        remote: the address that it comes from.
        code: the name of the code that it was refused with, if it has one.
    """

    event: str
    reason: str
    session: Session | None = None
    remote: str = ""
    code: str = ""

    @property
    def detail(self) -> str:
        """For people: the reason, with what belongs to it."""
        if self.event != "refused":
            return self.reason
        return f"{self.remote} {self.code}: {self.reason}" if self.code else f"{self.remote} {self.reason}"

    def fields(self) -> dict[str, Any]:
        """For programs: what is known, by name."""
        fields: dict[str, Any] = {"event": self.event}
        session = self.session
        if session is not None:
            fields["role"] = session.role.value
            if session.player_id is not None:
                fields["player"] = session.player_id
            if session.identity is not None:
                fields["identity"] = session.identity.name
        fields["ip"] = self.remote if session is None else session.connection.remote
        if self.code:
            fields["code"] = self.code
        return {**fields, "reason": self.reason}


class EventLog:
    """The latest reports, each with a number that only grows."""

    def __init__(self) -> None:
        self._rows: deque[tuple[Any, ...]] = deque(maxlen=MAX_EVENTS)
        self._number = 0

    def add(self, report: PeerEvent, unix_s: float) -> None:
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
