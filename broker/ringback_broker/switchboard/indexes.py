"""Indexes: each node has a number, with which the link numbers that it gives begin."""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

from ringback.protocol.frames import HEADER, HEADER_BYTES
from ringback_broker.cluster.claims import Claims, Verdict
from ringback_broker.cluster.messages import Index, encode
from ringback_broker.peers.connection import Frame
from ringback_broker.peers.roster import MAX_NODE_INDEX, Roster, node_index_of
from ringback_broker.peers.session import Session
from ringback_broker.switchboard.sending import Sending


class Indexes:
    """The index of this node, and those of the nodes that are linked to it.

    Without an index, this node lets nobody in.

    Args:
        name: of this node.
        is_member: returns whether this node may claim one.

    Attributes:
        own: that of this node; 0: it has none.
    """

    def __init__(
        self,
        name: str,
        roster: Roster,
        claims: Claims,
        is_member: Callable[[], bool],
        sending: Sending,
    ) -> None:
        self.own = 0
        self._name = name
        self._roster = roster
        self._claims = claims
        self._is_member = is_member
        self._sending = sending
        self._wanted: int | None = None
        self._nodes: dict[int, Session] = {}

    # -- the index of this node

    @property
    def key(self) -> str:
        """The key of the record of this node's index."""
        return _key(self.own)

    def begin(self, now: float) -> None:
        """Claim an index for this node."""
        self.claim(crc32(self._name.encode()), now)

    def claim(self, first: int, now: float) -> None:
        """Claim the first index from a number on that no other node has. Try again at a tick if that takes
        too long."""
        index = first % MAX_NODE_INDEX + 1

        def refused(_now: float) -> None:
            self._wanted = first

        self._claims.turns.when_free(
            _key(index), lambda then: self._claim_free(first, index, then), refused, now
        )

    def _claim_free(self, first: int, index: int, now: float) -> None:
        def decided(verdict: Verdict, then: float) -> None:
            if verdict is Verdict.GRANTED:
                self.own = self._roster.node_index = index
                for node in list(self._roster.nodes.values()):
                    self.tell(node)
            elif self._is_member():
                self.claim(first + (verdict is Verdict.TAKEN), then)

        self._claims.claim(_key(index), b"", b"", b"", decided, now, only_free=True)

    def tick(self, now: float) -> None:
        """Claim once more what took too long."""
        if self._wanted is not None:
            first, self._wanted = self._wanted, None
            self.claim(first, now)

    def forget_own(self) -> None:
        """Take note that this node has no index any more."""
        self.own, self._wanted = 0, None

    def tell(self, node: Session) -> None:
        """Tell a node the index of this one, if it has one."""
        if self.own:
            self._sending.notify(node, encode(Index(self.own)))

    # -- those of other nodes

    def told(self, node: Session, index: int) -> None:
        """Take note of the index of another node."""
        self._nodes[index] = node

    def node_ended(self, node: Session) -> None:
        """Take note that a node is linked no more."""
        self._nodes = {index: other for index, other in self._nodes.items() if other is not node}

    def of_link(self, frame: Frame) -> Session | None:
        """Return the node that has given the link number of a frame."""
        _, _, _, link = HEADER.unpack(frame[:HEADER_BYTES])
        return self._nodes.get(node_index_of(link)) if link else None


def _key(index: int) -> str:
    return f"index.{index}"
