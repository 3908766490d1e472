"""A player with a key. It joins as player 7: the access list says so."""

import asyncio
import sys

from ringback import LinkError
from ringback.aio import Player


async def main():
    async with Player("tcp://127.0.0.1:5770", key_file="anna.key") as player:
        print("I am player", player.player_id)
        print("gold at place 9:", await player.trigger_server_callback("gold:dig", 9))


try:
    asyncio.run(main())
except LinkError as error:
    sys.exit(str(error))
