"""Ports that stay free for one broker, also while it is down."""

from __future__ import annotations

import socket
import sys

ANY_PORT = "tcp://127.0.0.1:0"
"""The address of any free port of this machine."""


class ReservedPort:
    """A free port that the system gives to nobody else until `close`.

    A bound socket that does not listen keeps it. On Linux, another socket may listen on it all the same if
    both have SO_REUSEADDR, as ZeroMQ's have (socket(7)). Elsewhere nothing is reserved, and the system
    chooses the port when the broker starts.

    Attributes:
        address: the address of the port.
    """

    def __init__(self) -> None:
        self.address = ANY_PORT
        self._socket: socket.socket | None = None
        if sys.platform == "linux":
            self._socket = socket.socket()
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{self._socket.getsockname()[1]}"

    def listen(self) -> socket.socket:
        """Return a new socket that listens on the port. Connections are refused once it is closed."""
        host, _, port = self.address.removeprefix("tcp://").rpartition(":")
        listener = socket.create_server((host, int(port)))  # with SO_REUSEADDR
        self.address = f"tcp://{host}:{listener.getsockname()[1]}"
        return listener

    def close(self) -> None:
        """Give the port back."""
        if self._socket is not None:
            self._socket.close()
