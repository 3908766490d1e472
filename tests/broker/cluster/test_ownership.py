"""A node acts only while its lease is sure, and takes nobody's place too early."""

from __future__ import annotations

from typing import Any

from support.realms import FakeRecords, boots

from ringback_broker.cluster.ownership import (
    MARGIN_S,
    PATIENCE_S,
    RENEW_S,
    Ownership,
    Standing,
    decode_node,
    encode_node,
)
from ringback_broker.cluster.records import Record

LEASE_S = 15.0
KEY = "node.a"


class Owner:
    """An ownership, its records and a clock."""

    def __init__(self, records: FakeRecords | None = None, nonce: Any = None) -> None:
        self.now = 1000.0
        self.records = records or FakeRecords()
        self.told: list[str] = []
        self.of = Ownership(
            "a",
            LEASE_S,
            self.records,
            nonce or boots(),
            lambda now: self.told.append("joined"),
            lambda why, now: self.told.append(why),
        )

    def pass_time(self, seconds: float, settle: bool = True) -> None:
        """Tick four times a second."""
        for _ in range(int(seconds * 4)):
            self.now += 0.25
            self.of.check(self.now)
            self.of.tick(self.now)
            if settle:
                self.records.settle(self.now)

    @property
    def there(self) -> bytes:
        return decode_node(self.records.there[KEY].value)[0]


def joined() -> Owner:
    owner = Owner()
    owner.pass_time(0.25)
    assert owner.of.standing is Standing.MEMBER
    return owner


def test_a_node_joins_and_acts_from_then_on() -> None:
    owner = Owner()
    assert not owner.of.acts(owner.now)
    owner.pass_time(0.25)
    assert owner.told == ["joined"] and owner.of.acts(owner.now) and owner.there == owner.of.boot


def test_it_acts_as_long_as_it_renews() -> None:
    owner = joined()
    for _ in range(60):
        owner.pass_time(1.0)
        assert owner.of.acts(owner.now)
    assert owner.told == ["joined"]


def test_it_stops_acting_a_margin_before_the_lease_of_its_last_renewal_ends() -> None:
    owner = joined()
    owner.of.tick(owner.now + RENEW_S)
    sent_at = owner.now + RENEW_S
    owner.records.settle(sent_at + 1.0)  # it was confirmed later: the time when it was sent counts
    assert owner.of.acts_until == sent_at + LEASE_S - MARGIN_S
    assert owner.of.acts(owner.of.acts_until - 0.001) and not owner.of.acts(owner.of.acts_until)


def test_it_loses_everything_when_the_lease_is_over() -> None:
    owner = joined()
    before = owner.of.boot
    owner.pass_time(LEASE_S - MARGIN_S - 0.25, settle=False)
    assert owner.told == ["joined"]
    owner.pass_time(0.25, settle=False)
    assert owner.told[1:] == ["its record could not be renewed in time"]
    assert owner.of.boot != before and owner.of.standing is Standing.JOINING


def test_what_was_asked_for_before_does_not_count_for_the_next_boot() -> None:
    owner = joined()
    owner.pass_time(LEASE_S, settle=False)
    owner.records.settle(owner.now)  # the old renewal took place: it is of a boot that acts no more
    assert owner.of.standing is Standing.JOINING
    owner.pass_time(RENEW_S + 0.25)
    assert owner.told[-1] == "joined" and owner.there == owner.of.boot


def test_it_joins_over_its_own_earlier_boot_at_once() -> None:
    owner = joined()
    first = owner.there
    owner.of.lose("a test", owner.now)
    owner.pass_time(0.25)
    assert owner.there != first and owner.told == ["joined", "a test", "joined"]


def test_an_answer_that_got_lost_is_found() -> None:
    owner = joined()
    owner.records.forget = True
    owner.of.tick(owner.now + RENEW_S)
    owner.records.step(owner.now + RENEW_S)
    owner.records.forget = False
    owner.records.settle(owner.now + RENEW_S)
    assert owner.of.acts_until == owner.now + RENEW_S + LEASE_S - MARGIN_S and owner.told == ["joined"]


def test_it_asks_again_when_nobody_answers() -> None:
    owner = joined()
    owner.records.lose = True
    owner.pass_time(6.0)
    owner.records.lose = False
    owner.pass_time(RENEW_S)
    assert owner.told == ["joined"] and owner.of.acts_until > owner.now + LEASE_S - MARGIN_S - RENEW_S - 0.5


