"""ringback's asyncio face."""

from __future__ import annotations

from contextlib import ExitStack

from processes import start_broker as start_ringback

from contenders import Middle
from ringback_cli.load import PlayersEnd as Players
from ringback_cli.load import ServerEnd as Server

NOTE = """ringback.aio without encryption, with its defaults, except the broker's rate limits for one player:
with 64 KiB a call, the benchmark would measure the limit on bytes."""

ANY_RATE = ("--player-bytes", "inf", "--player-frames", "inf")

__all__ = ["NOTE", "Players", "Server", "start_broker"]


def start_broker(stack: ExitStack) -> Middle:
    return Middle(*start_ringback(stack, *ANY_RATE))
