"""Strangers: connections that have not said HELLO yet, and connections that were refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ringback_broker.peers.connection import Connection, Side
from ringback_broker.settings.schema import BrokerSettings

CLOSE_AFTER_S = 0.5
"""How long after the next tick a refused connection is closed. Until then the REJECT arrives."""


@dataclass(slots=True)
class _Stranger:
    connection: Connection
    close_at: float | None
    """None: it was refused, and the next tick sets the time."""

    routing_id: bytes = b""
    """Empty unless it was refused."""


class Strangers:
    """The open connections that have no session, and how long they may stay.

    It knows a connection by its descriptor, as the events of libzmq do.

    Attributes:
        refused: by side, the routing IDs of refused connections. What they still send is thrown away.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self.reconfigure(settings)
        self.refused: dict[Side, set[bytes]] = {side: set() for side in Side}
        self._strangers: dict[Side, dict[int, _Stranger]] = {side: {} for side in Side}

    def reconfigure(self, settings: BrokerSettings) -> None:
        """Apply other limits to connections that are made from now on."""
        self.hello_s = settings.hello

    def __len__(self) -> int:
        return sum(map(len, self._strangers.values()))

    def count(self, side: Side) -> int:
        """Return how many strangers one side has."""
        return len(self._strangers[side])

    def add(self, side: Side, connection: Connection, now: float) -> None:
        """Add a connection that was just accepted. It has some time to say HELLO."""
        self.forget(side, connection)
        self._strangers[side][connection.descriptor] = _Stranger(connection, now + self.hello_s)

    def connections(self) -> Iterator[tuple[Side, Connection, bool]]:
        """Yield all strangers by side, each with whether it was refused."""
        for side, strangers in self._strangers.items():
            for stranger in strangers.values():
                yield side, stranger.connection, bool(stranger.routing_id)

    def awaits_hello(self, side: Side, connection: Connection) -> Connection | None:
        """Return a connection as it was accepted if it is open, has no session, and was not refused."""
        stranger = self._strangers[side].get(connection.descriptor)
        return None if stranger is None or stranger.routing_id else stranger.connection

    def extend(self, side: Side, connection: Connection, until: float) -> None:
        """Let a connection stay that has said HELLO, and waits for the answer."""
        stranger = self._strangers[side].get(connection.descriptor)
        if stranger is not None:
            stranger.close_at = until

    def refuse(self, side: Side, connection: Connection, routing_id: bytes) -> None:
        """Have a connection closed soon. Nothing that it sends is taken any more."""
        self.forget(side, connection)
        self._strangers[side][connection.descriptor] = _Stranger(connection, None, routing_id)
        self.refused[side].add(routing_id)

    def forget(self, side: Side, connection: Connection) -> None:
        """Forget a connection: it has a session now, or is closed."""
        stranger = self._strangers[side].pop(connection.descriptor, None)
        if stranger is not None:
            self.refused[side].discard(stranger.routing_id)

    def take_overdue(self, now: float) -> list[tuple[Side, Connection, bool]]:
        """Forget and return the connections to close now, each with whether it never said HELLO."""
        due = []
        for side, strangers in self._strangers.items():
            for stranger in strangers.values():
                if stranger.close_at is None:
                    stranger.close_at = now + CLOSE_AFTER_S
                elif stranger.close_at <= now:
                    due.append((side, stranger.connection, not stranger.routing_id))
        for side, connection, _ in due:
            self.forget(side, connection)
        return due
