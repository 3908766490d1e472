"""The roster: the table of all sessions, by each name that they are looked up by."""

from __future__ import annotations

from ringback.protocol.frames import FIRST_OWN_LINK, SERVER_LINK, FrameType, Role, header
from ringback.protocol.player_ids import PlayerID, encode_player_id
from ringback_broker.peers.connection import Connection, Side
from ringback_broker.peers.session import Duty, Presence, Session

_SERVER_HEADER = header(FrameType.DATA, SERVER_LINK)

LINK_BITS = 20
"""How many bits of a link number a node of a realm counts with. Those above are the index of the node."""

MAX_NODE_INDEX = 2**11 - 1


def node_index_of(link: int) -> int:
    """Return the index of the node that has given a link number."""
    return link >> LINK_BITS & MAX_NODE_INDEX


class Roster:
    """The tables of sessions. A session is in every table that it belongs to, or in none.

    Attributes:
        by_routing_id: by side and routing ID.
        players: players by encoded ID.
        links: the trusted side by the headers of its DATA frames. A server that stands by is not in it.
        server: the one server that acts, or None.
        others: the servers that stand by or retire, in the order in which they joined.
        nodes: the other nodes of the realm that are linked to this one, by name.
        may_act: whether a server of this broker may act. In a realm, one node lets its server act.
        node_index: what the numbers of links begin with; in a realm, no other node has the same. 0: no realm.
        frequent_heartbeats: how many players send heartbeats more often than players of a crowd may.
    """

    def __init__(self, crowd_heartbeat_s: float) -> None:
        self._crowd_heartbeat_s = crowd_heartbeat_s
        self.frequent_heartbeats = 0
        self.by_routing_id: dict[Side, dict[bytes, Session]] = {Side.PLAYERS: {}, Side.BACKEND: {}}
        self.players: dict[bytes, Session] = {}
        self.links: dict[bytes, Session] = {}
        self.server: Session | None = None
        self.others: dict[Session, None] = {}
        self.nodes: dict[str, Session] = {}
        self.may_act = True
        self.node_index = 0
        self._trusted = self.by_routing_id[Side.BACKEND]
        self._by_connection: dict[tuple[Side, int], Session] = {}
        self._next_number = 1
        self._next_player_id = 1
        self._next_link = SERVER_LINK + 1
        self._next_own_link = FIRST_OWN_LINK

    def __len__(self) -> int:
        return len(self.players) + len(self._trusted)

    def sessions(self) -> list[Session]:
        """Return all sessions in a new list, so that sessions may end while the caller iterates."""
        return [*self.players.values(), *self._trusted.values()]

    def trusted(self) -> list[Session]:
        """Return the sessions of servers and operators in a new list."""
        return list(self._trusted.values())

    @property
    def is_served(self) -> bool:
        """Whether a server acts, here or at another node."""
        return _SERVER_HEADER in self.links

    def acting_elsewhere(self) -> Session | None:
        """Return the node at which the server acts; None: it acts here, or nowhere."""
        found = self.links.get(_SERVER_HEADER)
        return found if found is not None and found.node else None

    def operators(self) -> int:
        """Return how many operators there are."""
        return len(self._trusted) - (self.server is not None) - len(self.others)

    def standbys(self) -> list[Session]:
        """Return the servers that stand by, in the order in which they joined."""
        return [server for server in self.others if server.duty is Duty.STANDBY]

    def at(self, side: Side, connection: Connection) -> Session | None:
        """Return the session over a connection."""
        return self._by_connection.get((side, connection.descriptor))

    def is_frequent(self, heartbeat_ms: int | None) -> bool:
        """Return whether such heartbeats come more often than a player of a crowd may send them."""
        return bool(heartbeat_ms and heartbeat_ms < 1000 * self._crowd_heartbeat_s)

    def free_player_id(self) -> PlayerID:
        """Return the next int that is no player's ID. It does not return an ID again soon."""
        while encode_player_id(self._next_player_id) in self.players:
            self._next_player_id += 1
        self._next_player_id += 1
        return self._next_player_id - 1

    def add_player(
        self,
        routing_id: bytes,
        connection: Connection,
        player_id: PlayerID,
        heartbeat_ms: int | None,
        now: float,
    ) -> Session:
        """Add a player, and return its session."""
        session = self._add(Side.PLAYERS, Role.PLAYER, routing_id, connection, now)
        session.presence = Presence(heartbeat_ms, now if heartbeat_ms else float("inf"))
        self.frequent_heartbeats += self.is_frequent(heartbeat_ms)
        session.player_id = player_id
        session.encoded_id = encode_player_id(player_id)
        self.players[session.encoded_id] = session
        return session

    def add_operator(self, routing_id: bytes, connection: Connection, now: float) -> Session:
        """Add an operator, and return its session."""
        session = self._add(Side.BACKEND, Role.OPERATOR, routing_id, connection, now)
        session.link = self._free_link(self._next_link)
        self._next_link += 1
        self._route(session, header(FrameType.DATA, session.link))
        return session

    def add_server(self, routing_id: bytes, connection: Connection, own_link: bool, now: float) -> Session:
        """Add a server, and return its session. It acts if no other one does, and stands by otherwise.

        Args:
            own_link: whether it gets a link number of its own.
        """
        session = self._add(Side.BACKEND, Role.SERVER, routing_id, connection, now)
        if own_link:
            session.own_link = FIRST_OWN_LINK | self._free_link(self._next_own_link - FIRST_OWN_LINK)
            self._next_own_link += 1
        session.duty = Duty.STANDBY
        self.others[session] = None
        if self.server is None and self.may_act:
            self.act(session)
        return session

    def offset_links(self, number: int) -> None:
        """Begin with other link numbers than another broker that had the same index."""
        self._next_link += number
        self._next_own_link += number

    def _free_link(self, number: int) -> int:
        """Return a link number for a peer of this broker."""
        if not self.node_index:
            return number
        return self.node_index << LINK_BITS | number % (1 << LINK_BITS)

    def add_node(self, name: str, boot: bytes, now: float) -> Session:
        """Add another node of the realm, and return its session."""
        connection = Connection(-1, "")
        number, self._next_number = self._next_number, self._next_number + 1
        session = Session(Side.BACKEND, Role.OPERATOR, boot, connection, number, now, now, node=name)
        self.nodes[name] = session
        return session

    def linked_node(self, name: str, boot: bytes) -> Session | None:
        """Return the session of one boot of another node, if it is linked to this one."""
        node = self.nodes.get(name)
        return node if node is not None and node.routing_id == boot else None

    def serve_by(self, node: Session) -> None:
        """Route the calls of players and operators to the server of another node."""
        self._route(node, _SERVER_HEADER)

    def serve_no_more_by(self, node: Session) -> None:
        """Route them there no more."""
        if self.links.get(_SERVER_HEADER) is node:
            del self.links[_SERVER_HEADER]

    def act(self, session: Session) -> None:
        """Make a server that stands by the one that acts."""
        del self.others[session]
        session.duty = Duty.ACTING
        self.server = session
        own = (header(FrameType.DATA, session.own_link),) if session.own_link else ()
        self._route(session, _SERVER_HEADER, *own)

    def retire(self, session: Session) -> None:
        """Make the server that acts one that retires. It is called no more, and replies as before."""
        session.duty = Duty.RETIRING
        self.server = None
        del self.links[_SERVER_HEADER]
        self.others[session] = None

    def remove(self, session: Session) -> None:
        """Remove a session from all tables."""
        if session.node:
            del self.nodes[session.node]
            self.serve_no_more_by(session)
            return
        del self.by_routing_id[session.side][session.routing_id]
        del self._by_connection[session.side, session.connection.descriptor]
        if session.role is Role.PLAYER:
            del self.players[session.encoded_id]
            self.frequent_heartbeats -= self.is_frequent(session.presence.heartbeat_ms)
            return
        for head in session.data_headers:
            if self.links.get(head) is session:  # the server that retires has no longer the one of the server
                del self.links[head]
        self.others.pop(session, None)
        if session is self.server:
            self.server = None

    def _route(self, session: Session, *headers: bytes) -> None:
        session.data_headers = headers
        self.links.update(dict.fromkeys(headers, session))

    def _add(self, side: Side, role: Role, routing_id: bytes, connection: Connection, now: float) -> Session:
        session = Session(side, role, routing_id, connection, self._next_number, since=now, last_seen=now)
        self._next_number += 1
        self.by_routing_id[side][routing_id] = session
        self._by_connection[side, connection.descriptor] = session
        return session
