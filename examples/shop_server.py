"""A game server with a small shop. It handles calls of its players, and calls them.

    python examples/shop_server.py tcp://127.0.0.1:5771

Each line on standard input is a command that calls players: `ask ID KEY` or `ask-all KEY`.
"""

import sys
from contextlib import suppress
from typing import Any

from ringback import CallbackError, LinkError, PlayerID, Server

SHOP = {
    "food": {"apple": 3, "bread": 5},
    "tools": {"rope": 12, "lamp": 30},
}
purses: dict[PlayerID, int] = {}

try:
    server = Server(*sys.argv[1:] or ["tcp://127.0.0.1:5771"])
except (TypeError, ValueError):
    sys.exit("usage: python examples/shop_server.py [ADDRESS], as in tcp://127.0.0.1:5771")


def say(text: str) -> None:
    """Print a whole line. Handlers and listeners run in threads of their own."""
    print(f"{text}\n", end="", flush=True)


class TooPoor(CallbackError):
    """An error of this game. Its code, message and data reach the player."""

    default_code = "TOO_POOR"


@server.register_server_callback("shop:items")
def items(source: PlayerID, payload: Any, cb: Any) -> None:
    cb(SHOP[payload["category"]])


@server.register_server_callback("shop:buy")
def buy(source: PlayerID, payload: Any) -> dict[str, Any]:
    price = SHOP[payload["category"]][payload["item"]]
    purse = purses.setdefault(source, 20)
    if price > purse:
        raise TooPoor(f"it costs {price}, you have {purse}", data={"missing": price - purse})
    # The server calls the caller back while its call is still open.
    if not server.trigger_client_callback("shop:confirm", source, {"price": price}).result():
        return {"bought": None, "purse": purse}
    purses[source] = purse - price
    return {"bought": payload["item"], "purse": purses[source]}


@server.on_player_joined
def joined(player_id: PlayerID) -> None:
    say(f"player {player_id} joined")


@server.on_player_left
def left(player_id: PlayerID) -> None:
    say(f"player {player_id} left")


def ask(player_id: PlayerID, key: str) -> None:
    try:
        say(f"player {player_id} replied {server.trigger_client_callback(key, player_id).result()}")
    except CallbackError as error:
        say(f"player {player_id}: {error} (executed: {error.executed})")


def ask_all(key: str) -> None:
    replies = {
        player_id: call.error or call.result()  # result() would raise, and lose the other replies
        for player_id, call in server.trigger_all_client_callbacks(key)
    }
    say(f"all replied {dict(sorted(replies.items(), key=str))}")


def main() -> None:
    with server:
        say("the shop is open")
        for line in sys.stdin:
            match line.split():
                case ["ask", number, key] if number.isdecimal():
                    ask(int(number), key)
                case ["ask-all", key]:
                    ask_all(key)
                case _:
                    say(f"does not understand {line!r}")


try:
    with suppress(KeyboardInterrupt):
        main()
except LinkError as error:
    sys.exit(str(error))
