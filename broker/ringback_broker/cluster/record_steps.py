"""Records whose outcomes are steps of the switchboard."""

from __future__ import annotations

from collections.abc import Callable

from ringback_broker.cluster.records import Done, Outcome, Records


class RecordSteps:
    """Records whose outcomes are steps of the switchboard: sessions that they mark end with them."""

    def __init__(self, records: Records, end_marked: Callable[[], None]) -> None:
        self._records = records
        self._end_marked = end_marked

    def put(self, key: str, value: bytes, revision: int, done: Done) -> None:
        self._records.put(key, value, revision, self._step(done))

    def delete(self, key: str, revision: int, done: Done) -> None:
        self._records.delete(key, revision, self._step(done))

    def read(self, key: str, done: Done) -> None:
        self._records.read(key, self._step(done))

    def _step(self, done: Done) -> Done:
        def step(outcome: Outcome, now: float) -> None:
            done(outcome, now)
            self._end_marked()

        return step
