"""The roster: the table of all sessions, by each name that they are looked up by."""

from __future__ import annotations

from ringback.protocol.frames import SERVER_LINK, FrameType, Role, header
from ringback.protocol.player_ids import PlayerID, encode_player_id
from ringback_broker.peers.connection import Connection, Side
from ringback_broker.peers.session import Presence, Session


class Roster:
    """The tables of sessions. A session is in every table that it belongs to, or in none.

    Attributes:
        by_routing_id: by side and routing ID.
        players: players by encoded ID.
        links: the trusted side by the header of its DATA frames.
        server: the one server, or None.
        frequent_heartbeats: how many players send heartbeats more often than players of a crowd may.
    """

    def __init__(self, crowd_heartbeat_s: float) -> None:
        self._crowd_heartbeat_s = crowd_heartbeat_s
        self.frequent_heartbeats = 0
        self.by_routing_id: dict[Side, dict[bytes, Session]] = {Side.PLAYERS: {}, Side.BACKEND: {}}
        self.players: dict[bytes, Session] = {}
        self.links: dict[bytes, Session] = {}
        self.server: Session | None = None
        self._by_connection: dict[tuple[Side, int], Session] = {}
        self._next_number = 1
        self._next_player_id = 1
        self._next_link = SERVER_LINK + 1

    def __len__(self) -> int:
        return len(self.players) + len(self.links)

    def sessions(self) -> list[Session]:
        """Return all sessions in a new list, so that sessions may end while the caller iterates."""
        return [*self.players.values(), *self.links.values()]

    def trusted(self) -> list[Session]:
        """Return the sessions of the server and the operators in a new list."""
        return list(self.links.values())

    def operators(self) -> int:
        """Return how many operators there are."""
        return len(self.links) - (self.server is not None)

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

    def add_trusted(self, role: Role, routing_id: bytes, connection: Connection, now: float) -> Session:
        """Add the server or an operator, and return its session."""
        session = self._add(Side.BACKEND, role, routing_id, connection, now)
        if role is Role.SERVER:
            self.server = session
        else:
            session.link = self._next_link
            self._next_link += 1
        session.data_header = header(FrameType.DATA, session.link)
        self.links[session.data_header] = session
        return session

    def remove(self, session: Session) -> None:
        """Remove a session from all tables."""
        del self.by_routing_id[session.side][session.routing_id]
        del self._by_connection[session.side, session.connection.descriptor]
        if session.role is Role.PLAYER:
            del self.players[session.encoded_id]
            self.frequent_heartbeats -= self.is_frequent(session.presence.heartbeat_ms)
        else:
            del self.links[session.data_header]
            if session is self.server:
                self.server = None

    def _add(self, side: Side, role: Role, routing_id: bytes, connection: Connection, now: float) -> Session:
        session = Session(side, role, routing_id, connection, self._next_number, since=now, last_seen=now)
        self._next_number += 1
        self.by_routing_id[side][routing_id] = session
        self._by_connection[side, connection.descriptor] = session
        return session
