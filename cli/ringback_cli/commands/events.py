"""`ringback events`: who joined, left or was refused."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from ringback_cli.completion import player_ids
from ringback_cli.connection import Keys, operator
from ringback_cli.options import (
    CONNECT_S,
    DEFAULT_BACKEND,
    BackendOption,
    BrokerKeyOption,
    JSONOption,
    KeyFileOption,
    Patience,
    ShortTimeoutOption,
    StringIDOption,
    check_timeout,
    parse_player_id,
)
from ringback_cli.output import one_line, print_json, print_line, print_table
from ringback_cli.rows import all_rows, cell, is_of

FOLLOW_S = 0.5
"""How often the broker is asked for further events."""

_EVENT_HEADS = ("time (UTC)", "event", "role", "player", "identity", "IP", "code", "reason")


def events(
    player: Annotated[
        str | None,
        typer.Option(
            "--player", metavar="ID", help="Only what is of this player.", autocompletion=player_ids
        ),
    ] = None,
    string_id: StringIDOption = False,
    last: Annotated[
        int, typer.Option("--last", metavar="N", min=1, max=1000, help="So many at the most.")
    ] = 20,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes, until Ctrl-C.")] = False,
    as_json: JSONOption = False,
    timeout: ShortTimeoutOption = None,
    backend: BackendOption = DEFAULT_BACKEND,
    key_file: KeyFileOption = None,
    broker_key: BrokerKeyOption = None,
) -> None:
    """Print who joined, left or was refused lately, and why. The broker keeps the latest 1000.

    JSON is a line for each event.

    Example: ringback events --player 7 --follow
    """
    from ringback.protocol.control import Subject, named

    check_timeout(timeout)
    wanted = None if player is None else parse_player_id(player, string_id, "--player")
    patience = Patience(timeout, CONNECT_S)
    with operator(backend, patience, Keys(key_file, broker_key)) as endpoint:
        rows = all_rows(endpoint, "events", patience)
        shown = [row for row in rows if is_of(row, wanted)][-last:]
        if as_json:
            for row in shown:
                print_json(named(Subject.EVENTS, row))
        elif follow:
            for row in shown:
                print_line(_event_line(row))
        else:
            print_table(list(_EVENT_HEADS), [_event_cells(row) for row in shown])
        seen = rows[-1][0] if rows else 0
        while follow:
            time.sleep(FOLLOW_S)
            for row in all_rows(endpoint, "events", Patience(timeout, CONNECT_S), after=seen):
                seen = row[0]
                if is_of(row, wanted) and as_json:
                    print_json(named(Subject.EVENTS, row))
                elif is_of(row, wanted):
                    print_line(_event_line(row))


def _event_cells(row: list[Any]) -> list[Any]:
    _, at, event, role, player, identity, ip, code, reason, *_ = row
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))
    return [when, event, role, cell(player), identity, ip, code, reason]


def _event_line(row: list[Any]) -> str:
    return one_line("  ".join(str(part) for part in _event_cells(row) if part not in (None, "")))
