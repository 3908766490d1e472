"""A player that has the gold for one shovel, and buys four at once."""

import asyncio
import sys
from contextlib import suppress

from ringback import CallbackError, LinkError
from ringback.aio import Player

asked = []
all_asked = asyncio.Event()


async def confirm(price):
    """Agree, but only when the server has asked four times. Wait for that for two seconds."""
    asked.append(price)
    if len(asked) == 4:
        all_asked.set()
    with suppress(TimeoutError):
        await asyncio.wait_for(all_asked.wait(), 2.0)
    return True


async def buy(player):
    try:
        await player.trigger_server_callback("gold:buy")
    except CallbackError as error:
        print(error)


async def main():
    player = Player("tcp://127.0.0.1:5770", 103)
    player.register_client_callback("bot:confirm", confirm)
    async with player:
        print("found:", await player.trigger_server_callback("gold:dig", 4))
        await asyncio.gather(*(buy(player) for _ in range(4)))
        print("the purse:", await player.trigger_server_callback("gold:purse"))


try:
    asyncio.run(main())
except LinkError as error:
    sys.exit(str(error))
