"""One link to the broker: a DEALER socket with a fresh routing ID, and its monitor. Both faces use it."""

from __future__ import annotations

import atexit
import os
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import zmq

from ringback.protocol.limits import MAX_FRAME_BYTES
from ringback.systems import in_forked_child

if TYPE_CHECKING:
    from ringback.credentials import KeyPair

NOBLOCK = int(zmq.NOBLOCK)
MORE = int(zmq.SNDMORE | zmq.NOBLOCK)
RCVMORE = int(zmq.RCVMORE)
EVENTS = int(zmq.EVENTS)
POLLIN = int(zmq.POLLIN)
POLLOUT = int(zmq.POLLOUT)

_EVENT = struct.Struct("=hi")
"""The first part of a monitor's message: event and value (zmq_socket_monitor(3)). pyzmq's own reader imports
asyncio, which doubles the import time."""

LINGER_MS = 500
"""How long frames may take to leave after the link was closed."""

_LOST = {
    zmq.EVENT_DISCONNECTED: "the connection was closed",
    zmq.EVENT_CLOSED: "the connection was refused",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "the handshake failed",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "the program at the address does not speak ZeroMQ as ringback does",
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "this public key is not allowed",
}
_OTHER_MECHANISM = 0x11000002
"""ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH (zmq.h)."""


class Loss(NamedTuple):
    """Why a connection is gone.

    Attributes:
        unauthorized: whether the broker refused the key pair, so that another attempt is pointless.
        hint: a possible reason, for a connection that never had a session.
    """

    why: str
    unauthorized: bool = False
    hint: str = ""


class _Process:
    """The one ZeroMQ context of all endpoints in a process. A forked child gets its own.

    Attributes:
        links: the open links. They are held here: the collector could otherwise end their sockets before the
            endpoint that closes them.
    """

    def __init__(self) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] | None = None
        self.links: set[Link] = set()
        in_forked_child(self.forget)
        atexit.register(self.leave)

    def forget(self) -> None:
        """Drop the context of the parent process, in a forked child."""
        self.context = None
        self.links = set()

    def open(self) -> zmq.Socket[bytes]:
        """Return a new DEALER socket."""
        if self.context is None:
            self.context = zmq.Context()
            self.context.set(zmq.MAX_SOCKETS, 65536)
        return self.context.socket(zmq.DEALER)

    def leave(self) -> None:
        """Let the last frames leave at the end of the process, if all links were closed properly."""
        if self.context is not None and not self.links:
            self.context.term()


_process = _Process()


