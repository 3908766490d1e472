"""Elsewhere: the players of other nodes, as the node with the seat knows them."""

from __future__ import annotations

from ringback_broker.peers.session import Away, Session


class Elsewhere:
    """The players whose sessions are at other nodes.

    Attributes:
        by_id: the players by encoded ID. The one with the highest revision counts.
    """

    def __init__(self) -> None:
        self.by_id: dict[bytes, Away] = {}
        self._by_node: dict[Session, dict[bytes, None]] = {}

    def __len__(self) -> int:
        return len(self.by_id)

    def add(self, node: Session, encoded_id: bytes, revision: int) -> None:
        """Take note that a player is at a node. It is nowhere else."""
        self.remove(encoded_id)
        self.by_id[encoded_id] = Away(encoded_id, node, revision)
        self._by_node.setdefault(node, {})[encoded_id] = None

    def remove(self, encoded_id: bytes) -> Away | None:
        """Take note that a player is at no other node. Return where it was."""
        away = self.by_id.pop(encoded_id, None)
        if away is not None:
            self._by_node[away.node].pop(encoded_id)
        return away

    def remove_node(self, node: Session) -> list[bytes]:
        """Take note that the players of a node are there no more. Return their encoded IDs."""
        gone = list(self._by_node.pop(node, {}))
        for encoded_id in gone:
            del self.by_id[encoded_id]
        return gone

    def by_node(self) -> dict[Session, set[bytes]]:
        """Return the encoded IDs of the players of each node."""
        return {node: set(ids) for node, ids in self._by_node.items()}

    def clear(self) -> None:
        """Forget all."""
        self.by_id.clear()
        self._by_node.clear()
