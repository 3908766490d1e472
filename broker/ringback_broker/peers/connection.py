"""Connections: the two sides, how a send ended, and the frames that pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any


class Side(Enum):
    """The two listeners."""

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
    """The transport below a session: its descriptor in this process, where it comes from, and the public key
    that it was made with, in Z85; empty without CURVE."""

    descriptor: int
    remote: str
    key: str = field(default="", compare=False)


LARGE_BYTES = 8192
"""Larger frames are passed on without being copied, and alone. A small one is copied faster than that."""


class LargeFrame:
    """A frame in libzmq's own memory. It is passed on as it is; the rest of it is as of bytes.

    Args:
        message: what pyzmq gives with `copy=False`.
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