class Link:
    """One connection to the broker, from HELLO until it is lost. It is never reused.

    Args:
        address: the broker's address, without a name: libzmq looks names up on the thread of all links.
        trusted: whether messages have an ID part (server, operator).
        heartbeat_ms: the interval of heartbeats.
        keys: the key pair with the broker's public key, for an encrypted link.

    Attributes:
        answered: whether `lost` has seen that the other end answered the handshake.

    Raises:
        OSError: libzmq rejects the address, or the process has no file descriptor left.
    """

    def __init__(self, address: str, trusted: bool, heartbeat_ms: int, keys: KeyPair | None = None) -> None:
        self._trusted = trusted
        self._keys = keys
        self.answered = False
        try:
            self._open(address, heartbeat_ms)
        except zmq.ZMQError as error:  # not an OSError itself
            raise OSError(error.errno, error.strerror) from None

    def _open(self, address: str, heartbeat_ms: int) -> None:
        self.socket = _process.open()
        # Looked up once: each call needs them several times.
        self._send, self._receive = self.socket.send, self.socket.recv
        self._get_option = self.socket.getsockopt
        for option, value in (
            (zmq.ROUTING_ID, b"R" + os.urandom(15)),
            (zmq.RECONNECT_IVL, -1),  # a new session is a new socket
            (zmq.LINGER, LINGER_MS),
            (zmq.MAXMSGSIZE, MAX_FRAME_BYTES),
            # A silent broker is found after one interval and one timeout at the latest.
            (zmq.HEARTBEAT_IVL, heartbeat_ms),
            (zmq.HEARTBEAT_TIMEOUT, 2 * heartbeat_ms if self._trusted else heartbeat_ms),
            # The broker asks the kernel how long a player has been silent. For thousands of players, libzmq's
            # TTL timers would cost more than everything else.
            (zmq.HEARTBEAT_TTL, 2 * heartbeat_ms if self._trusted else 0),
            (zmq.HANDSHAKE_IVL, 5000),
            (zmq.IPV6, int(address.startswith("tcp://["))),
        ):
            self.socket.setsockopt(option, value)
        if self._keys is not None and self._keys.broker is not None:
            self.socket.setsockopt(zmq.CURVE_SERVERKEY, self._keys.broker.encode())
            self.socket.setsockopt(zmq.CURVE_PUBLICKEY, self._keys.public.encode())
            self.socket.setsockopt(zmq.CURVE_SECRETKEY, self._keys.secret.encode())
        events = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        for event in _LOST:
            events |= event
        try:
            self.monitor = self.socket.get_monitor_socket(events)
        except BaseException:
            self.socket.close()
            raise
        _process.links.add(self)
        try:
            self.socket.connect(address)
        except BaseException:
            self.close()
            raise

    def close(self, linger: bool = True) -> None:
        """Close the socket. With `linger`, frames that were sent may still leave for half a second."""
        if not linger:
            self.socket.setsockopt(zmq.LINGER, 0)
        with suppress(zmq.ZMQError):
            self.socket.disable_monitor()
        self.monitor.close()
        self.socket.close()
        _process.links.discard(self)

    def send(self, id_part: bytes, frame: bytes) -> bool:
        """Send without waiting. Return False if there is no room now."""
        try:
            if self._trusted:
                self._send(id_part, MORE)
            self._send(frame, NOBLOCK)
        except zmq.Again:
            return False
        return True

    def receive(self) -> tuple[bytes, bytes] | None:
        """Return the next message as ID part and frame; None if there is none.

        A message with a wrong number of parts becomes an empty frame. One part is accepted on a trusted link
        too: a broker refuses an endpoint that connects to the wrong side in the form of that side.
        """
        receive, option = self._receive, self._get_option
        try:
            first = receive(NOBLOCK)
        except zmq.Again:
            return None
        if not option(RCVMORE):
            return b"", first
        frame = receive(NOBLOCK)
        if not option(RCVMORE) and (self._trusted or not first):
            return first, frame
        while option(RCVMORE):
            receive(NOBLOCK)
        return b"", b""

    def events(self) -> int:
        """Return whether there is a message and room to send: POLLIN and POLLOUT bits."""
        state = self._get_option(EVENTS)
        return int(state)

    def lost(self) -> Loss | None:
        """Return why the connection is gone; None while the monitor reports no loss."""
        loss = None
        while True:
            try:
                message = self.monitor.recv_multipart(NOBLOCK)
            except zmq.Again:
                return loss
            event, value = _EVENT.unpack(message[0])
            self.answered |= event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            loss = loss or self._loss(event, value)

    def _loss(self, event: int, value: int) -> Loss | None:
        if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and value == _OTHER_MECHANISM:
            if self._keys is None:
                return Loss(
                    "the broker requires an encrypted link: pass key_file, or broker_key and token", True
                )
            return Loss("the broker does not encrypt, but this endpoint has a key pair", True)
        why = _LOST.get(zmq.Event(event))
        if why is None or event == zmq.EVENT_CLOSED:
            return None if why is None else Loss(why)
        return Loss(why, event == zmq.EVENT_HANDSHAKE_FAILED_AUTH, self._hint())

    def _hint(self) -> str:
        """Return a possible reason for a connection that was closed before WELCOME.

        If the keys do not fit, or connections are too many, a broker often can only close the connection.
        """
        if self.answered:  # so the keys fit; a busy broker closes a connection only after that
            return "does the broker limit the connections of this IP?"
        if self._keys is None:
            return "does the broker require a key pair? or does it limit the connections of this IP?"
        return "is the broker's public key right? or does it limit the connections of this IP?"
