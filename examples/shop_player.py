"""A player of the shop, on asyncio.

    python examples/shop_player.py tcp://127.0.0.1:5770 7

Each line on standard input is a command: `items CATEGORY`, `buy CATEGORY ITEM` or `call KEY`.
It ends when standard input does, so run it in a terminal, not in the background.
"""

import asyncio
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from shop import say

from ringback import CallbackError, LinkError
from ringback.aio import Player

try:
    address, *number = sys.argv[1:] or ["tcp://127.0.0.1:5770"]
    player = Player(address, *map(int, number))
except (TypeError, ValueError):
    sys.exit("usage: python examples/shop_player.py [ADDRESS [ID]], as in tcp://127.0.0.1:5770 7")


@player.register_client_callback("local:coords")
def coords(payload: Any) -> dict[str, float]:
    return {"x": float(player.player_id or 0), "y": 2.0}


@player.register_client_callback("shop:confirm")
async def confirm(payload: Any, cb: Any) -> None:
    say(f"confirms a price of {payload['price']}")
    cb(True)


@player.register_client_callback("duel:accept")
def accept(payload: Any, cb: Any) -> None:
    say("thinks about the duel, and never replies")


async def do(line: str) -> None:
    match line.split():
        case ["items", category]:
            key, payload = "shop:items", {"category": category}
        case ["buy", category, item]:
            key, payload = "shop:buy", {"category": category, "item": item}
        case ["call", key]:
            payload = {}
        case _:
            say(f"does not understand {line!r}")
            return
    try:
        say(f"{key} returned {await player.trigger_server_callback(key, payload)}")
    except CallbackError as error:
        say(f"{key}: {error} (executed: {error.executed})")
    except ValueError as error:  # a key that is too long
        say(f"cannot do that: {error}")


def read(give: Callable[[str | None], None]) -> None:
    # A daemon thread with a file object of its own: otherwise Ctrl-C would not end the process until a line
    # comes.
    with open(sys.stdin.fileno(), closefd=False) as file:
        for line in file:
            give(line)
    give(None)


async def main() -> None:
    async with player:
        say(f"plays as {player.player_id}")
        lines: asyncio.Queue[str | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def give(line: str | None) -> None:
            with suppress(RuntimeError):  # the loop is closed, so nobody waits for commands
                loop.call_soon_threadsafe(lines.put_nowait, line)

        threading.Thread(target=read, args=(give,), daemon=True).start()
        while line := await lines.get():
            await do(line)


try:
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
except LinkError as error:
    sys.exit(str(error))
