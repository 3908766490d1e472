"""Fine classes of latency: percentiles with a known error, whatever the latencies are."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.protocol.latencies import ERROR, FINE_BOUNDS_S, FINE_CLASSES, count_latencies, percentile_s

LATENCIES_S = st.floats(1e-6, 600.0)


def counts_of(latencies_s: list[float]) -> dict[int, int]:
    counts: dict[int, int] = {}
    count_latencies(sorted(latencies_s), counts)
    return counts


def exact(latencies_s: list[float], share: float) -> float:
    """Return the latency that this share of calls did not exceed: the nearest rank."""
    return sorted(latencies_s)[ceil(share * len(latencies_s)) - 1]


def test_the_error_is_at_most_one_percent() -> None:
    assert ERROR <= 0.01


@given(st.lists(LATENCIES_S, min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_percentile_is_as_exact_as_stated(latencies_s: list[float], share: float) -> None:
    counts = counts_of(latencies_s)
    assert sum(counts.values()) == len(latencies_s)
    assert percentile_s(counts, share) == pytest.approx(exact(latencies_s, share), rel=1.0001 * ERROR)


@given(st.lists(LATENCIES_S, max_size=50), st.lists(LATENCIES_S, max_size=50))
def test_counts_add_up(some: list[float], others: list[float]) -> None:
    together = counts_of(some)
    count_latencies(sorted(others), together)
    assert together == counts_of(some + others)


@pytest.mark.parametrize("took_s", [0.0001, 0.001, 0.05, 0.0501, 0.1, 1.0, 59.9])
def test_calls_that_all_take_the_same(took_s: float) -> None:
    counts = counts_of([took_s] * 20)
    assert len(counts) == 1
    for share in (0.5, 0.99):
        assert percentile_s(counts, share) == pytest.approx(took_s, rel=0.01)


def test_without_calls_there_is_no_percentile() -> None:
    assert counts_of([]) == {}
    assert percentile_s({}, 0.5) is None


def test_latencies_beyond_the_classes() -> None:
    counts = counts_of([0.0, 1e-9, 1e-6, 3600.0])
    assert counts == {0: 3, FINE_CLASSES - 1: 1}
    assert percentile_s(counts, 0.5) == 1e-6
    assert percentile_s(counts, 0.99) == FINE_BOUNDS_S[-1] > 600.0


def test_a_bound_belongs_to_the_class_below_it() -> None:
    assert counts_of([FINE_BOUNDS_S[100]]) == {100: 1}
