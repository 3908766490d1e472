"""The broker's two ROUTER sockets: options, bounded receives, non-blocking sends, monitor events."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import zmq
from zmq.utils.monitor import parse_monitor_message

from ringback.protocol.limits import MAX_FRAME_BYTES
from ringback_broker.peers.connection import Connection, Frame, LargeFrame, Sent, Side

_libc = ctypes.CDLL(None)
"""For descriptors that libzmq owns. Not of a duplicate: there may be no room for one."""

_MORE = zmq.SNDMORE | zmq.NOBLOCK
_NOBLOCK = int(zmq.NOBLOCK)
_RCVMORE = int(zmq.RCVMORE)
_EVENTS_OPTION = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)
MAX_PARTS_KEPT = 64
"""Of a message with more parts the rest is thrown away."""

ConnectionEvent = tuple[int, Connection, str]
"""What happened to a connection: zmq.EVENT_ACCEPTED or zmq.EVENT_DISCONNECTED; and what libzmq says of why it
came to no handshake."""

_EVENTS = (
    zmq.EVENT_ACCEPTED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
_WRONG_BROKER_KEY, _OTHER_MECHANISM = 0x11000001, 0x11000002
"""ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC and _MECHANISM_MISMATCH (zmq.h)."""


_LAST_DATA_RECV, _MIN_RTT, _TCP_INFO_BYTES = 52, 148, 152

UNREAD_FRAMES = 64
"""What one player may have sent and the broker not read yet. libzmq keeps so much for good of a connection
that claims the routing ID of somebody else: it is never read, and not freed when it closes."""

HEARTBEAT_MS = 500
"""How often the broker asks for a sign of life where its peers are few, and waits twice as long for one.

Not players on TCP: libzmq looks through all timers to cancel one, so 4,000 such players took 60 % of a
core. `silence_ms` finds those that send no heartbeats any more; where there is no such, the broker does ask.
"""


class BindError(OSError):
    """An address can't be listened at; the message says why."""


