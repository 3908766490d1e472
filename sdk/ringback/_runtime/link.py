"""One link: a DEALER socket with a fresh routing ID, and its monitor. Both faces use it, as their core
asks for it."""

from __future__ import annotations

import atexit
import os
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import zmq

from ringback.protocol.limits import MAX_FRAME_BYTES

if TYPE_CHECKING:
    from ringback.credentials import KeyPair

NOBLOCK = int(zmq.NOBLOCK)
MORE = int(zmq.SNDMORE | zmq.NOBLOCK)
RCVMORE = int(zmq.RCVMORE)
EVENTS = int(zmq.EVENTS)
POLLIN = int(zmq.POLLIN)
POLLOUT = int(zmq.POLLOUT)

_EVENT = struct.Struct("=hi")
"""The first part of a monitor's message: event and value (zmq_socket_monitor(3)). pyzmq's own reader would
bring asyncio with it, which doubles the time of an import."""

LINGER_MS = 500
"""How long what was sent may take to leave after a link was closed."""

_LOST = {
    zmq.EVENT_DISCONNECTED: "the connection was closed",
    zmq.EVENT_CLOSED: "the connection was refused",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "the handshake failed",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "what listens there does not speak ZeroMQ as we do",
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "this key is not allowed",
}
_OTHER_MECHANISM = 0x11000002
"""ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH (zmq.h)."""


class Loss(NamedTuple):
    """Why a connection is gone.

    Attributes:
        unauthorized: it was refused for the keys, so that another try is of no use.
        hint: what may be the reason, if there was no session yet.
    """

    why: str
    unauthorized: bool = False
    hint: str = ""


class _Process:
    """One context for all endpoints of a process; a forked child gets one of its own."""

    def __init__(self) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] | None = None
        self.links = 0
        os.register_at_fork(after_in_child=self.forget)
        atexit.register(self.leave)

    def forget(self) -> None:
        self.context = None
        self.links = 0

    def open(self) -> zmq.Socket[bytes]:
        if self.context is None:
            self.context = zmq.Context()
            self.context.set(zmq.MAX_SOCKETS, 65536)
        return self.context.socket(zmq.DEALER)

    def leave(self) -> None:
        """Lets what was sent last leave, where all links were closed properly."""
        if self.context is not None and not self.links:
            self.context.term()


_process = _Process()


class Link:
    """A connection to the broker, from HELLO to its loss; never reused.

    Args:
        address: where the broker listens.
        trusted: whether messages have an address part (server, operator).
        heartbeat_ms: how often the socket asks for a sign of life, and gives one.
        keys: with the broker's public key, for an encrypted link.

    Raises:
        OSError: libzmq does not take the address, or has no descriptor left.
    """

    def __init__(self, address: str, trusted: bool, heartbeat_ms: int, keys: KeyPair | None = None) -> None:
        self._trusted = trusted
        self._keys = keys
        try:
            self._open(address, heartbeat_ms)
        except zmq.ZMQError as error:  # not an OSError itself
            raise OSError(error.errno, error.strerror) from None

    def _open(self, address: str, heartbeat_ms: int) -> None:
        self.socket = _process.open()
        # What a socket has as `send` is a Python function around this one, and takes twice as long.
        self._send = super(zmq.Socket, self.socket).send
        for option, value in (
            (zmq.ROUTING_ID, b"R" + os.urandom(15)),
            (zmq.RECONNECT_IVL, -1),  # a new session is a new socket
            (zmq.LINGER, LINGER_MS),
            (zmq.MAXMSGSIZE, MAX_FRAME_BYTES),
            # A broker that is silent is found after an interval and a timeout at most.
            (zmq.HEARTBEAT_IVL, heartbeat_ms),
            (zmq.HEARTBEAT_TIMEOUT, 2 * heartbeat_ms if self._trusted else heartbeat_ms),
            # The broker asks the kernel how long a player was silent: for thousands of them, libzmq's timers
            # of a TTL cost more than all else.
            (zmq.HEARTBEAT_TTL, 2 * heartbeat_ms if self._trusted else 0),
            (zmq.HANDSHAKE_IVL, 5000),
            (zmq.IPV6, int(address.startswith("tcp://["))),
        ):
            self.socket.setsockopt(option, value)
        if self._keys is not None and self._keys.broker is not None:
            self.socket.setsockopt(zmq.CURVE_SERVERKEY, self._keys.broker.encode())
            self.socket.setsockopt(zmq.CURVE_PUBLICKEY, self._keys.public.encode())
            self.socket.setsockopt(zmq.CURVE_SECRETKEY, self._keys.secret.encode())
        events = 0
        for event in _LOST:
            events |= event
        try:
            self.monitor = self.socket.get_monitor_socket(events)
        except BaseException:
            self.socket.close()
            raise
        _process.links += 1
        try:
            self.socket.connect(address)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        with suppress(zmq.ZMQError):
            self.socket.disable_monitor()
        self.monitor.close()
        self.socket.close()
        _process.links -= 1

    def send(self, address: bytes, frame: bytes) -> bool:
        """Sends without waiting; False when there is no room now."""
        try:
            if self._trusted:
                self._send(address, MORE)
            self._send(frame, NOBLOCK)
        except zmq.Again:
            return False
        return True

    def receive(self) -> tuple[bytes, bytes] | None:
        """Gives a message as address and frame, or None when there is none. One with a wrong number of
        parts comes as an empty frame; but a broker's refusal is read in the other side's form too, since
        that it is the wrong side is what it refuses."""
        receive, option = self.socket.recv, self.socket.getsockopt
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
        """Tells whether a message is there, and whether there is room: POLLIN and POLLOUT bits."""
        state = self.socket.getsockopt(EVENTS)
        return int(state)

    def lost(self) -> Loss | None:
        """Says why the connection is gone, if the monitor has told so."""
        loss = None
        while True:
            try:
                message = self.monitor.recv_multipart(NOBLOCK)
            except zmq.Again:
                return loss
            event, value = _EVENT.unpack(message[0])
            loss = loss or self._loss(event, value)

    def _loss(self, event: int, value: int) -> Loss | None:
        if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and value == _OTHER_MECHANISM:
            if self._keys is None:
                return Loss("it wants an encrypted link: give a key_file, or broker_key and token", True)
            return Loss("it does not encrypt, and this endpoint has a key", True)
        why = _LOST.get(zmq.Event(event))
        if why is None or event == zmq.EVENT_CLOSED:
            return None if why is None else Loss(why)
        # Where keys do not fit, a broker can often do no more than close the connection.
        hint = "does it want keys?" if self._keys is None else "is the broker's public key right?"
        return Loss(why, event == zmq.EVENT_HANDSHAKE_FAILED_AUTH, hint)
