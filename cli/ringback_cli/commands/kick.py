"""`ringback kick`: ends the session of a player."""

from __future__ import annotations

from typing import Annotated

import typer

from ringback_cli.completion import player_ids
from ringback_cli.connection import Keys, operator, result_of
from ringback_cli.options import (
    CONNECT_S,
    DEFAULT_BACKEND,
    BackendOption,
    BrokerKeyOption,
    KeyFileOption,
    Patience,
    ShortTimeoutOption,
    StringIDOption,
    check_timeout,
    parse_player_id,
)
from ringback_cli.output import print_json


def kick(
    player_id: Annotated[
        str,
        typer.Argument(
            metavar="PLAYER_ID", help="Who has to leave.", show_default=False, autocompletion=player_ids
        ),
    ],
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="For the player and the broker's log.")
    ] = "",
    string_id: StringIDOption = False,
    timeout: ShortTimeoutOption = None,
    backend: BackendOption = DEFAULT_BACKEND,
    key_file: KeyFileOption = None,
    broker_key: BrokerKeyOption = None,
) -> None:
    """End the session of a player. It is told why, and does not come back by itself.

    Its calls in flight end with PLAYER_LEFT. To keep somebody out, revoke its key.

    Example: ringback kick 7 --reason "cheats"
    """
    check_timeout(timeout)
    who = parse_player_id(player_id, string_id, "PLAYER_ID")
    patience = Patience(timeout, CONNECT_S)
    with operator(backend, patience, Keys(key_file, broker_key)) as endpoint:
        result_of(endpoint.kick(who, reason, timeout=patience.left_s()))
    print_json({"kicked": who})
