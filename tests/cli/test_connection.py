"""The time limit of a command."""

from __future__ import annotations

import math

from ringback_cli.connection import TimeLimit


def test_a_time_limit() -> None:
    assert TimeLimit(None, 15.0).connecting_s() == 5.0
    assert 55 < TimeLimit(60.0, 15.0).connecting_s() <= 60.0
    endless = TimeLimit(math.inf, 15.0)
    assert endless.left_s() is None
    assert endless.connecting_s() > 1e6
    over = TimeLimit(1e-9, 15.0)
    assert over.left_s() == 0.0
    assert over.connecting_s() > 0
