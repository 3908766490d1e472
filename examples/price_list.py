"""Make more calls than the limits have room for: first the calls wait, then the program does.

ringback broker
python examples/price_list.py tcp://127.0.0.1:5771 tcp://127.0.0.1:5770
"""

from __future__ import annotations

import asyncio
import sys

from ringback import CallbackError, Limits
from ringback.aio import Player, Server

ITEMS = [f"item {number}" for number in range(10_000)]
SMALL = Limits(max_in_flight=64)


async def ask_for_all(player: Player) -> int:
    """Make all calls at once. Those over the limit wait for room."""
    calls = [player.trigger_server_callback("shop:price", item, wait_for_room=True) for item in ITEMS]
    return sum(await asyncio.gather(*calls))


async def ask_one_by_one(player: Player) -> int:
    """Make a call whenever there is room for one. At most 64 exist at a time."""
    prices: list[int] = []
    complete = asyncio.Event()

    def add(price: int) -> None:
        prices.append(price)
        if len(prices) == len(ITEMS):
            complete.set()

    for item in ITEMS:
        await player.ready_to_call()
        player.trigger_server_callback("shop:price", item, add)
    await complete.wait()
    return sum(prices)


async def main(backend: str, players: str) -> None:
    async with Server(backend) as server, Player(players, limits=SMALL) as player:
        server.register_server_callback("shop:price", lambda source, item: len(item))
        calls = [player.trigger_server_callback("shop:price", item) for item in ITEMS]
        ends = await asyncio.gather(*calls, return_exceptions=True)
        failed = sum(isinstance(end, CallbackError) for end in ends)
        print(f"without waiting, {failed} of {len(ITEMS)} calls found no room")
        print(f"with wait_for_room, all prices together are {await ask_for_all(player)}")
        print(f"with ready_to_call, all prices together are {await ask_one_by_one(player)}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/price_list.py BACKEND PLAYERS")
    asyncio.run(main(*sys.argv[1:]))
