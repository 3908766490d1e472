"""Connections by IP: how many are open, how fast they come, and which IPs are shut out."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from ringback_broker.peers.connection import Connection, Side
from ringback_broker.settings.schema import BrokerSettings

SHUT_OUT_S = 5.0
"""How long an IP is shut out after a player there sent too much."""

MAX_SHUT_OUT = 1000
"""How many IPs are shut out at one time, and how many are in doubt."""

CROWD = 50.0
"""An IP from which more connections come in a second has a crowd behind it, as a school or a bot farm has."""

DELAYED_S = 5.0
"""How long an IP counts as delayed after the last connection that was too early."""

MAX_DELAY_S = 60.0
"""A crowd is in by then. An IP that is over the rate for longer floods the broker."""

IN_DOUBT_S = 60.0
"""How long an IP is in doubt after a connection from there that did not join as players do."""

ROUNDING = 1e-6
"""Times are floats: a connection that comes exactly when one may is not one too many."""


class Closing(NamedTuple):
    """Why a new connection is closed at once.

    Attributes:
        delayed: it belongs to a crowd that joins, and may come again at once.
    """

    reason: str
    delayed: bool = False


class ConnectionsByIP:
    """Counts the open connections of each IP, and refuses those over the limits.

    It knows a connection by its descriptor, as the events of libzmq do. It counts each side apart, so that
    a flood of connections to the players' address keeps no server out. Connections over a Unix socket have
    no IP and no limit.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self.reconfigure(settings)
        self._ips: dict[tuple[Side, int], str] = {}
        self._open: Counter[tuple[Side, str]] = Counter()
        self._recent: dict[tuple[Side, str], tuple[float, float]] = {}
        self._denied: Counter[tuple[Side, str]] = Counter()
        self._shut_out_until: dict[str, float] = {}
        self._delayed: dict[tuple[Side, str], tuple[float, float]] = {}
        self._doubted_until: dict[tuple[Side, str], float] = {}
        self._now = 0.0

    def reconfigure(self, settings: BrokerSettings) -> None:
        """Apply other limits to connections that are made from now on."""
        self._max_open = settings.ip_connections
        self._max_per_s = settings.ip_handshakes

    def ip(self, side: Side, connection: Connection) -> str:
        """Return the IP that an open connection comes from, or an empty str."""
        return self._ips.get((side, connection.descriptor), "")

    def opened(self, side: Side, connection: Connection, now: float) -> Closing | None:
        """Count a connection. Return why it must be closed, or None if it may stay."""
        self._now = now
        ip = connection.ip
        if not ip:
            return None
        self.closed(side, connection)
        self._ips[side, connection.descriptor] = ip
        self._open[side, ip] += 1
        recent, at = self._recent.get((side, ip), (0.0, now))
        recent = max(0.0, recent - (now - at) * self._max_per_s) + 1.0
        if self._open[side, ip] > self._max_open:
            return Closing(f"more than {self._max_open} connections of one IP")
        if recent > max(self._max_per_s, 1.0) + ROUNDING:
            reason = f"more than {self._max_per_s:g} connections a second of one IP"
            return Closing(reason, self._delay(side, ip, now))
        self._recent[side, ip] = recent, now
        return None

    def _delay(self, side: Side, ip: str, now: float) -> bool:
        """Note that a connection came too early. Return whether it only has to come again."""
        since, last = self._delayed.get((side, ip), (now, now))
        if now - last > DELAYED_S:
            since = now
        self._delayed[side, ip] = since, now
        return (side, ip) not in self._doubted_until and now - since <= MAX_DELAY_S

    def delays(self, side: Side) -> bool:
        """Return whether connections of a crowd came too early lately."""
        return any(delayed is side for delayed, _ in self._delayed)

    def is_crowd(self, side: Side, ip: str) -> bool:
        """Return whether a crowd joins from an IP now. Some of its connections are given up and made anew."""
        if (side, ip) in self._doubted_until:
            return False
        if (side, ip) in self._delayed:
            return True
        recent, at = self._recent.get((side, ip), (0.0, self._now))
        return recent - (self._now - at) * self._max_per_s > CROWD

    def doubt(self, side: Side, ip: str) -> None:
        """Note that somebody at an IP does not join as players do: a burst from there is no crowd."""
        if ip and ((side, ip) in self._doubted_until or len(self._doubted_until) < MAX_SHUT_OUT):
            self._doubted_until[side, ip] = self._now + IN_DOUBT_S

    def closed(self, side: Side, connection: Connection) -> None:
        """Forget a connection."""
        ip = self._ips.pop((side, connection.descriptor), None)
        if ip is not None:
            self._open[side, ip] -= 1
            if not self._open[side, ip]:
                del self._open[side, ip]
                self._denied.pop((side, ip), None)

    def deny(self, side: Side, ip: str) -> None:
        """Note that the key of a connection is refused. libzmq closes it, but does not say which one."""
        self._denied[side, ip] += 1
        self.doubt(side, ip)

    def take_denial(self, side: Side, connection: Connection) -> bool:
        """Return whether a connection that closes had its key refused. Each refusal counts once."""
        ip = self.ip(side, connection)
        if not self._denied[side, ip]:
            return False
        self._denied[side, ip] -= 1
        return True

    def shut_out(self, ip: str, now: float) -> None:
        """Let no player in from an IP for a while, because a player there sent too much.

        Otherwise a player could get around its rate limit by joining again. Players that are in stay.
        """
        if ip and len(self._shut_out_until) < MAX_SHUT_OUT:
            self._shut_out_until[ip] = now + SHUT_OUT_S

    def is_shut_out(self, ip: str, now: float) -> bool:
        """Return whether no player may join from an IP now."""
        return bool(self._shut_out_until) and self._shut_out_until.get(ip, now) > now

    def forget_old(self, now: float) -> None:
        """Forget what no longer limits anybody."""
        self._now = now
        for source, (_, last) in list(self._delayed.items()):
            if now - last > DELAYED_S:
                del self._delayed[source]
        for source in [source for source, until in self._doubted_until.items() if until <= now]:
            del self._doubted_until[source]
        for source, (recent, at) in list(self._recent.items()):
            if recent <= (now - at) * self._max_per_s:
                del self._recent[source]
        for ip in [ip for ip, until in self._shut_out_until.items() if until <= now]:
            del self._shut_out_until[ip]
