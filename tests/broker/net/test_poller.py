"""What the poller takes for time that other threads had, with planted clocks and sockets."""

from __future__ import annotations

from typing import Any

import pytest

from ringback_broker.net import poller as module
from ringback_broker.net.poller import Poller

SPIN_S = 0.0005


class Machine:
    """A clock, and two sockets to which frames come, at times to both. Each look at them takes some time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.comes_at = 1000.0
        self.look_s = 0.000005
        self.away_s = 0.0
        self.met = self.frames = 0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(module.zmq, "zmq_poll", self.poll)
        monkeypatch.setattr(module.os, "sched_yield", self.be_away)

    def poll(self, sockets: Any, timeout_ms: int) -> list[tuple[Any, int]]:
        self.now += self.look_s
        if timeout_ms:
            self.now = max(self.now, min(self.comes_at, self.now + timeout_ms / 1000))
        if self.now < self.comes_at:
            return []
        self.met += not timeout_ms
        self.frames += 1
        return [(socket, module.POLLIN) for socket, _ in sockets[: 1 + (self.frames % 10 == 0)]]

    def be_away(self) -> None:
        self.now += self.away_s

    def awake(self, poller: Poller, frames: int) -> int:
        """Let frames come, each 0.2 ms after the one before. Return how many met a poller that was awake."""
        self.met = 0
        for _ in range(frames):
            self.comes_at = self.now + 0.0002
            assert "players" in poller.wait(self.now + 1.0)
        return self.met


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.mark.parametrize("look_s", [0.000005, 0.000030])
def test_a_core_of_its_own(machine: Machine, look_s: float) -> None:
    """Where each look takes long, that is not the time of others."""
    machine.look_s = look_s
    poller = Poller(("players", "backend"), (), SPIN_S)
    machine.awake(poller, 10)
    assert machine.awake(poller, 200) > 190


def test_a_core_that_others_need(machine: Machine) -> None:
    poller = Poller(("players", "backend"), (), SPIN_S)
    machine.awake(poller, 10)
    machine.away_s = 0.00003
    machine.awake(poller, 400)
    assert machine.awake(poller, 200) < 30
