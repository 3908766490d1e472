"""What operations ask of the process around them."""

from __future__ import annotations

from typing import Protocol

from ringback.protocol.reports import WatchedCall
from ringback_broker.operations.events import PeerEvent
from ringback_broker.peers.connection import Connection


class Host(Protocol):
    """The process of a broker, as operators' questions and orders need it."""

    def round_trip_ms(self, connection: Connection) -> float | None:
        """How long a packet takes there and back, as the system has measured; None where nobody can tell."""
        ...

    def log_call(self, call: WatchedCall) -> None:
        """Writes a call that somebody watches into the log."""

    def drain(self, grace_s: float | None) -> None:
        """Has the broker let everybody finish, and then stop; None: in the time that its settings give."""

    def report(self, report: PeerEvent) -> None:
        """Tells what happened, for the logs."""
