"""Records of a realm, over JetStream key-value."""

from __future__ import annotations

import base64
import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nats import errors

from ringback_broker.cluster.records import (
    RECORD_WITHIN_S,
    Absent,
    Conflict,
    Done,
    Outcome,
    Record,
    Unknown,
)
from ringback_broker.nats.inlet import Inlet
from ringback_broker.nats.names import RealmNames
from ringback_broker.nats.requests import Answer, Requests

MAX_WAITING = 20_000
"""How many outcomes may be awaited. More are `Unknown` at once."""

MARGIN_S = 0.3
"""How much earlier than the realm expects it an outcome is given up here: the way to the loop takes time."""

EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_OPERATION = "KV-Operation"
_WRONG_REVISION = (10071, 10164)
_NO_MESSAGE = 10037


@dataclass(slots=True)
class Wish:
    """What the realm asks for.

    Attributes:
        value: what to write; None: read only.
        revision: the one that the record must have.
        until: when the outcome is due, on the monotonic clock.
        marker: whether the last try found the marker of a deleted record in its way.
    """

    key: str
    value: bytes | None
    deletes: bool
    revision: int
    done: Done
    until: float
    marker: bool = False


class NatsRecords:
    """The records of one realm. The realm calls `put`, `delete` and `read`; the link calls the rest.

    Args:
        inlet: takes the outcomes to the loop.
        wake: wakes the event loop of NATS.
    """

    def __init__(self, names: RealmNames, inlet: Inlet, wake: Callable[[], None]) -> None:
        self._names = names
        self._inlet = inlet
        self._wake = wake
        self._wishes: deque[Wish] = deque()
        self._waiting = 0

    def put(self, key: str, value: bytes, revision: int, done: Done) -> None:
        self._ask(Wish(key, value, False, revision, done, 0.0))

    def delete(self, key: str, revision: int, done: Done) -> None:
        self._ask(Wish(key, b"", True, revision, done, 0.0))

    def read(self, key: str, done: Done) -> None:
        self._ask(Wish(key, None, False, 0, done, 0.0))

    def _ask(self, wish: Wish) -> None:
        done, wish.until = wish.done, time.monotonic() + RECORD_WITHIN_S - MARGIN_S
        if self._waiting >= MAX_WAITING:
            self._inlet.put(lambda now: done(Unknown(), now))
            return
        self._waiting += 1

        def finish(outcome: Outcome, now: float) -> None:
            self._waiting -= 1
            done(outcome, now)

        wish.done = finish
        self._wishes.append(wish)
        if len(self._wishes) == 1:
            self._wake()

    # -- the link

    async def send(self, requests: Requests | None) -> bool:
        """Send the next wish. Return whether there was one.

        Args:
            requests: of the connection; None: there is none.

        Raises:
            nats.errors.Error: the connection is lost.
        """
        try:
            wish = self._wishes.popleft()
        except IndexError:
            return False
        if requests is None or time.monotonic() >= wish.until:
            self._finish(wish, Unknown())
            return True
        try:
            await self._send(wish, requests)
        except errors.Error:
            self._finish(wish, Unknown())
            raise
        return True

    def fail_all(self) -> None:
        """Finish all wishes that were not sent, because there is no connection."""
        while self._wishes:
            self._finish(self._wishes.popleft(), Unknown())

    async def _send(self, wish: Wish, requests: Requests) -> None:
        names = self._names
        if wish.value is None or wish.marker:
            payload = read_of(names, wish.key)
            await requests.send(
                names.read, payload, None, wish.until, lambda answer: self._was_read(wish, answer)
            )
            return
        headers = {EXPECTED: str(wish.revision)}
        if wish.deletes:
            headers[_OPERATION] = "DEL"
        subject = names.records + wish.key
        await requests.send(
            subject, wish.value, headers, wish.until, lambda answer: self._was_written(wish, answer)
        )

    def _was_written(self, wish: Wish, answer: Answer) -> None:
        error = answer.get("error")
        if error is None and answer.get("seq"):
            assert wish.value is not None
            self._finish(wish, Absent() if wish.deletes else Record(wish.value, answer["seq"]))
        elif error is not None and error.get("err_code") in _WRONG_REVISION:
            if wish.revision or wish.deletes:
                self._finish(wish, Conflict())
            else:  # a record that was deleted has left a marker, which has a revision
                wish.marker = True
                self._again(wish)
        else:
            self._finish(wish, Unknown())

    def _was_read(self, wish: Wish, answer: Answer) -> None:
        found = record_of(answer)
        if not wish.marker:
            self._finish(wish, Unknown() if found is None else found[0])
            return
        wish.marker = False
        if found is None:
            self._finish(wish, Unknown())
        elif isinstance(found[0], Record):
            self._finish(wish, Conflict())
        else:
            # A marker that somebody replaces meanwhile gives a conflict: then its revision is not 0.
            wish.revision = found[1]
            self._again(wish)

    def _again(self, wish: Wish) -> None:
        self._wishes.append(wish)
        if len(self._wishes) == 1:
            self._wake()

    def _finish(self, wish: Wish, outcome: Outcome) -> None:
        done = wish.done
        self._inlet.put(lambda now: done(outcome, now))


def read_of(names: RealmNames, key: str) -> bytes:
    """Return the question for a record."""
    return json.dumps({"last_by_subj": names.records + key}).encode()


def record_of(answer: Answer) -> tuple[Record | Absent, int] | None:
    """Return what an answer says about a record, and the revision of that; None: it does not say.

    The revision of what is absent is that of its marker, or 0.
    """
    error, message = answer.get("error"), answer.get("message")
    if error is not None:
        return (Absent(), 0) if error.get("err_code") == _NO_MESSAGE else None
    try:
        revision: Any = message["seq"]  # type: ignore[index]
        headers = base64.b64decode(message.get("hdrs", ""))  # type: ignore[union-attr]
        value = base64.b64decode(message.get("data", ""))  # type: ignore[union-attr]
    except (TypeError, KeyError, ValueError):
        return None
    return (Absent() if is_marker(headers) else Record(value, revision)), revision


def is_marker(headers: bytes) -> bool:
    """Return whether the headers are those of a deleted record."""
    return f"\n{_OPERATION}:".encode() in headers or b"\nNats-Marker-Reason:" in headers
