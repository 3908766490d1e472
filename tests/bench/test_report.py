"""The goals of closed loops in the report, with planted measurements."""

from __future__ import annotations

from typing import Any

import report


def row(**figures: float) -> dict[str, Any]:
    zeros = dict.fromkeys(("calls_per_s", "cpu_us", "cpu_broker_us", "cpu_broker_server_us", "p50_us"), 1.0)
    return {**zeros, **figures}


def lines(scenario: str, in_flight: int, **contenders: list[dict[str, Any]]) -> list[str]:
    named = {name.replace("_", "."): rows for name, rows in contenders.items()}
    table = report.goals({(scenario, in_flight): named}).splitlines()
    return [line for line in table[2:] if "ringback.aio: " in line]


def test_a_goal_on_a_ratio_is_judged_by_the_median_of_its_rounds() -> None:
    ours = [row(calls_per_s=rate, cpu_broker_server_us=8.0) for rate in (260.0, 1.0, 130.0)]
    others = [row(calls_per_s=100.0, cpu_broker_server_us=10.0)] * 3
    assert lines("down-100", 64, ringback_aio=ours, nats=others) == [
        "| down-100 | 64 | ringback.aio: rate | at least 1.3 times nats | 1.30 | yes |",
        "| down-100 | 64 | ringback.aio: CPU of broker and server | at most 0.8 times nats | 0.80 | yes |",
    ]


def test_a_goal_on_a_figure_needs_no_other_contender() -> None:
    rows = [row(cpu_broker_us=figure) for figure in (90.0, 111.0, 300.0)]
    assert lines("up", 1, ringback_aio=rows) == [
        "| up | 1 | ringback.aio: CPU a call of the broker, us | at most 110 | 111 | no |"
    ]
