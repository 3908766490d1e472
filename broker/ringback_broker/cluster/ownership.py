"""Ownership: the one rule of safety. A node acts for what it owns only while its lease is sure.

A node renews its own record every `RENEW_S`. It acts while the last renewal that was confirmed was sent less
than `lease_s` - `MARGIN_S` ago. Whoever wants to take over what it owns first buries it: deletes its record
by compare-and-set, once that has not changed for `lease_s` + `PATIENCE_S`. The node can't renew then, also
not with a renewal that is still on its way. So two owners never act at one moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum

import msgpack

from ringback_broker.cluster.records import Absent, Outcome, Record, Records, Unknown

RENEW_S = 2.0
"""How often a node renews its record."""

MARGIN_S = 2.0
"""How long before the end of its lease a node stops acting. A step that has begun ends within this time."""

PATIENCE_S = 1.0
"""How much longer than a lease a record must not have changed before its node is buried."""

BOOT_BYTES = 8
FORMER_BOOTS = 16


class Standing(Enum):
    """What a node is to its realm."""

    JOINING = "joining"
    MEMBER = "member"
    REFUSED = "refused"
    """Another process that is alive has the name of this node. It never joins."""

    LEFT = "left"


class Ownership:
    """The record of this node, and whether the node acts.

    Args:
        name: of this node.
        nonce: returns bytes that nobody can guess.
        joined: is called when this node has become a member, with the time.
        lost: is called when it is one no more, with the reason. Nothing that it owns counts from then on.
        describe: returns what else the record says.

    Attributes:
        boot: names this life of the node. It never comes back.
        acts_until: the node acts before this time, on the monotonic clock.
        renewed_at: when the last renewal that was confirmed was sent; None: there was none.
    """

    def __init__(
        self,
        name: str,
        lease_s: float,
        records: Records,
        nonce: Callable[[], bytes],
        joined: Callable[[float], None],
        lost: Callable[[str, float], None],
        describe: Callable[[], dict[str, object]] = dict,
    ) -> None:
        self.boot = nonce()[:BOOT_BYTES]
        self.acts_until = float("-inf")
        self.renewed_at: float | None = None
        self.standing = Standing.JOINING
        self._key = node_key(name)
        self._lease_s = lease_s
        self._records = records
        self._nonce = nonce
        self._joined = joined
        self._lost = lost
        self._describe = describe
        self._revision = 0
        self._due_at = float("-inf")
        self._asking = False
        self._former: deque[bytes] = deque(maxlen=FORMER_BOOTS)
        self._rival = 0
        self._rival_since = 0.0
        self._rival_changes = 0

    @property
    def meets_rival(self) -> bool:
        """Whether another process has had the name of this node, and may be alive or dead."""
        return self.standing is Standing.JOINING and self._rival != 0

    def acts(self, now: float) -> bool:
        """Return whether the node may act for what it owns."""
        return now < self.acts_until

    def tick(self, now: float) -> None:
        """Renew the record if that is due, or go on with joining."""
        if (
            now >= self._due_at
            and not self._asking
            and self.standing not in (Standing.REFUSED, Standing.LEFT)
        ):
            self._due_at = now + RENEW_S
            if self.standing is Standing.MEMBER:
                self._put(now)
            else:
                self._read()

    def renew_soon(self) -> None:
        """Renew the record at the next tick: others should know what it says now."""
        self._due_at = float("-inf")

    def check(self, now: float) -> None:
        """Lose everything if the lease is over. This comes before anything else in each step."""
        if self.standing is Standing.MEMBER and now >= self.acts_until:
            self.lose("its record could not be renewed in time", now)

    def lose(self, reason: str, now: float) -> None:
        """Stop acting, and begin again as a new boot."""
        self._former.append(self.boot)
        self.boot = self._nonce()[:BOOT_BYTES]
        self.acts_until = float("-inf")
        self.standing = Standing.JOINING
        self._due_at = float("-inf")
        self._lost(reason, now)

    def leave(self) -> None:
        """Delete the record: this node owns nothing any more."""
        was_member = self.standing is Standing.MEMBER
        self.standing, self.acts_until = Standing.LEFT, float("-inf")
        if was_member:
            self._records.delete(self._key, self._revision, lambda outcome, now: None)

    # -- asking, and what came of it

    def _read(self) -> None:
        boot, self._asking = self.boot, True
        self._records.read(self._key, lambda outcome, now: self._was_read(boot, outcome, now))

    def _put(self, now: float) -> None:
        boot, self._asking = self.boot, True
        value = encode_node(boot, self._describe())
        revision = self._revision

        def done(outcome: Outcome, then: float) -> None:
            self._was_put(boot, revision, now, outcome, then)

        self._records.put(self._key, value, revision, done)

    def _was_put(self, boot: bytes, revision: int, sent_at: float, outcome: Outcome, now: float) -> None:
        self._asking = False
        if boot != self.boot or self.standing is Standing.LEFT:
            return
        if isinstance(outcome, Unknown) and not revision:
            # It may still be made, even in another bucket. There it would vouch for what this boot owned.
            self.lose("nobody knows whether its record was made", now)
            return
        if not isinstance(outcome, Record):
            self._read()  # it may be there all the same
            return
        self._revision = outcome.revision
        self.renewed_at, self.acts_until = sent_at, sent_at + self._lease_s - MARGIN_S
        if self.standing is Standing.JOINING and self.acts(now):
            self.standing = Standing.MEMBER
            self._joined(now)

    def _was_read(self, boot: bytes, outcome: Outcome, now: float) -> None:
        self._asking = False
        if boot != self.boot or self.standing is Standing.LEFT:
            return
        there = decode_node(outcome.value)[0] if isinstance(outcome, Record) else b""
        if isinstance(outcome, Record) and there == boot:
            self._revision = outcome.revision
            self._put(now)
        elif not isinstance(outcome, Record | Absent):
            return  # the next tick that is due asks again
        elif self.standing is Standing.MEMBER:
            self.lose("another node has buried it" if isinstance(outcome, Absent) else _TAKEN, now)
        elif isinstance(outcome, Absent):
            self._revision = 0
            self._put(now)
        else:
            self._meet(outcome, there, now)

    def _meet(self, record: Record, boot: bytes, now: float) -> None:
        """Take the place of an earlier life of this node, once it is sure that it has ended.

        Its last renewal may come late. One that comes after that is of a process that is alive.
        """
        if boot not in self._former:
            if record.revision != self._rival:
                self._rival_changes += bool(self._rival)
                self._rival, self._rival_since = record.revision, now
                if self._rival_changes > 1:
                    self.standing = Standing.REFUSED
                return
            if now - self._rival_since < self._lease_s + PATIENCE_S:
                return
        self._rival = self._rival_changes = 0
        self._revision = record.revision
        self._put(now)


_TAKEN = "another process has taken its name"


def node_key(name: str) -> str:
    """Return the key of the record of a node."""
    return f"node.{name}"


def encode_node(boot: bytes, description: dict[str, object]) -> bytes:
    """Return what the record of a node says."""
    value: bytes = msgpack.packb({**description, "boot": boot})
    return value


def decode_node(value: bytes) -> tuple[bytes, dict[str, object]]:
    """Return the boot of a node, and what else its record says. An empty boot: the record is no good."""
    try:
        fields = msgpack.unpackb(value)
        boot = fields["boot"]
        return (boot if type(boot) is bytes else b""), fields
    except Exception:  # only nodes may write here, but one of another version may
        return b"", {}
