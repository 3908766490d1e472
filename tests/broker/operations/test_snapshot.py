"""How late the ticks of the loop were."""

from __future__ import annotations

from ringback_broker.operations.snapshot import LAG_BOUNDS_S, Lags


def test_lags_are_counted_by_class() -> None:
    lags = Lags()
    for lag_s in (0.0, 0.001, 0.0011, 9.0):
        lags.add(lag_s)
    counts, sum_s = lags.read()
    assert counts == (2, 1, *[0] * (len(LAG_BOUNDS_S) - 2), 1)
    assert sum_s == 0.0 + 0.001 + 0.0011 + 9.0
