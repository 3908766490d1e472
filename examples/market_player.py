"""A player of the market: it buys what its arguments name. `market.py` declares the callbacks.

python examples/market_player.py tcp://127.0.0.1:5770 7 rope 3
"""

import sys

from market import BUY, CONFIRM, Good, Offer

from ringback import CallbackError, LinkError, Player

try:
    address, number, good, count = sys.argv[1:]
    player, offer = Player(address, int(number)), Offer(Good(good), int(count))
except ValueError as error:
    sys.exit(f"{error}\nusage: python examples/market_player.py ADDRESS ID GOOD COUNT")


@player.register(CONFIRM)
def confirm(price: int) -> bool:
    return price <= 100


try:
    with player:
        receipt = player.trigger(BUY, offer).result()
        print(f"{offer.count} {offer.good.value} cost {receipt.price}, sold at {receipt.sold_at:%H:%M}")
except (CallbackError, LinkError) as error:
    sys.exit(str(error))
