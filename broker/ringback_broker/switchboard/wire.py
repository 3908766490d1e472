"""What the switchboard needs from the loop around it."""

from __future__ import annotations

from typing import Protocol

from ringback_broker.operations.host import Host
from ringback_broker.peers.connection import Connection, Frame, Sent, Side


class Wire(Host, Protocol):
    """The loop around the switchboard: it sends frames and closes connections."""

    def send_player(self, routing_id: bytes, frame: Frame) -> Sent: ...

    def send_backend(self, routing_id: bytes, encoded_id: bytes, frame: Frame) -> Sent: ...

    def close_connection(self, side: Side, connection: Connection) -> None:
        """Close a connection at once."""

    def silence_ms(self, connection: Connection) -> int | None:
        """Return for how long nothing has come over a connection, not even a heartbeat, in milliseconds.

        None if the system does not know.
        """
        ...
