"""`ringback players`: print who is connected."""

from __future__ import annotations

from ringback_cli.connection import Connection, connects
from ringback_cli.node_option import NodeOption
from ringback_cli.options import JSONOption, check_node
from ringback_cli.realm_rows import find_all
from ringback_cli.rows import print_rows

_HEADS = (
    *("player", "connected s", "callbacks", "IP", "identity", "heard s ago", "window used %"),
    *("calls", "errors", "rtt ms"),
)


@connects()
def players(connection: Connection, node: NodeOption = None, as_json: JSONOption = False) -> None:
    """Print who is connected, in order of joining. In a realm, print the players of all nodes.

    For each player: how long it has been connected, how many callbacks it has registered, its IP, its
    identity (the name of its key or token), when its last frame came, and how much of its window is used:
    bytes that were sent to it and that it has not confirmed. At 100 % nothing but control frames goes to
    it. Then its calls in both directions that have ended, how many of them failed, and its round-trip time.

    Example: ringback players --json
    """
    print_rows("players", _HEADS, find_all(connection, "players", check_node(node)), as_json)
