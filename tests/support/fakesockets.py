"""Sockets that have what a test puts into them."""

from __future__ import annotations

import zmq


class FakeMonitor:
    """The monitor of a socket."""

    def __init__(self) -> None:
        self.messages: list[list[bytes]] = []

    def recv_multipart(self, _flags: int) -> list[bytes]:
        if not self.messages:
            raise zmq.Again
        return self.messages.pop(0)

    def accepted(self, descriptor: int) -> None:
        """Report that a connection was accepted."""
        self._report(int(zmq.EVENT_ACCEPTED), descriptor)

    def closed(self, descriptor: int) -> None:
        """Report that a connection has closed."""
        self._report(int(zmq.EVENT_DISCONNECTED), descriptor)

    def _report(self, event: int, descriptor: int) -> None:
        self.messages.append([event.to_bytes(2, "little") + descriptor.to_bytes(4, "little"), b"somewhere"])


class EmptySocket:
    """A ROUTER socket to which nothing comes."""

    def recv(self, _flags: int, copy: bool = True) -> bytes:
        raise zmq.Again

    def getsockopt(self, _option: int) -> int:
        return 0

    def send(self, _part: bytes, _flags: int, copy: bool = True) -> None:
        raise zmq.Again
