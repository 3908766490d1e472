"""Completion at Tab: values that a shell completes, among them keys and player IDs of a running broker.

Errors are not printed: they would appear in the middle of a command line.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from typing import Any

import typer

from ringback_cli.connection import Connection, TimeLimit
from ringback_cli.exits import Failure
from ringback_cli.options import parse_player_id
from ringback_cli.realm_rows import each_row_of_realm
from ringback_cli.rows import each_row, named_rows
from ringback_cli.schemas import example, schemas_of

VARIABLE = "_RINGBACK_COMPLETE"
"""The environment variable that a shell sets when it asks for completions."""

MAX_VALUES = 100
MAX_PAYLOAD_CHARS = 500
WITHIN_S = 0.5
"""How long the broker may take to answer, in seconds."""

_HARMLESS = re.compile(r"[\w.:/@%+,][\w.:/@%+,=-]*")
"""Names that mean nothing special to a shell. Players choose their IDs, and must not get a command into a
prompt."""


def completes() -> bool:
    """Return whether a shell asks for completions."""
    return VARIABLE in os.environ


def answer_shells() -> None:
    """Let typer answer if a shell asks for completions. Import typer's module only then."""
    if completes():
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()


def server_keys(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the keys that the server has registered."""
    return _complete(context, incomplete, "callbacks", lambda row: _registered(row, "server"))


def client_keys(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the keys that players have registered."""
    return _complete(context, incomplete, "callbacks", lambda row: _registered(row, "player"))


def registered_keys(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the keys that the server or players have registered."""
    return _complete(context, incomplete, "callbacks", lambda row: row[0] if row[2] else None)


def any_keys(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the keys that anybody has registered or called."""
    return _complete(context, incomplete, "callbacks", lambda row: row[0])


def player_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the IDs of connected players that can be written as text, with or without `--string-id`."""
    string_id = bool(context.params.get("string_id"))

    def text_of(row: list[Any]) -> str | None:
        with suppress(Failure):
            parsed = parse_player_id(str(row[0]), string_id, "")
            return str(row[0]) if type(parsed) is type(row[0]) else None
        return None

    return _complete(context, incomplete, "players", text_of)


def node_names(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the names of the nodes of the broker's realm."""
    return _complete(context, incomplete, "nodes", lambda row: row[0])


def players_or_keys(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the second argument of `ringback explain`: a player ID or a key."""
    if context.params.get("kind") == "player":
        return player_ids(context, incomplete)
    return any_keys(context, incomplete)


def payloads(context: typer.Context, incomplete: str) -> list[str]:
    """Complete an empty PAYLOAD with an example of what the callback takes, if it has said so.

    typer's scripts for zsh take the quotes out of a value, so there is nothing for zsh.
    """
    quotes = {"complete_bash": "'", "complete_fish": ""}.get(os.environ.get(VARIABLE, ""))
    key = context.params.get("key")
    if incomplete or quotes is None or not isinstance(key, str):
        return []
    side = "server" if context.info_name == "server" else "player"
    connection = _connection(context)
    with suppress(Exception), connection.operator() as operator:
        rows = named_rows("callbacks", each_row(operator, "callbacks", connection))
        schema = schemas_of(operator, connection, key, rows).get(side)
        text = json.dumps(example(schema))
        if schema is not None and "'" not in text and len(text) <= MAX_PAYLOAD_CHARS:
            return [f"{quotes}{text}{quotes}"]
    return []


def _registered(row: list[Any], side: str) -> str | None:
    return row[0] if row[1] == side and row[2] else None


def _complete(
    context: typer.Context, incomplete: str, subject: str, text_of: Callable[[list[Any]], str | None]
) -> list[str]:
    """Return the texts of rows that begin with `incomplete`: those of the broker, then those of its realm.

    If another node is late, those that came before are returned.
    """
    connection = _connection(context)
    found: dict[str, None] = {}
    with suppress(Exception), connection.operator() as operator:
        rows = each_row(operator, subject, connection)
        if subject != "nodes" and operator.node is not None:
            rows = chain(rows, each_row_of_realm(operator, subject, connection))
        for row in rows:
            text = text_of(row) or ""
            if text.startswith(incomplete) and _HARMLESS.fullmatch(text):
                found[text] = None
            if len(found) == MAX_VALUES:
                break
    return list(found)


def _connection(context: typer.Context) -> Connection:
    import ringback

    _ = ringback.Operator  # load it before the time of the broker starts
    return Connection(
        TimeLimit(WITHIN_S),
        context.params["backend"],
        context.params.get("key_file"),
        context.params.get("broker_key"),
    )
