"""The time limit of a command, and how Ctrl-C cancels its calls."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ringback import Call
from ringback_cli.connection import TimeLimit, calls_of, result_of


def test_a_time_limit() -> None:
    assert TimeLimit(None, 15.0).connecting_s() == 5.0
    assert 55 < TimeLimit(60.0, 15.0).connecting_s() <= 60.0
    endless = TimeLimit(math.inf, 15.0)
    assert endless.left_s() is None
    assert endless.connecting_s() > 1e6
    over = TimeLimit(1e-9, 15.0)
    assert over.left_s() == 0.0
    assert over.connecting_s() > 0


def test_ctrl_c_cancels() -> None:
    class Waiting:
        cancelled = False

        def cancel(self) -> None:
            self.cancelled = True

        def result(self) -> Call:
            raise KeyboardInterrupt

        __iter__ = result

    def wait_for_all(group: Any) -> None:
        calls_of(group, lambda: None)

    for wait in (result_of, wait_for_all):
        call: Any = Waiting()
        with pytest.raises(KeyboardInterrupt):
            wait(call)
        assert call.cancelled
