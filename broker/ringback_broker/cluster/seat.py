"""The seat: the record that names the node whose server acts. One node has it at a time.

A node says whether it wants the seat, and this part works towards that with one question to the records at a
time. What other nodes do to the record is only a hint to read it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from secrets import compare_digest

import msgpack

from ringback_broker.cluster.held_names import REWRITE_S
from ringback_broker.cluster.ownership import decode_node, node_key
from ringback_broker.cluster.records import Absent, Outcome, Record, Records

SEAT = "seat"

LOOK_S = 5.0
"""How often the record is read although nothing hints at a change."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The node that has the seat.

    Attributes:
        term: grows with each node that takes the seat. It names the time that it has it.
        ticket: the hash of the ticket of its server; empty if it has none.
    """

    node: str
    boot: bytes
    term: int
    ticket: bytes


@dataclass(frozen=True, slots=True)
class Wish:
    """That this node wants the seat.

    Attributes:
        ticket: the hash of the ticket of the server that is going to act.
        shown: the hash of the ticket that this server showed: if it fits, the server has moved here.
    """

    ticket: bytes = b""
    shown: bytes = b""


class Seat:
    """Which node has the seat, and whether this one wants it.

    Args:
        node: the name of this node.
        boot: returns its boot.
        moved: is called with the time when the record says something else: who has the seat, since when, or
            with which ticket.

    Attributes:
        holder: the node that has it; None: nobody, as far as this node knows.
        wish: what this node wants; None: not to have it.
        read_at: when the record was read last.
    """

    def __init__(
        self, node: str, boot: Callable[[], bytes], records: Records, moved: Callable[[float], None]
    ) -> None:
        self.holder: Holder | None = None
        self.wish: Wish | None = None
        self._node = node
        self._boot = boot
        self._records = records
        self._moved = moved
        self.read_at = float("-inf")
        self._life = 0
        self._revision = 0
        self._written_at = 0.0
        self._is_busy = False
        self._is_stale = True
        self._look_at = float("-inf")

    @property
    def is_mine(self) -> bool:
        """Whether this node has the seat."""
        return self._is_own(self.holder)

    def fits(self, shown: bytes) -> bool:
        """Return whether the hash of a ticket is that of the server that acts."""
        holder = self.holder
        return holder is not None and bool(shown) and compare_digest(shown, holder.ticket)

    def want(self, wish: Wish | None, now: float) -> None:
        """Say whether this node wants the seat from now on."""
        if wish != self.wish:
            self.wish = wish
            self._strive(now)

    def hint(self, now: float) -> None:
        """Take note that the record may have changed."""
        self._is_stale = True
        self._strive(now)

    def tick(self, now: float) -> None:
        """Read the record now and then, and go on with what is wanted."""
        if now >= self._look_at:
            self._is_stale = True
        self._strive(now)

    def clear(self) -> None:
        """Forget all: this boot of the node owns nothing any more."""
        self._life += 1
        self.holder = self.wish = None
        self._revision = 0
        self._is_busy, self._is_stale = False, True

    # -- asking, and what came of it

    def _is_own(self, holder: Holder | None) -> bool:
        return holder is not None and holder.node == self._node and holder.boot == self._boot()

    def _strive(self, now: float) -> None:
        """Do the next thing, if nothing is under way."""
        if self._is_busy:
            return
        wish, holder = self.wish, self.holder
        if self._is_stale:
            self._is_stale, self._look_at = False, now + LOOK_S
            self._ask(self._records.read, SEAT, self._was_read)
        elif self.is_mine and wish is None:
            self._ask(self._records.delete, SEAT, self._revision, self._was_written)
        elif self.is_mine and wish is not None:
            assert holder is not None
            if wish.ticket != holder.ticket or now - self._written_at >= REWRITE_S:
                self._put(wish, holder.term, now)
        elif wish is not None and (holder is None or self.fits(wish.shown)):
            self._put(wish, 0, now)
        elif wish is not None and holder is not None:
            self._ask(self._records.read, node_key(holder.node), self._was_found)

    def _ask(self, how: Callable[..., None], *question: object) -> None:
        *arguments, done = question
        life, self._is_busy = self._life, True

        def told(outcome: Outcome, now: float) -> None:
            if life == self._life:
                self._is_busy = False
                done(outcome, now)  # type: ignore[operator]

        how(*arguments, told)

    def _put(self, wish: Wish, term: int, now: float) -> None:
        value = msgpack.packb([self._node, self._boot(), term, wish.ticket])
        self._written_at = now
        self._ask(self._records.put, SEAT, value, self._revision, self._was_written)

    def _was_written(self, outcome: Outcome, now: float) -> None:
        if isinstance(outcome, Record | Absent):
            self._now_is(outcome, now)
        else:
            self._is_stale = True
        self._strive(now)

    def _was_read(self, outcome: Outcome, now: float) -> None:
        if isinstance(outcome, Record | Absent):
            self.read_at = now
            self._now_is(outcome, now)
            self._strive(now)
        else:
            self._look_at = now  # the next tick reads it

    def _was_found(self, outcome: Outcome, now: float) -> None:
        """Take the seat if the node that has it lives no more."""
        wish, holder = self.wish, self.holder
        if wish is None or holder is None or self.is_mine:
            self._strive(now)
            return
        lives = isinstance(outcome, Record) and decode_node(outcome.value)[0] == holder.boot
        if isinstance(outcome, Record | Absent) and not lives:
            self._put(wish, 0, now)

    def _now_is(self, outcome: Record | Absent, now: float) -> None:
        before = self.holder
        if isinstance(outcome, Record):
            self._revision, self.holder = outcome.revision, _decode(outcome)
        else:
            self._revision, self.holder = 0, None
        if before != self.holder:
            self._moved(now)


def _decode(record: Record) -> Holder:
    """Return the node that a record names. One that cannot be read names a node that never lived."""
    try:
        node, boot, term, ticket = msgpack.unpackb(record.value)[:4]
        if (type(node), type(boot), type(term), type(ticket)) == (str, bytes, int, bytes):
            return Holder(node, boot, term or record.revision, ticket)
    except Exception:  # only nodes may write here, but one of another version may
        return Holder("", b"", record.revision, b"")
    return Holder("", b"", record.revision, b"")
