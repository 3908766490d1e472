"""Show how far a long call is: by a function, and by a loop that the player leaves early.

ringback broker
python examples/world_loading.py tcp://127.0.0.1:5771 tcp://127.0.0.1:5770
"""

from __future__ import annotations

import asyncio
import sys

from ringback import Cancelled, Execution, PlayerID
from ringback.aio import Player, Server

CHUNKS = 5


async def load(source: PlayerID, name: str, cb: Execution) -> None:
    """Load a world, and tell the player after each chunk how many there are by now."""
    for chunk in range(1, CHUNKS + 1):
        await asyncio.sleep(0.01)  # here a server reads a file
        cb.progress({"done": chunk, "of": CHUNKS})
    cb(f"{name} is ready")


def show(value: dict[str, int]) -> None:
    print(f"{value['done']} of {value['of']} chunks")


async def main(backend: str, players: str) -> None:
    async with Server(backend) as server, Player(players) as player:
        server.register_server_callback("world:load", load)
        print(await player.trigger_server_callback("world:load", "Midgard", on_progress=show))

        call = player.trigger_server_callback("world:load", "Asgard", progress=True)
        async for value in call.progress():
            show(value)
            if value["done"] == 2:
                break  # the call goes on
        call.cancel()
        try:
            await call
        except Cancelled:
            print("Asgard is not loaded")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/world_loading.py BACKEND PLAYERS")
    asyncio.run(main(*sys.argv[1:]))
