"""When the loop takes its next step."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest
from support.fakesockets import EmptySocket, FakeMonitor
from support.switchboards import FakeWire

from ringback_broker.daemon.loop import TICK_S, Loop
from ringback_broker.daemon.receiver import Receiver
from ringback_broker.daemon.signals import Signals
from ringback_broker.daemon.stopping import Stopping
from ringback_broker.net.router_socket import RouterSocket
from ringback_broker.peers.connection import Side
from ringback_broker.settings.schema import BrokerSettings
from ringback_broker.switchboard.switchboard import Switchboard


class Stage:
    """A loop on sockets to which nothing comes, from time 100.

    Attributes:
        duty: what a tick does.
    """

    def __init__(self) -> None:
        self.monitors = {side: FakeMonitor() for side in Side}
        self.routers = {
            side: RouterSocket(side, EmptySocket(), monitor, "nowhere")
            for side, monitor in self.monitors.items()
        }
        self.switchboard = Switchboard(BrokerSettings(), FakeWire())
        self.stopping = Stopping(self.switchboard.drain)
        self.duty: Callable[[float], None] = lambda now: None
        receivers = [Receiver(router, self.switchboard, has_keys=False) for router in self.routers.values()]
        self.loop = Loop(self.switchboard, receivers, self.stopping, {}, [lambda now: self.duty(now)])
        self.loop.begin(100.0)


def test_a_loop_with_nothing_to_do_waits_for_the_next_tick() -> None:
    stage = Stage()
    assert stage.loop.step(set(), 100.0) == 100.0 + TICK_S
    assert stage.loop.step(set(), 101.0) == 101.0 + TICK_S


@pytest.mark.parametrize("side", Side)
def test_events_that_a_tick_has_read_are_taken_at_once(side: Side) -> None:
    """Closing a connection reads the monitor, and then no socket is ready any more."""
    stage = Stage()
    events = stage.routers[side].events
    stage.monitors[side].closed(77)
    stage.duty = events.note
    assert stage.loop.step(set(), 101.0) == 101.0
    assert stage.loop.step(set(), 101.1) == 101.0 + TICK_S
    assert events.noted_at is None


def test_the_loop_ends_when_everybody_has_left() -> None:
    stage = Stage()
    stage.stopping.drain(5.0, 100.0)
    assert stage.loop.step(set(), 100.0) is None


def test_asking_twice_to_stop_ends_the_loop_at_once() -> None:
    stopping = Stopping(lambda grace_s: None)
    stopping.ask(0, 5.0, 100.0)
    assert stopping.deadline is None
    stopping.ask(1, 5.0, 100.0)
    assert (stopping.deadline, stopping.forced) == (105.0, False)
    stopping.drain(50.0, 101.0)
    assert stopping.deadline == 105.0
    stopping.ask(1, 5.0, 102.0)
    assert (stopping.deadline, stopping.forced) == (102.0, True)


# -- exceptions that nothing handles


def planted(*_: object) -> Any:
    raise RuntimeError("planted")


def test_a_duty_that_fails_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    done: list[float] = []
    stage.loop._duties = (planted, done.append)
    for now in (101.0, 102.0, 103.0):
        assert stage.loop.step(set(), now) == now + TICK_S
    assert done == [101.0, 102.0, 103.0]
    assert stage.switchboard.counters.faults == 3
    [record] = caplog.records
    assert "a duty of a tick failed, and the broker goes on" in record.message and record.exc_info


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        ("switchboard", "tick"),
        ("switchboard", "send_bundles"),
        ("switchboard", "flush"),
        ("receiver", "take"),
        ("receiver", "take_events"),
    ],
)
def test_a_part_of_a_step_that_fails(monkeypatch: pytest.MonkeyPatch, owner: str, name: str) -> None:
    stage = Stage()
    done: list[float] = []
    stage.duty = done.append
    part: Any = stage.switchboard if owner == "switchboard" else stage.loop._receivers[0]
    monkeypatch.setattr(part, name, planted)
    stage.monitors[Side.PLAYERS].closed(77)
    first = stage.loop._receivers[0].router
    stage.loop.step({first.socket, first.monitor}, 101.0)
    assert done == [101.0] and stage.switchboard.counters.faults >= 1
    monkeypatch.undo()
    faults = stage.switchboard.counters.faults
    assert stage.loop.step(set(), 102.0) == 102.0 + TICK_S
    assert (
        stage.switchboard.counters.faults == faults
        and stage.loop._receivers[0].router.events.noted_at is None
    )


def test_a_reload_that_fails_holds_up_no_request_to_stop() -> None:
    asked: list[int] = []
    signals = Signals(lambda times, now: asked.append(times), planted)
    try:
        signals._wake.send(bytes((signal.SIGHUP, signal.SIGTERM)))
        with pytest.raises(RuntimeError, match="planted"):
            signals.take(0.0)
    finally:
        signals.close()
    assert asked == [1]


class FakeCarrier:
    """Says what the loop does with it, and with the bundles."""

    def __init__(self, stage: Stage) -> None:
        self.due = float("inf")
        self.done: list[str] = []
        stage.switchboard.send_bundles = lambda now: self.done.append("bundles")  # type: ignore[method-assign]
        self.loop = Loop(stage.switchboard, [], stage.stopping, {}, carrier=self)
        self.loop.begin(100.0)

    def fileno(self) -> int:
        return 7

    def take(self, now: float) -> None:
        self.done.append("take")

    def flush(self) -> None:
        self.done.append("flush")

    def step(self, ready: set[int], now: float) -> tuple[list[str], float | None]:
        self.done.clear()
        return self.done, self.loop.step(ready, now)


def test_what_other_nodes_send_and_get_passes_in_one_step() -> None:
    """What comes may go into a bundle, and a bundle may go to a node. The poller looks at it while it is
    awake."""
    carrier = FakeCarrier(Stage())
    assert carrier.step(set(), 100.1)[0] == ["bundles", "flush"]
    assert carrier.step({7}, 100.2)[0] == ["take", "bundles", "flush"]
    assert 7 in carrier.loop.poller(0.0)._carriers


def test_a_carrier_is_asked_when_it_is_due() -> None:
    carrier = FakeCarrier(Stage())
    carrier.due = 100.15
    assert carrier.step(set(), 100.1) == (["bundles", "flush"], 100.15)
    assert carrier.step(set(), 100.15)[0] == ["take", "bundles", "flush"]
    carrier.due = 200.0
    assert carrier.step(set(), 100.2)[1] == 100.0 + TICK_S


@pytest.mark.parametrize("fails", ["take", "flush"])
def test_an_exception_of_what_comes_from_other_nodes_stops_nothing(fails: str) -> None:
    stage = Stage()
    carrier = FakeCarrier(stage)

    def fail(*_: float) -> None:
        raise RuntimeError

    setattr(carrier, fails, fail)
    assert carrier.step({7}, 100.1)[1] == 100.0 + TICK_S
    assert stage.switchboard.counters.faults == 1
    assert "bundles" in carrier.done
