"""The seat: one node has it, and works towards what it wants with one question at a time."""

from __future__ import annotations

from support.realms import FakeRecords

from ringback_broker.cluster.held_names import REWRITE_S
from ringback_broker.cluster.owners import hash_of
from ringback_broker.cluster.ownership import encode_node
from ringback_broker.cluster.seat import LOOK_S, SEAT, Seat, Wish


class Sitter:
    def __init__(self, name: str, records: FakeRecords) -> None:
        self.now = 1000.0
        self.records = records
        self.moves = 0
        self.of = Seat(name, lambda: b"boot " + name.encode(), records, self._moved)
        records.write(f"node.{name}", encode_node(b"boot " + name.encode(), {}))

    def _moved(self, now: float) -> None:
        self.moves += 1

    def want(self, wish: Wish | None) -> None:
        self.of.want(wish, self.now)
        self.records.settle(self.now)

    def tick(self, seconds: float = 0.25) -> None:
        self.now += seconds
        self.of.tick(self.now)
        self.records.settle(self.now)


def two() -> tuple[Sitter, Sitter]:
    records = FakeRecords()
    return Sitter("a", records), Sitter("b", records)


def test_a_free_seat_is_taken_and_let_go() -> None:
    a, _ = two()
    a.want(Wish())
    assert a.of.is_mine and a.moves == 1
    a.want(Wish())
    a.want(None)
    assert not a.of.is_mine and a.moves == 2 and SEAT not in a.records.there


def test_a_seat_is_not_taken_from_a_node_that_lives() -> None:
    a, b = two()
    a.want(Wish())
    b.want(Wish())
    b.tick()
    assert a.of.is_mine and not b.of.is_mine and b.of.holder == a.of.holder
    a.want(None)
    b.of.hint(b.now)
    b.records.settle(b.now)
    assert b.of.is_mine and b.of.holder is not None and b.moves == 3


def test_a_seat_of_a_dead_node_is_taken() -> None:
    a, b = two()
    a.want(Wish())
    b.want(Wish())
    a.records.write("node.a", encode_node(b"another boot", {}))
    b.tick()
    assert b.of.is_mine
    a.of.hint(a.now)
    a.records.settle(a.now)
    assert not a.of.is_mine or a.of.holder == b.of.holder


def test_a_server_takes_its_seat_along() -> None:
    a, b = two()
    a.want(Wish(hash_of(b"t")))
    assert a.of.fits(hash_of(b"t")) and not a.of.fits(b"") and not a.of.fits(hash_of(b"x"))
    b.want(Wish(hash_of(b"u"), hash_of(b"t")))
    assert b.of.is_mine


def test_another_ticket_changes_the_record_and_not_the_term() -> None:
    a, _ = two()
    a.want(Wish(hash_of(b"t")))
    term = a.of.holder.term if a.of.holder else 0
    a.want(Wish(hash_of(b"u")))
    assert a.of.holder is not None and a.of.holder.term == term and a.of.fits(hash_of(b"u"))
    assert a.moves == 2
    revision = a.records.there[SEAT].revision
    a.tick(REWRITE_S)
    assert a.records.there[SEAT].revision > revision and a.of.holder.term == term and a.moves == 2


def test_it_asks_again_when_nobody_answers() -> None:
    a, b = two()
    a.records.lose = True
    a.want(Wish())
    a.tick()
    assert not a.of.is_mine
    a.records.lose = False
    a.tick()
    assert a.of.is_mine
    a.records.forget = True
    a.want(None)
    a.records.forget = False
    a.tick()
    a.tick()
    assert not a.of.is_mine and SEAT not in a.records.there
    a.want(Wish())
    b.tick()
    b.of.want(Wish(), b.now)
    b.records.lose = True
    b.records.settle(b.now)
    b.records.lose = False
    b.tick()
    assert a.of.is_mine and not b.of.is_mine


def test_two_want_it_at_one_moment() -> None:
    a, b = two()
    a.tick()
    b.tick()
    a.of.want(Wish(), a.now)
    b.of.want(Wish(), b.now)
    a.records.settle(a.now)
    assert a.of.is_mine is not b.of.is_mine


def test_what_it_wants_may_change_while_it_asks() -> None:
    a, b = two()
    a.want(Wish())
    b.tick()
    b.of.want(Wish(), b.now)  # it looks whether the node lives
    b.of.want(None, b.now)
    a.records.there.pop("node.a")
    b.records.settle(b.now)
    assert not b.of.is_mine


def test_it_looks_now_and_then() -> None:
    a, b = two()
    b.tick()
    a.want(Wish())
    b.tick()
    assert b.of.holder is None
    b.tick(LOOK_S)
    assert b.of.holder == a.of.holder


def test_nothing_counts_after_the_realm_is_lost() -> None:
    a, _ = two()
    a.want(Wish())
    a.of.hint(a.now)
    a.of.clear()
    a.records.settle(a.now)
    assert a.of.holder is None and a.of.wish is None


def test_a_record_that_cannot_be_read_names_nobody_who_lives() -> None:
    for value in (b"\xc1", b"\x94\x01\x02\x03\x04"):
        a, _ = two()
        a.records.write(SEAT, value)
        a.want(Wish())
        assert a.of.is_mine
