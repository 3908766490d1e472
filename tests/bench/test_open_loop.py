"""The open loop: its schedule on a planted clock, and calls on a real event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from open_loop import LATE_S, Schedule, Timer, follow, open_loop

from ringback_cli.load import AsyncioEnd, Work

RATE = 1000
"""A call a millisecond."""


def simulate(schedule: Schedule, until_ms: int, stalls: Mapping[int, int], at_caller: bool) -> list[int]:
    """Follow a schedule in steps of a millisecond, and return the latencies in milliseconds.

    Each call has its result at once, unless there is a stall.

    Args:
        stalls: when each stall begins and ends, in milliseconds.
        at_caller: whether the caller stalls, so that it sends nothing. Otherwise nobody replies.
    """
    sent: list[int] = []
    for now_ms in range(until_ms):
        stalled = any(start <= now_ms < end for start, end in stalls.items())
        if not (stalled and at_caller):
            sent += schedule.take(now_ms / 1000)
        if not stalled:
            for number in sent:
                schedule.succeed(number, now_ms / 1000)
            sent.clear()
    return [round(1000 * latency_s) for latency_s in schedule.latencies_s(until_ms / 1000)]


@pytest.mark.parametrize("at_caller", [True, False])
def test_each_call_that_is_due_in_a_stall_shows_it(at_caller: bool) -> None:
    schedule = Schedule(RATE, 1000, 1000)
    latencies_ms = simulate(schedule, 1000, {500: 600}, at_caller)
    assert latencies_ms == [0] * 500 + list(range(100, 0, -1)) + [0] * 400
    assert schedule.complete
    assert schedule.late in ((99, 100) if at_caller else (0,))  # the last one is just at the bound
    assert schedule.held == schedule.failed == 0


def test_percentiles_are_of_all_calls() -> None:
    schedule = Schedule(RATE, 1000, 1000)
    simulate(schedule, 1000, {500: 600}, at_caller=True)
    found = schedule.figures(1.0)
    assert [round(found[name]) for name in ("p50_us", "p99_us", "p999_us")] == [0, 90_000, 99_000]
    assert (found["calls"], found["calls_per_s"], found["without_result"]) == (1000, 1000.0, 0)


def test_a_call_over_the_bound_waits_and_its_latency_counts_from_when_it_was_due() -> None:
    schedule = Schedule(RATE, 200, 10)
    latencies_ms = simulate(schedule, 300, {0: 100}, at_caller=False)
    # Ten are in flight until 100 ms. From then on, ten calls a millisecond are sent.
    assert latencies_ms[:12] == [*range(100, 90, -1), 91, 90]
    assert schedule.complete and latencies_ms[-1] == 0
    assert schedule.held == 101  # until 110 ms, more are due than may be sent
    assert schedule.late in (100, 101)


def test_no_more_calls_are_in_flight_than_allowed() -> None:
    schedule = Schedule(RATE, 100, 10)
    assert schedule.take(0.050) == range(10)
    assert schedule.take(0.060) == range(10, 10)
    schedule.succeed(3, 0.060)
    schedule.fail()
    assert schedule.take(0.060) == range(10, 12)
    assert (schedule.held, schedule.failed) == (51, 1)


def test_a_call_without_a_result_counts_as_the_slowest() -> None:
    schedule = Schedule(RATE, 4, 4)
    assert schedule.take(0.002) == range(3)
    schedule.succeed(0, 0.001)
    schedule.fail()
    assert schedule.latencies_s(0.5) == [0.001, 0.5, 0.5, 0.5]
    found = schedule.figures(0.5)
    assert (found["calls_per_s"], found["without_result"], found["failed"]) == (2.0, 3, 1)
    assert not schedule.complete


@pytest.mark.parametrize("rate", [3, 7, 999, 1000, 3333, 10_000])
def test_each_call_is_sent_once_when_it_is_due(rate: int) -> None:
    schedule = Schedule(rate, rate, rate)
    for number in range(rate):
        assert schedule.take(schedule.due_s(number)) == range(number, number + 1)
    assert schedule.late == 0
    assert schedule.take(10.0) == range(rate, rate)


def test_a_call_is_late_if_it_is_sent_long_after_it_was_due() -> None:
    schedule = Schedule(RATE, 3, 3)
    schedule.take(LATE_S)
    assert schedule.late == 0
    schedule.take(0.002 + 2 * LATE_S)
    assert schedule.late == 1


class Echo(AsyncioEnd):
    """A side that needs no other one. Some calls fail, or never end."""

    failing: range = range(0)
    silent: range = range(0)

    async def connect(self) -> None:
        self.most = self.pending = 0

    async def call(self, player: int, payload: Any) -> Any:
        self.pending += 1
        self.most = max(self.most, self.pending)
        try:
            if payload["number"] in self.silent:
                await asyncio.Event().wait()
            await asyncio.sleep(0)
            if payload["number"] in self.failing:
                raise ConnectionError
            return self.work.handle(payload)
        finally:
            self.pending -= 1


@pytest.fixture
def echo() -> Any:
    end = Echo("", Work(), 3)
    end.runner = asyncio.Runner()
    end.runner.run(end.connect())
    yield end
    end.runner.close()


def test_calls_are_made_at_the_rate(echo: Echo) -> None:
    found = open_loop(echo, {"rate": 500, "seconds": 0.4, "in_flight": 50}, 0.5)
    assert (found["calls"], found["failed"], found["without_result"]) == (100, 0, 0)
    assert found["calls_per_s"] <= 500 * 100 / 99


def test_a_call_that_fails_is_counted(echo: Echo) -> None:
    echo.failing = range(10, 20)
    found = open_loop(echo, {"rate": 1000, "seconds": 0.1, "in_flight": 50}, 1.0)
    assert (found["calls"], found["failed"], found["without_result"]) == (100, 10, 10)
    assert found["p99_us"] >= 99_000


def test_calls_that_never_end_are_given_up(echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("open_loop.PATIENCE_S", 0.05)
    echo.silent = range(5, 100)
    schedule = Schedule(1000, 50, 20)
    elapsed_s = echo.runner.run(follow(echo, schedule, 50))
    found = schedule.figures(elapsed_s)
    assert (found["without_result"], found["failed"], echo.most, echo.pending) == (45, 0, 20, 0)
    assert found["p50_us"] == 1e6 * elapsed_s >= 100_000


def test_the_timer_makes_its_descriptor_readable() -> None:
    async def wait() -> None:
        ready = asyncio.Event()

        def read() -> None:
            timer.read()
            ready.set()

        with Timer(0.001) as timer:
            asyncio.get_running_loop().add_reader(timer.descriptor, read)
            for _ in range(3):
                await asyncio.wait_for(ready.wait(), 10)
                ready.clear()
            asyncio.get_running_loop().remove_reader(timer.descriptor)

    asyncio.run(wait())
