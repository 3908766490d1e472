"""Held names: those that this node owns, and their records, which it keeps, sets right and deletes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ringback_broker.cluster.name_turns import NameTurns
from ringback_broker.cluster.owners import Owner, decode_owner
from ringback_broker.cluster.records import Absent, Conflict, Outcome, Record, Records

REWRITE_S = 3 * 3600.0
"""A record that is this old is written anew. The bucket forgets it after twice that time."""

A_TICK = 200
"""How many records are rewritten or cleaned up in one tick, of each kind."""

MAX_DOUBTED = 100_000


@dataclass(slots=True)
class Held:
    """A name that this node owns."""

    revision: int
    value: bytes
    written_at: float


class HeldNames:
    """The names that this node owns.

    Args:
        node: the name of this node.
        boot: returns its boot.
        lost: is called with the key and the time if another node has taken a name.

    Attributes:
        by_key: the names, those written longest ago first.
    """

    def __init__(
        self,
        node: str,
        boot: Callable[[], bytes],
        records: Records,
        turns: NameTurns,
        lost: Callable[[str, float], None],
    ) -> None:
        self.by_key: dict[str, Held] = {}
        self._node = node
        self._boot = boot
        self._records = records
        self._turns = turns
        self._lost = lost
        # The keys of records that may not say what this node believes.
        self._doubted: dict[str, None] = {}

    def is_own(self, owner: Owner) -> bool:
        """Return whether this boot of this node is the owner."""
        return owner.node == self._node and owner.boot == self._boot()

    def own(self, ticket: bytes) -> Owner:
        """Return this boot of this node as an owner, with the hash of a ticket."""
        return Owner(self._node, self._boot(), ticket)

    def give_up(self, key: str) -> None:
        """Let another node have a name that nobody here uses any more. The record stays: it takes that."""
        self.by_key.pop(key, None)
        self.trust(key)

    def lose(self, key: str, now: float) -> None:
        """Take note that a name is not of this node, if the node believed so."""
        if self.by_key.pop(key, None) is not None:
            self._lost(key, now)

    # -- release

    def release(self, key: str, held: Held, now: float) -> None:
        """Delete the record of a name that is used no more, unless it was claimed anew since."""
        if self.by_key.get(key) is held:
            self._turns.when_free(
                key,
                lambda then: self._drop(key, held),
                lambda then: self._drop_later(key, held),
                now,
            )

    def _drop(self, key: str, held: Held) -> None:
        if self.by_key.get(key) is held:
            del self.by_key[key]
            self._turns.busy.add(key)
            self.delete(key, held.revision)

    def _drop_later(self, key: str, held: Held) -> None:
        if self.by_key.get(key) is held:
            del self.by_key[key]
            self.doubt(key)

    def delete(self, key: str, revision: int) -> None:
        """Delete a record. Its name is busy, and is free again after that."""
        self._records.delete(key, revision, lambda outcome, now: self._was_deleted(key, outcome, now))

    def _was_deleted(self, key: str, outcome: Outcome, now: float) -> None:
        if not isinstance(outcome, Absent | Conflict):
            self.doubt(key)
        self._turns.free(key, now)

    # -- doubt

    def doubt(self, key: str) -> None:
        """Note a record that has to be looked at. If there are too many, those who want the name ask."""
        if len(self._doubted) < MAX_DOUBTED:
            self._doubted[key] = None

    def trust(self, key: str) -> None:
        """Take note that a record need not be looked at."""
        self._doubted.pop(key, None)

    def _look_at(self, key: str) -> None:
        """Find out what a record says, and set right what this node believes, or delete it."""
        self._turns.busy.add(key)
        self._records.read(key, lambda outcome, now: self._was_looked_at(key, outcome, now))

    def _was_looked_at(self, key: str, outcome: Outcome, now: float) -> None:
        held = self.by_key.get(key)
        if not isinstance(outcome, Record | Absent):
            self.doubt(key)
        elif isinstance(outcome, Absent):
            if held is not None:  # the bucket was lost, or has forgotten it
                held.revision = 0
                self._rewrite(key)
                return
        elif not self.is_own(decode_owner(outcome.value)):
            self.lose(key, now)
        elif held is None:
            self.delete(key, outcome.revision)
            return
        else:
            held.revision = outcome.revision
        self._turns.free(key, now)

    # -- time

    def tick(self, now: float) -> None:
        """Look at records in doubt, and write anew what has become old."""
        for key in [key for key, _ in zip(self._doubted, range(A_TICK), strict=False)]:
            del self._doubted[key]
            if key in self._turns.busy:
                self._doubted[key] = None
            else:
                self._look_at(key)
        self._rewrite_old(now)

    def _rewrite_old(self, now: float) -> None:
        oldest: list[str] = []
        for key, held in self.by_key.items():
            if len(oldest) >= A_TICK or now - held.written_at < REWRITE_S:
                break
            oldest.append(key)
        for key in oldest:
            if key not in self._turns.busy:
                self._rewrite(key)

    def _rewrite(self, key: str) -> None:
        held = self.by_key[key]
        self._turns.busy.add(key)
        self._records.put(
            key, held.value, held.revision, lambda outcome, now: self._was_rewritten(key, outcome, now)
        )

    def _was_rewritten(self, key: str, outcome: Outcome, now: float) -> None:
        held = self.by_key.pop(key)
        held.written_at = now
        self.by_key[key] = held  # at the end: the latest one
        if isinstance(outcome, Record):
            held.revision = outcome.revision
        else:
            self.doubt(key)
        self._turns.free(key, now)

    def clear(self) -> None:
        """Forget all."""
        self.by_key.clear()
        self._doubted.clear()
