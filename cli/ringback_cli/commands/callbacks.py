"""`ringback callbacks`: print which callbacks are registered, and how their calls went."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ringback_cli.choosing import Choice, chooses_rows, find_chosen, print_rows
from ringback_cli.completion import registered_keys
from ringback_cli.connection import Connection, connects
from ringback_cli.exits import Exit, Failure
from ringback_cli.node_option import NodeOption
from ringback_cli.options import JSONOption, check_key, check_node
from ringback_cli.output import print_json
from ringback_cli.realm_rows import find
from ringback_cli.rows import named_rows, registered_like
from ringback_cli.schemas import schemas_of
from ringback_cli.tables import Column, Kind, always, red_unless_zero

COLUMNS = (
    Column("key", "key", Kind.NAME, colour=always("cyan")),
    Column("side", "side", Kind.WORD, gives_way=6),
    Column("endpoints", "endpoints", gives_way=7),
    Column("in_flight", "in flight", gives_way=5),
    Column("calls", "calls", gives_way=2),
    Column("errors", "errors", gives_way=1, colour=red_unless_zero),
    Column("rate", "a second", gives_way=3),
    Column("p50_ms", "p50 ms", gives_way=4),
    Column("p99_ms", "p99 ms", gives_way=3),
)


@connects()
@chooses_rows("callbacks", COLUMNS)
def callbacks(
    choice: Choice,
    connection: Connection,
    schema: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Print the JSON Schema of the payload that this callback takes, null if it is not known.",
            autocompletion=registered_keys,
        ),
    ] = None,
    node: NodeOption = None,
    as_json: JSONOption = False,
) -> None:
    """Print the callbacks that are registered or were called. In a realm, print those of each node.

    For each callback: its key, which side handles it, and how many endpoints have registered it. Then its
    calls in flight now, its calls that have ended since the broker started, and how many of them failed.
    Then, in the last minute, how many calls ended a second, and the latencies that 50 % and 99 % of those
    with results did not exceed, at most 2 % wrong. "-" means that there were none. The latency of a server's
    callback is the time that its handler takes to reply. That of a player's callback includes the way there
    and back.

    Example: ringback callbacks --sort p99_ms --limit 10
    """
    if schema is not None:
        if choice != Choice(choice.columns):
            raise Failure(Exit.USAGE, "--schema: it prints no rows, so do not choose any with it")
        print_json(_schema_of(connection, check_key(schema), check_node(node)))
        return
    found = find_chosen(connection, "callbacks", check_node(node), choice)
    print_rows("callbacks", COLUMNS, found, choice, as_json)


def _schema_of(connection: Connection, key: str, node: str | None) -> Any:
    """Return the JSON Schema of a callback, of the server's if both sides have one; None if there is none.

    Raises:
        Failure: UNKNOWN_CALLBACK.
    """
    with connection.operator() as operator:
        rows = named_rows("callbacks", find(operator, "callbacks", connection, node).plain_rows())
        if not any(row["key"] == key and row["endpoints"] for row in rows):
            near = registered_like(key, rows)
            reason = f"nobody has registered {key!r}"
            raise Failure(Exit.UNKNOWN_CALLBACK, f"{reason}: {near}" if near else reason)
        found = schemas_of(operator, connection, key, rows, node)
    return found.get("server", found.get("player"))
