"""A game server with a small shop. It handles calls of its players, and calls them.

    python examples/shop_server.py tcp://127.0.0.1:5771

Each line on standard input is a command that calls players: `ask ID KEY` or `ask-all KEY`.
It ends when standard input does, so run it in a terminal, not in the background.
`shop_server_aio.py` is the same shop on asyncio. `shop.py` has the rules of both.
"""

import sys
from contextlib import suppress
from typing import Any

from shop import Purses, goods_in, price_in, say

from ringback import CallbackError, LinkError, PlayerID, Server

purses = Purses()

try:
    server = Server(*sys.argv[1:] or ["tcp://127.0.0.1:5771"])
except (TypeError, ValueError):
    sys.exit("usage: python examples/shop_server.py [ADDRESS], as in tcp://127.0.0.1:5771")


@server.register_server_callback("shop:items")
def items(source: PlayerID, payload: Any, cb: Any) -> None:
    cb(goods_in(payload))


@server.register_server_callback("shop:buy")
def buy(source: PlayerID, payload: Any) -> dict[str, Any]:
    item, price = price_in(payload)
    with purses.sale(source, price) as sale:
        # The server calls the caller back while its call is still open. Other calls of this player run
        # meanwhile, so its money has left the purse already.
        answer = server.trigger_client_callback("shop:confirm", source, {"price": price}).result()
        sale.agreed = answer is True  # not just any value that counts as true
    return {"bought": item if sale.agreed else None, "purse": sale.purse}


@server.on_player_joined
def joined(player_id: PlayerID) -> None:
    say(f"player {player_id} joined")


@server.on_player_left
def left(player_id: PlayerID) -> None:
    say(f"player {player_id} left")


def ask(number: str, key: str) -> None:
    try:
        player_id = int(number)
        say(f"player {player_id} replied {server.trigger_client_callback(key, player_id).result()}")
    except CallbackError as error:
        say(f"player {number}: {error} (executed: {error.executed})")


def ask_all(key: str) -> None:
    replies = {
        player_id: call.error or call.result()  # result() would raise, and lose the other replies
        for player_id, call in server.trigger_all_client_callbacks(key)
    }
    say(f"all replied {dict(sorted(replies.items(), key=str))}")


def obey(line: str) -> None:
    match line.split():
        case ["ask", number, key] if number.isdecimal():
            ask(number, key)
        case ["ask-all", key]:
            ask_all(key)
        case _:
            say(f"does not understand {line!r}")


def main() -> None:
    with server:
        say("the shop is open")
        for line in sys.stdin:
            try:
                obey(line)
            except ValueError as error:  # a number that is no player ID, a key that is too long
                say(f"cannot do that: {error}")


try:
    with suppress(KeyboardInterrupt):
        main()
except LinkError as error:
    sys.exit(str(error))
