"""Claims: this node makes a name its own before it acts under it. Player IDs are such names.

A name has a record that says which boot of which node owns it. Every write is a compare-and-set, so the
records decide who wins. A claim ends within `CLAIM_WITHIN_S`, whatever becomes of the records.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from secrets import compare_digest

from ringback_broker.cluster.held_names import Held, HeldNames
from ringback_broker.cluster.name_turns import CLAIM_WITHIN_S, NameTurns
from ringback_broker.cluster.one_life import OneLife
from ringback_broker.cluster.owners import Owner, decode_owner, encode_owner
from ringback_broker.cluster.ownership import decode_node, node_key
from ringback_broker.cluster.records import Absent, Conflict, Outcome, Record, Records

MAX_ATTEMPTS = 8


class Verdict(Enum):
    """How a claim ended."""

    GRANTED = "granted"
    TAKEN = "taken"
    LATER = "later"
    """Nobody knows: the records did not say in time, or too many claims are under way."""


@dataclass(slots=True, eq=False)
class Claim:
    """A claim that is under way.

    Attributes:
        value: what the record is going to say.
        shown: the hash of the ticket that the claimer showed; empty if none.
        identity: the hash of who the claimer has proved to be; empty if nobody.
        only_free: it is given up if anybody has the name.
        decided: gets the verdict.
        asked: the node that was asked for the name, and the revision that it was asked about.
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


class Claims:
    """The names that this node claims, and those that it owns.

    Args:
        node: the name of this node.
        boot: returns its boot.
        ask: asks a node to give a name up: its name and boot, the key, the revision and the hash of an
            identity. Returns whether it could be asked. `answered` takes the answer.
        lost: is called with the key and the time if another node has taken a name.

    Attributes:
        turns: what this node does for names.
        names: those that it owns.
    """

    def __init__(
        self,
        node: str,
        boot: Callable[[], bytes],
        records: Records,
        ask: Callable[[str, bytes, str, int, bytes], bool],
        lost: Callable[[str, float], None],
    ) -> None:
        self._records = OneLife(records)
        self.turns = NameTurns()
        self.names = HeldNames(node, boot, self._records, self.turns, lost)
        self._held = self.names.by_key
        self._node = node
        self._ask = ask
        self._under_way: dict[str, Claim] = {}

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
        value = encode_owner(self.names.own(ticket))
        claim = Claim(key, value, shown, identity, only_free, now + CLAIM_WITHIN_S, decided)
        self._under_way[key] = claim
        self.turns.busy.add(key)
        held = self._held.get(key)
        self._put(claim, 0 if held is None else held.revision)
        return claim

    def abandon(self, claim: Claim, now: float) -> None:
        """Give a claim up: nobody waits for it any more."""
        if not claim.over:
            claim.over = True
            if claim.asked is not None:
                self._free(claim.key, now)

    def _free(self, key: str, now: float) -> None:
        self._under_way.pop(key, None)
        self.turns.free(key, now)

    def _decide(self, claim: Claim, verdict: Verdict, now: float) -> None:
        """End a claim for which nothing is under way."""
        if not claim.over:
            claim.over = True
            claim.decided(verdict, now)
        self._free(claim.key, now)

    # -- one attempt

    def _put(self, claim: Claim, revision: int) -> None:
        claim.attempts += 1
        self._records.put(
            claim.key, claim.value, revision, lambda outcome, now: self._was_put(claim, outcome, now)
        )

    def _was_put(self, claim: Claim, outcome: Outcome, now: float) -> None:
        if isinstance(outcome, Record):
            self.names.trust(claim.key)
            self._take(claim, outcome.revision, now)
        elif isinstance(outcome, Conflict) and not claim.over and claim.attempts < MAX_ATTEMPTS:
            self._records.read(claim.key, lambda outcome, now: self._was_read(claim, outcome, now))
        else:
            self.names.doubt(claim.key)
            self._decide(claim, Verdict.LATER, now)

    def _take(self, claim: Claim, revision: int, now: float) -> None:
        """Take a name that was claimed, or let it go if nobody waits for it any more."""
        before = self._held.pop(claim.key, None)
        if not claim.over:
            self._held[claim.key] = Held(revision, claim.value, now)
            self._decide(claim, Verdict.GRANTED, now)
        elif before is None:
            del self._under_way[claim.key]
            self.names.delete(claim.key, revision)
        else:  # what uses the name goes on, under the record as it is now
            before.revision, before.value, before.written_at = revision, claim.value, now
            self._held[claim.key] = before
            self._free(claim.key, now)

    def _was_read(self, claim: Claim, outcome: Outcome, now: float) -> None:
        if claim.over or not isinstance(outcome, Record | Absent):
            self._decide(claim, Verdict.LATER, now)
            return
        if isinstance(outcome, Absent):
            self._put(claim, 0)
            return
        owner = decode_owner(outcome.value)
        own = self.names.is_own(owner)
        if not own:
            self.names.lose(claim.key, now)
        shows = bool(claim.shown) and compare_digest(claim.shown, owner.ticket)
        if own or (shows and not claim.only_free):
            self._put(claim, outcome.revision)
        else:
            self._look_for(claim, owner, outcome.revision)

    def _look_for(self, claim: Claim, owner: Owner, revision: int) -> None:
        """Find out whether the owner of a name lives."""
        self._records.read(
            node_key(owner.node),
            lambda outcome, now: self._was_found(claim, owner, revision, outcome, now),
        )

    def _was_found(self, claim: Claim, owner: Owner, revision: int, outcome: Outcome, now: float) -> None:
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
        claim = self._under_way.get(key)
        if claim is None or claim.asked != (node, revision):
            return
        claim.asked = None
        if gives_up:
            self._put(claim, revision)
        else:
            self._decide(claim, Verdict.TAKEN, now)

    # -- time

    def tick(self, now: float) -> None:
        """End the claims whose time is over, refuse turns, and see to the records of held names."""
        for claim in [claim for claim in self._under_way.values() if now >= claim.until]:
            if not claim.over:
                claim.over = True
                claim.decided(Verdict.LATER, now)
                if claim.asked is not None:
                    self._free(claim.key, now)
        self.turns.tick(now)
        self.names.tick(now)

    def clear(self, now: float) -> None:
        """Forget all: this boot owns nothing any more, and nothing that it has asked for counts."""
        self._records.begin()
        claims, turns = list(self._under_way.values()), self.turns.clear()
        self.names.clear()
        self._under_way.clear()
        for claim in claims:
            if not claim.over:
                claim.over = True
                claim.decided(Verdict.LATER, now)
        for turn in turns:
            turn.refuse(now)
