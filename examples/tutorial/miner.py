"""A player that digs at one place, also if there is no server at first."""

import asyncio
import sys

from ringback import CallbackError, LinkError, NoServer
from ringback.aio import Player


async def dig(player, place):
    while True:
        try:
            return await player.trigger_server_callback("gold:dig", place)
        except NoServer as error:
            print(f"{error} (executed: {error.executed}): I wait", flush=True)
            await asyncio.sleep(1.0)
        except CallbackError as error:
            if error.executed != "maybe":
                raise
            print(f"{error}: I look into my purse", flush=True)
            purse = await player.trigger_server_callback("gold:purse", retry=True)  # until it works
            return purse["gold"]


async def main():
    async with Player("tcp://127.0.0.1:5770", 102) as player:
        print("gold at place 3:", await dig(player, 3), flush=True)


try:
    asyncio.run(main())
except LinkError as error:
    sys.exit(str(error))
