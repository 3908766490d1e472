"""`ringback events`: print who joined, left or was refused."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from ringback_cli.completion import player_ids
from ringback_cli.connection import Connection, connects
from ringback_cli.options import JSONOption, StringIDOption, parse_player_id
from ringback_cli.output import one_line, print_json, print_line, print_table
from ringback_cli.rows import all_rows, concerns, format_cell

FOLLOW_S = 0.5
"""How long `--follow` waits before it asks the broker again, in seconds."""

_HEADS = ("time (UTC)", "event", "role", "player", "identity", "IP", "code", "reason")


@connects()
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
    last: Annotated[
        int, typer.Option("--last", metavar="N", min=1, max=1000, help="Print at most the last N events.")
    ] = 20,
    follow: Annotated[
        bool, typer.Option("--follow", help="Print new events too, until Ctrl-C or the end of --timeout.")
    ] = False,
    as_json: JSONOption = False,
) -> None:
    """Print who joined, left or was refused lately, and why. The broker keeps the latest 1000 events.

    JSON is one line for each event.

    Example: ringback events --player 7 --follow
    """
    player_id = None if player is None else parse_player_id(player, string_id, "--player")
    with connection.operator() as operator:
        rows = all_rows(operator, "events", connection)
        found = [row for row in rows if concerns(row, player_id)][-last:]
        if as_json or follow:
            for row in found:
                _print_event(row, as_json)
        else:
            print_table(list(_HEADS), [_cells(row) for row in found])
        seen = rows[-1][0] if rows else 0
        while follow and connection.time_limit.next_round():
            for row in all_rows(operator, "events", connection, after=seen):
                seen = row[0]
                if concerns(row, player_id):
                    _print_event(row, as_json)
            time.sleep(connection.time_limit.pause_s(FOLLOW_S))


def _print_event(row: list[Any], as_json: bool) -> None:
    from ringback.protocol.control import Subject, named

    if as_json:
        print_json(named(Subject.EVENTS, row))
    else:
        print_line(one_line("  ".join(str(cell) for cell in _cells(row) if cell not in (None, ""))))


def _cells(row: list[Any]) -> list[Any]:
    _, unix_s, event, role, player, identity, ip, code, reason, *_ = row
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(unix_s))
    return [when, event, role, format_cell(player), identity, ip, code, reason]
