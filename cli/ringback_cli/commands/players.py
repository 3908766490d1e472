"""`ringback players`: print who is connected."""

from __future__ import annotations

from ringback_cli.choosing import Choice, chooses_rows, find_chosen, print_rows
from ringback_cli.connection import Connection, connects
from ringback_cli.node_option import NodeOption
from ringback_cli.options import JSONOption, check_node
from ringback_cli.tables import Column, Kind, always, red_unless_zero

COLUMNS = (
    Column("player", "player", Kind.NAME, colour=always("cyan")),
    Column("connected_s", "connected s", gives_way=4),
    Column("callbacks", "callbacks", gives_way=7),
    Column("ip", "IP", Kind.NAME, gives_way=5),
    Column("identity", "identity", Kind.NAME, gives_way=6),
    Column("heard_s", "heard s ago", gives_way=8),
    Column("window_percent", "window used %", gives_way=3),
    Column("calls", "calls", gives_way=2),
    Column("errors", "errors", gives_way=1, colour=red_unless_zero),
    Column("rtt_ms", "rtt ms", gives_way=3),
    Column("in_flight", "in flight", gives_way=2),
)


@connects()
@chooses_rows("players", COLUMNS)
def players(
    choice: Choice, connection: Connection, node: NodeOption = None, as_json: JSONOption = False
) -> None:
    """Print who is connected, in order of joining. In a realm, print the players of all nodes.

    For each player: how long it has been connected, how many callbacks it has registered, its IP, its
    identity (the name of its key or token), when its last frame came, and how much of its window is used:
    bytes that were sent to it and that it has not confirmed. At 100 % nothing but control frames goes to
    it. Then its calls in both directions that have ended, how many of them failed, its round-trip time, and
    its calls in both directions that are in flight.

    Example: ringback players --sort errors --limit 10
    """
    print_rows(
        "players", COLUMNS, find_chosen(connection, "players", check_node(node), choice), choice, as_json
    )
