"""Watched records, where messages and reads overtake each other. Real servers do that too rarely."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from nats.aio.msg import Msg
from support.nodes import raise_it

from ringback_broker.cluster.records import Absent, Record
from ringback_broker.nats.inlet import Inlet
from ringback_broker.nats.names import RealmNames
from ringback_broker.nats.watch import Watch

NAMES = RealmNames("main")


class Stage:
    """A watch to which a test gives messages."""

    def __init__(self) -> None:
        self.inlet = Inlet()
        self.watch = Watch(NAMES, self.inlet)
        self.watch.watcher = self
        self.told: list[tuple[str, Record | Absent]] = []

    def changed(self, key: str, now_is: Record | Absent, now: float) -> None:
        self.told.append((key, now_is))

    def contact(self, is_there: bool, now: float) -> None: ...

    def repeat(self, key: str, revision: int, *, deleted: bool = False) -> None:
        """Give it what NATS repeats of a record."""
        headers = {"Nats-Sequence": str(revision), **({"KV-Operation": "DEL"} if deleted else {})}
        data = b"" if deleted else str(revision).encode()
        message = Msg(_client=None, subject=NAMES.changes + key, data=data, headers=headers)  # type: ignore[arg-type]
        asyncio.run(self.watch._repeated(message))

    def read(self, key: str, answer: dict[str, Any], *, while_it_waits: Any = None) -> None:
        """Give it the answer to a read."""

        class Answers:
            async def ask(self, *_: object) -> dict[str, Any]:
                return answer

        answers = Answers()
        if while_it_waits is not None:

            async def ask(*_: object) -> dict[str, Any]:
                await asyncio.to_thread(while_it_waits)
                return answer

            answers.ask = ask  # type: ignore[method-assign]
        asyncio.run(self.watch._read(answers, [key], told=True))  # type: ignore[arg-type]

    def take(self) -> list[tuple[str, Record | Absent]]:
        self.inlet.take(0.0, raise_it)
        told, self.told = self.told, []
        return told


@pytest.fixture
def stage() -> Stage:
    return Stage()


def found(revision: int) -> dict[str, Any]:
    return {"message": {"seq": revision, "data": "eA=="}}


NOTHING = {"error": {"code": 404, "err_code": 10037}}


def test_what_is_older_than_what_was_heard_is_not_told(stage: Stage) -> None:
    stage.repeat("seat", 5)
    assert stage.take() == [("seat", Record(b"5", 5))]
    stage.repeat("seat", 4)
    assert stage.take() == []
    stage.read("seat", found(4), while_it_waits=lambda: stage.repeat("seat", 5))
    assert stage.take() == []
    stage.read("seat", found(5))  # the same again
    assert stage.take() == []
    stage.repeat("seat", 6, deleted=True)
    assert stage.take() == [("seat", Absent())]


def test_the_revisions_of_another_bucket_begin_anew(stage: Stage) -> None:
    """A record that was written into it before anybody read that it was gone."""
    stage.repeat("node.b", 1000)
    stage.take()
    stage.repeat("node.b", 7)  # this may be an old message
    assert stage.take() == []
    stage.read("node.b", found(7))
    assert stage.take() == [("node.b", Record(b"x", 7))]
    stage.repeat("node.b", 8)
    assert stage.take() == [("node.b", Record(b"8", 8))]


def test_that_nothing_is_there_does_not_undo_what_came_meanwhile(stage: Stage) -> None:
    stage.read("seat", NOTHING, while_it_waits=lambda: stage.repeat("seat", 5))
    assert stage.take() == [("seat", Record(b"5", 5))]
    stage.read("seat", NOTHING)  # the record is gone, and its marker too
    assert stage.take() == [("seat", Absent())]


def test_the_loop_is_told_the_last_state_alone(stage: Stage) -> None:
    """So what waits for a loop that is busy is bounded by the number of keys."""
    for revision in range(1, 1001):
        stage.repeat(f"node.{revision % 2}", revision)
    assert len(stage.inlet) == 2
    assert stage.take() == [("node.1", Record(b"999", 999)), ("node.0", Record(b"1000", 1000))]
    stage.repeat("node.1", 1001)
    assert stage.take() == [("node.1", Record(b"1001", 1001))]


def test_messages_that_nats_does_not_send(stage: Stage) -> None:
    for headers in (None, {}, {"Nats-Sequence": "x"}):
        message = Msg(_client=None, subject=NAMES.changes + "seat", data=b"", headers=headers)  # type: ignore[arg-type]
        asyncio.run(stage.watch._repeated(message))
    assert stage.take() == []
