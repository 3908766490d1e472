"""The servers of other nodes, as the callers of this one have to know them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ringback.protocol import control
from ringback.protocol.control import encode
from ringback.protocol.frames import FrameType, header
from ringback_broker.cluster.messages import Down
from ringback_broker.peers.session import Session
from ringback_broker.switchboard.sending import Sending
from ringback_broker.switchboard.state import State

_SERVER_UP = encode(control.ServerUp())
_SERVER_DOWN = encode(control.ServerDown())


class FarServers:
    """The servers of other nodes that act or retire.

    Args:
        tell_loss: tells players and operators that the server with a link number of its own is lost.
    """

    def __init__(self, state: State, sending: Sending, tell_loss: Callable[[int], None]) -> None:
        self._roster = state.roster
        self._sending = sending
        self._tell_loss = tell_loss
        # The nodes with such servers, and the link numbers of those.
        self._servers: dict[Session, dict[int, None]] = {}
        # The link numbers of those that left in order, each with what was sent to the node before that.
        self._finished: dict[Session, dict[int, int]] = {}

    @property
    def nodes(self) -> Iterable[Session]:
        """The nodes with servers that act or retire."""
        return self._servers

    def up(self, node: Session, own_link: int) -> None:
        """Take note that a server acts at a node. Callers are told if none has acted before."""
        self._servers.setdefault(node, {})[own_link] = None
        if not self._roster.is_served:
            self._roster.serve_by(node)
            self._tell_callers(_SERVER_UP)

    def down(self, node: Session, down: Down, now: float) -> None:
        """Take note that a server of another node is there no more.

        Calls to one that has left in order may still be on their way there, to come back. A probe tells when
        they have.
        """
        servers = self._servers.get(node, {})
        if down.own_link not in servers:
            return
        del servers[down.own_link]
        if not servers:
            del self._servers[node]
        if not down.acts:
            self._roster.serve_no_more_by(node)
        if down.in_order:
            self._sending.send_bundle(node, now)
            self._finished[node] = {**self._unsure(node), down.own_link: node.spent}
            self._sending.probe(node, now)
        else:
            self._tell_loss_of([down.own_link])

    def _unsure(self, node: Session) -> dict[int, int]:
        """Return the servers that left a node in order, to which calls may still be on their way."""
        finished = self._finished.pop(node, {})
        return {own_link: sent for own_link, sent in finished.items() if sent > node.window.confirmed}

    def node_went(self, node: Session) -> None:
        """Take note that a node is linked no more: its servers are lost."""
        self._tell_loss_of([*self._servers.pop(node, {}), *self._unsure(node)])

    def unanswered(self, encoded_id: bytes, link: int) -> None:
        """Tell a caller that a server has left without a reply. What else it waits for ends too."""
        caller = self._roster.players.get(encoded_id)
        if link:
            caller = self._roster.links.get(header(FrameType.DATA, link))
        if caller is not None:
            self._sending.notify(caller, _SERVER_DOWN)
            if self._roster.is_served:
                self._sending.notify(caller, _SERVER_UP)

    def _tell_loss_of(self, own_links: list[int]) -> None:
        for own_link in own_links:
            self._tell_loss(own_link)
        if own_links and self._roster.is_served:
            self._tell_callers(_SERVER_UP)

    def _tell_callers(self, frame: bytes) -> None:
        for other in self._roster.sessions():
            if other.duty is None:
                self._sending.notify(other, frame)
