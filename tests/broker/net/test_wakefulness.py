"""Whether the broker stays awake for the next frame: only where that pays."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice

import pytest

from ringback_broker.net.wakefulness import ALONE, MOST_RESTS, Wakefulness

SPIN_S = 0.0005


class Awake:
    """A broker to which frames come, as its poller tells it. It counts how long it stays awake.

    Args:
        several: whether frames come from more than one side at a time.
    """

    def __init__(self, several: bool = False) -> None:
        self.of = Wakefulness()
        self.now = 1000.0
        self.awake_s = 0.0
        self.several = several

    def frames(self, gaps_s: Iterator[float], shared: float = 0.0) -> list[bool]:
        """Let frames come, each so long after the one before. Return for which of them it was awake.

        Args:
            shared: the share of its time awake that others have the core.
        """
        met = []
        for gap_s in gaps_s:
            left_s = max(0.0, self.of.awake_until - self.now)
            met.append(gap_s < left_s)
            awake_s = min(gap_s, left_s)
            self.awake_s += awake_s
            self.now += gap_s
            if awake_s:
                self.of.was_awake(awake_s, shared * awake_s, met[-1])
            self.of.came(self.now, SPIN_S, self.several)
        return met


def lone_calls(each_s: float) -> Iterator[float]:
    """Return the gaps of calls at a fixed rate: a reply comes 0.15 ms after its call."""
    return cycle([0.00015, each_s - 0.00015])


def test_it_stays_awake_while_frames_come() -> None:
    broker = Awake()
    assert broker.frames(islice(cycle([0.00009]), 1000))[2:] == [True] * 998


@pytest.mark.parametrize(("calls_per_s", "most"), [(100, 0.002), (1000, 0.01)])
def test_calls_that_come_one_by_one_burn_little(calls_per_s: int, most: float) -> None:
    broker = Awake()
    began = broker.now
    broker.frames(islice(lone_calls(1 / calls_per_s), 60 * calls_per_s))
    assert 0 < broker.awake_s / (broker.now - began) < most


def test_it_is_awake_again_soon_after_calls_that_came_one_by_one() -> None:
    broker = Awake()
    broker.frames(islice(lone_calls(0.001), 10_000))
    met = broker.frames(islice(cycle([0.00009]), 1000))
    assert met.index(True) <= MOST_RESTS + 2 and all(met[met.index(True) :])


def test_one_late_frame_changes_little() -> None:
    broker = Awake()
    met = broker.frames(islice(cycle([0.00009] * 20 + [0.002]), 2100))
    assert sum(met) > 0.8 * len(met)


def test_it_sleeps_while_others_need_the_core() -> None:
    broker = Awake(several=True)
    gaps_s = [0.00009] * 10_000
    broker.frames(iter(gaps_s), shared=0.6)
    assert 0 < broker.awake_s < 0.05 * sum(gaps_s)
    met = broker.frames(iter(gaps_s), shared=0.1)
    assert all(met[len(met) // 2 :])


def test_it_stays_awake_for_calls_one_by_one_although_others_need_the_core() -> None:
    broker = Awake()
    broker.frames(iter([0.00009] * 2 * ALONE), shared=0.6)
    assert all(broker.frames(iter([0.00009] * 1000), shared=0.6)[2 * MOST_RESTS :])


def test_it_stays_awake_while_others_need_the_core_now_and_then() -> None:
    broker = Awake(several=True)
    met = broker.frames(iter([0.00009] * 1000), shared=0.2)
    assert all(met[2:])
