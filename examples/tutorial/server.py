"""The server of the game. It runs until Ctrl-C."""

import asyncio
from contextlib import suppress

from game import add_game

from ringback.aio import Server


async def main():
    server = Server("tcp://127.0.0.1:5771", key_file="server.key")
    add_game(server)
    async with server:
        print("the game has begun", flush=True)
        await server.run_forever()


with suppress(KeyboardInterrupt):
    asyncio.run(main())
