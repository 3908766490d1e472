"""What operations need from the process around them."""

from __future__ import annotations

from typing import Protocol

from ringback.protocol.reports import WatchedCall
from ringback_broker.operations.events import PeerEvent
from ringback_broker.peers.connection import Connection


class Host(Protocol):
    """The process of a broker, as operators' queries and orders need it."""

    def round_trip_ms(self, connection: Connection) -> float | None:
        """Return how long a packet takes there and back, in milliseconds; None if the system does not
        know."""
        ...

    def log_call(self, call: WatchedCall) -> None:
        """Write a watched call into the log."""

    def drain(self, grace_s: float | None, /) -> None:
        """Let calls in flight end, then stop the broker.

        Args:
            grace_s: the time that they have, in seconds; None: the time in the settings.
        """

    def log_event(self, event: PeerEvent) -> None:
        """Write what happened to a peer into the logs."""
