"""`ringback completion`, and what a shell completes at Tab: values that a running broker knows, too.

What goes wrong is not told: it would stand in the middle of a command line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Any

import typer

from ringback_cli.connection import Keys, operator
from ringback_cli.exits import Failure
from ringback_cli.options import Patience, parse_player_id
from ringback_cli.rows import each_row

VARIABLE = "_RINGBACK_COMPLETE"
"""It is set when a shell asks."""

MOST = 100
WITHIN_S = 0.5
"""So many values, and so long for a broker to tell them."""

_HARMLESS = re.compile(r"[\w.:/@%+,][\w.:/@%+,=-]*")
"""What no shell takes for more than text. Players choose their IDs: none may get a command into a prompt."""


def answer_shells() -> None:
    """Has typer answer if it is a shell that asks. Nothing is imported for it else."""
    if VARIABLE in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()


def one_of(*values: str) -> Callable[[], list[str]]:
    """Gives what completes one of a few words."""
    return lambda: list(values)


def server_keys(context: typer.Context, incomplete: str) -> list[str]:
    """Completes the keys that the server has registered."""
    return _told(context, incomplete, "callbacks", lambda row: _registered(row, "server"))


def client_keys(context: typer.Context, incomplete: str) -> list[str]:
    """Completes the keys that players have registered."""
    return _told(context, incomplete, "callbacks", lambda row: _registered(row, "player"))


def player_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Completes the IDs of connected players: those that a text stands for, with or without --string-id."""
    string_id = bool(context.params.get("string_id"))

    def text_of(row: list[Any]) -> str | None:
        with suppress(Failure):
            meant = parse_player_id(str(row[0]), string_id, "")
            return str(row[0]) if type(meant) is type(row[0]) else None
        return None

    return _told(context, incomplete, "players", text_of)


def explained(context: typer.Context, incomplete: str) -> list[str]:
    """Completes what `ringback explain` is asked for: a player's ID or a key."""
    if context.params.get("kind") == "player":
        return player_ids(context, incomplete)
    return any_keys(context, incomplete)


def any_keys(context: typer.Context, incomplete: str) -> list[str]:
    """Completes the keys that anybody has registered, or that were called."""
    return _told(context, incomplete, "callbacks", lambda row: row[0])


def _registered(row: list[Any], side: str) -> str | None:
    return row[0] if row[1] == side and row[2] else None


def _told(
    context: typer.Context, incomplete: str, subject: str, text_of: Callable[[list[Any]], str | None]
) -> list[str]:
    """Gives texts that begin so, of the rows that the broker has."""
    import ringback

    _ = ringback.Operator  # it takes time to load, which is not the broker's
    patience = Patience(WITHIN_S, WITHIN_S)
    keys = Keys(context.params.get("key_file"), context.params.get("broker_key"))
    found: list[str] = []
    with suppress(Exception), operator(context.params["backend"], patience, keys) as endpoint:
        texts = (text_of(row) or "" for row in each_row(endpoint, subject, patience))
        fitting = (text for text in texts if text.startswith(incomplete) and _HARMLESS.fullmatch(text))
        found.extend(islice(fitting, MOST))
    return list(dict.fromkeys(found))
