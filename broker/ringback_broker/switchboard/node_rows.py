"""The rows of the nodes of a realm: this broker as it is, and the others as their records say."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ringback.protocol.significant import rounded
from ringback_broker.cluster.description import Description
from ringback_broker.cluster.neighbours import Neighbour
from ringback_broker.operations.answers import Row
from ringback_broker.switchboard.state import State

RATE_S = 2.0
"""Over how long the frames of a broker are counted to say how many there are per second."""


class NodeRows:
    """What a broker says of itself, and what it knows of the other nodes.

    Args:
        software: the name and version of the broker.
        unix_time: returns the wall clock's time, in seconds.

    Attributes:
        name: of this node; empty: the broker is alone.
        boot: returns the boot of this node.
        renewed_at: returns when the record of this node was renewed.
        others: the other nodes that live, by name.
    """

    def __init__(self, software: str, state: State, unix_time: Callable[[], float]) -> None:
        self.name = ""
        self.boot: Callable[[], bytes] = bytes
        self.renewed_at: Callable[[], float | None] = lambda: None
        self.others: Mapping[str, Neighbour] = {}
        self._software = software
        self._roster = state.roster
        self._admission = state.admission
        self._counters = state.counters
        self._since = unix_time()
        self._counted_at, self._frames = float("-inf"), 0
        self._frames_s = 0.0

    def tick(self, now: float) -> None:
        """Count how many frames were passed on."""
        elapsed_s = now - self._counted_at
        if elapsed_s >= RATE_S:
            counters = self._counters
            frames = counters.frames_up + counters.frames_down + counters.frames_relayed
            self._frames_s = rounded((frames - self._frames) / elapsed_s)
            self._counted_at, self._frames = now, frames

    def describe(self) -> Description:
        """Return what this broker says of itself."""
        roster = self._roster
        return Description(
            self._software,
            self._since,
            self._admission.draining,
            len(roster.players),
            int(roster.server is not None),
            len(roster.standbys()),
            self._frames_s,
        )

    def rows(self, now: float) -> list[Row]:
        """Return a row for each node, this one first. A broker alone is the one node that there is."""
        own = _row(self.name or None, self.boot(), self.describe(), True, _age(self.renewed_at(), now))
        return [
            own,
            *(
                _row(
                    name,
                    other.boot,
                    other.description,
                    self._roster.linked_node(name, other.boot) is not None,
                    _age(other.changed_at, now),
                )
                for name, other in sorted(self.others.items())
            ),
        ]


def _age(at: float | None, now: float) -> float | None:
    return None if at is None else round(now - at, 3)


def _row(name: str | None, boot: bytes, said: Description, is_linked: bool, renewed_s: float | None) -> Row:
    return (
        *(name, boot.hex() or None, said.software, round(said.since, 3), said.draining, is_linked),
        *(said.players, said.acting, said.standbys, said.frames_s, renewed_s),
    )
