"""docs/figures.md names each figure that is shown, and known truths are shown as they are, everywhere."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from support.faces import FACES, Face, Stage
from support.harness import PATIENCE_S, BrokerProcess
from support.switchboards import Desk

from ringback.protocol import control
from ringback.protocol.control import COLUMNS, Subject
from ringback.protocol.frames import Role
from ringback.protocol.latencies import count_latencies
from ringback.protocol.reports import CLASSES, LATENCY_BOUNDS_S, CallbackFigures, LatencyCounts
from ringback_broker.http.dashboard_operator import State
from ringback_cli.load import figures as bench_figures
from ringback_cli.top_state import COLUMNS as TOP_COLUMNS

PAGE = (Path(__file__).parents[1] / "docs" / "figures.md").read_text()
NAMED = set(re.findall(r"`([a-z]\w*)`", PAGE))
TEXTS = {
    *("key", "side", "terms", "player", "ip", "identity", "name", "value", "event", "role", "code", "reason"),
    *("outcome", "payload", "reply", "schema"),
}
"""Columns that are no figures."""

OF_DASHBOARD = {"nodes", "players", "callbacks", "events", "counters", "totals"}
"""Fields of the dashboard's state that are tables of what has its own lines, or are not shown."""

TOOK_S = 0.05
CALLS, FAILED = 20, 3


@pytest.mark.parametrize("subject", Subject)
def test_each_column_has_a_line(subject: Subject) -> None:
    columns = {"ms" if name == "took_s" else name for name in COLUMNS[subject]}
    assert columns - TEXTS <= NAMED


def test_each_column_of_top_and_each_field_of_the_dashboard_has_a_line() -> None:
    shown = {column.name for columns in TOP_COLUMNS.values() for column in columns}
    assert shown - TEXTS <= NAMED
    assert {field.name for field in fields(State)} - OF_DASHBOARD <= NAMED
    assert {name for name in bench_figures([0.1], 1.0) if name != "calls"} <= NAMED


def get(url: str, path: str) -> str:
    with urllib.request.urlopen(f"{url}{path}", timeout=PATIENCE_S) as response:
        text: str = response.read().decode()
        return text


