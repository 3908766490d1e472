"""Claims: this node makes a name its own before it acts under it. Player IDs are such names.

A name has a record that says which boot of which node owns it. Every write is a compare-and-set, so the
records decide who wins. A claim ends within `CLAIM_WITHIN_S`, whatever becomes of the records.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from secrets import compare_digest

import msgpack

from ringback_broker.cluster.ownership import decode_node, node_key
from ringback_broker.cluster.records import Absent, Conflict, Outcome, Record, Records

MAX_CLAIMS = 10_000
"""How many claims may be under way at one time."""

CLAIM_WITHIN_S = 2.0
MAX_ATTEMPTS = 8

REWRITE_S = 3 * 3600.0
"""A record that is this old is written anew. The bucket forgets it after twice that time."""

A_TICK = 200
"""How many records are rewritten or cleaned up in one tick, of each kind."""

MAX_DOUBTED = 100_000

HASH_BYTES = 16


class Verdict(Enum):
    """How a claim ended."""

    GRANTED = "granted"
    TAKEN = "taken"
    LATER = "later"
    """Nobody knows: the records did not say in time, or too many claims are under way."""


@dataclass(slots=True)
class Owner:
    """What a record says of the owner of a name."""

    node: str
    boot: bytes
    ticket: bytes = b""


@dataclass(slots=True)
class Held:
    """A name that this node owns."""

    revision: int
    value: bytes
    written_at: float


@dataclass(slots=True, eq=False)
class Claim:
    """A claim that is under way.

    Attributes:
        value: what the record is going to say.
        shown: the hash of the ticket that the claimer showed; empty if none.
        identity: the hash of who the claimer has proved to be; empty if nobody.
        only_free: it is given up if anybody has the name.
        decided: gets the verdict.
    """

    key: str
    value: bytes
    shown: bytes
    identity: bytes
    only_free: bool
    until: float
    decided: Callable[[Verdict, float], None]
    attempts: int = 0
    over: bool = False
    asked: tuple[str, int] | None = None
    """The node that was asked for the name, and the revision that it was asked about."""


@dataclass(slots=True, eq=False)
class Turn:
    """What waits until a name is free of other work of this node."""

    begin: Callable[[float], None]
    refuse: Callable[[float], None]
    until: float


class Claims:
    """The names that this node owns, and those that it claims.

    Args:
        node: the name of this node.
        boot: returns its boot.
        ask: asks a node to give a name up: its name and boot, the key, the revision and the hash of an
            identity. Returns whether it could be asked. `answered` takes the answer.
        lost: is called with the key and the time if another node has taken a name.

    Attributes:
        held: the names that this node owns, those written longest ago first.
    """

    def __init__(
        self,
        node: str,
        boot: Callable[[], bytes],
        records: Records,
        ask: Callable[[str, bytes, str, int, bytes], bool],
        lost: Callable[[str, float], None],
    ) -> None:
        self.held: dict[str, Held] = {}
        self._node = node
        self._boot = boot
        self._records = records
        self._ask = ask
        self._lost = lost
        self._life = 0
        # The keys that something is done for: a claim, or None for other work.
        self._busy: dict[str, Claim | None] = {}
        self._turns: dict[str, deque[Turn]] = {}
        self._waiting = 0
        # The keys of records that may not say what this node believes.
        self._doubted: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._busy) + self._waiting

    # -- turns

    def when_free(
        self, key: str, begin: Callable[[float], None], refuse: Callable[[float], None], now: float
    ) -> None:
        """Call `begin` now, or once this node does nothing else for a name. `refuse` if it takes too long."""
        if len(self) >= MAX_CLAIMS:
            refuse(now)
        elif key in self._busy:
            self._turns.setdefault(key, deque()).append(Turn(begin, refuse, now + CLAIM_WITHIN_S))
            self._waiting += 1
        else:
            begin(now)

    def _free(self, key: str, now: float) -> None:
        self._busy.pop(key, None)
        turns = self._turns.get(key)
        while turns and key not in self._busy:
            self._waiting -= 1
            turns.popleft().begin(now)
        if turns is not None and not turns:
            self._turns.pop(key, None)

    # -- claims

    def claim(
        self,
        key: str,
        ticket: bytes,
        shown: bytes,
        identity: bytes,
        decided: Callable[[Verdict, float], None],
        now: float,
        only_free: bool = False,
    ) -> Claim:
        """Claim a name for which this node does nothing else.

        Args:
            ticket: the hash of the ticket that the claimer gets.
        """
        value = _encode(Owner(self._node, self._boot(), ticket))
        claim = Claim(key, value, shown, identity, only_free, now + CLAIM_WITHIN_S, decided)
        self._busy[key] = claim
        held = self.held.get(key)
        self._put(claim, 0 if held is None else held.revision)
        return claim

    def abandon(self, claim: Claim, now: float) -> None:
        """Give a claim up: nobody waits for it any more."""
        if not claim.over:
            claim.over = True
            if claim.asked is not None:
                self._free(claim.key, now)

    def _decide(self, claim: Claim, verdict: Verdict, now: float) -> None:
        """End a claim for which nothing is under way."""
        if not claim.over:
            claim.over = True
            claim.decided(verdict, now)
        self._free(claim.key, now)

    def _put(self, claim: Claim, revision: int) -> None:
        claim.attempts += 1
        life = self._life
        self._records.put(
            claim.key, claim.value, revision, lambda outcome, now: self._was_put(claim, life, outcome, now)
        )

    def _was_put(self, claim: Claim, life: int, outcome: Outcome, now: float) -> None:
        if life != self._life:
            return
        if isinstance(outcome, Record):
            self._doubted.pop(claim.key, None)
            self._take(claim, outcome.revision, now)
        elif isinstance(outcome, Conflict) and not claim.over and claim.attempts < MAX_ATTEMPTS:
            self._read(claim)
        else:
            self._doubt(claim.key)
            self._decide(claim, Verdict.LATER, now)

    def _take(self, claim: Claim, revision: int, now: float) -> None:
        """Take a name that was claimed, or let it go if nobody waits for it any more."""
        before = self.held.pop(claim.key, None)
        if not claim.over:
            self.held[claim.key] = Held(revision, claim.value, now)
            self._decide(claim, Verdict.GRANTED, now)
        elif before is None:
            self._busy[claim.key] = None
            self._delete(claim.key, revision)
        else:  # what uses the name goes on, under the record as it is now
            before.revision, before.value, before.written_at = revision, claim.value, now
            self.held[claim.key] = before
            self._free(claim.key, now)

    def _read(self, claim: Claim) -> None:
        life = self._life
        self._records.read(claim.key, lambda outcome, now: self._was_read(claim, life, outcome, now))

    def _was_read(self, claim: Claim, life: int, outcome: Outcome, now: float) -> None:
        if life != self._life:
            return
        if claim.over or not isinstance(outcome, Record | Absent):
            self._decide(claim, Verdict.LATER, now)
            return
        if isinstance(outcome, Absent):
            self._put(claim, 0)
            return
        owner = decode_owner(outcome.value)
        own = self._is_own(owner)
        if not own:
            self._lose(claim.key, now)
        shows = bool(claim.shown) and compare_digest(claim.shown, owner.ticket)
        if own or (shows and not claim.only_free):
            self._put(claim, outcome.revision)
        else:
            self._look_for(claim, owner, outcome.revision)

    def _is_own(self, owner: Owner) -> bool:
        return owner.node == self._node and owner.boot == self._boot()

    def _lose(self, key: str, now: float) -> None:
        """Take note that a name is not of this node, if the node believed so."""
        if self.held.pop(key, None) is not None:
            self._lost(key, now)

    def _look_for(self, claim: Claim, owner: Owner, revision: int) -> None:
        """Find out whether the owner of a name lives."""
        life = self._life
        self._records.read(
            node_key(owner.node),
            lambda outcome, now: self._was_found(claim, life, owner, revision, outcome, now),
        )

    def _was_found(
        self, claim: Claim, life: int, owner: Owner, revision: int, outcome: Outcome, now: float
    ) -> None:
        if life != self._life:
            return
        lives = isinstance(outcome, Record) and decode_node(outcome.value)[0] == owner.boot
        if claim.over or not isinstance(outcome, Record | Absent):
            self._decide(claim, Verdict.LATER, now)
        elif not lives:
            self._put(claim, revision)
        elif claim.only_free or owner.node == self._node:
            self._decide(claim, Verdict.TAKEN, now)
        elif self._ask(owner.node, owner.boot, claim.key, revision, claim.identity):
            claim.asked = owner.node, revision
        else:
            self._decide(claim, Verdict.LATER, now)

    def answered(self, node: str, key: str, revision: int, gives_up: bool, now: float) -> None:
        """Take the answer of a node that was asked to give a name up."""
        claim = self._busy.get(key)
        if claim is None or claim.asked != (node, revision):
            return
        claim.asked = None
        if gives_up:
            self._put(claim, revision)
        else:
            self._decide(claim, Verdict.TAKEN, now)

    def give_up(self, key: str) -> None:
        """Let another node have a name that nobody here uses any more. The record stays: it takes that."""
        self.held.pop(key, None)
        self._doubted.pop(key, None)

    # -- release

    def release(self, key: str, held: Held, now: float) -> None:
        """Delete the record of a name that is used no more, unless it was claimed anew since."""
        if self.held.get(key) is held:
            self.when_free(
                key,
                lambda then: self._drop(key, held),
                lambda then: self._drop_later(key, held),
                now,
            )

    def _drop(self, key: str, held: Held) -> None:
        if self.held.get(key) is held:
            del self.held[key]
            self._busy[key] = None
            self._delete(key, held.revision)

    def _drop_later(self, key: str, held: Held) -> None:
        if self.held.get(key) is held:
            del self.held[key]
            self._doubt(key)

    def _delete(self, key: str, revision: int) -> None:
        life = self._life
        self._records.delete(key, revision, lambda outcome, now: self._was_deleted(key, life, outcome, now))

    def _was_deleted(self, key: str, life: int, outcome: Outcome, now: float) -> None:
        if life != self._life:
            return
        if not isinstance(outcome, Absent | Conflict):
            self._doubt(key)
        self._free(key, now)

    def _doubt(self, key: str) -> None:
        """Note a record that has to be looked at. If there are too many, those who want the name ask."""
        if len(self._doubted) < MAX_DOUBTED:
            self._doubted[key] = None

    def _look_at(self, key: str) -> None:
        """Find out what a record says, and set right what this node believes, or delete it."""
        life = self._life
        self._busy[key] = None
        self._records.read(key, lambda outcome, now: self._was_looked_at(key, life, outcome, now))

    def _was_looked_at(self, key: str, life: int, outcome: Outcome, now: float) -> None:
        if life != self._life:
            return
        held = self.held.get(key)
        if not isinstance(outcome, Record | Absent):
            self._doubt(key)
        elif isinstance(outcome, Absent):
            if held is not None:  # the bucket was lost, or has forgotten it
                held.revision = 0
                self._rewrite(key)
                return
        elif not self._is_own(decode_owner(outcome.value)):
            self._lose(key, now)
        elif held is None:
            self._delete(key, outcome.revision)
            return
        else:
            held.revision = outcome.revision
        self._free(key, now)

    # -- time

    def tick(self, now: float) -> None:
        """End the claims whose time is over, clean up, and rewrite what has become old."""
        for claim in [claim for claim in self._busy.values() if claim is not None and now >= claim.until]:
            if not claim.over:
                claim.over = True
                claim.decided(Verdict.LATER, now)
                if claim.asked is not None:
                    self._free(claim.key, now)
        for key, turns in list(self._turns.items()):
            while turns and now >= turns[0].until:
                self._waiting -= 1
                turns.popleft().refuse(now)
            if not turns:
                self._turns.pop(key, None)
        for key in [key for key, _ in zip(self._doubted, range(A_TICK), strict=False)]:
            del self._doubted[key]
            if key in self._busy:
                self._doubted[key] = None
            else:
                self._look_at(key)
        self._rewrite_old(now)

    def _rewrite_old(self, now: float) -> None:
        oldest: list[str] = []
        for key, held in self.held.items():
            if len(oldest) >= A_TICK or now - held.written_at < REWRITE_S:
                break
            oldest.append(key)
        for key in oldest:
            if key not in self._busy:
                self._rewrite(key)

    def _rewrite(self, key: str) -> None:
        held, life = self.held[key], self._life
        self._busy[key] = None
        self._records.put(
            key,
            held.value,
            held.revision,
            lambda outcome, now: self._was_rewritten(key, life, outcome, now),
        )

    def _was_rewritten(self, key: str, life: int, outcome: Outcome, now: float) -> None:
        if life != self._life:
            return
        held = self.held.pop(key)
        held.written_at = now
        self.held[key] = held  # at the end: the latest one
        if isinstance(outcome, Record):
            held.revision = outcome.revision
        else:
            self._doubt(key)
        self._free(key, now)

    def clear(self, now: float) -> None:
        """Forget all: this boot owns nothing any more, and nothing that it has asked for counts."""
        self._life += 1
        claims = [claim for claim in self._busy.values() if claim is not None]
        turns = [turn for waiting in self._turns.values() for turn in waiting]
        self.held.clear()
        self._busy.clear()
        self._doubted.clear()
        self._turns.clear()
        self._waiting = 0
        for claim in claims:
            if not claim.over:
                claim.over = True
                claim.decided(Verdict.LATER, now)
        for turn in turns:
            turn.refuse(now)


def player_key(encoded_id: bytes) -> str:
    """Return the key of the record of a player ID."""
    return "p." + urlsafe_b64encode(encoded_id).decode().rstrip("=")


def player_of(key: str) -> bytes:
    """Return the encoded ID that the key of a record names; empty if it names none."""
    kind, _, text = key.partition(".")
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4)) if kind == "p" else b""
    except ValueError:
        return b""


def hash_of(secret: bytes) -> bytes:
    """Return what a record says of a ticket or an identity; nothing of an empty one."""
    return hashlib.sha256(secret).digest()[:HASH_BYTES] if secret else b""


def _encode(owner: Owner) -> bytes:
    value: bytes = msgpack.packb([owner.node, owner.boot, owner.ticket])
    return value


def decode_owner(value: bytes) -> Owner:
    """Return the owner that a record names. One that cannot be read names a node that never lived."""
    try:
        node, boot, ticket = msgpack.unpackb(value)[:3]
        if (type(node), type(boot), type(ticket)) == (str, bytes, bytes):
            return Owner(node, boot, ticket)
    except Exception:  # only nodes may write here, but one of another version may
        return Owner("", b"")
    return Owner("", b"")
