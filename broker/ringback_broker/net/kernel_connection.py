"""Connections as the kernel sees them, by their descriptors.

The descriptors are libzmq's. They are used as they are: a duplicate needs a free descriptor, and there may be
none.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys
import termios

_libc = ctypes.CDLL(None)
_LAST_DATA_RECV, _BYTES_RECEIVED, _MIN_RTT, _TCP_INFO_BYTES = 52, 128, 148, 152
"""Offsets in Linux's struct tcp_info, and its size (tcp(7), linux/tcp.h)."""


_UNMEASURED = 2**32 - 1
"""What tcpi_min_rtt is before the first measurement."""


def silence_ms(descriptor: int) -> int | None:
    """Return for how many milliseconds nothing, not even a heartbeat, has come over a TCP connection.

    This is tcpi_last_data_recv. None: the system does not know.
    """
    return _tcp_info(descriptor, _LAST_DATA_RECV)


def round_trip_ms(descriptor: int) -> float | None:
    """Return how long a packet takes there and back over a TCP connection, in milliseconds.

    This is tcpi_min_rtt, the least of the last five minutes: tcpi_rtt includes the time for which the other
    side keeps its ACKs back. It counts microseconds; over loopback it is a few of them. None: the system does
    not know, as for a Unix socket and before the first packet was confirmed.
    """
    rtt_us = _tcp_info(descriptor, _MIN_RTT)
    return rtt_us / 1000 if rtt_us and rtt_us != _UNMEASURED else None


def bytes_read(descriptor: int) -> int | None:
    """Return how many bytes libzmq has read of a TCP connection.

    This is tcpi_bytes_received without what waits in the kernel. None: the system does not know.
    """
    received = _tcp_info(descriptor, _BYTES_RECEIVED, 8)
    if received is None:
        return None
    waiting = ctypes.c_int()
    _libc.ioctl(descriptor, termios.FIONREAD, ctypes.byref(waiting))
    return max(0, received - waiting.value)


def ip_of(descriptor: int) -> str:
    """Return the IP at the other end of a connection; empty if it has none, or is closed."""
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


def inode_of(descriptor: int, address: str) -> int:
    """Return the inode of a connection that was accepted at an address; 0 if there is none.

    A later connection with the same descriptor has another inode, and may be one of another address.
    """
    try:
        connection = socket.socket(fileno=descriptor)
    except OSError:  # closed already
        return 0
    try:
        name = connection.getsockname()
        accepted = name[1] == _port_in(address) if isinstance(name, tuple) else _is_path_of(name, address)
        return os.fstat(descriptor).st_ino if accepted else 0
    except OSError:
        return 0
    finally:
        connection.detach()


def _port_in(address: str) -> int | None:
    port = address.rpartition(":")[2]
    return int(port) if address.startswith("tcp://") else None


def _is_path_of(name: str | bytes, address: str) -> bool:
    """Return whether a Unix socket has this name. An abstract one has a NUL where the address has an @."""
    return address == "ipc://" + os.fsdecode(name).replace("\0", "@", 1)


def shut_down(descriptor: int) -> None:
    """Close a connection. libzmq notices, and closes the descriptor."""
    _libc.shutdown(descriptor, socket.SHUT_RDWR)


def _tcp_info(descriptor: int, offset: int, width: int = 4) -> int | None:
    """Return a field of struct tcp_info, of 4 or 8 bytes."""
    if sys.platform != "linux":
        return None
    size = ctypes.c_uint(_TCP_INFO_BYTES)
    info = ctypes.create_string_buffer(_TCP_INFO_BYTES)
    if _libc.getsockopt(descriptor, socket.IPPROTO_TCP, socket.TCP_INFO, info, ctypes.byref(size)):
        return None
    found = info.raw[offset : min(offset + width, size.value)]
    return int.from_bytes(found, sys.byteorder) if len(found) == width else None  # an older kernel has less
