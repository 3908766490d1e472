"""The server of the game. It runs until Ctrl-C."""

import asyncio
import sys

from game import add_game

from ringback import LinkError
from ringback.aio import Server


async def main():
    server = Server("tcp://127.0.0.1:5771", key_file="server.key")
    add_game(server)
    async with server:
        print("the game has begun", flush=True)
        await server.run_forever()


try:
    asyncio.run(main())
except LinkError as error:  # no broker answers, or it refuses
    sys.exit(str(error))
except KeyboardInterrupt:
    pass
