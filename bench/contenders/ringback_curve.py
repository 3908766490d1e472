"""ringback's asyncio face with key pairs: all links are encrypted."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from processes import make_keys
from processes import start_broker as start_ringback

from contenders import Middle
from contenders.ringback_aio import ANY_RATE
from ringback_cli.load import PlayersEnd as Players
from ringback_cli.load import ServerEnd as Server
from ringback_cli.load import player_id

NOTE = """ringback.aio with CURVE on both sides of the broker, and an access list. All players have the same
key pair, which may join with each of their IDs."""
MOST_PLAYERS = 100

__all__ = ["NOTE", "Players", "Server", "start_broker"]


def start_broker(stack: ExitStack) -> Middle:
    folder = stack.enter_context(TemporaryDirectory())
    options = make_keys(Path(folder), *map(player_id, range(MOST_PLAYERS)))
    keys = {"server": "server.key", "players": "player.key"}
    settings = {role: {"key_file": f"{folder}/{name}"} for role, name in keys.items()}
    return Middle(*start_ringback(stack, *ANY_RATE, *options), settings)
