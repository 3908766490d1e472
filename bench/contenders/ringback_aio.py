"""ringback's asyncio face."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from processes import start_broker as start_ringback

from contenders import Middle
from ringback_cli.load import KEY, ServerEnd, player_id
from ringback_cli.load import PlayersEnd as Players

NOTE = """ringback.aio without encryption, with its defaults, except the broker's rate limits for one player:
with 64 KiB a call, the benchmark would measure the limit on bytes."""

ANY_RATE = ("--player-bytes", "inf", "--player-frames", "inf")

__all__ = ["NOTE", "Players", "Server", "start_broker"]


class Server(ServerEnd):
    async def gather(self, payload: Any) -> list[Any]:
        # By name: the server may not have read yet that the last ones have joined.
        players = map(player_id, range(self.players))
        calls = await self.server.trigger_all_client_callbacks(KEY, payload, players=players)
        return [call.result() for call in calls.values()]


def start_broker(stack: ExitStack) -> Middle:
    return Middle(*start_ringback(stack, *ANY_RATE))
