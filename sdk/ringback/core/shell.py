"""What the core asks of the face around it. A simulator implements it as well as the two faces."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any, Protocol

from ringback.core.calls import Execution, PendingCall, Replier


class EndpointEvent(Enum):
    """What users may listen to."""

    CONNECTED = auto()
    DISCONNECTED = auto()
    PLAYER_JOINED = auto()
    PLAYER_LEFT = auto()


class Shell(Replier, Protocol):
    """Effects of the core. All but the answers of `Replier` are called on the I/O thread, and must not
    block."""

    def open_link(self, heartbeat_ms: int) -> None:
        """Opens a fresh socket with a fresh routing ID, that sends heartbeats so often."""

    def fetch_token(self, number: int) -> None:
        """Gets a token, now or later and elsewhere, and has the core take it with this number."""

    def close_link(self) -> None:
        """Closes the present socket; what was sent may still leave for a moment."""

    def send(self, address: bytes, frame: bytes) -> bool:
        """Sends on the present socket without waiting; False when there is no room now."""
        ...

    def want_flush(self) -> None:
        """Something waits to be sent: call `flush` soon, after what else happens at this moment."""

    def run(self, execution: Execution) -> None:
        """Has the handler run, later and elsewhere."""

    def allow_failed(self, key: str, error: BaseException) -> None:
        """The `allow` of a callback raised, or gave no bool: it belongs into the log."""

    def jobs_waiting(self) -> int:
        """How many handlers wait to be run."""
        ...

    def finished(self, call: PendingCall) -> None:
        """A call has its outcome: have its callback run, later and elsewhere."""

    def event(self, event: EndpointEvent, argument: Any) -> None:
        """Something happened that users may listen to."""

    def started(self, error: Exception | None) -> None:
        """The first WELCOME came, or starting failed."""

    def warn(self, text: str) -> None:
        """Something that an operator should see in the log."""
