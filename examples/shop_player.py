"""A player of the shop, on asyncio.

    python examples/shop_player.py tcp://127.0.0.1:5770 7

Each line on standard input is something to do: `items CATEGORY`, `buy CATEGORY ITEM`, `call KEY`.
"""

import asyncio
import sys
from typing import Any

from ringback import CallbackError
from ringback.aio import Player

address = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5770"
player = Player(address, int(sys.argv[2]) if len(sys.argv) > 2 else None)


@player.register_client_callback("local:coords")
def coords(payload: Any) -> dict[str, float]:
    return {"x": float(player.player_id or 0), "y": 2.0}


@player.register_client_callback("shop:confirm")
async def confirm(payload: Any, cb: Any) -> None:
    print(f"is asked whether {payload['price']} is fine, and says yes", flush=True)
    cb(True)


@player.register_client_callback("duel:accept")
def accept(payload: Any, cb: Any) -> None:
    print("thinks about the duel, and never answers", flush=True)


async def do(line: str) -> None:
    match line.split():
        case ["items", category]:
            key, payload = "shop:items", {"category": category}
        case ["buy", category, item]:
            key, payload = "shop:buy", {"category": category, "item": item}
        case ["call", key]:
            payload = {}
        case _:
            print(f"does not understand {line!r}", flush=True)
            return
    try:
        print(f"{key} gives {await player.trigger_server_callback(key, payload)}", flush=True)
    except CallbackError as error:
        print(f"{key}: {error} (executed: {error.executed})", flush=True)


async def main() -> None:
    async with player:
        print(f"plays as {player.player_id}", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            await do(line)


asyncio.run(main())