def command(*arguments: str) -> str:
    run = subprocess.run(
        [sys.executable, "-m", "ringback_cli", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    return run.stdout


def metric(text: str, name: str, *labels: str) -> float:
    """Return the sum of the samples of a metric with all these labels."""
    found = [line for line in text.splitlines() if line.startswith(f"{name}{{")]
    return sum(float(line.split()[-1]) for line in found if all(label in line for label in labels))


async def eventually(check: Callable[[], Any], what: str) -> Any:
    """Ask again and again until there is something, and return it."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = await asyncio.to_thread(check)
        if found:
            return found
    raise AssertionError(f"this did not happen in time: {what}")


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.name)
def test_a_handler_of_50_ms_shows_50_ms_everywhere(face: Face) -> None:
    with BrokerProcess(options=("--http", "127.0.0.1:0", "--dashboard")) as broker:
        asyncio.run(_shows_50_ms(face, broker))


async def _shows_50_ms(face: Face, broker: BrokerProcess) -> None:
    url = re.findall(r"http=(\S+)", "\n".join(broker.process.lines))[0]
    own: list[float] = []

    def takes(source: Any, payload: Any) -> None:
        if payload == "fail":
            raise ValueError
        began = time.monotonic()
        time.sleep(TOOK_S)
        own.append(time.monotonic() - began)

    async with Stage(face, broker) as stage:
        server, player = await stage.pair()
        operator = await stage.operator()
        server.register_server_callback("takes", takes)
        player.register_client_callback("takes", lambda payload: payload)  # the same key on the other side
        await stage.result(operator.watch(key="takes"))
        for _ in range(CALLS):
            await stage.result(player.trigger_server_callback("takes", None))
        for _ in range(FAILED):
            await stage.failure(player.trigger_server_callback("takes", "fail"))
        await stage.result(server.trigger_client_callback("takes", 7, None))

        def rows() -> dict[str, Any]:
            found = json.loads(command("callbacks", "--json", "--backend", broker.backend))
            both = {row["side"]: row for row in found if row["key"] == "takes"}
            done = both["server"]["calls"] == CALLS + FAILED and both["player"]["calls"] == 1
            return both if done else {}

        shown = await eventually(rows, "all calls are reported")
        own.sort()
        p50_ms, p99_ms = 1000 * own[CALLS // 2 - 1], 1000 * own[-1]
        ours = shown["server"]
        # The clock of the handler is inside of ours. What is between them is far below a millisecond, but a
        # process may be stopped at any moment, so there is room for a pause.
        assert 0.98 * p50_ms <= ours["p50_ms"] <= 1.02 * p50_ms + 2.0
        assert 0.98 * p99_ms <= ours["p99_ms"] <= 1.02 * p99_ms + 20.0
        assert (ours["errors"], ours["failed"]) == (FAILED, {"HANDLER_ERROR": FAILED})
        assert shown["player"]["p99_ms"] < ours["p50_ms"]

        labels = ('callback="takes"', 'side="server"')

        def counted() -> str:
            text = get(url, "/metrics")
            return text if metric(text, "ringback_calls_total", *labels) == CALLS + FAILED else ""

        text = await eventually(counted, "the metrics are as new")
        assert metric(text, "ringback_calls_total", *labels, 'code="OK"') == CALLS
        assert metric(text, "ringback_call_latency_seconds_count", *labels) == CALLS
        mean_s = metric(text, "ringback_call_latency_seconds_sum", *labels) / CALLS
        assert sum(own) / CALLS <= mean_s <= sum(own) / CALLS + 0.01

        state = json.loads(get(url, "/api/state"))
        [page] = json.loads(get(url, "/api/callback?key=takes&side=server"))["rows"]
        assert (page["p50_ms"], page["calls"], page["errors"]) == (ours["p50_ms"], CALLS + FAILED, FAILED)
        assert state["failed"] == {"HANDLER_ERROR": FAILED}

        calls, _ = await stage.result(operator.query("calls"))
        took = sorted(call[6] for call in calls if call[2] == "server" and call[5] == "OK")
        assert len(took) == CALLS and all(mine <= seen for mine, seen in zip(own, took, strict=True))
        assert took[CALLS // 2 - 1] <= own[CALLS // 2 - 1] + 0.01


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.name)
def test_known_bytes_and_calls_are_counted(face: Face) -> None:
    """One call with 1000 bytes up, and its reply down: the bytes of frames, with their headers."""
    with BrokerProcess() as broker:

        async def call() -> dict[str, int]:
            async with Stage(face, broker) as stage:
                server, player = await stage.pair()
                operator = await stage.operator()
                server.register_server_callback("k", lambda source, payload: len(payload))
                before = dict((await stage.result(operator.query("counters")))[0])
                assert (
                    await stage.result(player.trigger_server_callback("k", b"x" * 1000, timeout=None)) == 1000
                )
                after = dict((await stage.result(operator.query("counters")))[0])
                return {name: after[name] - before[name] for name in after}

        grown = asyncio.run(call())
    assert (grown["frames_up"], grown["frames_down"]) == (1, 1)
    assert 1000 + 8 <= grown["bytes_up"] <= 1000 + 40 and 8 < grown["bytes_down"] <= 40


def reported(latencies_s: list[float], key: str = "k", side: Role = Role.SERVER) -> control.Report:
    """Return what an endpoint reports of calls that took this long."""
    fine: dict[int, int] = {}
    count_latencies(sorted(latencies_s), fine)
    wide = [0] * CLASSES
    for took_s in latencies_s:
        wide[sum(took_s > bound for bound in LATENCY_BOUNDS_S)] += 1
    numbers = sorted(fine)
    counts = LatencyCounts(key, side, tuple(numbers), tuple(fine[number] for number in numbers))
    return control.Report(
        (CallbackFigures(key, side, 0, sum(latencies_s), tuple(wide), {}),), latencies=(counts,)
    )


def callbacks(desk: Desk, operator: Any) -> dict[Any, dict[str, Any]]:
    operator.take()
    operator.say(control.Query(1, Subject.CALLBACKS))
    [answer] = operator.told()
    named = [control.named(Subject.CALLBACKS, row) for row in answer.rows]
    return {(row["key"], row["side"]): row for row in named}


def test_the_same_key_on_both_sides_has_figures_of_its_own() -> None:
    desk = Desk()
    operator, server = desk.operator(), desk.server(("k",))
    server.say(reported([0.05] * 9))
    server.say(reported([0.2], side=Role.PLAYER))
    rows = callbacks(desk, operator)
    assert rows["k", "server"]["p50_ms"] == pytest.approx(50, rel=0.02)
    assert rows["k", "player"]["p50_ms"] == pytest.approx(200, rel=0.02)
    assert (rows["k", "server"]["calls"], rows["k", "player"]["calls"]) == (9, 1)


def test_totals_stay_when_an_endpoint_leaves_and_another_one_comes() -> None:
    desk = Desk()
    operator, server = desk.operator(), desk.server(("k",))
    server.say(reported([0.05] * 9))
    server.leave()
    assert callbacks(desk, operator)["k", "server"]["calls"] == 9
    desk.server(("k",)).say(reported([0.05]))
    row = callbacks(desk, operator)["k", "server"]
    assert (row["calls"], row["in_flight"]) == (10, 0)


def test_a_callback_without_calls_has_no_latencies() -> None:
    desk = Desk()
    operator, _ = desk.operator(), desk.server(("k",))
    row = callbacks(desk, operator)["k", "server"]
    assert (row["calls"], row["rate"], row["p50_ms"], row["p99_ms"]) == (0, 0.0, None, None)


def players(desk: Desk, operator: Any) -> dict[str, Any]:
    operator.take()
    operator.say(control.Query(1, Subject.PLAYERS))
    [answer] = operator.told()
    [row] = answer.rows
    return control.named(Subject.PLAYERS, row)


def test_two_endpoints_of_one_player_in_turn_and_a_wall_clock_that_is_set_back() -> None:
    """`connected_s` is of the session that is there now. The wall clock has no part in it."""
    desk = Desk()
    operator = desk.operator()
    first = desk.player(7)
    desk.now += 100.0
    assert players(desk, operator)["connected_s"] == 100.0
    first.leave()
    desk.switchboard._operations._unix_time = lambda: 5.0
    desk.player(7)
    desk.now += 3.0
    row = players(desk, operator)
    assert (row["connected_s"], row["calls"], row["errors"]) == (3.0, 0, 0)


def test_percentiles_of_bench_are_the_nearest_rank() -> None:
    found = bench_figures([0.001 * number for number in range(100, 0, -1)], 2.0)
    assert found["calls"] == 100 and found["calls_per_s"] == 50.0
    assert [round(found[name]) for name in ("p50_us", "p99_us", "p999_us")] == [50_000, 99_000, 100_000]
    assert bench_figures([0.5], 1.0)["p50_us"] == bench_figures([0.5], 1.0)["p999_us"] == 500_000
