"""Unfinished messages: which connections are over a limit."""

from __future__ import annotations

from ringback_broker.admission.unfinished import (
    MAX_UNFINISHED_BYTES,
    MAX_UNFINISHED_IN_ALL,
    Open,
    Unfinished,
)
from ringback_broker.peers.connection import Connection, Side


def one(
    bytes_read: int,
    mark: object = 1.0,
    *,
    descriptor: int = 5,
    fresh: bool = False,
    side: Side = Side.PLAYERS,
) -> Open:
    return Open(side, Connection(descriptor, "ip"), mark, fresh, bytes_read)


def test_a_fresh_connection_counts_from_its_beginning() -> None:
    for size, over in ((MAX_UNFINISHED_BYTES, []), (MAX_UNFINISHED_BYTES + 1, [MAX_UNFINISHED_BYTES + 1])):
        found = Unfinished().find([one(size, fresh=True)])
        assert [suspect.unfinished for suspect in found] == over


def test_others_count_from_when_they_are_first_seen() -> None:
    unfinished = Unfinished()
    assert unfinished.find([one(10**9)]) == []
    assert unfinished.find([one(10**9 + MAX_UNFINISHED_BYTES)]) == []
    [suspect] = unfinished.find([one(10**9 + MAX_UNFINISHED_BYTES + 1)])
    assert suspect.unfinished == MAX_UNFINISHED_BYTES + 1


def test_each_message_begins_the_count_anew() -> None:
    unfinished = Unfinished()
    for step in range(10):
        assert unfinished.find([one(step * 2_000_000, mark=float(step))]) == []
        assert unfinished.find([one(step * 2_000_000 + 1_900_000, mark=float(step))]) == []


def test_a_descriptor_that_serves_another_connection_begins_anew() -> None:
    unfinished = Unfinished()
    unfinished.find([one(10**9, mark=None)])
    assert unfinished.find([one(0, mark=None)]) == []
    assert unfinished.find([one(MAX_UNFINISHED_BYTES, mark=None)]) == []
    unfinished.find([])  # it is closed, so it is forgotten
    assert unfinished._bases == {}


def test_each_side_has_its_own_descriptors() -> None:
    unfinished = Unfinished()
    assert unfinished.find([one(0), one(10**9, side=Side.BACKEND)]) == []
    assert unfinished.find([one(10), one(10**9 + 10, side=Side.BACKEND)]) == []


def test_the_largest_of_many_small_ones_are_found() -> None:
    unfinished = Unfinished()
    share = MAX_UNFINISHED_IN_ALL // 64
    sizes = [share] * 63 + [share + 5, 7]
    assert unfinished.find([one(share, descriptor=number, fresh=True) for number in range(64)]) == []
    unfinished = Unfinished()
    crowd = [one(size, descriptor=number, fresh=True) for number, size in enumerate(sizes)]
    [suspect] = unfinished.find(crowd)
    assert suspect.of.connection.descriptor == 63


def test_the_worst_comes_first() -> None:
    sizes = [MAX_UNFINISHED_BYTES + 1, 5, MAX_UNFINISHED_BYTES + 9]
    found = Unfinished().find([one(size, descriptor=number, fresh=True) for number, size in enumerate(sizes)])
    assert [suspect.of.connection.descriptor for suspect in found] == [2, 0]
