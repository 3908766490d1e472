"""The other nodes of the realm: which live, and which are linked to this one.

Each node that is linked has a session here, as a trusted peer. The session lasts as long as the epoch of the
pair: a lost message ends it.
"""

from __future__ import annotations

from collections.abc import Callable

from ringback.errors import ProtocolError
from ringback_broker.cluster.cluster import Cluster
from ringback_broker.cluster.messages import VERSION, Knows, encode
from ringback_broker.cluster.neighbours import Neighbours
from ringback_broker.cluster.ownership import Ownership, Standing
from ringback_broker.cluster.pairs import Pair, Pairs
from ringback_broker.cluster.records import Records
from ringback_broker.peers.connection import Frame, Sent
from ringback_broker.peers.session import Bundle, Session
from ringback_broker.switchboard.node_frames import NodeFrames
from ringback_broker.switchboard.sending import Sending
from ringback_broker.switchboard.state import State


class OtherNodes:
    """The other nodes. What they send arrives here; see `FramesTaker`.

    Args:
        node_frames: takes the frames of nodes that are linked.
        begun: is called when the session of a node has begun.
        went: is called with the time when a node lives no more.
        end_marked: ends the sessions that are marked.

    Attributes:
        neighbours: those that live.
        pairs: this node with each of those.
    """

    def __init__(
        self,
        cluster: Cluster,
        records: Records,
        ownership: Ownership,
        state: State,
        sending: Sending,
        node_frames: NodeFrames,
        begun: Callable[[Session], None],
        went: Callable[[float], None],
        end_marked: Callable[[], None],
    ) -> None:
        self._ownership = ownership
        self._roster = state.roster
        self._counters = state.counters
        self._windows = state.windows
        self._endings = state.endings
        self._sending = sending
        self._node_frames = node_frames
        self._begun = begun
        self._went = went
        self._end_marked = end_marked
        self.neighbours = Neighbours(cluster.node, cluster.lease_s, records, self._lives, self._lives_no_more)
        self.pairs = Pairs(cluster.frames, self._opened, self._closed, self._take)

    # -- which live

    def begin(self, now: float) -> None:
        """Take note that this node is a member: begin a pair with each node that lives."""
        for name, neighbour in self.neighbours.alive.items():
            self.pairs.add(name, neighbour.boot, now)

    def _lives(self, name: str, boot: bytes, now: float) -> None:
        if self._ownership.standing is Standing.MEMBER:
            self.pairs.add(name, boot, now)

    def _lives_no_more(self, name: str, boot: bytes, now: float) -> None:
        self.pairs.remove(name, "its lease is over, or it has left", now)
        self._went(now)

    # -- which are linked

    def _opened(self, pair: Pair, now: float) -> None:
        node = self._roster.add_node(pair.name, pair.boot, now)
        node.bundle = Bundle(lambda _, id_part, frame: self._send(pair.name, id_part, frame))
        self._windows.begin(node)
        self._sending.notify(node, encode(Knows(VERSION)))
        self._begun(node)

    def _closed(self, pair: Pair, why: str, now: float) -> None:
        node = self._roster.nodes.get(pair.name)
        if node is not None:
            self._endings.mark(node, why)

    def end_stuck(self, now: float) -> None:
        """End the sessions of nodes that do not read."""
        for node in list(self._roster.nodes.values()):
            if node.exhausted and self._windows.is_stuck(node, now):
                self._endings.too_slow(node, f"the {self._windows.unread(node)} bytes on their way")

    # -- messages

    def from_node(self, node: str, boot: bytes, parts: tuple[bytes, ...], now: float) -> None:
        """Take a message of another node."""
        if self._ownership.standing is Standing.MEMBER:
            self.pairs.from_node(node, boot, parts, now)
            self._end_marked()

    def nobody(self, node: str, boot: bytes, epoch: int, now: float) -> None:
        """Take note that nobody was there to take a message to another node."""
        self.pairs.nobody(node, boot, epoch, now)
        self._end_marked()

    def interrupted(self, now: float) -> None:
        """Take note that messages of any node may have been lost."""
        self.pairs.renew_all("messages may have been lost", now)
        self._end_marked()

    def _take(self, pair: Pair, id_part: bytes, frame: bytes, now: float) -> None:
        node = self._roster.nodes.get(pair.name)
        if node is None:  # its session ends in this step
            return
        try:
            self._node_frames.take(node, id_part, frame, now)
        except (ProtocolError, ValueError) as error:
            self._counters.violations += 1
            self._endings.mark(node, f"it sent what no node sends: {error}")

    def _send(self, name: str, id_part: bytes, frame: Frame) -> Sent:
        return self.pairs.send(name, id_part, bytes(frame))
