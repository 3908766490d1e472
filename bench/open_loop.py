"""An open loop: calls begin at a fixed rate, however long the earlier ones take.

A closed loop makes the next call when one has ended. So while something stalls, it makes few calls, and few
latencies show the stall. That is called coordinated omission. Here, a latency counts from the moment at which
its call was due, and each call of the schedule is made, however late.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from ringback_cli.load import AsyncioEnd, End, figures

LATE_S = 0.001
"""A call that is sent later than this after it was due is counted as late."""

PATIENCE_S = 10.0
"""How long after the last call was due the last result may come."""


class Schedule:
    """Which calls to send when, and what became of them. Times are in seconds since the start.

    Args:
        rate: the calls per second that are due, at equal distances.
        calls: the number of calls.
        most_in_flight: how many calls may be in flight. A call that is due then waits until one has ended.

    Attributes:
        late: the calls that were sent more than `LATE_S` after they were due.
        held: the calls that were late or not sent because too many were in flight.
        failed: the calls that ended with an error.
    """

    def __init__(self, rate: float, calls: int, most_in_flight: int) -> None:
        self._rate = rate
        self._ended_s: list[float | None] = [None] * calls
        self._most_in_flight = most_in_flight
        self._sent = self._reached = self._ended = 0
        self.late = self.held = self.failed = 0

    @property
    def complete(self) -> bool:
        """Whether each call has ended."""
        return self._ended == len(self._ended_s)

    def due_s(self, number: int) -> float:
        """Return when a call is due."""
        return number / self._rate

    def take(self, now_s: float) -> range:
        """Return the numbers of the calls that must be sent now."""
        first = self._sent
        room = self._most_in_flight - (first - self._ended)
        self._reached = max(self._reached, first)
        while self._reached < len(self._ended_s) and self.due_s(self._reached) <= now_s:
            self.held += self._reached >= first + room
            self._reached += 1
        self._sent = min(self._reached, first + room)
        numbers = range(first, self._sent)
        self.late += sum(now_s - self.due_s(number) > LATE_S for number in numbers)
        return numbers

    def succeed(self, number: int, now_s: float) -> None:
        """Note that a call has its result."""
        self._ended_s[number] = now_s
        self._ended += 1

    def fail(self) -> None:
        """Note that a call has ended with an error."""
        self._ended += 1
        self.failed += 1

    def latencies_s(self, until_s: float) -> list[float]:
        """Return how long each call took since it was due.

        A call without a result counts as the whole measurement, and so as the slowest of all.
        """
        return [
            until_s if ended_s is None else ended_s - self.due_s(number)
            for number, ended_s in enumerate(self._ended_s)
        ]

    def figures(self, until_s: float) -> dict[str, float]:
        """Return the figures of a measurement that has lasted until now.

        `calls_per_s` counts the calls with a result only. The percentiles are over all calls.
        """
        results = sum(ended_s is not None for ended_s in self._ended_s)
        return {
            **figures(self.latencies_s(until_s), until_s),
            "calls_per_s": results / until_s,
            "late": self.late,
            "held": self.held,
            "failed": self.failed,
            "without_result": len(self._ended_s) - results,
        }


class Timer:
    """A timer of the kernel that makes a descriptor readable again and again.

    The timers of event loops are only exact to a millisecond or two. Calls would be sent late, and several at
    once. Python has these timers since 3.13; this works with 3.11 too.
    """

    def __init__(self, interval_s: float) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor: int = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        interval = divmod(max(1, round(1e9 * interval_s)), 1_000_000_000)
        libc.timerfd_settime(self.descriptor, 0, (ctypes.c_long * 4)(*interval, *interval), None)

    def read(self) -> None:
        """Make the descriptor unreadable until the next time."""
        os.read(self.descriptor, 8)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.descriptor)


def open_loop(end: End, asked: Mapping[str, Any], share: float) -> dict[str, float]:
    """Make calls at a fixed rate, and return the figures.

    Args:
        end: the side that calls.
        asked: `rate`, the calls per second; `seconds`, the duration; `in_flight`, the most calls in flight.
        share: how much of the duration to measure.
    """
    assert isinstance(end, AsyncioEnd)
    calls = max(1, round(asked["rate"] * asked["seconds"] * share))
    schedule = Schedule(asked["rate"], calls, asked["in_flight"])
    return schedule.figures(end.runner.run(follow(end, schedule, calls)))


async def follow(end: AsyncioEnd, schedule: Schedule, calls: int) -> float:
    """Make the calls of a schedule, and return how long that took, in seconds."""
    loop, clock = asyncio.get_running_loop(), time.perf_counter
    tasks: set[asyncio.Task[None]] = set()
    complete = asyncio.Event()

    async def call(number: int) -> None:
        try:
            result = await end.call(number % end.players, end.work.payload(number))
        except Exception:  # each contender has errors of its own
            schedule.fail()
        else:
            schedule.succeed(number, clock() - began_at)
            end.work.check(number, result)
        if schedule.complete:
            complete.set()

    def send() -> None:
        timer.read()
        for number in schedule.take(clock() - began_at):
            task = loop.create_task(call(number))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    with Timer(schedule.due_s(1)) as timer:
        began_at = clock()
        loop.add_reader(timer.descriptor, send)
        try:
            async with asyncio.timeout(schedule.due_s(calls) + PATIENCE_S):
                await complete.wait()
        except TimeoutError:
            pass  # the rest stays without a result
        finally:
            loop.remove_reader(timer.descriptor)
    elapsed_s = clock() - began_at
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return elapsed_s
