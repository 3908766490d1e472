"""Unfinished messages: how much of one a connection may send, and which connections send too much.

libzmq hands a message over once its last part has come. Until then it keeps the parts, without a bound. So
the broker compares what was read of a connection with what it was when the last message was handed over.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ringback.protocol.limits import MAX_FRAME_BYTES
from ringback_broker.peers.connection import Connection, Side

MAX_UNFINISHED_BYTES = 2 * MAX_FRAME_BYTES + 65_536
"""Bytes that may come over one connection without a whole message: the largest message, the largest HELLO
before it, and what libzmq reads ahead. Parts without content are the worst case: 2 bytes on the wire take 64
in memory, so these are 66 MiB."""

MAX_UNFINISHED_IN_ALL = 64 * 1024 * 1024
"""The same for all connections together."""


class Open(NamedTuple):
    """An open connection at one moment.

    Attributes:
        mark: another value after each message that came over it.
        fresh: no message has come since the connection was made, or none but HELLO.
        bytes_read: what was read of it since it was made.
    """

    side: Side
    connection: Connection
    mark: object
    fresh: bool
    bytes_read: int


class Suspect(NamedTuple):
    """A connection over which too much of an unfinished message came, and how much."""

    of: Open
    unfinished: int


class Unfinished:
    """Remembers how much was read of each connection when its last message came."""

    def __init__(self) -> None:
        self._bases: dict[tuple[Side, int], tuple[object, int]] = {}

    def find(self, connections: Iterable[Open]) -> list[Suspect]:
        """Return the connections that are over a limit, the worst first.

        Args:
            connections: all that are open now. Others are forgotten.
        """
        known, self._bases = self._bases, {}
        found = []
        for one in connections:
            where = (one.side, one.connection.descriptor)
            mark, base = known.get(where, (None, 0))
            if mark != one.mark or base > one.bytes_read:
                base = 0 if one.fresh else one.bytes_read
            self._bases[where] = one.mark, base
            found.append(Suspect(one, one.bytes_read - base))
        found.sort(key=lambda one: one.unfinished, reverse=True)
        in_all = sum(one.unfinished for one in found)
        over = []
        for suspect in found:
            if suspect.unfinished <= MAX_UNFINISHED_BYTES and in_all <= MAX_UNFINISHED_IN_ALL:
                break
            over.append(suspect)
            in_all -= suspect.unfinished
        return over
