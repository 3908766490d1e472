"""Arrivals: connections that come and go, and what strangers send over them."""

from __future__ import annotations

from dataclasses import replace

from ringback.errors import RejectCode
from ringback_broker.admission.connections_by_ip import Closing
from ringback_broker.admission.hello import PARTS, Admitted, Refusal, read_hello
from ringback_broker.operations.events import PeerEvent
from ringback_broker.operations.operations import Operations
from ringback_broker.peers.connection import WENT_AWAY, Connection, Side
from ringback_broker.switchboard.joins import Joins
from ringback_broker.switchboard.sessions import Sessions
from ringback_broker.switchboard.state import State
from ringback_broker.switchboard.wire import Wire


class Arrivals:
    """Takes the events of connections, and the messages of strangers.

    Attributes:
        max_connections: how many players and strangers may be connected to the players' address.
        joins: what a HELLO waits in; None: nothing, since this broker is alone.
    """

    def __init__(
        self, max_connections: int, wire: Wire, state: State, sessions: Sessions, operations: Operations
    ) -> None:
        self.max_connections = max_connections
        self._wire = wire
        self._roster = state.roster
        self._counters = state.counters
        self._strangers = state.strangers
        self._connections_by_ip = state.connections_by_ip
        self._admission = state.admission
        self._endings = state.endings
        self._sessions = sessions
        self._operations = operations
        self.joins: Joins | None = None

    # -- connections

    def accepted(self, side: Side, connection: Connection, now: float) -> None:
        """Take note of a connection that was accepted. Events of one descriptor come in order."""
        session = self._roster.at(side, connection)
        if session is not None:  # its end was missed: a descriptor serves one connection at a time
            self._endings.mark(session, "its connection closed")
            self._sessions.end_marked()
        if self.joins is not None:
            self.joins.forget(side, connection)
        self._strangers.forget(side, connection)
        full = side is Side.PLAYERS and (
            self._strangers.count(side) + len(self._roster.players) >= self.max_connections
        )
        closing = self._connections_by_ip.opened(side, connection, now)
        if full and closing is None:
            closing = Closing("there are too many connections")
        if closing is not None:
            if closing.delayed:
                self._counters.joins_delayed += 1
            else:
                self._counters.connections_refused += 1
            event = "delayed" if closing.delayed else "refused"
            self._operations.log(PeerEvent(event, closing.reason, ip=connection.ip))
            self._wire.close_connection(side, connection)
            return
        self._strangers.add(side, connection, now)

    def disconnected(self, side: Side, connection: Connection, failure: str = "") -> None:
        """Take note of a connection that is closed.

        Args:
            failure: why there was no handshake, as far as that is known.
        """
        if self.joins is not None and self.joins.forget(side, connection):
            self._counters.joins_delayed += 1
            self._operations.log(PeerEvent("delayed", "a connection closed before WELCOME", ip=connection.ip))
            self._strangers.forget(side, connection)
        awaited = self._strangers.awaits_hello(side, connection)
        if awaited and not self._connections_by_ip.take_denial(side, connection):
            self._left_early(side, connection, failure)
        self._strangers.forget(side, connection)
        self._connections_by_ip.closed(side, connection)
        session = self._roster.at(side, connection)
        if session is not None:
            self._endings.mark(session, "its connection closed")
            self._sessions.end_marked()

    def deny(self, side: Side, ip: str, public_key: str) -> None:
        """Take note of a connection whose public key is refused."""
        self._counters.handshakes_refused += 1
        self._connections_by_ip.deny(side, ip)
        reason = f"key {public_key} is not for the {side.value}"
        self._operations.log(PeerEvent("refused", reason, ip=ip, code=RejectCode.UNAUTHORIZED.name))

    def close_overdue(self, now: float) -> None:
        """Close the connections of strangers that were refused, or said nothing for too long."""
        self._connections_by_ip.forget_old(now)
        for side, connection, silent in self._strangers.take_overdue(now):
            if silent:
                self._no_hello(side, connection, f"it said nothing for {self._strangers.hello_s:g} s")
            self._wire.close_connection(side, connection)

    def _left_early(self, side: Side, connection: Connection, failure: str) -> None:
        """Take note of a connection that closes before HELLO.

        In a crowd, the broker is late for some, who give up and try again.
        """
        ip = self._connections_by_ip.ip(side, connection)
        if failure in ("", WENT_AWAY) and self._connections_by_ip.is_crowd(side, ip):
            self._counters.joins_delayed += 1
            self._operations.log(PeerEvent("delayed", "a connection was given up before HELLO", ip=ip))
        else:
            self._no_hello(side, connection, failure or "it left, or does not speak ZeroMQ")

    def close_unfinished(self, side: Side, connection: Connection, size: int) -> None:
        """Close a connection over which too much of a message without an end came.

        There is no REJECT: the connection would have to stay until it has arrived.
        """
        self._counters.messages_unfinished += 1
        session = self._roster.at(side, connection)
        reason, code = f"a message without an end: {size} bytes of it came", RejectCode.PROTOCOL_ERROR
        if session is None:
            self._operations.log(PeerEvent("refused", reason, ip=connection.ip, code=code.name))
        else:
            self._endings.mark(session, f"{code.name}: {reason}", Refusal(code, reason, silent=True))
        self._strangers.forget(side, connection)
        self._wire.close_connection(side, connection)
        self._sessions.end_marked()

    def _no_hello(self, side: Side, connection: Connection, why: str) -> None:
        """Count a connection that ends before HELLO."""
        self._counters.handshakes_failed += 1
        ip = self._connections_by_ip.ip(side, connection)
        self._connections_by_ip.doubt(side, ip)
        self._operations.log(PeerEvent("refused", f"no HELLO: {why}", ip=ip or "somebody"))

    # -- messages

    def from_stranger(
        self, side: Side, routing_id: bytes, parts: list[bytes], connection: Connection, now: float
    ) -> None:
        """Take a message from a peer without a session: a HELLO, or something to refuse.

        Args:
            connection: the one that it came over.
        """
        accepted = self._strangers.awaits_hello(side, connection)
        if accepted is None:
            # It was refused before, or is closed: its descriptor may serve another connection by now.
            # Or it was delayed: it may have said HELLO before it was closed.
            if not self._connections_by_ip.delays(side):
                self._counters.stranger_messages += 1
            return
        if self.joins is not None:  # one that waits says nothing else
            self.joins.forget(side, connection)
        connection = replace(connection, inode=accepted.inode)
        hello = read_hello(side, parts)
        if isinstance(hello, Refusal):
            self._counters.stranger_messages += 1
            self._counters.malformed += len(parts) != PARTS[side]
            self._sessions.turn_away(side, routing_id, connection, hello)
            return
        if self.joins is not None:
            self.joins.begin(side, routing_id, connection, hello, now)
            self._sessions.end_marked()
            return
        admitted = self._admission.decide(hello, connection, now)
        if isinstance(admitted, Refusal):
            self._sessions.turn_away(side, routing_id, connection, admitted)
            return
        self.admit(routing_id, connection, admitted, now)

    def admit(self, routing_id: bytes, connection: Connection, admitted: Admitted, now: float) -> None:
        """Begin a session."""
        if admitted.replaced is not None:
            reason = f"the same {admitted.hello.role} joined again from {connection.ip}"
            self._endings.refuse(admitted.replaced, RejectCode.REPLACED, reason)
            # LEFT of the old session comes before JOINED of the new one. The place of a server is its own.
            self._sessions.end_marked(promote=False)
        self._sessions.welcome(routing_id, connection, admitted, now)
        self._sessions.end_marked()
