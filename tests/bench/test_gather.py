"""The gather of the benchmark, with a planted server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from gather import gather

from ringback_cli.load import AsyncioEnd, Work


class PlantedServer(AsyncioEnd):
    """A server whose players reply at once."""

    replying = 3
    wrong = False

    async def connect(self) -> None:
        self.gathers = 0

    async def call(self, player: int, payload: Any) -> Any:
        raise NotImplementedError

    async def gather(self, payload: Any) -> list[Any]:
        self.gathers += 1
        results = [self.work.handle(payload) for _ in range(self.replying)]
        if self.wrong:
            results[-1] = self.work.handle(self.work.payload(payload["number"] + 1))
        return results


@pytest.fixture
def server() -> Iterator[PlantedServer]:
    end = PlantedServer("", Work(), 3)
    end.runner = asyncio.Runner()
    end.runner.run(end.connect())
    yield end
    end.runner.close()


def test_it_asks_all_players_so_many_times(server: PlantedServer) -> None:
    found = gather(server, {"times": 8, "players": 3}, 0.25)
    assert (server.gathers, found["calls"]) == (2, 6)
    assert 0 < found["median_ms"] <= found["worst_ms"]


def test_a_missing_reply_ends_it(server: PlantedServer) -> None:
    server.replying = 2
    with pytest.raises(SystemExit, match="2 players replied, not 3"):
        gather(server, {"times": 1, "players": 3}, 1.0)


def test_a_wrong_reply_ends_it(server: PlantedServer) -> None:
    server.wrong = True
    with pytest.raises(SystemExit, match="call 0 got the result"):
        gather(server, {"times": 1, "players": 3}, 1.0)
