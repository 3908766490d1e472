"""A market whose callbacks have types, on asyncio. `market.py` declares them.

    python examples/market_server.py tcp://127.0.0.1:5771

It needs the extra `typed`: pip install '.[typed]'
"""

import asyncio
import sys
from contextlib import suppress
from datetime import UTC, datetime

from market import BUY, CONFIRM, Good, Offer, Receipt

from ringback import CallbackError, LinkError, PlayerID
from ringback.aio import Server

PRICES = {Good.ROPE: 12, Good.LAMP: 30}

server = Server(*sys.argv[1:] or ["tcp://127.0.0.1:5771"])


@server.register(BUY, limit="5/s")
async def buy(source: PlayerID, offer: Offer) -> Receipt:
    price = PRICES[offer.good] * offer.count
    if not await server.trigger(CONFIRM, source, price):
        raise CallbackError("the player does not agree", code="NOT_AGREED")
    return Receipt(price, datetime.now(UTC))


async def main() -> None:
    async with server:
        print("the market is open", flush=True)
        await server.run_forever()


try:
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
except LinkError as error:
    sys.exit(str(error))
