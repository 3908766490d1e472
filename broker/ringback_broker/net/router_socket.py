"""The broker's two ROUTER sockets: options, bounded receives, and sends that never wait."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import zmq

from ringback.protocol.limits import MAX_FRAME_BYTES
from ringback_broker.net.connection_events import MONITORED, ConnectionEvents
from ringback_broker.net.kernel_connection import inode_of
from ringback_broker.peers.connection import Frame, LargeFrame, Sent, Side

_MORE = zmq.SNDMORE | zmq.NOBLOCK
_NOBLOCK = int(zmq.NOBLOCK)
_RCVMORE = int(zmq.RCVMORE)
_EVENTS_OPTION = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)

MAX_PARTS_KEPT = 64
"""Parts of one message that are kept. The rest is read and dropped."""

UNREAD_FRAMES = 64
"""Frames of one player that may wait for the broker to read them.

If a connection claims the routing ID of another one, nobody reads its frames, and libzmq does not free them
when the connection closes. So the broker may lose memory for this many.
"""

HEARTBEAT_MS = 500
"""How often the broker sends heartbeats where its peers are few; it waits twice as long for the reply.

Players on TCP get none: libzmq looks through all timers to cancel one, so 4,000 such players took 60 % of a
core. `silence_ms` finds players that are gone instead. Where the system does not know the silence, the broker
does send heartbeats.
"""


_BIND_REASONS = {
    int(zmq.EADDRINUSE): "it is in use; stop the program that listens there, or choose another address",
    errno.ENODEV: "this machine has no IP and no network interface of that name",
}


class BindError(OSError):
    """The broker cannot listen on an address; the message says why."""


class RouterSocket:
    """One ROUTER socket and its monitor. `listen` opens one.

    Attributes:
        socket, monitor: to be polled.
        events: what the monitor says.
        address: where it listens, with the port that the system chose.
    """

    def __init__(self, side: Side, socket: Any, monitor: Any, address: str) -> None:
        self.side = side
        self.socket = socket
        self.monitor = monitor
        self.address = address
        self.events = ConnectionEvents(monitor, lambda descriptor: inode_of(descriptor, self.address))
        self._send_part = _plain_send(socket)
        self._lock: int | None = None

    @classmethod
    def listen(
        cls,
        context: zmq.Context[zmq.Socket[bytes]],
        side: Side,
        address: str,
        queue: int,
        secret: str | None = None,
    ) -> RouterSocket:
        """Open a socket that listens on an address.

        Args:
            queue: how many messages may wait for one peer.
            secret: the broker's secret key in Z85; None: connections are not encrypted.

        Raises:
            BindError: the broker cannot listen on the address.
        """
        socket = context.socket(zmq.ROUTER)
        _set_options(socket, side, address, queue, secret)
        router = cls(side, socket, socket.get_monitor_socket(MONITORED), address)
        # Without a bound. libzmq's I/O thread waits while a monitor is full, and carries no frame meanwhile;
        # and if nobody reads the monitor any more, closing the socket waits for that thread.
        router.monitor.setsockopt(zmq.RCVHWM, 0)
        try:
            router._bind(address)
        except BaseException:
            router.close()
            raise
        router.address = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        return router

    def _bind(self, address: str) -> None:
        umask = os.umask(0o077)  # only the owner may use an ipc socket
        try:
            if address.startswith("ipc://"):
                self._lock = _lock_ipc(Path(address.removeprefix("ipc://")))
            self.socket.bind(address)
        except (OSError, zmq.ZMQError) as error:
            number = error.errno or 0
            reason = _BIND_REASONS.get(number, zmq.strerror(number).lower())
            raise BindError(f"cannot listen on {address}: {reason}") from None
        finally:
            os.umask(umask)

    def close(self) -> None:
        """Close the socket, its monitor and its lock. Closing twice does no harm."""
        with suppress(zmq.ZMQError):
            self.socket.disable_monitor()
        self.monitor.close()
        self.socket.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def send(self, routing_id: bytes, frame: Frame) -> Sent:
        """Send a message of one part to a peer. Never wait."""
        send = self._send_part
        try:
            send(routing_id, _MORE)
            if isinstance(frame, LargeFrame):
                send(frame.message, _NOBLOCK, False)
            else:
                send(frame, _NOBLOCK)
        except zmq.ZMQError as error:
            return _not_sent(error)
        return Sent.YES

    def send_with_id(self, routing_id: bytes, encoded_id: bytes, frame: Frame) -> Sent:
        """Send a message of two parts to a trusted peer: an ID part and a frame. Never wait."""
        send = self._send_part
        try:
            send(routing_id, _MORE)
            send(encoded_id, _MORE)
            if isinstance(frame, LargeFrame):
                send(frame.message, _NOBLOCK, False)
            else:
                send(frame, _NOBLOCK)
        except zmq.ZMQError as error:
            return _not_sent(error)
        return Sent.YES

    def has_more(self) -> bool:
        """Return whether messages wait. This takes half as long as a receive that finds nothing."""
        return bool(int(self.socket.getsockopt(_EVENTS_OPTION)) & _POLLIN)

    def receive_parts(self, first: bytes) -> list[bytes]:
        """Read on to the end of a message. Return its parts, up to a bound."""
        parts = [first]
        while self.socket.getsockopt(_RCVMORE):
            part = self.socket.recv(_NOBLOCK)
            if len(parts) < MAX_PARTS_KEPT:
                parts.append(part)
        return parts


def _set_options(socket: zmq.Socket[bytes], side: Side, address: str, queue: int, secret: str | None) -> None:
    many = side is Side.PLAYERS and address.startswith("tcp:") and sys.platform == "linux"
    interval_ms = 0 if many else HEARTBEAT_MS
    for option, value in (
        (zmq.ROUTER_MANDATORY, 1),  # an unknown peer is an error, not silence
        (zmq.ROUTER_HANDOVER, 0),
        (zmq.LINGER, 0),
        (zmq.SNDHWM, queue),
        (zmq.RCVHWM, min(queue, UNREAD_FRAMES) if side is Side.PLAYERS else queue),
        (zmq.MAXMSGSIZE, MAX_FRAME_BYTES),
        (zmq.BACKLOG, 1024),
        (zmq.HANDSHAKE_IVL, 5000),
        (zmq.HEARTBEAT_IVL, interval_ms),
        (zmq.HEARTBEAT_TIMEOUT, 2 * interval_ms),
        (zmq.IPV6, int(address.startswith(("tcp://[", "tcp://*")))),
    ):
        socket.setsockopt(option, value)
    if secret is not None:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, secret.encode())
        socket.setsockopt(zmq.ZAP_DOMAIN, side.value.encode())
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # without a handler nobody may connect


def _plain_send(socket: Any) -> Callable[..., object]:
    """Return the send of a socket without pyzmq's wrapper in Python.

    The broker sends five parts for a call. With the wrapper it takes 5.5 % more instructions for a lone call.
    """
    return super(zmq.Socket, socket).send if isinstance(socket, zmq.Socket) else socket.send


def _not_sent(error: zmq.ZMQError) -> Sent:
    """Return why a message to a peer of a ROUTER could not be sent."""
    if error.errno == zmq.EAGAIN:
        return Sent.FULL
    if error.errno in (zmq.EHOSTUNREACH, zmq.ENOTCONN):
        return Sent.GONE
    raise error


def _lock_ipc(path: Path) -> int:
    """Lock a path, so that no other broker listens on it: a bind alone would take it over silently."""
    if path.exists() and not path.is_socket():
        raise FileExistsError(errno.EEXIST, "")  # libzmq would delete it, whatever it is
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise OSError(zmq.EADDRINUSE, "in use") from None
    return lock
