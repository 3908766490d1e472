"""Presence in a realm: which nodes tell which others who is there, and where a server acts.

The node with the seat says so to the others (`Seated`). Each of them tells its players (`Here`, then
`Listed`), and is told of the server from then on (`Up`, `Down`).
"""

from __future__ import annotations

from collections.abc import Callable

from ringback.errors import RejectCode
from ringback.protocol import control
from ringback.protocol.control import encode as encode_frame
from ringback.protocol.limits import IDS_A_FRAME
from ringback.protocol.player_ids import PlayerID, decode_player_id
from ringback_broker.cluster.elsewhere import Elsewhere
from ringback_broker.cluster.held_names import Held, HeldNames
from ringback_broker.cluster.messages import (
    Ask,
    Down,
    Gone,
    Here,
    Listed,
    Message,
    Seated,
    Taken,
    Unanswered,
    Up,
    encode,
    here,
)
from ringback_broker.cluster.owners import hash_of, player_key, player_of
from ringback_broker.cluster.seat import LOOK_S, Seat
from ringback_broker.peers.identity import Identity
from ringback_broker.peers.session import Duty, Session
from ringback_broker.switchboard.far_servers import FarServers
from ringback_broker.switchboard.operator_calls import OperatorCalls
from ringback_broker.switchboard.sending import Sending
from ringback_broker.switchboard.state import State

GATHER_S = 2.0
"""How long a server waits until all nodes have told who is there. Those that come later are told then."""

DIFFERS_S = 2 * LOOK_S
"""How long this node may go by something else than the record of the seat says."""

UNSAID_S = 1.0
"""The same while no node that is linked says that it has the seat."""

_MOVED = "the player has joined at another node"


