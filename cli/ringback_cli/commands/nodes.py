"""`ringback nodes`: print the nodes of a realm, and drain one."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from ringback_cli.completion import node_names
from ringback_cli.connection import Connection, connects
from ringback_cli.options import GraceOption, JSONOption, check_node
from ringback_cli.output import Commands, print_json
from ringback_cli.rows import all_rows, format_value, named_rows
from ringback_cli.tables import Column, Kind, always, by_word, print_table

_COLUMNS = (
    Column("node", "node", Kind.NAME, colour=always("cyan")),
    Column("boot", "boot", Kind.WORD, gives_way=8),
    Column("software", "software", Kind.NAME, gives_way=7),
    Column("since_unix_s", "since (UTC)", Kind.WORD, gives_way=6),
    Column("draining", "draining", Kind.WORD, gives_way=1, colour=by_word(yes="yellow")),
    Column("linked", "linked", Kind.WORD, colour=by_word(no="red")),
    Column("players", "players"),
    Column("acting", "acting", gives_way=2),
    Column("standbys", "standing by", gives_way=3),
    Column("frames_s", "frames a second", gives_way=4),
    Column("renewed_s", "renewed s ago", gives_way=5),
)

app = Commands(short_help="Print the nodes of a realm, and drain one.")


@app.callback()
@connects()
def nodes(connection: Connection, context: typer.Context, as_json: JSONOption = False) -> None:
    """Print the nodes of the broker's realm, the broker itself first. A broker alone is the one node.

    For each node: its name, its boot (16 hex digits that name this life of it), its software, and since when
    it runs. Then whether it drains, and whether the broker has a link to it. Then its players, its servers
    that act and that stand by, and how many frames it passes on a second: as its record says, which it
    renews every 2 seconds. The last column says how old that is.

    Example: ringback nodes --json
    """
    if context.invoked_subcommand is not None:
        return
    with connection.operator() as operator:
        rows = named_rows("nodes", all_rows(operator, "nodes", connection))
    if as_json:
        print_json(rows)
        return
    for row in rows:
        row["since_unix_s"] = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(row["since_unix_s"]))
    print_table(
        _COLUMNS, [[format_value(column.name, row.get(column.name)) for column in _COLUMNS] for row in rows]
    )


@app.command("drain", short_help="Make a node drain and stop.")
@connects()
def drain(
    connection: Connection,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The node.", show_default=False, autocompletion=node_names)
    ],
    grace: GraceOption = None,
) -> None:
    """Make a node drain and stop, as SIGTERM does: nobody joins there, and its calls in flight may end.

    The command returns when the node has begun to drain. Its peers go on at another node. A node that is dead
    cannot drain, and need not: the others bury it after its lease.

    Example: ringback nodes drain b --grace 30
    """
    node = check_node(name, "NAME")
    with connection.operator() as operator:
        operator.drain(grace, node=node, timeout=connection.left_s()).result()
    print_json({"draining": name})
