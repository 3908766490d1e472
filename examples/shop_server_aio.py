"""The shop of `shop_server.py` on asyncio. It runs until Ctrl-C.

python examples/shop_server_aio.py tcp://127.0.0.1:5771
"""

import asyncio
import sys
from contextlib import suppress
from typing import Any

from shop import Purses, goods_in, price_in, say

from ringback import LinkError, PlayerID
from ringback.aio import Server

purses = Purses()

try:
    server = Server(*sys.argv[1:] or ["tcp://127.0.0.1:5771"])
except (TypeError, ValueError):
    sys.exit("usage: python examples/shop_server_aio.py [ADDRESS], as in tcp://127.0.0.1:5771")


@server.register_server_callback("shop:items")
def items(source: PlayerID, payload: Any) -> dict[str, int]:
    return goods_in(payload)


@server.register_server_callback("shop:buy")
async def buy(source: PlayerID, payload: Any) -> dict[str, Any]:
    item, price = price_in(payload)
    with purses.sale(source, price) as sale:
        # Other calls of this player run while this one waits, so its money has left the purse already. If
        # the player no longer waits, this handler is cancelled here, and the money comes back.
        answer = await server.trigger_client_callback("shop:confirm", source, {"price": price})
        sale.agreed = answer is True  # not just any value that counts as true
    return {"bought": item if sale.agreed else None, "purse": sale.purse}


async def main() -> None:
    async with server:
        say("the shop is open")
        await asyncio.Event().wait()


try:
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
except LinkError as error:
    sys.exit(str(error))
