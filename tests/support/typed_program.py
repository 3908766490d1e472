"""The program of a user with contracts, for type checkers: `test_types.py` reads it, and nothing runs it.

Each line that ends in "wrong" has a mistake, and no other line has one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict, assert_type

import ringback
import ringback.aio
from ringback import Call, ClientCallback, Execution, PlayerID, ServerCallback


@dataclass
class Request:
    item: str


class Receipt(TypedDict):
    total: int


BUY = ServerCallback("shop:buy", Request, Receipt)
CLOSE = ServerCallback("shop:close", None, None)
WHERE = ClientCallback("where", None, tuple[float, float])
SEEN = ClientCallback("seen", list[datetime] | None, int)
ROPE = Request("rope")
NOW = datetime.now()


def receipt_of(call: Call[Receipt]) -> Receipt:
    return call.result()


def takes_receipt(receipt: Receipt) -> None: ...
def takes_text(text: str) -> None: ...


def returns_text(source: PlayerID, request: Request) -> str:
    return request.item


def takes_plain(source: PlayerID, request: dict[str, str]) -> Receipt:
    return {"total": len(request)}


async def later_text(source: PlayerID, request: Request) -> str:
    return request.item


def of_player(request: Request) -> Receipt:
    return {"total": len(request.item)}


server = ringback.Server("tcp://127.0.0.1:5771")
player = ringback.Player("tcp://127.0.0.1:5770")
operator = ringback.Operator("tcp://127.0.0.1:5771")
aio_server = ringback.aio.Server("tcp://127.0.0.1:5771")
aio_player = ringback.aio.Player("tcp://127.0.0.1:5770")

# -- nothing is wrong here


@server.register(BUY, allow=[7], limit="5/s", replace=True)
def buy(source: PlayerID, request: Request) -> Receipt:
    return {"total": len(request.item)}


@aio_server.register(BUY)
async def buy_later(source: PlayerID, request: Request) -> Receipt:
    return {"total": 1}


@server.register(CLOSE)
def close(source: PlayerID, nothing: None) -> None: ...


@aio_server.register(CLOSE)
async def close_later(source: PlayerID, nothing: None, cb: Execution) -> None:
    cb()


@player.register(WHERE)
def where(nothing: None) -> tuple[float, float]:
    return 1.0, 2.0


server.register(BUY, buy)
aio_player.register(SEEN, lambda times: len(times or []))
receipt: Receipt = buy(7, Request("rope"))
total: int = player.trigger(BUY, ROPE, takes_receipt, timeout=1.0).result()["total"]
receipt_of(operator.trigger(BUY, 7, ROPE))
x, y = server.trigger(WHERE, "ann", None).result()
seen: int = sum(call.result() for call in server.trigger_all(SEEN, [NOW], players=[7]).all().values())


async def main() -> None:
    assert_type((await aio_player.trigger(BUY, ROPE))["total"], int)
    both = await asyncio.gather(aio_player.trigger(BUY, ROPE), aio_server.trigger(WHERE, 7, None))
    assert_type(both[0], Receipt)
    assert_type(aio_player.trigger(CLOSE, None, timeout=None), ringback.aio.Call[None])
    async for _, call in aio_server.trigger_all(WHERE, None):
        assert_type(call.result(), tuple[float, float])


# -- payloads and results

player.trigger(BUY, {"item": "rope"})  # wrong
player.trigger(BUY, None)  # wrong
player.trigger(BUY)  # wrong
server.trigger_all(SEEN, ["now"])  # wrong
aio_server.trigger(SEEN, 7, NOW)  # wrong
text: str = player.trigger(BUY, ROPE).result()  # wrong
number: int = server.trigger_all(WHERE, None).calls[7].result()  # wrong
receipt_of(operator.trigger(WHERE, 7, None))  # wrong

# -- contracts, arguments and options

player.trigger(WHERE, None)  # wrong
player.trigger("shop:buy", ROPE)  # wrong
server.trigger_all(BUY, ROPE)  # wrong
server.trigger(WHERE, None, None)  # wrong
player.trigger(BUY, ROPE, timout=1)  # wrong
player.trigger(BUY, ROPE, timeout="1")  # wrong
player.trigger(BUY, ROPE, takes_text)  # wrong
aio_call: ringback.aio.Call[Receipt] = player.trigger(BUY, ROPE)  # wrong
ServerCallback("shop:buy", 5, Receipt)  # wrong

# -- handlers

server.register(BUY, returns_text)  # wrong
server.register(BUY, takes_plain)  # wrong
server.register(BUY, of_player)  # wrong
server.register(BUY)(later_text)  # wrong
server.register(BUY, buy, limits="5/s")  # wrong
server.register(WHERE, where)  # wrong
player.register(BUY, of_player)  # wrong
player.register(WHERE, where, allow=[7])  # wrong
