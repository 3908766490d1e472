"""A crowd joins at once: all get in, and nothing of it is counted or logged as an error."""

from __future__ import annotations

import asyncio
import logging

import pytest
from support.faces import HereBroker
from support.harness import PATIENCE_S

from ringback import BrokerUnreachable
from ringback.aio import Operator, Player, Server

PLAYERS = 150


def test_a_crowd_that_joins_at_once_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """It is over the rate of its IP, and over the number of players with frequent heartbeats."""

    async def join(broker: HereBroker) -> dict[str, int]:
        async with Server(broker.backend) as server, Operator(broker.backend) as operator:
            players = [Player(broker.players, n + 1, connect_timeout=PATIENCE_S) for n in range(PLAYERS)]
            try:
                await asyncio.gather(*(player.start() for player in players))
                call = operator.query("counters")
                await call
                assert len(server.players) == PLAYERS
                return {row[0]: row[1] for row in call.results[0]}
            finally:
                await asyncio.gather(*(player.close() for player in players))

    with caplog.at_level(logging.INFO, "ringback.broker"), HereBroker(ip_handshakes=60.0, crowd=20) as broker:
        counters = asyncio.run(join(broker))
    assert counters["joins_delayed"] > PLAYERS - 20
    wrong = (
        "refused",
        "handshakes_",
        "connections_",
        "sessions_ended",
        "malformed",
        "violations",
        "stranger",
    )
    grown = {name: value for name, value in counters.items() if value and name.startswith(wrong)}
    assert grown == {} and counters["dropped"] == 0 and counters["sessions_refused"] == 0
    lines = [record for record in caplog.records if record.name == "ringback.broker"]
    assert [line.getMessage() for line in lines if line.levelno > logging.INFO] == []
    delays = [line for line in lines if "were delayed" in line.getMessage()]
    assert 1 <= len(delays) <= 2 * PATIENCE_S


def test_a_start_that_a_limit_keeps_out_says_so() -> None:
    """The broker can only close the connection, so a key pair is not the only guess."""

    async def join(broker: HereBroker) -> None:
        async with Player(broker.players, 1):
            with pytest.raises(BrokerUnreachable, match="limit the connections of this IP"):
                await Player(broker.players, 2, connect_timeout=1.0).start()

    with HereBroker(ip_connections=1) as broker:
        asyncio.run(join(broker))
