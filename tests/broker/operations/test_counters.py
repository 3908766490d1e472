"""The broker's counters."""

from __future__ import annotations

from dataclasses import fields

from ringback.errors import Code
from ringback_broker.operations.counters import BrokerCounters

BOUNCES = (Code.NO_SERVER, Code.UNKNOWN_PLAYER, Code.OVERLOADED, Code.DRAINING)


def test_a_bounce_is_counted_by_its_code() -> None:
    counters = BrokerCounters()
    for code in BOUNCES:
        counters.count_bounce(code)
    rows = dict(counters.rows())
    assert set(rows) == {field.name for field in fields(BrokerCounters)}
    assert {name for name, value in rows.items() if value} == {
        f"bounced_{code.name.lower()}" for code in BOUNCES
    }
