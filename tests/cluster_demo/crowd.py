"""A process with players that call the server all the time.

    python crowd.py ADDRESSES FIRST COUNT

ADDRESSES are those of all nodes, with commas between.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from typing import Any

from cluster_demo.calls import AGAIN_S, PACE_S, TIMEOUT_S, Calls, obey

from ringback.aio import Player


async def play(player: Player, calls: Calls, stop: asyncio.Event) -> None:
    """Call the server, again and again."""
    me = player.player_id
    await asyncio.sleep(random.uniform(0, PACE_S))
    while not stop.is_set():
        works = await calls.make(me, lambda: player.trigger_server_callback("echo", 1, timeout=TIMEOUT_S))
        await asyncio.sleep(PACE_S if works else AGAIN_S)


async def main(addresses: list[str], first: int, count: int) -> None:
    calls, stop = Calls(), asyncio.Event()
    players = [Player(addresses, number, connect_timeout=60) for number in range(first, first + count)]
    for player in players:
        player.register_client_callback("echo", lambda payload: payload)
    await asyncio.gather(*(player.start() for player in players))
    print("joined", flush=True)
    tasks = [asyncio.create_task(play(player, calls, stop)) for player in players]

    def report(since: float) -> dict[str, Any]:
        return {
            **calls.report(since),
            "where": [[player.player_id, player.link_address] for player in players],
        }

    await obey({"report": report, "stop": lambda: stop.set()})
    for task in tasks:
        task.cancel()
    await asyncio.gather(*(player.close() for player in players))


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(main(sys.argv[1].split(","), int(sys.argv[2]), int(sys.argv[3])))
