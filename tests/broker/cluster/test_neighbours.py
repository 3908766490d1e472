"""Neighbours live as long as their records say so, and are buried by compare-and-set."""

from __future__ import annotations

from support.realms import FakeRecords

from ringback_broker.cluster.neighbours import Neighbours
from ringback_broker.cluster.ownership import PATIENCE_S, encode_node
from ringback_broker.cluster.records import Absent, Record

LEASE_S = 15.0


class Watch:
    def __init__(self) -> None:
        self.now = 1000.0
        self.records = FakeRecords()
        self.log: list[tuple[str, str, bytes]] = []
        self.of = Neighbours(
            "a",
            LEASE_S,
            self.records,
            lambda name, boot, now: self.log.append(("came", name, boot)),
            lambda name, boot, now: self.log.append(("went", name, boot)),
        )

    def renew(self, name: str, boot: bytes) -> None:
        there = self.records.write(f"node.{name}", encode_node(boot, {}))
        assert isinstance(there, Record)
        self.of.changed(f"node.{name}", there, self.now)

    def tick(self, seconds: float) -> list[tuple[str, str]]:
        self.now += seconds
        self.of.tick(self.now)
        return self.records.settle(self.now)


def test_nodes_come_and_go() -> None:
    watch = Watch()
    watch.renew("b", b"1")
    watch.renew("b", b"1")
    assert watch.of.lives("b", b"1") and not watch.of.lives("b", b"2") and not watch.of.lives("c", b"1")
    watch.of.changed("node.b", watch.records.there["node.b"], watch.now)  # it is told once more
    watch.renew("b", b"2")
    watch.of.changed("node.b", Absent(), watch.now)
    watch.of.changed("node.b", Absent(), watch.now)
    assert watch.log == [("came", "b", b"1"), ("went", "b", b"1"), ("came", "b", b"2"), ("went", "b", b"2")]


def test_it_is_no_neighbour_of_itself() -> None:
    watch = Watch()
    watch.renew("a", b"1")
    watch.of.changed("other", Absent(), watch.now)
    watch.of.changed("node.b", Record(b"\xc1", 1), watch.now)
    assert watch.log == []


def test_a_node_that_renews_is_not_buried() -> None:
    watch = Watch()
    for _ in range(20):
        watch.renew("b", b"1")
        assert watch.tick(2.0) == []


def test_one_that_does_not_is_buried_after_its_lease() -> None:
    watch = Watch()
    watch.renew("b", b"1")
    assert watch.tick(LEASE_S + PATIENCE_S - 0.01) == []
    assert watch.tick(0.01) == [("delete", "node.b")]
    assert "node.b" not in watch.records.there
    assert watch.tick(PATIENCE_S - 0.1) == []
    assert watch.tick(0.1) == [("delete", "node.b")]  # nobody has told of it yet


def test_a_renewal_that_was_not_told_yet_protects_it() -> None:
    watch = Watch()
    watch.renew("b", b"1")
    watch.records.write("node.b", encode_node(b"1", {}))
    assert watch.tick(LEASE_S + PATIENCE_S) == [("delete", "node.b")]
    assert "node.b" in watch.records.there
    watch.of.changed("node.b", watch.records.there["node.b"], watch.now)
    assert watch.tick(LEASE_S) == []
    assert watch.of.lives("b", b"1")
