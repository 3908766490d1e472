"""The contracts of a market, for its server and for its players. Both import this module."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from ringback import ClientCallback, ServerCallback


class Good(Enum):
    ROPE = "rope"
    LAMP = "lamp"


@dataclass
class Offer:
    good: Good
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.count <= 100:  # a rule of the game: the server's handler sees no other offer
            raise ValueError(f"count must be from 1 to 100, not {self.count}")


@dataclass
class Receipt:
    price: int
    sold_at: datetime


BUY = ServerCallback("market:buy", Offer, Receipt)
CONFIRM = ClientCallback("market:confirm", int, bool)
