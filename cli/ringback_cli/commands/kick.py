"""`ringback kick`: end the session of a player."""

from __future__ import annotations

from typing import Annotated

import typer

from ringback_cli.completion import player_ids
from ringback_cli.connection import Connection, connects
from ringback_cli.hints import gives_hints
from ringback_cli.node_option import NodeOption
from ringback_cli.options import StringIDOption, check_node, parse_player_id
from ringback_cli.output import print_json


@connects()
def kick(
    connection: Connection,
    player_id: Annotated[
        str,
        typer.Argument(
            metavar="PLAYER_ID",
            help="The player whose session ends.",
            show_default=False,
            autocompletion=player_ids,
        ),
    ],
    reason: Annotated[
        str,
        typer.Option(
            "--reason", metavar="TEXT", help="A reason for the player and the broker's log. [default: none]"
        ),
    ] = "",
    node: NodeOption = None,
    string_id: StringIDOption = False,
) -> None:
    """End the session of a player. The player gets the reason, and does not reconnect by itself.

    Its calls in flight end with PLAYER_LEFT. To keep it out, revoke its key.

    Example: ringback kick 7 --reason "cheats"
    """
    kicked, at = parse_player_id(player_id, string_id, "PLAYER_ID"), check_node(node)
    with connection.operator() as operator, gives_hints(connection, operator, player_id=kicked):
        operator.kick(kicked, reason, node=at, timeout=connection.left_s()).result()
    print_json({"kicked": kicked})
