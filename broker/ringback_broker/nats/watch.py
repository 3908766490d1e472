"""The records that all nodes know: who the nodes are, and whose server acts."""

from __future__ import annotations

import asyncio
import json
import time

from nats.aio.msg import Msg

from ringback_broker.cluster.records import Absent, Record, Watcher
from ringback_broker.nats.client import Client
from ringback_broker.nats.inlet import Inlet
from ringback_broker.nats.names import RealmNames
from ringback_broker.nats.records import read_of, record_of
from ringback_broker.nats.requests import Requests

WATCHED = ("seat", "node.*")
"""The keys, as the last part of subjects."""

ANSWER_S = 2.0

FRESH_S = 3.0
"""A record is read again when nothing was heard of it for this long. A node writes its own more often, so
this costs nothing while all live. NATS repeats records at most once, so without this, one lost message would
make a node look dead."""

ALL_S = 30.0
"""How often all keys are looked up again: the first message about a new one may be lost too."""

AT_ONCE = 64
"""How many records are read at a time."""


_LATE = float("-inf")
"""When a message was asked for that may come late: before anything else."""


class NoAnswer(Exception):
    """The records cannot be read."""


class Watch:
    """Knows the watched records, and tells the loop what changes.

    Args:
        inlet: takes changes to the loop.
    """

    def __init__(self, names: RealmNames, inlet: Inlet) -> None:
        self._names = names
        self._inlet = inlet
        self.watcher: Watcher | None = None
        # What was last heard of each key: revision, when, and whether it is there.
        self._heard: dict[str, tuple[int, float, bool]] = {}
        self._all_at = 0.0
        # What the loop does not know yet, the last state of each key.
        self._changes: dict[str, Record | Absent] = {}

    async def subscribe(self, client: Client) -> None:
        """Hear of changes from now on."""
        for key in WATCHED:
            await client.subscribe(self._names.changes + key, cb=self._repeated)

    async def read_all(self, requests: Requests) -> None:
        """Read all watched records, and tell the loop all of them, also those that are gone.

        Raises:
            NoAnswer: they cannot be read.
        """
        self._all_at = time.monotonic() + ALL_S
        keys = set(self._heard)
        for key in WATCHED:
            keys |= await self._keys(requests, key)
        self._heard = {}  # another bucket of the same name begins with revision 1 again
        await self._read(requests, sorted(keys), told=False)

    async def refresh(self, requests: Requests) -> None:
        """Read the records of which nothing was heard for a while.

        Raises:
            NoAnswer: they cannot be read.
        """
        now = time.monotonic()
        old = {
            key
            for key, (_, at, is_there) in self._heard.items()
            if now - at > FRESH_S and (is_there or key in WATCHED)
        }
        if now >= self._all_at:
            self._all_at = now + ALL_S
            for key in WATCHED:
                old |= await self._keys(requests, key) - self._heard.keys()
        await self._read(requests, sorted(old), told=True)

    async def _keys(self, requests: Requests, pattern: str) -> set[str]:
        if "*" not in pattern:
            return {pattern}
        prefix = self._names.records
        question = json.dumps({"subjects_filter": prefix + pattern}).encode()
        answer = await requests.ask(self._names.info, question, ANSWER_S)
        if "state" not in answer:
            raise NoAnswer
        # A page has 100,000 subjects: more nodes than that are none.
        return {subject.removeprefix(prefix) for subject in answer["state"].get("subjects") or ()}

    async def _read(self, requests: Requests, keys: list[str], told: bool) -> None:
        for start in range(0, len(keys), AT_ONCE):
            some, asked_at = keys[start : start + AT_ONCE], time.monotonic()
            answers = await asyncio.gather(
                *(requests.ask(self._names.read, read_of(self._names, key), ANSWER_S) for key in some)
            )
            for key, answer in zip(some, answers, strict=True):
                found = record_of(answer)
                if found is None:
                    raise NoAnswer
                self._hear(key, *found, asked_at, told)

    async def _repeated(self, message: Msg) -> None:
        """Take a record that NATS has just stored."""
        headers = message.headers or {}
        revision = headers.get("Nats-Sequence", "")
        if not revision.isdecimal():
            return
        gone = "KV-Operation" in headers or "Nats-Marker-Reason" in headers
        key = message.subject.removeprefix(self._names.changes)
        record = Absent() if gone else Record(message.data, int(revision))
        self._hear(key, record, int(revision), _LATE, told=True)

    def _hear(self, key: str, now_is: Record | Absent, revision: int, asked_at: float, told: bool) -> None:
        """Take note of the state of a record, and tell the loop if that is new.

        What is read is newer than all that came before the question, also if its revision is lower: then
        there is another bucket, whose revisions begin anew.

        Args:
            revision: that of the record or of the marker of a deleted one; 0: there is neither.
            asked_at: when the record was read; `_LATE` for a message.
            told: whether the loop knows the state of before.
        """
        before, heard_at, _ = self._heard.get(key, (-1, 0.0, False))
        if revision < before and heard_at > asked_at:
            return  # something newer has overtaken it
        self._heard[key] = revision, time.monotonic(), isinstance(now_is, Record)
        if told and revision == before:
            return
        if key not in self._changes:
            self._inlet.put(lambda now: self._tell(key, now))
        self._changes[key] = now_is

    def _tell(self, key: str, now: float) -> None:
        state = self._changes.pop(key)
        if self.watcher is not None:
            self.watcher.changed(key, state, now)

    def contact(self, is_there: bool) -> None:
        """Tell the loop that the records can be reached, or not any more."""

        def tell(now: float) -> None:
            if self.watcher is not None:
                self.watcher.contact(is_there, now)

        self._inlet.put(tell)
