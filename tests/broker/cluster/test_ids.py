"""IDs that nodes give: from blocks that no other node has."""

from __future__ import annotations

import pytest
from support.realms import FakeRecords

from ringback_broker.cluster import ids as module
from ringback_broker.cluster.ids import BLOCK, IDS, MAX_ATTEMPTS, IDs


class Taker:
    def __init__(self, records: FakeRecords) -> None:
        self.records = records
        self.got: list[int | None] = []
        self.of = IDs(records)

    def take(self, settle: bool = True) -> None:
        self.of.take(lambda number, now: self.got.append(number), 0.0)
        if settle:
            self.records.settle(0.0)


def test_each_node_has_blocks_of_its_own() -> None:
    records = FakeRecords()
    a, b = Taker(records), Taker(records)
    for taker in (a, b, a, b):
        taker.take()
    assert a.got == [1, 2] and b.got == [BLOCK + 1, BLOCK + 2]
    for _ in range(BLOCK):
        a.take()
    assert len(set(a.got)) == BLOCK + 2 and a.got[-1] == 2 * BLOCK + 2


def test_two_nodes_ask_at_one_moment() -> None:
    records = FakeRecords()
    a, b = Taker(records), Taker(records)
    a.take(settle=False)
    b.take(settle=False)
    b.take()
    assert sorted([*a.got, *b.got], key=int) == [1, BLOCK + 1, BLOCK + 2]  # type: ignore[arg-type]


def test_nobody_answers() -> None:
    taker = Taker(FakeRecords())
    taker.records.lose = True
    taker.take()
    taker.records.lose = False
    taker.take()
    taker.of = IDs(taker.records)
    taker.take(settle=False)
    taker.records.step(0.0)
    taker.records.lose = True
    taker.records.settle(0.0)
    assert taker.got == [None, 1, None]


def test_others_are_faster_all_the_time() -> None:
    taker = Taker(FakeRecords())
    taker.take(settle=False)
    for _ in range(MAX_ATTEMPTS):
        taker.records.step(0.0)
        taker.records.write(IDS, b"\x01")
        taker.records.step(0.0)
    assert taker.got == [None] and not taker.records.asked


def test_not_all_can_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 1)
    taker = Taker(FakeRecords())
    taker.take(settle=False)
    taker.take()
    assert taker.got == [None, 1]


def test_a_record_that_cannot_be_read_begins_anew() -> None:
    for value in (b"\xc1", b"\xa1x", b"\x00"):
        taker = Taker(FakeRecords())
        taker.records.write(IDS, value)
        taker.take()
        assert taker.got == [1]
