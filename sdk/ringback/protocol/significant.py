"""How exact a figure is shown: to three significant digits.

Percentiles and round-trip times are not known any better. This is the one place for the rule.
"""

from __future__ import annotations

DIGITS = 3


def rounded(value: float) -> float:
    """Return a figure without the digits that nobody knows."""
    return float(f"{value:.{DIGITS}g}")


def rounded_ms(seconds: float | None) -> float | None:
    """Return seconds as milliseconds, rounded; None if there are none."""
    return None if seconds is None else rounded(1000 * seconds)


def significant(value: float) -> str:
    """Return the text of a figure, without an exponent: 0.0502, 50.2, 1230."""
    whole = f"{rounded(value):.9f}".rstrip("0").rstrip(".")
    return "0" if whole in ("", "-0") else whole
