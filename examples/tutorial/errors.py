"""Three calls that fail, and what `executed` says of each."""

import asyncio
import sys

from ringback import CallbackError, LinkError
from ringback.aio import Player


async def confirm(price):
    await asyncio.sleep(9.0)  # this player thinks for too long
    return True


async def main():
    player = Player("tcp://127.0.0.1:5770", 101)
    player.register_client_callback("bot:confirm", confirm)
    async with player:
        for key in ("gold:bye", "gold:buy"):
            await fail(player, key)
        await player.trigger_server_callback("gold:dig", 4)
        await fail(player, "gold:buy")
        print("the purse:", await player.trigger_server_callback("gold:purse"))


async def fail(player, key):
    try:
        await player.trigger_server_callback(key, timeout=3.0)
    except CallbackError as error:
        print(f"{key}: {error.code_name} (executed: {error.executed})")


try:
    asyncio.run(main())
except LinkError as error:
    sys.exit(str(error))
