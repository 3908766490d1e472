"""Pairs: this node and one other one, and the epochs of what they tell each other.

The messages between two nodes may be lost. Each carries its number, so a node notices. Then all that was on
its way is given up, and a new epoch of the pair begins. A message names the epochs of both nodes, and counts
only if both still hold: nothing that was sent in an earlier epoch is taken in a later one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from ringback.protocol.limits import MAX_FRAME_BYTES
from ringback_broker.cluster.frames import Frames
from ringback_broker.peers.connection import Sent

ROOM_BYTES = 512
"""What a message between nodes may have beside a frame: its head and its ID part."""

HEAD = struct.Struct("!QQQ")
"""The epoch of the sender, the epoch of the receiver as far as the sender knows it, and the number of the
message in them. 0: it only tells the epochs."""

GREET_S = 1.0
"""How often a node that waits for the other one tells it its epoch."""

MIN_PIECE_BYTES = 64

BEAT_S = 1.0
"""How often a node sends something at least, so that the other one notices what was lost before, and it
itself that nobody is there."""

SILENT_S = 5.0
"""A pair of which nothing came for this long begins anew."""


@dataclass(slots=True)
class Pair:
    """This node and another one.

    Attributes:
        mine, theirs: the epochs of this node and of the other one; `theirs` is 0 until it is known.
        is_open: both know both epochs, as far as this node has heard.
        sent, taken: the numbers of the last messages each way.
        pieces: the beginning of a frame of which more is on its way.
    """

    name: str
    boot: bytes
    mine: int
    theirs: int = 0
    is_open: bool = False
    sent: int = 0
    taken: int = 0
    pieces: bytearray = field(default_factory=bytearray)
    said_at: float = float("-inf")
    heard_at: float = float("-inf")


class Pairs:
    """The pairs of this node.

    Args:
        opened: is called when a pair has opened.
        closed: is called when it is open no more, with the reason. What was on its way is lost.
        take: takes what was sent over an open pair: the ID part, the frame, and the time.
    """

    def __init__(
        self,
        frames: Frames,
        opened: Callable[[Pair, float], None],
        closed: Callable[[Pair, str, float], None],
        take: Callable[[Pair, bytes, bytes, float], None],
    ) -> None:
        self._frames = frames
        self._opened = opened
        self._closed = closed
        self._take = take
        self._pairs: dict[str, Pair] = {}
        self._epoch = 0

    def is_open(self, name: str) -> bool:
        """Return whether messages may be sent to a node."""
        pair = self._pairs.get(name)
        return pair is not None and pair.is_open

    # -- nodes

    def add(self, name: str, boot: bytes, now: float) -> None:
        """Begin a pair with a node that lives."""
        pair = self._pairs[name] = Pair(name, boot, self._next_epoch())
        self._greet(pair, now)

    def remove(self, name: str, why: str, now: float) -> None:
        """End the pair with a node that lives no more."""
        pair = self._pairs.pop(name, None)
        if pair is not None:
            self._close(pair, why, now)

    def clear(self, why: str, now: float) -> None:
        """End all pairs: this node is no member any more."""
        for name in list(self._pairs):
            self.remove(name, why, now)

    def _next_epoch(self) -> int:
        self._epoch += 1
        return self._epoch

    # -- epochs

    def renew(self, name: str, why: str, now: float) -> None:
        """Give up what is on its way between this node and another one, and begin a new epoch."""
        pair = self._pairs.get(name)
        if pair is not None:
            self._renew(pair, why, now)

    def renew_all(self, why: str, now: float) -> None:
        """Begin a new epoch of all pairs."""
        for pair in list(self._pairs.values()):
            self._renew(pair, why, now)

    def _renew(self, pair: Pair, why: str, now: float, theirs: int = 0) -> None:
        self._close(pair, why, now)
        pair.mine, pair.theirs = self._next_epoch(), max(pair.theirs, theirs)
        self._greet(pair, now)

    def _close(self, pair: Pair, why: str, now: float) -> None:
        pair.sent = pair.taken = 0
        pair.pieces.clear()
        if pair.is_open:
            pair.is_open = False
            self._closed(pair, why, now)

    def _open(self, pair: Pair, now: float) -> None:
        pair.is_open, pair.heard_at = True, now
        self._greet(pair, now)  # the other one may wait for it
        self._opened(pair, now)

    def _greet(self, pair: Pair, now: float) -> None:
        pair.said_at = now
        self._frames.send(pair.name, pair.boot, (HEAD.pack(pair.mine, pair.theirs, 0),))

    # -- messages

    def send(self, name: str, id_part: bytes, frame: bytes) -> Sent:
        """Send a frame to a node: in one message, or in as many as it needs."""
        pair = self._pairs.get(name)
        if pair is None or not pair.is_open:
            return Sent.GONE
        most = max(MIN_PIECE_BYTES, self._frames.max_bytes - ROOM_BYTES)
        begun = 0
        while len(frame) - begun > most:
            sent = self._send(pair, frame[begun : begun + most])
            if sent is not Sent.YES:
                return self._give_up(pair, sent, begun)
            begun += most
        sent = self._send(pair, id_part, frame[begun:] if begun else frame)
        return sent if sent is Sent.YES else self._give_up(pair, sent, begun)

    def _send(self, pair: Pair, *parts: bytes) -> Sent:
        head = HEAD.pack(pair.mine, pair.theirs, pair.sent + 1)
        sent = self._frames.send(pair.name, pair.boot, (head, *parts))
        if sent is Sent.YES:
            pair.sent += 1
        return sent

    def _give_up(self, pair: Pair, sent: Sent, begun: int) -> Sent:
        """Begin anew if the first pieces of a frame have left, and the others cannot."""
        if not begun:
            return sent
        self._renew(pair, "there was no room for a whole frame", pair.heard_at)
        return Sent.GONE

    def from_node(self, name: str, boot: bytes, parts: tuple[bytes, ...], now: float) -> None:
        """Take a message of a node: of its boot that lives, of the epochs that hold, and in its turn."""
        pair = self._pairs.get(name)
        if pair is None or pair.boot != boot or not parts or len(parts[0]) != HEAD.size:
            return
        theirs, mine, number = HEAD.unpack(parts[0])
        if theirs < pair.theirs or mine > pair.mine:
            return
        if theirs > pair.theirs:
            if pair.is_open:
                self._renew(pair, "it has begun anew", now, theirs)
                return
            pair.theirs = theirs
        if mine != pair.mine:
            if not number:
                self._greet(pair, now)
            return
        if not pair.is_open:
            self._open(pair, now)
        pair.heard_at = now
        if number and number == pair.taken + 1:
            pair.taken = number
            self._take_parts(pair, parts[1:], now)
        elif number:
            self._renew(pair, f"{number - pair.taken - 1} messages were lost", now)

    def _take_parts(self, pair: Pair, parts: tuple[bytes, ...], now: float) -> None:
        """Take a whole frame with its ID part, its last piece with the ID part, another piece, or nothing."""
        match parts:
            case (id_part, frame):
                if pair.pieces:
                    frame, pair.pieces = bytes(pair.pieces) + frame, bytearray()
                self._take(pair, id_part, frame, now)
            case (piece,) if len(pair.pieces) + len(piece) <= 2 * MAX_FRAME_BYTES:
                pair.pieces += piece
            case ():
                pass
            case _:
                self._renew(pair, "it sent what no node sends", now)

    def nobody(self, name: str, boot: bytes, epoch: int, now: float) -> None:
        """Take note that a message was lost, since nobody was there to take it: the other node is dead, or
        has lost its connection."""
        pair = self._pairs.get(name)
        if pair is not None and pair.boot == boot and pair.mine == epoch and pair.is_open:
            self._renew(pair, "nobody is there", now)

    # -- time

    def tick(self, now: float) -> None:
        """Greet the nodes whose pair is not open, and find out which messages were lost."""
        for pair in list(self._pairs.values()):
            if not pair.is_open:
                if now - pair.said_at >= GREET_S:
                    self._greet(pair, now)
            elif now - pair.heard_at >= SILENT_S:
                self._renew(pair, f"nothing came for {SILENT_S:g} s", now)
            elif now - pair.said_at >= BEAT_S:
                self._beat(pair, now)

    def _beat(self, pair: Pair, now: float) -> None:
        """Send a message that only has its number. Ask to be told if nobody is there to take it."""
        pair.said_at = now
        head = HEAD.pack(pair.mine, pair.theirs, pair.sent + 1)
        if self._frames.send(pair.name, pair.boot, (head,), pair.mine) is Sent.YES:
            pair.sent += 1
