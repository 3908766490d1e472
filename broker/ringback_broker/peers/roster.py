"""Who is connected: sessions, by every name that they are looked up by."""

from __future__ import annotations

from ringback.protocol.frames import SERVER_LINK, FrameType, Role, header
from ringback.protocol.player_ids import PlayerID, encode_player_id
from ringback_broker.peers.connection import Connection, Side
from ringback_broker.peers.session import Session


class Roster:
    """The tables of sessions. A session stands in all tables that it belongs to, or in none.

    Attributes:
        by_routing_id: by side and routing ID.
        players: by address.
        links: the trusted side, by the header of its DATA frames.
        server: the one server, if there is one.
        quick: how many players send heartbeats more often than those of a crowd may.
    """

    def __init__(self, crowd_heartbeat_s: float) -> None:
        self._crowd_heartbeat_s = crowd_heartbeat_s
        self.quick = 0
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
        """Gives everybody, as a list of its own: what is done with it may end sessions."""
        return [*self.players.values(), *self.links.values()]

    def trusted(self) -> list[Session]:
        return list(self.links.values())

    def operators(self) -> int:
        return len(self.links) - (self.server is not None)

    def at(self, side: Side, connection: Connection) -> Session | None:
        """Gives the session over a connection."""
        return self._by_connection.get((side, connection.descriptor))

    def is_quick(self, heartbeat_ms: int | None) -> bool:
        """Tells whether so many heartbeats are more than those of a crowd may send."""
        return bool(heartbeat_ms and heartbeat_ms < 1000 * self._crowd_heartbeat_s)

    def free_player_id(self) -> PlayerID:
        """Gives the next int that no player has. IDs given out are not used again soon."""
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
        session = self._session(Side.PLAYERS, Role.PLAYER, routing_id, connection, now)
        session.heartbeat_ms = heartbeat_ms
        if heartbeat_ms:
            session.look_at = now
        self.quick += self.is_quick(heartbeat_ms)
        session.player_id = player_id
        session.address = encode_player_id(player_id)
        self.players[session.address] = session
        return session

    def add_trusted(self, role: Role, routing_id: bytes, connection: Connection, now: float) -> Session:
        session = self._session(Side.BACKEND, role, routing_id, connection, now)
        if role is Role.SERVER:
            self.server = session
        else:
            session.link = self._next_link
            self._next_link += 1
        session.data_header = header(FrameType.DATA, session.link)
        self.links[session.data_header] = session
        return session

    def remove(self, session: Session) -> None:
        """Takes a session out of all tables."""
        del self.by_routing_id[session.side][session.routing_id]
        del self._by_connection[session.side, session.connection.descriptor]
        if session.role is Role.PLAYER:
            del self.players[session.address]
            self.quick -= self.is_quick(session.heartbeat_ms)
        else:
            del self.links[session.data_header]
            if session is self.server:
                self.server = None

    def _session(
        self, side: Side, role: Role, routing_id: bytes, connection: Connection, now: float
    ) -> Session:
        session = Session(side, role, routing_id, connection, self._next_number, since=now, last_seen=now)
        self._next_number += 1
        self.by_routing_id[side][routing_id] = session
        self._by_connection[side, connection.descriptor] = session
        return session
