"""How exact a figure is shown."""

from __future__ import annotations

import pytest

from ringback.protocol.reports import duration_ms
from ringback.protocol.significant import rounded, rounded_ms, significant


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (50.149, "50.1"),
        (49.96, "50"),
        (0.002, "0.002"),
        (0.0023456, "0.00235"),
        (0.000000047, "0.000000047"),
        (999.6, "1000"),
        (1234.5, "1230"),
        (123456789.0, "123000000"),
        (1.0, "1"),
        (100.0, "100"),
    ],
)
def test_three_digits_and_no_exponent(value: float, text: str) -> None:
    assert significant(value) == text


def test_rounded() -> None:
    assert rounded(1234.5) == 1230.0 and rounded(0.050149) == 0.0501
    assert rounded_ms(0.050149) == 50.1 and rounded_ms(None) is None


def test_the_duration_of_a_call_that_never_ran_is_unknown() -> None:
    assert duration_ms(0.0) is None
    assert duration_ms(0.0501239) == 50.124
