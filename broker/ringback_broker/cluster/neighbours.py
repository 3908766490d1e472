"""Neighbours: the other nodes of the realm, as their records tell, and the burial of those that are dead.

A node lives as long as its record is there with its boot. Nothing else decides that: a node that says nothing
may only be cut off from this one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ringback_broker.cluster.description import Description
from ringback_broker.cluster.ownership import PATIENCE_S, decode_node, node_key
from ringback_broker.cluster.records import Absent, Outcome, Record, Records

_NODE = node_key("")


@dataclass(slots=True)
class Neighbour:
    """Another node.

    Attributes:
        boot: names the life that its record tells of.
        revision: of the record.
        changed_at: when this node learned of that.
        description: what else the record says.
    """

    boot: bytes
    revision: int
    changed_at: float
    description: Description = field(default_factory=Description)
    buried_at: float = float("-inf")


class Neighbours:
    """The other nodes that live.

    Args:
        name: of this node.
        came, went: are called with name, boot and time when a node begins to live, or lives no more.

    Attributes:
        alive: those that live, by name.
    """

    def __init__(
        self,
        name: str,
        lease_s: float,
        records: Records,
        came: Callable[[str, bytes, float], None],
        went: Callable[[str, bytes, float], None],
    ) -> None:
        self.alive: dict[str, Neighbour] = {}
        self._own_key = node_key(name)
        self._bury_s = lease_s + PATIENCE_S
        self._records = records
        self._came = came
        self._went = went

    def lives(self, name: str, boot: bytes) -> bool:
        """Return whether a boot of a node lives, as far as this node has heard."""
        found = self.alive.get(name)
        return found is not None and found.boot == boot

    def changed(self, key: str, now_is: Record | Absent, now: float) -> None:
        """Take note of the record of a node."""
        if not key.startswith(_NODE) or key == self._own_key:
            return
        name = key[len(_NODE) :]
        known = self.alive.get(name)
        boot, said = decode_node(now_is.value) if isinstance(now_is, Record) else (b"", {})
        if known is not None and known.boot != boot:
            del self.alive[name]
            self._went(name, known.boot, now)
            known = None
        if not isinstance(now_is, Record) or not boot:
            return
        if known is None:
            self.alive[name] = Neighbour(boot, now_is.revision, now, Description.read(said))
            self._came(name, boot, now)
        elif known.revision != now_is.revision:
            known.revision, known.changed_at = now_is.revision, now
            known.description = Description.read(said)

    def tick(self, now: float) -> None:
        """Bury the nodes whose records have not changed for too long."""
        for name, found in list(self.alive.items()):
            if now - max(found.changed_at, found.buried_at) >= self._bury_s:
                found.buried_at = now - self._bury_s + PATIENCE_S  # ask again that much later
                self._records.delete(node_key(name), found.revision, _ignored)


def _ignored(_outcome: Outcome, _now: float) -> None:
    """Do nothing: the change of the record will tell."""
