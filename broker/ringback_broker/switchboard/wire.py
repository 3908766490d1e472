"""What the switchboard asks of the loop around it."""

from __future__ import annotations

from typing import Protocol

from ringback_broker.operations.host import Host
from ringback_broker.peers.connection import Connection, Frame, Sent, Side


class Wire(Host, Protocol):
    """What the switchboard asks of the loop around it."""

    def send_player(self, routing_id: bytes, frame: Frame) -> Sent: ...

    def send_backend(self, routing_id: bytes, encoded_id: bytes, frame: Frame) -> Sent: ...

    def close_connection(self, side: Side, connection: Connection) -> None:
        """Closes a connection at once."""

    def silence_ms(self, connection: Connection) -> int | None:
        """How long nothing has come over a connection, heartbeats included; None where nobody can tell."""
        ...
