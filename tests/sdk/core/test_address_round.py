"""A round: which address is tried next, for how long, and what is said if all fail."""

from __future__ import annotations

import random
from collections import Counter
from itertools import permutations

import pytest

from ringback.core.address_round import MIN_SHARE_S, AddressRound

A, B, C = "tcp://a.test:1", "tcp://b.test:1", "tcp://c.test:1"


def round_of(*brokers: str) -> AddressRound:
    """Return a round that tries these brokers in this order."""
    return AddressRound(brokers, iter(range(len(brokers))).__next__)


def order_of(attempts: AddressRound) -> list[str]:
    """Return the brokers of the next round, which all fail."""
    order = []
    while not order or attempts.more:
        assert attempts.next_broker() is (not order)
        order.append(attempts.broker)
    return order


# -- the IPs of one broker


def test_addresses_share_the_time_that_is_left() -> None:
    attempts = round_of(A)
    assert attempts.next_broker()
    attempts.begin(("a", "b", "c"))
    assert attempts.next(0.0, 6.0) == 2.0 and attempts.address == "a"
    assert attempts.next(0.5, 6.0) == 2.75 and attempts.address == "b"
    assert attempts.more
    assert attempts.next(6.0, 6.0) == MIN_SHARE_S and attempts.address == "c"
    assert not attempts.more


def test_a_round_begins_where_a_broker_answered_last() -> None:
    attempts = round_of(A)
    attempts.next_broker()
    attempts.begin(("a", "b", "c"))
    attempts.next(0.0, 5.0)
    attempts.next(0.0, 5.0)
    attempts.answered()
    attempts.end()
    assert not attempts.more
    for addresses, order in ((("a", "b", "c"), "bac"), (("a", "c"), "ac")):
        attempts.next_broker()
        attempts.begin(addresses)
        tried = []
        while attempts.more:
            attempts.next(0.0, 5.0)
            tried.append(attempts.address)
        assert "".join(tried) == order


@pytest.mark.parametrize(
    ("broker", "summary"), [("tcp://name:1", "a: refused; b: no answer"), ("a", "refused; b: no answer")]
)
def test_the_summary_names_each_address_that_the_user_did_not_give(broker: str, summary: str) -> None:
    attempts = round_of(broker)
    attempts.next_broker()
    attempts.begin(("a", "b"))
    assert attempts.summary() == ""
    for why in ("refused", "no answer"):
        attempts.next(0.0, 5.0)
        attempts.failed(why)
    assert attempts.summary() == summary and attempts.failures == 2
    attempts.end()
    assert attempts.summary() == ""
    attempts.failed("the connection was closed")
    assert attempts.summary() == "the connection was closed"


# -- several brokers


def test_each_broker_comes_first_as_often_as_the_others_in_any_order() -> None:
    """So the endpoints of a broker that dies do not all go to one other broker."""
    numbers = random.Random(1)
    counts = Counter(tuple(order_of(AddressRound((A, B, C), numbers.random))) for _ in range(6000))
    assert set(counts) == set(permutations((A, B, C)))
    assert all(800 < count < 1200 for count in counts.values())


def test_the_order_of_a_list_stays() -> None:
    attempts = AddressRound((A, B, C), random.Random(7).random)
    assert order_of(attempts) == order_of(attempts) == order_of(attempts)


def test_the_next_round_begins_after_the_broker_that_was_tried_last() -> None:
    attempts = round_of(A, B, C)
    attempts.next_broker()
    attempts.next_broker()
    attempts.end()  # it was welcomed there
    assert attempts.broker == B
    assert order_of(attempts) == [C, A, B]


def test_a_round_begins_at_the_same_broker_if_that_is_wanted() -> None:
    attempts = round_of(A, B, C)
    attempts.next_broker()
    attempts.next_broker()
    attempts.end()
    attempts.stay()
    assert order_of(attempts) == [B, C, A]
    assert order_of(attempts) == [B, C, A]


def test_brokers_and_their_ips_share_the_time() -> None:
    attempts = round_of(A, B)
    attempts.next_broker()
    assert attempts.more_brokers and attempts.lookup_s(0.0, 6.0) == 3.0
    attempts.begin(("a", "b"))
    assert attempts.next(0.0, 6.0) == 2.0
    assert attempts.next(2.0, 6.0) == 2.0 and not attempts.more_ips and attempts.more
    attempts.next_broker()
    assert not attempts.more_brokers and attempts.lookup_s(6.0, 6.0) == MIN_SHARE_S
    attempts.begin(("c",))
    assert attempts.next(4.0, 6.0) == 2.0 and not attempts.more


def test_each_broker_has_a_favourite_of_its_own() -> None:
    attempts = round_of(A, B)
    for ips in (("a1", "a2"), ("b1", "b2")):
        attempts.next_broker()
        attempts.begin(ips)
        attempts.next(0.0, 5.0)
        attempts.next(0.0, 5.0)
        attempts.answered()
    assert attempts.favourite == "b2"
    attempts.next_broker()
    attempts.begin(("a1", "a2"))
    attempts.next(0.0, 5.0)
    assert attempts.address == attempts.favourite == "a2"


def test_the_summary_names_each_broker_and_its_ip() -> None:
    attempts = round_of(A, "tcp://192.0.2.1:7", "ipc:///run/c", B)
    attempts.next_broker()
    attempts.begin(("tcp://192.0.2.9:1", "tcp://[2001:db8::1]:1"))
    for _ in range(2):
        attempts.next(0.0, 5.0)
        attempts.failed("refused")
    for broker in ("tcp://192.0.2.1:7", "ipc:///run/c"):
        attempts.next_broker()
        attempts.begin((broker,))
        attempts.next(0.0, 5.0)
        attempts.failed("no answer")
    attempts.not_tried()
    assert attempts.summary().split("; ") == [
        "tcp://a.test:1 (192.0.2.9): refused",
        "tcp://a.test:1 ([2001:db8::1]): refused",
        "tcp://192.0.2.1:7: no answer",
        "ipc:///run/c: no answer",
        "tcp://b.test:1: not tried",
    ]


def test_all_brokers_are_full_only_if_each_of_them_said_so() -> None:
    attempts = round_of(A, B)
    attempts.next_broker()
    attempts.is_full()
    attempts.is_full()
    assert not attempts.all_full
    attempts.next_broker()
    attempts.is_full()
    assert attempts.all_full
    attempts.next_broker()
    assert not attempts.all_full
