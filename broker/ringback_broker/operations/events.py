"""The latest events of peers, for operators who ask why a peer is not there."""

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
"""The fields of an event that follow the number and the time in a row. A field that the event lacks is
None."""


@dataclass(frozen=True, slots=True)
class PeerEvent:
    """Something that happened to a peer, for the log and the audit log.

    Attributes:
        event: `joined`, `left`, `refused`, `ordered`, or `delayed`: of a crowd that joins, not kept.
        reason: why; for `joined`, the name of the peer's software.
        session: of the peer, if it has one or had one.
        ip: where its connection comes from.
        code: the name of the code that refused it, or with which the broker ended its session.
    """

    event: str
    reason: str
    session: Session | None = None
    ip: str = ""
    code: str = ""

    @property
    def detail(self) -> str:
        """The reason and what belongs to it, for people."""
        if self.event not in ("refused", "delayed"):
            return self.reason
        return f"{self.ip} {self.code}: {self.reason}" if self.code else f"{self.ip} {self.reason}"

    @property
    def is_passing_operator(self) -> bool:
        """Whether an operator joins, or leaves and the broker did not end its session."""
        session = self.session
        is_operator = session is not None and session.role is Role.OPERATOR
        return is_operator and self.event in ("joined", "left") and not self.code

    def fields(self) -> dict[str, Any]:
        """Return what is known, by name, for programs."""
        fields: dict[str, Any] = {"event": self.event}
        session = self.session
        if session is not None:
            fields["role"] = session.role.value
            if session.player_id is not None:
                fields["player"] = session.player_id
            if session.rights.identity is not None:
                fields["identity"] = session.rights.identity.name
        fields["ip"] = self.ip if session is None else session.connection.ip
        if self.code:
            fields["code"] = self.code
        return {**fields, "reason": self.reason}


class EventLog:
    """The latest events, each with a number that only grows."""

    def __init__(self) -> None:
        self._rows: deque[tuple[Any, ...]] = deque(maxlen=MAX_EVENTS)
        self._number = 0

    def add(self, event: PeerEvent, unix_s: float) -> None:
        """Keep an event.

        An operator that joins or leaves by itself is left out: one that asks would find itself. So is a
        delay: a crowd has more of them than there is room, and each player of it joins or is refused later.
        """
        if event.event == "delayed" or event.is_passing_operator:
            return
        fields = event.fields()
        self._number += 1
        self._rows.append((self._number, round(unix_s, 3), *map(fields.get, _FIELDS)))

    def after(self, number: int, most: int) -> list[tuple[Any, ...]]:
        """Return the rows after a number, the oldest first."""
        return list(islice((row for row in self._rows if row[0] > number), most))
