"""Goals, tables and options of the benchmark of service levels, with planted measurements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import report
from service_levels import by_situation, judge, table

ROLES = ("broker", "server", "players")


def open_loop_row(contender: str, number: int, p99_us: float, rate: int = 5000) -> dict[str, Any]:
    shares = {f"cpu_{role}_us": 10.0 for role in ROLES}
    figures = {"calls_per_s": 4999.0, "p50_us": 500.0, "p99_us": p99_us, "p999_us": 9000.0}
    counts = {"late_percent": 0.5, "held_percent": 0.0, "failed": 0, "without_result": number}
    where = {"scenario": "open-loop-down", "contender": contender, "round": number, "rate": rate}
    return {**where, **figures, **counts, **shares, "uvloop": False}


def idle_row(contender: str, number: int, percent: float) -> dict[str, Any]:
    where = {"scenario": "idle", "contender": contender, "round": number, "uvloop": False}
    memory = {"players": 10_000, "broker_mib": 400.0, "kib_a_player": 38.5, "lost": 0}
    return {**where, **memory, "idle_percent": percent}


OPEN_LOOP = [
    open_loop_row("ringback.aio", 0, 600.0),
    open_loop_row("nats", 0, 1000.0),
    open_loop_row("ringback.aio", 1, 1400.0),
    open_loop_row("nats", 1, 2000.0),
    open_loop_row("ringback.aio", 2, 5000.0),
    open_loop_row("nats", 2, 1000.0),
    open_loop_row("ringback.aio", 0, 9000.0, rate=10_000),
    open_loop_row("nats", 0, 1.0, rate=10_000),
]
IDLE = [idle_row("ringback.aio", 0, 9.0), idle_row("proxy", 0, 5.5), idle_row("nats", 0, 7.0)]


def test_a_goal_on_a_ratio_is_judged_by_the_median_of_its_rounds() -> None:
    [verdict] = judge(by_situation(OPEN_LOOP))  # the goal is on 5,000 calls a second alone
    assert verdict == ("open-loop-down, 5,000/s", "p99", "at most 0.8 times nats", "0.70", True)


def test_a_goal_on_a_difference() -> None:
    [verdict] = judge(by_situation(IDLE))
    assert verdict == ("idle", "broker CPU, % of a core", "at most 3 more than proxy", "3.5", False)


def test_a_goal_without_its_other_contender_is_not_judged() -> None:
    assert judge(by_situation([row for row in OPEN_LOOP + IDLE if row["contender"] == "ringback.aio"])) == []


def test_a_table_has_a_line_for_each_rate_and_contender() -> None:
    heads, *lines = table("open-loop-down", by_situation(OPEN_LOOP + IDLE))
    assert [line[:2] for line in lines] == [
        ["ringback.aio", "5000"],
        ["nats", "5000"],
        ["ringback.aio", "10000"],
        ["nats", "10000"],
    ]
    first = dict(zip(heads, lines[0], strict=True))
    assert (first["p99 us"], first["p99 against NATS"]) == ("1400", "0.70")
    assert first["without result"] == "2"  # the worst round, not the median
    assert table("idle", by_situation(IDLE))[1] == ["ringback.aio", "10000", "400", "38.5", "9.0", "0"]


def test_the_report_has_the_goals_and_all_tables(tmp_path: Path) -> None:
    machine = {"cpu": "a processor", "cores": 2, "kernel": "Linux", "versions": {"Python": "3.11"}}
    lines = [{"machine": machine}, *OPEN_LOOP, *IDLE]
    measured = tmp_path / "service-levels.jsonl"
    measured.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- service levels -->\nold\n<!-- end of service levels -->\nafter\n")
    report.write(page, report.SERVICE_LEVELS_PART, report.service_level_text(measured))
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "a processor, 2 cores, Linux. 3 rounds, asyncio's own event loop." in text
    assert "| open-loop-down, 5,000/s | p99 | at most 0.8 times nats | 0.70 | yes |" in text
    assert (
        "### open-loop-down: the server calls 200 players in turn, at a fixed rate\n\n| | offered/s" in text
    )
    assert "\n| proxy | 10000 | 400 | 38.5 | 5.5 | 0 |\n" in text


def test_the_page_has_the_part_of_the_service_levels_first() -> None:
    page = report.DOCUMENT.read_text()
    parts = (report.SERVICE_LEVELS_PART, report.FIGURES_PART)
    places = [page.index(f"<!-- {words}{part} -->") for part in parts for words in ("", "end of ")]
    assert places == sorted(places)
