"""`ringback events`: print who joined, left or was refused."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringback_cli.completion import player_ids
from ringback_cli.connection import Connection, connects
from ringback_cli.options import JSONOption, StringIDOption, parse_player_id, whole_number
from ringback_cli.output import hint, one_line, print_json, print_line, print_table
from ringback_cli.rows import all_rows, concerns, format_cell

if TYPE_CHECKING:
    from ringback import Operator, PlayerID

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

    JSON is one line for each event.

    Example: ringback events --player 7 --follow
    """
    player_id = None if player is None else parse_player_id(player, string_id, "--player")
    with connection.operator() as operator:
        if follow:
            with connection.time_limit.ends_quietly():
                _follow(operator, connection, player_id, last, as_json)
            return
        found = _last(all_rows(operator, "events", connection), player_id, last)
        if as_json:
            for row in found:
                _print_event(row, as_json)
        else:
            print_table(list(_HEADS), [_cells(row) for row in found])


def _last(rows: list[list[Any]], player_id: PlayerID | None, last: int) -> list[list[Any]]:
    return [row for row in rows if concerns(row, player_id)][-last:]


def _follow(
    operator: Operator, connection: Connection, player_id: PlayerID | None, last: int, as_json: bool
) -> None:
    """Print the last events, and then the new ones, until the time limit."""
    rows = all_rows(operator, "events", connection)
    for row in _last(rows, player_id, last):
        _print_event(row, as_json)
    if not as_json:
        who = "" if player_id is None else f" of player {player_id!r}"
        hint(f"waiting for new events{who} at {operator.address}; Ctrl-C ends it")
    seen = rows[-1][0] if rows else 0
    while connection.time_limit.next_round():
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
