"""What the core asks of the face around it. The two faces implement it, and so does the simulator."""

from __future__ import annotations

from enum import Enum, auto
from typing import Protocol

from ringback.core.execution import Execution, Replier
from ringback.core.pending_call import PendingCall
from ringback.protocol.player_ids import PlayerID


class EndpointEvent(Enum):
    """What users can listen to."""

    CONNECTED = auto()
    DISCONNECTED = auto()
    PLAYER_JOINED = auto()
    PLAYER_LEFT = auto()
    ACTING = auto()


class Shell(Replier, Protocol):
    """The effects of the core. The core calls all of them on the I/O thread, except those of `Replier`.
    None of them may block."""

    def find_broker(self, broker: str, number: int) -> None:
        """Find the numeric addresses of a broker, now or later and elsewhere, and give them to
        `Endpoint.take_addresses` with this number."""

    def open_link(self, address: str, heartbeat_ms: int) -> None:
        """Open a new socket to this address, with a new routing ID, and send heartbeats at this interval.

        Raises:
            OSError: no socket could be opened; the core tries again a little later.
        """

    def fetch_token(self, number: int) -> None:
        """Get a token, now or later and elsewhere, and give it to `Endpoint.take_token` with this number."""

    def close_link(self) -> None:
        """Close the present socket; what was sent may still leave for a moment."""

    def send(self, encoded_id: bytes, frame: bytes) -> bool:
        """Send on the present socket without waiting. Return False if there is no room now."""
        ...

    def want_flush(self) -> None:
        """Call `Endpoint.flush` soon, once all else that happens at this moment is done."""

    def run(self, execution: Execution) -> None:
        """Run the handler, later and elsewhere."""

    def allow_failed(self, key: str, error: BaseException) -> None:
        """Log that the `allow` of a callback raised, or did not return a bool."""

    def jobs_waiting(self) -> int:
        """Return how many handlers wait to run."""
        ...

    def finished(self, call: PendingCall) -> None:
        """Run the callback of a call that has its outcome, later and elsewhere."""

    def event(self, event: EndpointEvent, argument: PlayerID) -> None:
        """Call the listeners of an event, with a player ID, the broker's address, a reason, or a bool."""

    def started(self, error: Exception | None) -> None:
        """Take note that the first WELCOME came, or that starting failed."""

    def left(self) -> None:
        """Take note that this server has handed over and left the broker for good."""

    def contain(self, what: str, error: BaseException) -> None:
        """Log and count an exception of one piece of work. All others go on. This never raises."""

    def warn(self, text: str, *details: object) -> None:
        """Log something that an operator should see: a template with %s, and what belongs in it.

        The shell says which endpoint it is about.
        """
