"""The closed loop of callbacks, with planted calls."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from contenders.ringback_callbacks import Callbacks

from ringback_cli.load import Measurement, Work


class Planted(Callbacks):
    """Calls that end at once, on threads of their own: the first ones as `outcomes` says, the others well."""

    def open(self) -> None:
        self.calls = 0
        self.outcomes: list[Any] = []

    def trigger(self, player: int, payload: Any, *, callback: Any, on_error: Any) -> Any:
        self.calls += 1
        outcome = self.outcomes.pop(0) if self.outcomes else self.work.handle(payload)
        ends = on_error if isinstance(outcome, Exception) else callback
        threading.Thread(target=ends, args=(outcome,)).start()


@pytest.fixture
def end() -> Planted:
    planted = Planted("", Work(), 3)
    planted.open()
    return planted


def test_each_call_has_a_latency(end: Planted) -> None:
    latencies = end.run(Measurement(in_flight=4, seconds=0.05))
    assert len(latencies) == end.calls > 4
    assert min(latencies) > 0


def test_each_call_in_flight_is_made_once_even_if_the_time_is_over(end: Planted) -> None:
    assert len(end.run(Measurement(in_flight=4, seconds=0.0))) == end.calls == 4


def test_a_wrong_result_ends_it(end: Planted) -> None:
    end.outcomes = [end.work.handle(end.work.payload(1))]
    with pytest.raises(SystemExit, match="call 0 got the result"):
        end.run(Measurement(in_flight=1, seconds=60))


def test_a_call_that_fails_ends_it(end: Planted) -> None:
    end.outcomes = [ConnectionError("planted")]
    with pytest.raises(ConnectionError, match="planted"):
        end.run(Measurement(in_flight=1, seconds=60))
