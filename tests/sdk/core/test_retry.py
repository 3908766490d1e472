"""What a program may say about how a call is tried again."""

from __future__ import annotations

from typing import Any

import pytest

from ringback.core.retry import Retry


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"attempts": 0}, "attempts must be an int above 0, not 0"),
        ({"attempts": 1.5}, "attempts must be an int above 0, not 1.5"),
        ({"first_delay": 0}, "first_delay must be a number of seconds above 0 and at most 86400, not 0"),
        ({"first_delay": 10**400}, "above 0 and at most 86400, not 10000"),
        ({"longest_delay": float("inf")}, "longest_delay must be .* and at most 86400, not inf"),
        ({"longest_delay": "1"}, "longest_delay must be .* and at most 86400, not '1'"),
    ],
)
def test_options_out_of_range(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Retry(**arguments)
