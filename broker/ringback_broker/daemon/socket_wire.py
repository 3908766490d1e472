"""What the switchboard asks for, done with sockets and logs."""

from __future__ import annotations

from collections.abc import Callable

from ringback_broker.daemon.log_lines import LogLines
from ringback_broker.net.kernel_connection import round_trip_ms, shut_down, silence_ms
from ringback_broker.net.router_socket import RouterSocket
from ringback_broker.peers.connection import Connection, Side


class SocketWire:
    """A `Wire` over two sockets.

    Args:
        lines: writes what happened into the logs.
        drain: lets calls in flight end and then stops the broker; its argument is a time in seconds, or None
            for the time of the settings.
        clock: returns the time of the loop.
    """

    def __init__(
        self,
        players: RouterSocket,
        backend: RouterSocket,
        lines: LogLines,
        drain: Callable[[float | None], None],
        clock: Callable[[], float],
    ) -> None:
        # Each frame takes this way, so these are the sockets' own methods, with nothing between.
        self.send_player = players.send
        self.send_backend = backend.send_with_id
        self.log_event = lines.log_event
        self.log_call = lines.log_call
        self.drain = drain
        self._players = players
        self._backend = backend
        self._clock = clock

    def silence_ms(self, connection: Connection) -> int | None:
        return silence_ms(connection.descriptor)

    def round_trip_ms(self, connection: Connection) -> float | None:
        return round_trip_ms(connection.descriptor)

    def close_connection(self, side: Side, connection: Connection) -> None:
        events = (self._players if side is Side.PLAYERS else self._backend).events
        events.note(self._clock())
        descriptor = connection.descriptor
        # It may serve another connection by now, also one of the other side.
        inode = events.inode_of(descriptor)
        if inode and inode == connection.inode and not events.has(descriptor):
            self.shut_down(descriptor)

    def shut_down(self, descriptor: int) -> None:
        """Close the connection of a descriptor."""
        shut_down(descriptor)
