"""The rules of the shop, for both of its servers. Nothing in here knows about ringback but its errors.

Players send payloads, and players cheat. So a payload is checked before it is used, and money leaves a purse
*before* anything waits: two calls of one player run at the same time, unless their callback is serial.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ringback import CallbackError, PlayerID

SHOP = {
    "food": {"apple": 3, "bread": 5},
    "tools": {"rope": 12, "lamp": 30},
}


class TooPoor(CallbackError):
    """An error of this game. Its code, message and data reach the player."""

    default_code = "TOO_POOR"


class NotSold(CallbackError):
    """The player asks for something that the shop does not have."""

    default_code = "NOT_SOLD"


def goods_in(payload: Any) -> dict[str, int]:
    """Return the goods of the category that a payload names, with their prices.

    Raises:
        NotSold: the payload is no map, or names no category of the shop.
    """
    category = payload.get("category") if isinstance(payload, dict) else None
    # A list or dict cannot be looked up in a dict, so the type comes first.
    if not isinstance(category, str) or category not in SHOP:
        raise NotSold(f"the payload needs a `category`: one of {', '.join(SHOP)}")
    return SHOP[category]


def price_in(payload: Any) -> tuple[str, int]:
    """Return the item that a payload names, and its price. A price never comes from a payload.

    Raises:
        NotSold: the payload is no map, or names nothing that the shop sells.
    """
    goods = goods_in(payload)
    item = payload.get("item")
    if not isinstance(item, str) or item not in goods:
        raise NotSold(f"the payload needs an `item`: one of {', '.join(goods)}")
    return item, goods[item]


class Sale:
    """A sale that is not finished yet.

    Attributes:
        agreed: whether the item changes hands. The shop sets it.
        purse: what the player has left.
    """

    def __init__(self, purse: int) -> None:
        self.agreed = False
        self.purse = purse


class Purses:
    """How much money each player has. A real game keeps this in its database."""

    def __init__(self, at_first: int = 20) -> None:
        self._at_first = at_first
        self._money: dict[PlayerID, int] = {}
        self._lock = threading.Lock()  # handlers of the blocking face run in several threads

    @contextmanager
    def sale(self, player_id: PlayerID, price: int) -> Iterator[Sale]:
        """Take the price out of a purse for the block. Put it back unless the block sets `agreed`.

        The check and the payment are one step. So whatever the block waits for, no other call can spend the
        same money. It comes back too if the block raises: the player left, or ran out of time.

        Raises:
            TooPoor: there is not enough money.
        """
        sale = Sale(self._add(player_id, -price))
        try:
            yield sale
        finally:
            if not sale.agreed:
                sale.purse = self._add(player_id, price)

    def _add(self, player_id: PlayerID, amount: int) -> int:
        with self._lock:
            money = self._money.get(player_id, self._at_first)
            if money + amount < 0:
                raise TooPoor(f"it costs {-amount}, you have {money}", data={"missing": -amount - money})
            self._money[player_id] = money + amount
            return money + amount


def say(text: str) -> None:
    """Print a whole line. Escape what a terminal may obey: IDs, results and messages come from players."""
    safe = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    print(f"{safe}\n", end="", flush=True)
