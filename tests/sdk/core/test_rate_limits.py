"""What the text of a limit means, and the bucket that counts calls."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringback.core.rate_limits import Bucket, make_rate, per_second


@pytest.mark.parametrize(
    ("text", "interval_s", "burst_s"),
    [
        ("5/s", 0.2, 1.0),
        ("100/min", 0.6, 60.0),
        ("1000/h", 3.6, 3600.0),
        ("2.5/min", 24.0, 60.0),
        ("1/h", 3600.0, 3600.0),
        ("0.5/s", 2.0, 2.0),
        ("0.25/min", 240.0, 240.0),
    ],
)
def test_texts(text: str, interval_s: float, burst_s: float) -> None:
    rate = make_rate(text)
    assert (rate.text, rate.interval_s, rate.burst_s) == (text, pytest.approx(interval_s), burst_s)


@pytest.mark.parametrize(
    "text",
    [
        *("", "5", "/s", "5/", "5/sec", "5/m", "5/S", "5/d", "5s", "5 /s", "5/ s", " 5/s", "5/s ", "5/s\n"),
        *(
            "-1/s",
            "+1/s",
            "0/s",
            "0.0/s",
            "1e3/s",
            "nan/s",
            "inf/s",
            ".5/s",
            "5./s",
            "1_0/s",
            "\u0665/s",
            "5/s/s",
        ),
        *("9" * 400 + "/s", "1000000001/s", "0.0000009/h", "0." + "0" * 400 + "1/h"),
    ],
)
def test_texts_that_are_refused(text: str) -> None:
    with pytest.raises(
        ValueError, match="limit must be a number above 0 and a unit, like '5/s', '100/min' or"
    ):
        make_rate(text)


@pytest.mark.parametrize("text", [5, 5.0, b"5/s", True, None, ["5/s"], ("5", "s")])
def test_limits_that_are_not_a_str(text: Any) -> None:
    with pytest.raises(TypeError, match="limit must be a str like '5/s', not "):
        make_rate(text)


def test_each_rate_is_one_of_its_own() -> None:
    assert make_rate("5/s") != make_rate("5/s")


@pytest.mark.parametrize(("text", "burst"), [("5/s", 5), ("2.5/min", 2), ("1/h", 1), ("0.1/s", 1)])
def test_a_burst_is_the_number_and_at_least_one(text: str, burst: int) -> None:
    bucket = Bucket(make_rate(text))
    now = 1000.0
    assert [bucket.take(now) for _ in range(burst)] == [0.0] * burst
    assert bucket.take(now) > 0.0


def test_a_bucket_fills_and_no_further_than_full() -> None:
    bucket = Bucket(make_rate("4/s"))
    for now in (1000.0, 5000.0):
        assert [bucket.take(now) for _ in range(4)] == [0.0] * 4
        assert bucket.full_at == now + 1.0
        assert bucket.take(now) == pytest.approx(0.25)
        assert bucket.take(now + 0.1) == pytest.approx(0.15)
        assert bucket.take(now + 0.25) == 0.0
        assert bucket.take(now + 0.25) == pytest.approx(0.25)


def test_a_refused_call_takes_nothing_of_the_bucket() -> None:
    bucket = Bucket(make_rate("1/min"))
    assert bucket.take(1000.0) == 0.0
    waits = [bucket.take(1000.0 + second) for second in range(1, 60)]
    assert waits == [pytest.approx(60 - second) for second in range(1, 60)]
    assert bucket.take(1060.0) == 0.0


def test_a_wait_is_never_longer_than_one_interval() -> None:
    bucket = Bucket(make_rate("2/min"))
    now = 262073.55512919227  # with this number the sum of floats is 30.000000000029104
    assert [bucket.take(now), bucket.take(now), bucket.take(now)] == [0.0, 0.0, 30.0]


def test_a_rate_in_calls_a_second() -> None:
    assert (per_second(10).interval_s, per_second(10).burst_s) == (0.1, 1.0)
    assert (per_second(0.5).interval_s, per_second(0.5).burst_s) == (2.0, 2.0)
    assert per_second(float("inf")).interval_s == 0.0


@given(
    number=st.floats(0.01, 1000.0).map(lambda number: f"{number:.3f}"),
    unit=st.sampled_from(["s", "min", "h"]),
    start=st.floats(0.0, 1e7),
    steps=st.lists(st.floats(0.0, 3.0), max_size=60),
)
def test_never_more_than_the_burst_and_what_has_filled_up(
    number: str, unit: str, start: float, steps: list[float]
) -> None:
    """A caller that comes again exactly when it was told to is accepted."""
    rate = make_rate(f"{number}/{unit}")
    bucket = Bucket(rate)
    now = start
    for taken, step in enumerate(steps, 1):
        now += step * rate.interval_s
        wait_s = bucket.take(now)
        if wait_s:
            assert 0.0 < wait_s <= rate.interval_s
            now += wait_s
            assert bucket.take(now) == 0.0
        assert taken * rate.interval_s <= rate.burst_s + (now - start) + 1e-4
