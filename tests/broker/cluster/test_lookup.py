"""The lookup: each search has one outcome, within its time, whatever becomes of the records."""

from __future__ import annotations

import msgpack
import pytest
from support.realms import FakeRecords

from ringback.protocol.player_ids import encode_player_id
from ringback_broker.cluster import lookup as module
from ringback_broker.cluster.lookup import FIND_WITHIN_S, Lookup, Missing
from ringback_broker.cluster.owners import Owner, player_key
from ringback_broker.cluster.ownership import encode_node, node_key

SEVEN = encode_player_id(7)


class Finder:
    """The lookup of one node, which is linked to the node `linked`, with a clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.records = FakeRecords()
        self.found: list[Owner | Missing] = []
        self.of = Lookup(self.records, lambda node, boot: (node, boot) == ("linked", b"boot"))

    def owns(self, node: str, boot: bytes = b"boot") -> None:
        self.records.write(player_key(SEVEN), msgpack.packb([node, boot, b"ticket"]))

    def find(self, settle: bool = True) -> None:
        self.of.find(SEVEN, lambda found, now: self.found.append(found), self.now)
        if settle:
            self.records.settle(self.now)

    def tick(self, seconds: float = 0.25) -> None:
        self.now += seconds
        self.of.tick(self.now)


def test_the_record_names_the_node() -> None:
    finder = Finder()
    finder.owns("linked")
    finder.find()
    assert finder.found == [Owner("linked", b"boot", b"ticket")]
    assert len(finder.of) == 0


def test_nobody_has_a_player_without_a_record() -> None:
    finder = Finder()
    finder.find()
    assert finder.found == [Missing.NOBODY]


@pytest.mark.parametrize(
    ("boot", "found"), [(b"boot", Owner("far", b"boot", b"ticket")), (b"later", Missing.NOBODY)]
)
def test_a_node_without_a_link_is_asked_for(boot: bytes, found: Owner | Missing) -> None:
    """It may live all the same. If its record is another one's, the player's record has outlived it."""
    finder = Finder()
    finder.owns("far")
    finder.records.write(node_key("far"), encode_node(boot, {}))
    finder.find()
    assert finder.found == [found]


def test_the_record_of_a_player_may_outlive_its_node() -> None:
    finder = Finder()
    finder.owns("linked", b"earlier")
    finder.find()
    assert finder.found == [Missing.NOBODY]


def test_a_record_that_cannot_be_read_names_nobody() -> None:
    finder = Finder()
    finder.records.write(player_key(SEVEN), b"\xc1")
    finder.find()
    assert finder.found == [Missing.NOBODY]


def test_records_that_do_not_answer_say_nothing() -> None:
    finder = Finder()
    finder.owns("far")
    finder.records.lose = True
    finder.find()
    finder.records.lose = False
    finder.find(settle=False)
    finder.records.step(finder.now)
    finder.records.lose = True
    finder.records.step(finder.now)
    assert finder.found == [Missing.LATER, Missing.LATER]


@pytest.mark.parametrize("steps", [0, 1])
def test_a_search_ends_in_time(steps: int) -> None:
    finder = Finder()
    finder.owns("far")
    finder.find(settle=False)
    for _ in range(steps):
        finder.records.step(finder.now)
    finder.tick(FIND_WITHIN_S - 0.25)
    assert finder.found == []
    finder.tick()
    assert finder.found == [Missing.LATER] and len(finder.of) == 0
    finder.records.settle(finder.now)  # what comes later does not count
    assert finder.found == [Missing.LATER]


def test_only_some_ask_at_one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    finder = Finder()
    finder.owns("linked")
    for _ in range(3):
        finder.find(settle=False)
    assert len(finder.records.asked) == 2 and len(finder.of) == 3
    finder.records.step(finder.now)
    assert len(finder.records.asked) == 2 and len(finder.of) == 2
    finder.records.settle(finder.now)
    assert len(finder.found) == 3


def test_one_that_waits_for_its_turn_ends_in_time_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 1)
    finder = Finder()
    finder.owns("linked")
    finder.find(settle=False)
    finder.find(settle=False)
    finder.tick(1.0)
    finder.find(settle=False)
    finder.tick(1.0)
    assert finder.found == [Missing.LATER, Missing.LATER] and len(finder.of) == 1
    finder.records.settle(finder.now)
    assert finder.found[2:] == [Owner("linked", b"boot", b"ticket")]


def test_there_are_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SEARCHES", 1)
    finder = Finder()
    finder.find(settle=False)
    finder.find(settle=False)
    assert finder.found == [Missing.LATER] and len(finder.of) == 1


def test_all_end_when_the_node_leaves_the_realm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 1)
    finder = Finder()
    finder.find(settle=False)
    finder.find(settle=False)
    finder.of.clear(finder.now)
    assert finder.found == [Missing.LATER, Missing.LATER] and len(finder.of) == 0
    finder.records.settle(finder.now)
    assert len(finder.found) == 2
