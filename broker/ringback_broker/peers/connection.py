"""Connections: the two sides, how a send ended, and the frames that pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any


class Side(Enum):
    """One of the two addresses that the broker listens on."""

    PLAYERS = "players"
    BACKEND = "backend"


class Sent(IntEnum):
    """How a send ended."""

    YES = 0
    FULL = 1
    """The peer's queue is full."""
    GONE = 2
    """There is no such peer."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A TCP or Unix connection below a session.

    Attributes:
        descriptor: its file descriptor in this process.
        ip: where it comes from; empty for a Unix socket.
        public_key: the key that its peer has proved to hold, in Z85; empty without CURVE.
        inode: tells it from a later connection with the same descriptor; 0: it is gone already.
    """

    descriptor: int
    ip: str
    public_key: str = field(default="", compare=False)
    inode: int = field(default=0, compare=False)


WENT_AWAY = "it went away, or took too long"
"""Why a handshake failed, if libzmq gives no reason."""

LARGE_BYTES = 8192
"""Larger frames are passed on without a copy, and not in bundles. A smaller one is copied faster."""


class LargeFrame:
    """A frame in libzmq's own memory, which is passed on as it is. Otherwise it acts as bytes.

    Args:
        message: what pyzmq returns with `copy=False`.
    """

    __slots__ = ("_bytes", "message")

    def __init__(self, message: Any) -> None:
        self.message = message
        self._bytes: memoryview = message.buffer

    def __len__(self) -> int:
        return len(self._bytes)

    def __getitem__(self, part: slice) -> bytes:
        return bytes(self._bytes[part])

    def __bytes__(self) -> bytes:
        return bytes(self._bytes)


Frame = bytes | LargeFrame
