"""Connections without a session: those that have not said HELLO yet, those that were refused, and the
addresses from which nobody is let in for a while."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ringback_broker.peers.connection import Connection, Side
from ringback_broker.settings.schema import BrokerSettings

SHUT_OUT_S = 5.0
MAX_SHUT_OUT = 1000
"""For how long an address is shut out after a flood, and how many are at one time."""

CLOSE_AFTER_S = 0.5
"""A refused connection is closed so long after the next tick, so that the REJECT arrives first."""


@dataclass(slots=True)
class _Stranger:
    connection: Connection
    close_at: float | None
    """None: refused, and the next tick sets the time."""

    routing_id: bytes = b""
    """Of one that was refused."""


class Strangers:
    """Keeps which connections are open without a session, and for how long they may stay.

    It knows connections by descriptor, as monitor events do. One entry an open connection, no more.

    Attributes:
        refused: routing IDs of those that were refused, by side: what they still send is thrown away.
    """

    def __init__(self, config: BrokerSettings) -> None:
        self.reconfigure(config)
        self._from: dict[tuple[Side, int], str] = {}
        # By side: whoever floods the players' side from an address keeps no server there out.
        self._open: Counter[tuple[Side, str]] = Counter()
        self._made: dict[tuple[Side, str], tuple[float, float]] = {}
        self._denied: Counter[tuple[Side, str]] = Counter()
        self._shut_out: dict[str, float] = {}
        self.refused: dict[Side, set[bytes]] = {side: set() for side in Side}
        self._strangers: dict[Side, dict[int, _Stranger]] = {side: {} for side in Side}

    def reconfigure(self, config: BrokerSettings) -> None:
        """Has other bounds hold, for who comes from now on."""
        self._hello_s = config.hello
        self._most = config.address_connections
        self._rate = config.address_handshakes

    def __len__(self) -> int:
        return sum(map(len, self._strangers.values()))

    def count(self, side: Side) -> int:
        """Tells how many are open on one side."""
        return len(self._strangers[side])

    def arrived(self, side: Side, connection: Connection, now: float) -> None:
        """A connection was accepted: it has some time to say HELLO."""
        self.settled(side, connection)
        self._strangers[side][connection.descriptor] = _Stranger(connection, now + self._hello_s)

    def comes(self, side: Side, connection: Connection, now: float) -> str:
        """Takes note of a connection; tells why its address may not have one more, or make one so soon, and
        nothing if it may.

        Those on Unix sockets have no address, and no such bound.
        """
        remote = connection.remote
        if not remote:
            return ""
        self.goes(side, connection)
        self._from[side, connection.descriptor] = remote
        self._open[side, remote] += 1
        made, at = self._made.get((side, remote), (0.0, now))
        made = max(0.0, made - (now - at) * self._rate) + 1.0
        if self._open[side, remote] > self._most:
            return f"more than {self._most} connections of one address"
        if made > max(self._rate, 1.0):
            return f"more than {self._rate:g} connections a second of one address"
        self._made[side, remote] = made, now
        return ""

    def goes(self, side: Side, connection: Connection) -> None:
        """A connection is closed."""
        remote = self._from.pop((side, connection.descriptor), None)
        if remote is not None:
            self._open[side, remote] -= 1
            if not self._open[side, remote]:
                del self._open[side, remote]
                self._denied.pop((side, remote), None)

    def denied(self, side: Side, remote: str) -> None:
        """A connection from an address is refused for its key. It closes by itself; which one it is, nobody
        can tell."""
        self._denied[side, remote] += 1

    def was_denied(self, side: Side, connection: Connection) -> bool:
        """Tells of a connection that closes whether its key was refused; each refusal is told of once."""
        remote = self.remote(side, connection)
        if not self._denied[side, remote]:
            return False
        self._denied[side, remote] -= 1
        return True

    def remote(self, side: Side, connection: Connection) -> str:
        """Tells from which address an open connection comes."""
        return self._from.get((side, connection.descriptor), "")

    def admits(self, side: Side, connection: Connection) -> bool:
        """Tells whether a connection is open, without a session, and was not refused."""
        stranger = self._strangers[side].get(connection.descriptor)
        return stranger is not None and not stranger.routing_id

    def settled(self, side: Side, connection: Connection) -> None:
        """The connection has a session now, or is closed."""
        stranger = self._strangers[side].pop(connection.descriptor, None)
        if stranger is not None:
            self.refused[side].discard(stranger.routing_id)

    def refuse(self, side: Side, connection: Connection, routing_id: bytes) -> None:
        """Has a connection closed soon; nothing that it sends is taken any more."""
        self.settled(side, connection)
        self._strangers[side][connection.descriptor] = _Stranger(connection, None, routing_id)
        self.refused[side].add(routing_id)

    def shut_out(self, remote: str, now: float) -> None:
        """Lets nobody in from an address for a while, since a player there was ended for what it sent.

        To come back at once is no way around a rate. Those who are in stay.
        """
        if remote and len(self._shut_out) < MAX_SHUT_OUT:
            self._shut_out[remote] = now + SHUT_OUT_S

    def is_shut_out(self, remote: str, now: float) -> bool:
        return bool(self._shut_out) and self._shut_out.get(remote, now) > now

    def overdue(self, now: float) -> list[tuple[Side, Connection, bool]]:
        """Gives the connections to close now, each with whether it said nothing, and forgets them."""
        for maker in [maker for maker, (made, at) in self._made.items() if made <= (now - at) * self._rate]:
            del self._made[maker]
        for remote in [remote for remote, until in self._shut_out.items() if until <= now]:
            del self._shut_out[remote]
        due = []
        for side, strangers in self._strangers.items():
            for stranger in strangers.values():
                if stranger.close_at is None:
                    stranger.close_at = now + CLOSE_AFTER_S
                elif stranger.close_at <= now:
                    due.append((side, stranger.connection, not stranger.routing_id))
        for side, connection, _ in due:
            self.settled(side, connection)
        return due
