"""The records, as one life of this node sees them."""

from __future__ import annotations

from ringback_broker.cluster.records import Done, Outcome, Records


class OneLife:
    """The records in this life of the node: what was asked for in an earlier life has no outcome here."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._life = 0

    def begin(self) -> None:
        """Begin another life."""
        self._life += 1

    def put(self, key: str, value: bytes, revision: int, done: Done) -> None:
        self._records.put(key, value, revision, self._now(done))

    def delete(self, key: str, revision: int, done: Done) -> None:
        self._records.delete(key, revision, self._now(done))

    def read(self, key: str, done: Done) -> None:
        self._records.read(key, self._now(done))

    def _now(self, done: Done) -> Done:
        life = self._life

        def told(outcome: Outcome, now: float) -> None:
            if life == self._life:
                done(outcome, now)

        return told
