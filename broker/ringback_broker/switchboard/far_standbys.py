"""The servers that stand by at other nodes. Each node tells the others how many it has."""

from __future__ import annotations

from ringback_broker.cluster.messages import Standbys, encode
from ringback_broker.peers.roster import Roster
from ringback_broker.peers.session import Session
from ringback_broker.switchboard.sending import Sending


class FarStandbys:
    """How many servers stand by at each other node, and how many those were told of here."""

    def __init__(self, roster: Roster, sending: Sending) -> None:
        self._roster = roster
        self._sending = sending
        self._here = 0
        self._counts: dict[Session, int] = {}

    @property
    def exist(self) -> bool:
        """Whether a server stands by at another node."""
        return any(self._counts.values())

    # -- what other nodes are told

    def tell_change(self) -> None:
        """Tell all nodes how many servers stand by here, if that has changed."""
        here = len(self._roster.standbys())
        if here != self._here:
            self._here = here
            for node in list(self._roster.nodes.values()):
                self._say(node)

    def tell(self, node: Session) -> None:
        """Tell a node how many servers stand by here, if there are any."""
        if self._here:
            self._say(node)

    def _say(self, node: Session) -> None:
        self._sending.notify(node, encode(Standbys(self._here)))

    # -- what they tell

    def told(self, node: Session, count: int) -> None:
        """Take note of how many servers stand by at a node."""
        self._counts[node] = count

    def node_ended(self, node: Session) -> None:
        """Take note that a node is linked no more."""
        self._counts.pop(node, None)
