"""`ringback events`: print who joined, left or was refused."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringback_cli.choosing import NODE
from ringback_cli.completion import player_ids
from ringback_cli.connection import Connection, connects
from ringback_cli.node_option import NodeOption
from ringback_cli.options import (
    JSONOption,
    StringIDOption,
    check_node,
    parse_player_id,
    whole_number,
)
from ringback_cli.output import hint, one_line, paint, print_json, print_line, say
from ringback_cli.realm_rows import Follower, by_time, find
from ringback_cli.rows import concerns, format_cell
from ringback_cli.tables import Column, Kind, always, by_word, print_table

if TYPE_CHECKING:
    from ringback import Operator, PlayerID

FOLLOW_S = 0.5
"""How long `--follow` waits before it asks the broker again, in seconds."""

_COLUMNS = (
    Column("unix_s", "time (UTC)", Kind.WORD),
    Column("event", "event", Kind.WORD, colour=by_word(joined="green", refused="red")),
    Column("role", "role", Kind.WORD, gives_way=1),
    Column("player", "player", Kind.NAME, colour=always("cyan")),
    Column("identity", "identity", Kind.NAME, gives_way=3),
    Column("ip", "IP", Kind.NAME, gives_way=4),
    Column("code", "code", Kind.WORD, gives_way=2, colour=always("red")),
    Column("reason", "reason", Kind.PROSE),
)


@connects(endless="with --follow")
def events(
    connection: Connection,
    player: Annotated[
        str | None,
        typer.Option(
            "--player",
            metavar="ID",
            help="Print the events of this player only. [default: of everybody]",
            autocompletion=player_ids,
        ),
    ] = None,
    string_id: StringIDOption = False,
    node: NodeOption = None,
    last: Annotated[
        int,
        typer.Option(
            "--last",
            metavar="N",
            parser=whole_number("--last", 1, 1000),
            help="Print at most the last N events; N is at most 1000.",
        ),
    ] = 20,
    follow: Annotated[
        bool, typer.Option("--follow", help="Print new events too, until Ctrl-C or the end of --timeout.")
    ] = False,
    as_json: JSONOption = False,
) -> None:
    """Print who joined, left or was refused lately, and why. The broker keeps the latest 1000 events.

    In a realm, print the events of all nodes. JSON is one line for each event.

    Example: ringback events --player 7 --follow
    """
    player_id = None if player is None else parse_player_id(player, string_id, "--player")
    at = check_node(node)
    with connection.operator() as operator:
        if follow:
            _follow(operator, connection, player_id, at, last, as_json)
            return
        found = find(operator, "events", connection, at)
    rows = _last(by_time(found.rows), player_id, last)
    if as_json:
        for row in rows:
            _print_event(row, as_json)
    else:
        columns = (NODE, *_COLUMNS) if found.in_realm else _COLUMNS
        print_table(columns, [_cells(row)[not found.in_realm :] for row in rows])
    found.check()


def _last(rows: list[list[Any]], player_id: PlayerID | None, last: int) -> list[list[Any]]:
    """Return the last events of a player. Each row begins with the name of its node."""
    return [row for row in rows if concerns(row[1:], player_id)][-last:]


def _follow(
    operator: Operator,
    connection: Connection,
    player_id: PlayerID | None,
    node: str | None,
    last: int,
    as_json: bool,
) -> None:
    """Print the last events, and then the new ones, until the time limit. Then say how many were new."""
    follower = Follower(operator, "events", connection, node)
    for row in _last(follower.new_rows(), player_id, last):
        _print_event(row, as_json)
    who, printed = "" if player_id is None else f" of player {player_id!r}", 0
    if not as_json:
        hint(f"waiting for new events{who} at {operator.address}; Ctrl-C ends it")
    with connection.time_limit.ends_quietly():
        while connection.time_limit.next_round():
            for row in follower.new_rows():
                if concerns(row[1:], player_id):
                    _print_event(row, as_json)
                    printed += 1
            time.sleep(connection.time_limit.pause_s(FOLLOW_S))
    if not as_json:
        say(f"the time is over: saw {printed} new events{who}")


def _print_event(row: list[Any], as_json: bool) -> None:
    from ringback.protocol.control import Subject, named

    if as_json:
        node = {} if row[0] is None else {"node": row[0]}
        print_json({**node, **named(Subject.EVENTS, row[1:])})
    else:
        cells = [
            paint(text, column.colour(text))
            for column, cell in zip((NODE, *_COLUMNS), _cells(row), strict=True)
            if (text := one_line("" if cell is None else str(cell)))
        ]
        print_line("  ".join(cells))


def _cells(row: list[Any]) -> list[Any]:
    node, _, unix_s, event, role, player, identity, ip, code, reason, *_ = row
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(unix_s))
    return [node, when, event, role, format_cell(player), identity, ip, code, reason]
