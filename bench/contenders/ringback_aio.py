"""ringback's asyncio face."""

from __future__ import annotations

from contextlib import ExitStack

from processes import start_broker as start_ringback

from contenders import Middle
from ringback_cli.load import PlayersEnd as Players
from ringback_cli.load import ServerEnd as Server

NOTE = "ringback.aio, plain, with its defaults."

__all__ = ["NOTE", "Players", "Server", "start_broker"]


def start_broker(stack: ExitStack) -> Middle:
    return Middle(*start_ringback(stack))
