"""A process with a server that calls all players all the time, as long as it acts.

    python keeper.py ADDRESSES NAME [standby]

ADDRESSES are those of all nodes, with commas between.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

from cluster_demo.calls import PACE_S, TIMEOUT_S, Calls, obey

from ringback.aio import Server

PARTS = 10
"""In how many parts the players are called, so that not all calls come at once."""


async def call_all(server: Server, calls: Calls, stop: asyncio.Event) -> None:
    """Call each player, again and again."""
    tasks: set[asyncio.Task[bool]] = set()

    def call(player: Any) -> None:
        made = calls.make(
            player, lambda: server.trigger_client_callback("echo", player, 1, timeout=TIMEOUT_S)
        )
        task = asyncio.create_task(made)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    while not stop.is_set():
        for part in range(PARTS):
            if server.acting and not stop.is_set():
                for player in list(server.players)[part::PARTS]:
                    call(player)
            await asyncio.sleep(PACE_S / PARTS)


async def main(addresses: list[str], name: str, standby: bool) -> None:
    calls, stop = Calls(), asyncio.Event()
    server = Server(addresses, standby=standby, connect_timeout=60)
    server.register_server_callback("echo", lambda source, payload: payload)
    await server.start()
    print("started", flush=True)
    calling = asyncio.create_task(call_all(server, calls, stop))

    def report(since: float) -> dict[str, Any]:
        return {
            **calls.report(since),
            "name": name,
            "acting": server.acting,
            "at": server.link_address,
            "known": sorted(server.players),
        }

    await obey({"report": report, "stop": lambda: stop.set()})
    calling.cancel()
    await server.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(main(sys.argv[1].split(","), sys.argv[2], len(sys.argv) > 3))
