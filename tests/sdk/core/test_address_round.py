"""A round: which address is tried next, for how long, and what is said if all fail."""

from __future__ import annotations

import pytest

from ringback.core.address_round import MIN_SHARE_S, AddressRound


def test_addresses_share_the_time_that_is_left() -> None:
    round_ = AddressRound("tcp://name:1")
    round_.begin(("a", "b", "c"))
    assert round_.next(0.0, 6.0) == 2.0 and round_.address == "a"
    assert round_.next(0.5, 6.0) == 2.75 and round_.address == "b"
    assert round_.more
    assert round_.next(6.0, 6.0) == MIN_SHARE_S and round_.address == "c"
    assert not round_.more


def test_a_round_begins_where_a_broker_answered_last() -> None:
    round_ = AddressRound("tcp://name:1")
    round_.begin(("a", "b", "c"))
    round_.next(0.0, 5.0)
    round_.next(0.0, 5.0)
    round_.answered()
    round_.end()
    assert not round_.more
    for addresses, order in ((("a", "b", "c"), "bac"), (("a", "c"), "ac")):
        round_.begin(addresses)
        tried = []
        while round_.more:
            round_.next(0.0, 5.0)
            tried.append(round_.address)
        assert "".join(tried) == order


@pytest.mark.parametrize(
    ("broker", "summary"), [("tcp://name:1", "a: refused; b: no answer"), ("a", "refused; b: no answer")]
)
def test_the_summary_names_each_address_that_the_user_did_not_give(broker: str, summary: str) -> None:
    round_ = AddressRound(broker)
    round_.begin(("a", "b"))
    assert round_.summary() == ""
    for why in ("refused", "no answer"):
        round_.next(0.0, 5.0)
        round_.failed(why)
    assert round_.summary() == summary
    round_.end()
    assert round_.summary() == ""
    round_.failed("the connection was closed")
    assert round_.summary() == "the connection was closed"