class Presence:
    """Who is where, as far as this node has to know.

    Args:
        operator_calls: has to know which players are where, too.
        end_marked: ends the sessions that are marked.

    Attributes:
        elsewhere: the players of other nodes, while this node has the seat.
        far_servers: the servers of other nodes.
        held: the records that the sessions of players use.
        term: that of the seat while this node has it and uses it, or 0.
    """

    def __init__(
        self,
        state: State,
        sending: Sending,
        names: HeldNames,
        seat: Seat,
        elsewhere: Elsewhere,
        operator_calls: OperatorCalls,
        far_servers: FarServers,
        end_marked: Callable[[], None],
    ) -> None:
        self.elsewhere = elsewhere
        self.far_servers = far_servers
        self.held: dict[Session, Held] = {}
        self.term = 0
        self._roster = state.roster
        self._endings = state.endings
        self._sending = sending
        self._names = names
        self._seat = seat
        self._operator_calls = operator_calls
        self._end_marked = end_marked
        # The players that a server that retires knows of an earlier term, until their node has listed them.
        self._unheard: dict[Session, set[bytes]] = {}
        self._listed: set[Session] = set()
        self._gathers: set[Session] = set()
        self._gathers_until = 0.0
        self._seated: Session | None = None
        self._seated_term = 0
        self._differs_since = float("inf")

    def _say(self, node: Session, message: Message) -> None:
        self._sending.notify(node, encode(message))

    # -- this node has the seat

    def take_seat(self, now: float) -> None:
        """Ask all other nodes who is there. The server acts once they have told."""
        holder = self._seat.holder
        assert holder is not None
        # What the records say may be older than what the node says that has taken the seat since.
        if self.term == holder.term or holder.term < self._seated_term:
            return
        self.term = holder.term
        if self._seated is not None:
            self._roster.serve_no_more_by(self._seated)
            self._seated = None
        self._seated_term = self.term
        self._unheard = self.elsewhere.by_node()
        self._listed.clear()
        self._gathers = set(self._roster.nodes.values())
        self._gathers_until = now + GATHER_S
        for node in list(self._roster.nodes.values()):
            self._say(node, Seated(self.term))

    def has_gathered(self, now: float) -> bool:
        """Return whether this node uses its seat, and all have told who is there or have had time enough."""
        if now >= self._gathers_until:
            self._gathers.clear()
        return self.term != 0 and not self._gathers

    def leave_seat(self) -> None:
        """Have no server of this node act any more."""
        self.term = 0
        self._roster.may_act = False
        self._listed.clear()
        server = self._roster.server
        if server is not None:
            self._endings.refuse(server, RejectCode.DRAINING, "a server at another node acts now")
        self.tidy()

    def tidy(self) -> None:
        """Forget the players of other nodes if no server here has to do with them any more."""
        if not self.term and len(self.elsewhere) and len(self._roster.others) == len(self._roster.standbys()):
            self.elsewhere.clear()

    def clear(self) -> None:
        """Forget all: this boot of the node owns nothing any more."""
        self.held.clear()
        self.leave_seat()
        self.elsewhere.clear()
        self._operator_calls.clear()
        self._seated_term = 0

    def server_up(self, server: Session) -> None:
        """Tell the other nodes that a server of this one acts."""
        for node in list(self._roster.nodes.values()):
            if node in self._listed:
                self._say(node, Up(self.term, server.own_link))

    def server_down(self, server: Session, in_order: bool = False) -> None:
        """Tell the other nodes that a server of this one is there no more."""
        down = Down(server.own_link, self._roster.server is not None, in_order)
        for node in list(self._roster.nodes.values()):
            self._say(node, down)
        for node, encoded_id, link in server.given_back:
            self._say(node, Unanswered(encoded_id, link))

    def listed(self, node: Session, term: int) -> None:
        """Take note that a node has told all its players."""
        if term == self.term and not node.ended:
            for encoded_id in self._unheard.pop(node, ()):
                self.gone(node, encoded_id)
            self._listed.add(node)
            self._gathers.discard(node)
            if self._roster.server is not None:
                self._say(node, Up(term, self._roster.server.own_link))

    def here(self, node: Session, term: int, encoded_id: bytes, revision: int) -> None:
        """Take note that a player is at another node. The latest record counts."""
        if term != self.term or node.ended:
            return
        if node in self._unheard:
            self._unheard[node].discard(encoded_id)
        present = self._roster.players.get(encoded_id)
        away = self.elsewhere.by_id.get(encoded_id)
        if present is not None:
            known = self.held[present].revision if present in self.held else 0
            if known > revision:
                self._say(node, Taken(encoded_id, known))
                return
            self._endings.refuse(present, RejectCode.REPLACED, _MOVED)
            self._end_marked()
        elif away is not None:
            if away.node is node:
                away.revision = max(revision, away.revision)
                return
            if away.revision > revision:
                self._say(node, Taken(encoded_id, away.revision))
                return
            self._say(away.node, Taken(encoded_id, revision))
            self._tell_left([encoded_id])
        self.elsewhere.add(node, encoded_id, revision)
        self._operator_calls.moved(encoded_id, node)
        if self._roster.server is not None:
            joined = control.Joined((decode_player_id(encoded_id),))
            self._sending.notify(self._roster.server, encode_frame(joined))

    def gone(self, node: Session, encoded_id: bytes) -> None:
        """Take note that a player has left another node."""
        away = self.elsewhere.by_id.get(encoded_id)
        if away is not None and away.node is node:
            self.elsewhere.remove(encoded_id)
            self._tell_left([encoded_id])
        self._operator_calls.gone(node, encoded_id)

    def player_ids(self) -> list[PlayerID | None]:
        """Return the IDs of the players of other nodes."""
        return [decode_player_id(encoded_id) for encoded_id in self.elsewhere.by_id]

    def _tell_left(self, encoded_ids: list[bytes]) -> None:
        """Tell the trusted side that players of other nodes are there no more."""
        self._operator_calls.forget(encoded_ids)
        for i in range(0, len(encoded_ids), IDS_A_FRAME):
            left = control.Left(tuple(map(decode_player_id, encoded_ids[i : i + IDS_A_FRAME])))
            for other in self._roster.trusted():
                if other.duty is not Duty.STANDBY:
                    self._sending.notify(other, encode_frame(left))

    # -- another node has the seat

    def seated(self, node: Session, term: int) -> None:
        """Tell the node that has the seat of all players here."""
        if term < max(self._seated_term, self.term):
            return
        before, self._seated, self._seated_term = self._seated, node, term
        if self.term and term > self.term:  # the record will say so too
            self.leave_seat()
            self._end_marked()  # a server that stands by would take the seat again, but for the later term
        if before is not None and before is not node:
            self._roster.serve_no_more_by(before)
        players = [
            (session.encoded_id, self.held[session].revision)
            for session in self._roster.players.values()
            if session.presence.announced
        ]
        for frame in here(term, players):
            self._sending.notify(node, frame)
        self._say(node, Listed(term))

    def follows(self, now: float) -> bool:
        """Return whether this node goes by the record of the seat, or may still do so.

        The node that has the seat says so once. If that was not believed, it has to be said again: another
        bucket may begin anew with its terms.
        """
        holder, seat = self._seat.holder, self._seat
        if holder is None:
            differs = False
        elif seat.is_mine:
            differs = holder.term < self._seated_term
        else:
            node = self._roster.linked_node(holder.node, holder.boot)
            said = self._seated, self._seated_term
            differs = node is not None and said != (node, holder.term)
        if not differs:
            self._differs_since = float("inf")
            return True
        self._differs_since = min(self._differs_since, now)
        if seat.read_at <= self._differs_since < now:
            seat.hint(now)
        within_s = UNSAID_S if self._seated is None and not self.term else DIFFERS_S
        if now - self._differs_since < within_s or seat.read_at <= self._differs_since:
            return True
        self._differs_since, self._seated_term = float("inf"), 0
        return seat.is_mine

    def up(self, node: Session, term: int, own_link: int) -> None:
        """Take note that a server acts at the node with the seat."""
        if node is not self._seated or term != self._seated_term or node.ended:
            return
        self.far_servers.up(node, own_link)

    # -- nodes

    def node_came(self, node: Session) -> None:
        """Take note that a node is linked to this one."""
        if self.term:
            self._say(node, Seated(self.term))

    def node_went(self, node: Session) -> None:
        """Take note that a node is linked no more: nobody hears of its players, nor of its server."""
        self._listed.discard(node)
        self._gathers.discard(node)
        self._unheard.pop(node, None)
        self._tell_left(self.elsewhere.remove_node(node))
        self._operator_calls.node_went(node)
        if self._seated is node:
            self._seated = None
        self.far_servers.node_went(node)

    # -- players of this node

    def arriving(self, session: Session, now: float) -> None:
        """Take note that a player joins here: it is elsewhere no more. The server hears of that first."""
        self.held[session] = self._names.by_key[player_key(session.encoded_id)]
        away = self.elsewhere.remove(session.encoded_id)
        if away is not None:
            self._say(away.node, Taken(session.encoded_id, self.held[session].revision))
            self._tell_left([session.encoded_id])
        self._operator_calls.arrived(session, now)

    def joined(self, session: Session) -> None:
        """Tell the node with the seat of a player that has joined here."""
        if self._seated is not None:
            player = session.encoded_id, self.held[session].revision
            self._say(self._seated, Here(self._seated_term, [player]))

    def left(self, session: Session) -> None:
        """Tell all nodes of a player that has left whose servers or operators may wait for it."""
        nodes = dict.fromkeys([*self.far_servers.nodes, *self._operator_calls.left(session.encoded_id)])
        if self._seated is not None:
            nodes[self._seated] = None
        for node in nodes:
            self._say(node, Gone(session.encoded_id))
        held = self.held.pop(session, None)
        if held is not None:
            self._names.release(player_key(session.encoded_id), held, session.last_seen)

    def taken(self, encoded_id: bytes, revision: int) -> None:
        """End the session of a player if another node has a later record."""
        session = self._roster.players.get(encoded_id)
        held = None if session is None else self.held.get(session)
        if session is not None and held is not None and held.revision < revision:
            self._names.give_up(player_key(encoded_id))
            self._endings.refuse(session, RejectCode.REPLACED, _MOVED)

    def key_taken(self, key: str) -> None:
        """End the session of a player whose record is another node's."""
        session = self._roster.players.get(player_of(key))
        if session is not None:
            self._endings.refuse(session, RejectCode.REPLACED, _MOVED)

    def gives_up(self, ask: Ask) -> bool:
        """Return whether this node gives a name up. If it does, it has ended the session with that name."""
        held = self._names.by_key.get(ask.key)
        session = self._roster.players.get(player_of(ask.key))
        if held is not None and held.revision > ask.revision:
            return False
        if session is not None:
            identity = identity_hash(session.rights.identity)
            if not identity or identity != ask.identity:
                return False
            self._endings.refuse(session, RejectCode.REPLACED, "the same player has joined at another node")
        elif not player_of(ask.key):
            return False
        self._names.give_up(ask.key)
        return True


def identity_hash(identity: Identity | None) -> bytes:
    """Return a hash of who a peer has proved to be; empty if nobody. It is the same for the same player."""
    if identity is None:
        return b""
    who = f"token {identity.name}" if identity.by_token else f"key {identity.public_key}"
    return hash_of(who.encode())
