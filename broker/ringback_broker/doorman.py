"""Connections without a session: those that have not said HELLO yet, and those that were refused."""

from __future__ import annotations

from dataclasses import dataclass

from ringback_broker.session import Connection, Side


@dataclass(slots=True)
class _Stranger:
    connection: Connection
    close_at: float
    refused: bool = False


class Doorman:
    """Keeps the time until which a connection may stay without a session.

    It knows connections by descriptor, as monitor events do. One entry an open connection, no more.
    """

    def __init__(self, hello_s: float) -> None:
        self._hello_s = hello_s
        self._strangers: dict[tuple[Side, int], _Stranger] = {}

    def __len__(self) -> int:
        return len(self._strangers)

    def arrived(self, side: Side, connection: Connection, now: float) -> None:
        """A connection was accepted: it has some time to say HELLO."""
        self._strangers[side, connection.descriptor] = _Stranger(connection, now + self._hello_s)

    def settled(self, side: Side, connection: Connection) -> None:
        """The connection has a session now, or is closed."""
        self._strangers.pop((side, connection.descriptor), None)

    def refuse(self, side: Side, connection: Connection, close_at: float) -> bool:
        """Has a connection closed soon; False if it was refused before, and needs no second answer."""
        stranger = self._strangers.get((side, connection.descriptor))
        if stranger is not None and stranger.refused:
            return False
        self._strangers[side, connection.descriptor] = _Stranger(connection, close_at, refused=True)
        return True

    def overdue(self, now: float) -> list[tuple[Side, Connection]]:
        """Gives the connections to close now, and forgets them."""
        due = [place for place, stranger in self._strangers.items() if stranger.close_at <= now]
        return [(place[0], self._strangers.pop(place).connection) for place in due]
