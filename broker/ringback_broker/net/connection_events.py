"""Connection events: what libzmq's monitor of a socket says about connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

from ringback_broker.net.kernel_connection import ip_of
from ringback_broker.peers.connection import WENT_AWAY, Connection

MONITORED = (
    zmq.EVENT_ACCEPTED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
"""The events that a monitor must report."""

ConnectionEvent = tuple[int, Connection, str]
"""What happened to a connection: zmq.EVENT_ACCEPTED or zmq.EVENT_DISCONNECTED, the connection, and why its
handshake failed if that is so."""

_NOBLOCK = int(zmq.NOBLOCK)
_WRONG_BROKER_KEY, _OTHER_MECHANISM = 0x11000001, 0x11000002
"""ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC and _MECHANISM_MISMATCH (zmq.h)."""


class ConnectionEvents:
    """Reads the events of one monitor, and keeps them until the messages before them were taken.

    Args:
        monitor: the socket of the monitor.
        inode_of: returns the inode of a descriptor; 0 if no connection of this socket has it now.

    Attributes:
        noted_at: since when events wait here; None: there are none.
    """

    def __init__(self, monitor: Any, inode_of: Callable[[int], int]) -> None:
        self.noted_at: float | None = None
        self.inode_of = inode_of
        self._monitor = monitor
        self._failure = ""
        self._noted: dict[int, list[ConnectionEvent]] = {}

    def note(self, now: float) -> None:
        """Read what the monitor has."""
        while True:
            try:
                message = self._monitor.recv_multipart(_NOBLOCK)
            except zmq.Again:
                return
            found = parse_monitor_message(message)
            descriptor, event = int(found["value"]), int(found["event"])
            if event not in (zmq.EVENT_ACCEPTED, zmq.EVENT_DISCONNECTED):
                # A failed handshake names no connection. But libzmq closes that at once, so it is the next
                # one that closes; and the first event about it says most.
                self._failure = self._failure or _failure(event, descriptor)
                continue
            ip, inode, failure = "", 0, ""
            if event == zmq.EVENT_ACCEPTED:
                # The address in the event is this socket's own, not the peer's.
                inode = self.inode_of(descriptor)
                ip = ip_of(descriptor) if inode else ""
            else:
                failure, self._failure = self._failure, ""
            connection = Connection(descriptor, ip, inode=inode)
            self._noted.setdefault(descriptor, []).append((event, connection, failure))
            if self.noted_at is None:
                self.noted_at = now

    def take_all(self) -> Iterator[ConnectionEvent]:
        """Take all events. Those of one descriptor come in order; the order of others does not matter."""
        while self._noted:
            yield from self.take(next(iter(self._noted)))

    def take(self, descriptor: int) -> Iterator[ConnectionEvent]:
        """Take the events of one descriptor, one at a time: what follows from one may depend on `has`."""
        while events := self._noted.get(descriptor):
            event = events.pop(0)
            if not events:
                del self._noted[descriptor]
                if not self._noted:
                    self.noted_at = None
            yield event

    def has(self, descriptor: int) -> bool:
        """Return whether events of a descriptor wait here."""
        return descriptor in self._noted


def _failure(event: int, value: int) -> str:
    """Return why a handshake failed."""
    if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        return WENT_AWAY
    if value == _OTHER_MECHANISM:
        return "one side encrypts, the other does not"
    if value == _WRONG_BROKER_KEY:
        return "it has another key for this broker, or repeats what it has overheard"
    return "it does not speak ZeroMQ as we do"
