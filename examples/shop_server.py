"""A game server with a small shop: answers its players, and asks them.

    python examples/shop_server.py tcp://127.0.0.1:5771

Each line on standard input is a question to players: `ask ID KEY` or `ask-all KEY`.
"""

import sys
from typing import Any

from ringback import CallbackError, PlayerID, Server

SHOP = {
    "food": {"apple": 3, "bread": 5},
    "tools": {"rope": 12, "lamp": 30},
}
purses: dict[PlayerID, int] = {}

server = Server(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5771")


class TooPoor(CallbackError):
    """An error of the game's own: code, message and data reach the player."""

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
    # A question back to the caller, in the midst of its call.
    if not server.trigger_client_callback("shop:confirm", source, {"price": price}).result():
        return {"bought": None, "purse": purse}
    purses[source] = purse - price
    return {"bought": payload["item"], "purse": purses[source]}


@server.on_player_joined
def joined(player_id: PlayerID) -> None:
    print(f"player {player_id} joined", flush=True)


@server.on_player_left
def left(player_id: PlayerID) -> None:
    print(f"player {player_id} left", flush=True)


def ask(player_id: PlayerID, key: str) -> None:
    try:
        print(
            f"player {player_id} answers {server.trigger_client_callback(key, player_id).result()}",
            flush=True,
        )
    except CallbackError as error:
        print(f"player {player_id}: {error} (executed: {error.executed})", flush=True)


with server:
    print("the shop is open", flush=True)
    for line in sys.stdin:
        match line.split():
            case ["ask", player_id, key]:
                ask(int(player_id), key)
            case ["ask-all", key]:
                answers = {
                    player_id: call.result() for player_id, call in server.trigger_all_client_callbacks(key)
                }
                print(f"all answer {dict(sorted(answers.items(), key=str))}", flush=True)
