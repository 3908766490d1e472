"""Taking messages from strangers: connections that have no session."""

from __future__ import annotations

from collections.abc import Iterable

import zmq

from ringback_broker.admission.hello import PARTS
from ringback_broker.daemon.containment import Containment
from ringback_broker.net.connection_events import ConnectionEvent
from ringback_broker.net.router_socket import RouterSocket
from ringback_broker.peers.connection import Connection, Side
from ringback_broker.peers.session import Session
from ringback_broker.switchboard.switchboard import Switchboard

STRANGERS_AT_ONCE = 64
"""Messages of strangers that are kept to the end of a burst: at most 64 MiB."""

_NOBLOCK = int(zmq.NOBLOCK)


class StrangerReceiver:
    """Keeps the messages of strangers until those of sessions were taken, then delivers them.

    A descriptor may have served a session a moment ago, and the last messages of that session count.

    Args:
        has_keys: whether connections are encrypted, and so have a public key.

    Attributes:
        kept: routing ID, connection and parts of each message that waits.
    """

    def __init__(self, router: RouterSocket, switchboard: Switchboard, has_keys: bool) -> None:
        self.kept: list[tuple[bytes, Connection, list[bytes]]] = []
        self._router = router
        self._switchboard = switchboard
        self._has_keys = has_keys
        self._is_unix = router.address.startswith("ipc://")
        self._contain = Containment(switchboard.counters)

    def receive(self, routing_id: bytes) -> None:
        """Read the rest of a message, and keep it."""
        first = self._router.socket.recv(_NOBLOCK, copy=False)
        try:
            public_key = str(first.get("User-Id")) if self._has_keys else ""
            descriptor = int(first.get(zmq.SRCFD))
            # libzmq's Peer-Address of a Unix socket is a user, a group and a process.
            ip = "" if self._is_unix else str(first.get("Peer-Address"))
            connection = Connection(descriptor, ip, public_key)
        except zmq.ZMQError:  # libzmq does not know: the connection closed right after it was accepted
            connection = Connection(-1, "somewhere")
        self.kept.append((routing_id, connection, self._router.receive_parts(first.bytes)))

    def deliver(self, now: float) -> None:
        """Hand the messages that are kept to the switchboard."""
        router, switchboard = self._router, self._switchboard
        kept, self.kept = self.kept, []
        # Events noted so far are older than these messages: that a connection was accepted, and what became
        # of an earlier connection with the same descriptor.
        router.events.note(now)
        known = switchboard.roster.by_routing_id[router.side]
        for routing_id, connection, parts in kept:
            events = router.events.take(connection.descriptor)
            pass_on(events, router.side, switchboard, now, self._contain)
            try:
                if routing_id in known:  # the peer did not wait for the reply to its HELLO
                    self._deliver_of_session(known[routing_id], parts, now)
                else:
                    switchboard.from_stranger(router.side, routing_id, parts, connection, now)
            except Exception as error:  # the messages behind it are of other peers
                self._contain("handling a message of a stranger", error)

    def _deliver_of_session(self, session: Session, parts: list[bytes], now: float) -> None:
        if len(parts) != PARTS[session.side]:
            self._switchboard.malformed(session, len(parts))
        elif session.side is Side.PLAYERS:
            self._switchboard.from_player(session, parts[0], now)
        else:
            self._switchboard.from_backend(session, parts[0], parts[1], now)


def pass_on(
    events: Iterable[ConnectionEvent],
    side: Side,
    switchboard: Switchboard,
    now: float,
    contain: Containment,
) -> None:
    """Tell the switchboard what happened to connections."""
    for event, connection, failure in events:
        try:
            if event == zmq.EVENT_ACCEPTED:
                switchboard.accepted(side, connection, now)
            else:
                switchboard.disconnected(side, connection, failure)
        except Exception as error:  # the events behind it are of other connections
            contain("handling a connection event", error)