class RouterSocket:
    """One ROUTER socket and its monitor.

    Attributes:
        socket, monitor: to be polled.
        burst: how many messages are taken before it is asked whether there are more: as many as were there
            the last time.
        address: what is really bound, with the port that the system chose.
        noted_at: since when there are events that nobody has asked for; None if there are none.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        side: Side,
        address: str,
        queue: int,
        secret: str | None = None,
    ) -> None:
        self.side = side
        self.socket = context.socket(zmq.ROUTER)
        # What a socket has as `send` is a Python function around this one, and takes twice as long.
        self._send_part = super(zmq.Socket, self.socket).send
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
            self.socket.setsockopt(option, value)
        if secret is not None:
            self.socket.setsockopt(zmq.CURVE_SERVER, 1)
            self.socket.setsockopt(zmq.CURVE_SECRETKEY, secret.encode())
            self.socket.setsockopt(zmq.ZAP_DOMAIN, side.value.encode())
            self.socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # without a handler nobody comes in
        self.monitor = self.socket.get_monitor_socket(_EVENTS)
        self.burst = 1
        self.noted_at: float | None = None
        self._failure = ""
        self._noted: dict[int, list[ConnectionEvent]] = {}
        self._lock: int | None = None
        try:
            self._bind(address)
        except BaseException:
            self.close()
            raise
        self.address = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def _bind(self, address: str) -> None:
        umask = os.umask(0o077)  # an ipc socket is its owner's alone
        try:
            if address.startswith("ipc://"):
                self._lock = _lock_ipc(Path(address.removeprefix("ipc://")))
            self.socket.bind(address)
        except (OSError, zmq.ZMQError) as error:
            in_use = error.errno == zmq.EADDRINUSE
            reason = "it is in use" if in_use else zmq.strerror(error.errno or 0).lower()
            raise BindError(f"can't listen at {address}: {reason}") from None
        finally:
            os.umask(umask)

    def close(self) -> None:
        with suppress(zmq.ZMQError):
            self.socket.disable_monitor()
        self.monitor.close()
        self.socket.close()
        if self._lock is not None:
            os.close(self._lock)

    def send(self, routing_id: bytes, frame: Frame) -> Sent:
        """Sends a message of one part to a peer; never waits."""
        try:
            self._send_part(routing_id, _MORE)
            if isinstance(frame, LargeFrame):
                self._send_part(frame.message, _NOBLOCK, False)
            else:
                self._send_part(frame, _NOBLOCK)
        except zmq.ZMQError as error:
            return _not_sent(error)
        return Sent.YES

    def send_with_address(self, routing_id: bytes, address: bytes, frame: Frame) -> Sent:
        """Sends a message of two parts to a peer; never waits."""
        try:
            self._send_part(routing_id, _MORE)
            self._send_part(address, _MORE)
            if isinstance(frame, LargeFrame):
                self._send_part(frame.message, _NOBLOCK, False)
            else:
                self._send_part(frame, _NOBLOCK)
        except zmq.ZMQError as error:
            return _not_sent(error)
        return Sent.YES

    def has_more(self) -> bool:
        """Tells whether messages wait. That takes half as long as to try to receive one that is not there."""
        return bool(int(self.socket.getsockopt(_EVENTS_OPTION)) & _POLLIN)

    def receive_parts(self, first: bytes) -> list[bytes]:
        """Reads on to the end of a message, with a bound on what is kept."""
        parts = [first]
        while self.socket.getsockopt(_RCVMORE):
            part = self.socket.recv(_NOBLOCK)
            if len(parts) < MAX_PARTS_KEPT:
                parts.append(part)
        return parts

    def note_events(self, now: float) -> None:
        """Reads what the monitor tells, to be asked for when the messages before it were taken."""
        while True:
            try:
                message = self.monitor.recv_multipart(_NOBLOCK)
            except zmq.Again:
                return
            told = parse_monitor_message(message)
            descriptor, event = int(told["value"]), int(told["event"])
            if event not in (zmq.EVENT_ACCEPTED, zmq.EVENT_DISCONNECTED):
                # It names no connection. But libzmq closes that at once, so the next one closed is it; and
                # what was told of it first says most.
                self._failure = self._failure or _failure(event, descriptor)
                continue
            # The endpoint that it names is this listener's, not the peer's.
            remote = _peer_of(descriptor) if event == zmq.EVENT_ACCEPTED else ""
            failure = ""
            if event == zmq.EVENT_DISCONNECTED:
                failure, self._failure = self._failure, ""
            connection = Connection(descriptor, remote)
            self._noted.setdefault(connection.descriptor, []).append((event, connection, failure))
            if self.noted_at is None:
                self.noted_at = now

    def events(self) -> Iterator[ConnectionEvent]:
        """Gives all events noted; those of one descriptor are in order, which is the one that matters."""
        while self._noted:
            yield from self.events_of(next(iter(self._noted)))

    def events_of(self, descriptor: int) -> Iterator[ConnectionEvent]:
        """Gives the events noted of one descriptor, one at a time: what is done with one may depend on
        whether there are more."""
        while events := self._noted.get(descriptor):
            event = events.pop(0)
            if not events:
                del self._noted[descriptor]
                if not self._noted:
                    self.noted_at = None
            yield event

    def has_events_of(self, descriptor: int) -> bool:
        return descriptor in self._noted

    @staticmethod
    def silence_ms(descriptor: int) -> int | None:
        """Tells for how many milliseconds nothing, not even a heartbeat, has come over a TCP connection.

        tcpi_last_data_recv of Linux's struct tcp_info (tcp(7), linux/tcp.h); None where there is no such.
        """
        return _tcp_info(descriptor, _LAST_DATA_RECV)

    @staticmethod
    def round_trip_ms(descriptor: int) -> float | None:
        """Tells how long a packet over a TCP connection takes there and back: tcpi_min_rtt, likewise.

        The least of the last five minutes. tcpi_rtt has in it how long the other side keeps its ACKs back.
        """
        rtt_us = _tcp_info(descriptor, _MIN_RTT)
        return None if rtt_us is None else rtt_us / 1000

    @staticmethod
    def shut_down(descriptor: int) -> None:
        """Closes the connection below a descriptor that libzmq owns, so that libzmq notices."""
        _libc.shutdown(descriptor, socket.SHUT_RDWR)


def _tcp_info(descriptor: int, offset: int) -> int | None:
    """Gives a field of 32 bits of struct tcp_info."""
    if sys.platform != "linux":
        return None
    size = ctypes.c_uint(_TCP_INFO_BYTES)
    info = ctypes.create_string_buffer(_TCP_INFO_BYTES)
    if _libc.getsockopt(descriptor, socket.IPPROTO_TCP, socket.TCP_INFO, info, ctypes.byref(size)):
        return None
    found = info.raw[offset : min(offset + 4, size.value)]
    return int.from_bytes(found, sys.byteorder) if len(found) == 4 else None  # an older kernel tells less


def _not_sent(error: zmq.ZMQError) -> Sent:
    """Says why a message to a peer of a ROUTER could not be sent."""
    if error.errno == zmq.EAGAIN:
        return Sent.FULL
    if error.errno in (zmq.EHOSTUNREACH, zmq.ENOTCONN):
        return Sent.GONE
    raise error


def _failure(event: int, value: int) -> str:
    """Says why a handshake failed."""
    if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        return "it went away, or took too long"
    if value == _OTHER_MECHANISM:
        return "one side encrypts, the other does not"
    if value == _WRONG_BROKER_KEY:
        return "it has another key for this broker, or repeats what it has overheard"
    return "it does not speak ZeroMQ as we do"


def _peer_of(descriptor: int) -> str:
    """Gives the IP address at the other end of a descriptor that libzmq owns; empty if there is none."""
    try:
        peer = socket.socket(fileno=descriptor)
    except OSError:  # closed already
        return ""
    try:
        name = peer.getpeername()
        return str(name[0]) if isinstance(name, tuple) else ""
    except OSError:
        return ""
    finally:
        peer.detach()


def _lock_ipc(path: Path) -> int:
    """Makes sure that no other broker listens at the path: a bind alone would take it over silently."""
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