def test_one_that_was_buried_begins_anew() -> None:
    owner = joined()
    del owner.records.there[KEY]
    owner.pass_time(2 * RENEW_S)
    assert owner.told == ["joined", "another node has buried it", "joined"]


def test_one_whose_name_was_taken_is_told() -> None:
    owner = joined()
    owner.records.write(KEY, encode_node(b"another", {}))
    owner.pass_time(RENEW_S)
    assert owner.told == ["joined", "another process has taken its name"]


def test_a_second_process_with_its_name_is_refused() -> None:
    first = joined()
    second = Owner(first.records, lambda: b"second boot")
    for _ in range(20):
        first.pass_time(0.5)
        second.now = first.now - 0.5
        second.pass_time(0.5)
    assert second.of.standing is Standing.REFUSED and second.told == []
    assert first.told == ["joined"]
    assert not second.of.meets_rival
    second.pass_time(LEASE_S)
    assert second.of.standing is Standing.REFUSED


def test_it_takes_the_place_of_a_dead_process_when_the_lease_is_over() -> None:
    records = FakeRecords()
    records.write(KEY, encode_node(b"dead", {}))
    owner = Owner(records)
    assert not owner.of.meets_rival
    owner.pass_time(LEASE_S + PATIENCE_S)
    assert owner.told == [] and owner.of.meets_rival
    owner.pass_time(RENEW_S + 0.25)
    assert owner.told == ["joined"] and owner.there == owner.of.boot and not owner.of.meets_rival


def test_the_last_renewal_of_a_dead_process_may_come_late() -> None:
    records = FakeRecords()
    records.write(KEY, encode_node(b"dead", {}))
    owner = Owner(records)
    owner.pass_time(3.0)
    records.write(KEY, encode_node(b"dead", {}))
    owner.pass_time(LEASE_S)
    assert owner.of.standing is Standing.JOINING
    owner.pass_time(2 * RENEW_S + PATIENCE_S)
    assert owner.told == ["joined"]


def test_one_that_leaves_takes_its_record_with_it() -> None:
    owner = joined()
    owner.of.leave()
    owner.records.settle(owner.now)
    assert owner.records.there == {} and not owner.of.acts(owner.now)
    owner.pass_time(LEASE_S)
    assert owner.records.there == {} and owner.told == ["joined"]


def test_one_that_never_joined_leaves_too() -> None:
    owner = Owner()
    owner.of.tick(owner.now)
    owner.of.leave()
    owner.records.settle(owner.now)
    assert owner.records.there == {} and owner.told == []


def test_a_renewal_that_was_confirmed_too_late_does_not_count() -> None:
    owner = Owner()
    owner.of.tick(owner.now)
    owner.records.step(owner.now)
    owner.records.step(owner.now + LEASE_S)  # the record was written, and the lease is over
    assert owner.told == [] and owner.of.standing is Standing.JOINING


def test_what_happens_after_it_left_does_not_count() -> None:
    owner = joined()
    owner.of.tick(owner.now + RENEW_S)
    owner.of.leave()
    owner.records.settle(owner.now + RENEW_S)
    assert not owner.of.acts(owner.now + RENEW_S)


def test_a_record_that_cannot_be_read_is_of_no_boot() -> None:
    assert decode_node(b"\xc1") == (b"", {})
    assert decode_node(encode_node(b"x", {"since": 1})) == (b"x", {"since": 1, "boot": b"x"})
    records = FakeRecords()
    records.there[KEY] = Record(b"\x81\xa4boot\x01", 1)
    assert decode_node(records.there[KEY].value)[0] == b""


def test_a_record_that_is_made_late_vouches_for_nobody() -> None:
    """It may be made in another bucket, where nothing of this boot is."""
    owner = Owner()
    owner.of.tick(owner.now)
    owner.records.step(owner.now)  # there is no record, so it makes one
    [late] = owner.records.asked
    before = owner.of.boot
    owner.records.lose = True
    owner.records.step(owner.now)
    owner.records.lose = False
    assert owner.of.boot != before and owner.of.standing is Standing.JOINING
    owner.pass_time(0.25)
    assert owner.of.standing is Standing.MEMBER and owner.there == owner.of.boot
    owner.records.there.clear()
    late[2]()
    assert owner.there == before
    owner.pass_time(RENEW_S + 1.0)
    assert owner.told[-2:] == ["another process has taken its name", "joined"]
    assert owner.there == owner.of.boot != before
