"""A broker that fails at the message of one peer goes on with those of all others."""

from __future__ import annotations

from typing import Any

import pytest
from support.faces import HereBroker

import ringback
from ringback.protocol.player_ids import encode_player_id
from ringback_broker.switchboard.routing import Routing


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Make the broker fail at each frame of player 8."""
    failures: list[Any] = []
    real = Routing.from_player

    def fails(self: Any, session: Any, frame: Any, now: float) -> None:
        if session.encoded_id == encode_player_id(8):
            failures.append(session)
            raise RuntimeError("planted")
        real(self, session, frame, now)

    monkeypatch.setattr(Routing, "from_player", fails)
    return failures


def test_the_frames_of_others_are_routed(broken: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    with (
        HereBroker() as here,
        ringback.Server(here.backend) as server,
        ringback.Player(here.players, 7) as player,
        ringback.Player(here.players, 8) as odd,
    ):
        server.register_server_callback("echo", lambda source, payload: payload)
        lost = [odd.trigger_server_callback("echo", number, timeout=0.5) for number in range(20)]
        for number in range(20):
            assert player.trigger_server_callback("echo", number, timeout=20.0).result() == number
        assert all(call.error is not None for call in lost)
        counters = here.broker.switchboard.counters
        assert broken and counters.faults == len(broken)
    lines = [record for record in caplog.records if "handling a message failed" in record.message]
    assert len(lines) == 1 and lines[0].exc_info
