"""Callees: the players of other nodes whom operators of this node have called."""

from __future__ import annotations

from dataclasses import dataclass

from ringback_broker.peers.session import Session

MAX_CALLEES = 250_000

NUMBERS = 2**24 - 1
"""How many numbers there are for callees. They begin anew."""


@dataclass(slots=True, eq=False)
class Callee:
    """A player of another node, since this node found it there.

    Attributes:
        number: tells which frames were sent since then.
        after: the number that it had before, if frames came back then; or 0.
        former: the node where it was then. Frames that did not come back may have been delivered there.
    """

    encoded_id: bytes
    node: Session
    number: int
    after: int
    former: Session | None = None


class Callees:
    """The players of other nodes whom operators of this node have called.

    Attributes:
        by_id: by encoded ID, those first that were not called for the longest time.
    """

    def __init__(self) -> None:
        self.by_id: dict[bytes, Callee] = {}
        self._by_node: dict[Session, dict[bytes, None]] = {}
        self._latest = 0

    def __len__(self) -> int:
        return len(self.by_id)

    def add(self, node: Session, encoded_id: bytes, after: int = 0) -> Callee:
        """Take note that a player was found at a node, and is about to be called there."""
        self._latest = self._latest % NUMBERS + 1
        callee = self.by_id[encoded_id] = Callee(encoded_id, node, self._latest, after)
        self._by_node.setdefault(node, {})[encoded_id] = None
        return callee

    def called(self, callee: Callee) -> None:
        """Take note that a player is called once more."""
        del self.by_id[callee.encoded_id]
        self.by_id[callee.encoded_id] = callee

    def remove(self, encoded_id: bytes) -> bool:
        """Forget a player. Return whether it was known."""
        callee = self.by_id.pop(encoded_id, None)
        if callee is None:
            return False
        there = self._by_node[callee.node]
        del there[encoded_id]
        if not there:
            del self._by_node[callee.node]
        return True

    def remove_node(self, node: Session) -> list[bytes]:
        """Forget the players of a node. Return their encoded IDs."""
        gone = list(self._by_node.pop(node, {}))
        for encoded_id in gone:
            del self.by_id[encoded_id]
        return gone

    def remove_oldest(self) -> list[bytes]:
        """Forget those that were not called for the longest time, if there are too many. Return their IDs."""
        gone: list[bytes] = []
        while len(self.by_id) > MAX_CALLEES:
            encoded_id = next(iter(self.by_id))
            self.remove(encoded_id)
            gone.append(encoded_id)
        return gone

    def clear(self) -> None:
        """Forget all."""
        self.by_id.clear()
        self._by_node.clear()
