"""`ringback trigger`: trigger a callback and print its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringback_cli.completion import client_keys, payloads, player_ids, server_keys
from ringback_cli.connection import Connection, connects
from ringback_cli.exits import Exit, Failure
from ringback_cli.hints import gives_hints, hint_for
from ringback_cli.options import (
    JSONErrorsOption,
    ProgressOption,
    RetryOption,
    StringIDOption,
    check_key,
    parse_player_id,
)
from ringback_cli.output import Commands, outcome_of, print_json, print_progress, show_help
from ringback_cli.payloads import read_payload
from ringback_cli.progress import progress as progress_bar
from ringback_cli.rows import all_rows

if TYPE_CHECKING:
    from ringback import Call, PlayerID

CALL_S = 15.0
"""The time limit of these commands without `--timeout`, in seconds."""

DEFAULT_SOURCE = "cli"

EPILOG = "Put -- before an argument that begins with a minus, as in: trigger server KEY -- -5"

ServerKeyArgument = Annotated[
    str,
    typer.Argument(
        metavar="KEY", help="The key of the callback.", show_default=False, autocompletion=server_keys
    ),
]
ClientKeyArgument = Annotated[
    str,
    typer.Argument(
        metavar="KEY", help="The key of the callback.", show_default=False, autocompletion=client_keys
    ),
]

PayloadArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="PAYLOAD",
        help="JSON, @FILE, or - for standard input. [default: null]",
        show_default=False,
        autocompletion=payloads,
    ),
]

app = Commands(
    help="Trigger a callback and print its result as JSON: one result as it is, none as null, several as an "
    "array.",
    short_help="Trigger a callback and print its result.",
)


@app.callback()
def _trigger(context: typer.Context) -> None:
    show_help(context)


@app.command(short_help="Trigger a callback of the server.", epilog=EPILOG)
@connects(CALL_S, players=True)
def server(
    connection: Connection,
    context: typer.Context,
    key: ServerKeyArgument,
    payload: PayloadArgument = None,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help=f"Call in the name of this player, connected or not. [default: {DEFAULT_SOURCE}]",
            autocompletion=player_ids,
        ),
    ] = None,
    as_player: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Join as this player through --players, and call. [default: call as an operator]",
        ),
    ] = None,
    string_id: StringIDOption = False,
    progress: ProgressOption = False,
    retry: RetryOption = False,
    as_json: JSONErrorsOption = False,
) -> None:
    """Trigger a callback of the server: as an operator in the name of a source, or as a player.

    Example: ringback trigger server shop:items '{"category": "food"}'
    """
    check_key(key)
    if as_player is None:
        caller = parse_player_id(DEFAULT_SOURCE if source is None else source, string_id, "--source")
    elif source is None:
        caller = parse_player_id(as_player, string_id, "--as-player")
    else:
        raise Failure(Exit.USAGE, "--source is for operators; with --as-player the player is the source")
    unused = "players" if as_player is None else "backend"
    given = context.get_parameter_source(unused)
    if given is not None and given.name == "COMMANDLINE":  # a variable is there for other commands too
        without = "without" if as_player is None else "with"
        raise Failure(Exit.USAGE, f"--{unused} is not used {without} --as-player")
    value = read_payload(payload)
    if as_player is None:
        with connection.operator() as operator, gives_hints(connection, operator, key):
            call = operator.trigger_callback(
                key, caller, value, timeout=connection.left_s(), progress=progress, retry=retry
            )
            result = _result(call, progress)
    else:
        with connection.player(caller) as player, gives_hints(connection, None, key):
            call = player.trigger_server_callback(
                key, value, timeout=connection.left_s(), progress=progress, retry=retry
            )
            result = _result(call, progress)
    print_json(result)


@app.command(short_help="Trigger a callback of one player.", epilog=EPILOG)
@connects(CALL_S)
def client(
    connection: Connection,
    key: ClientKeyArgument,
    player_id: Annotated[
        str,
        typer.Argument(
            metavar="PLAYER_ID", help="The player whose callback it is.", autocompletion=player_ids
        ),
    ],
    payload: PayloadArgument = None,
    string_id: StringIDOption = False,
    progress: ProgressOption = False,
    retry: RetryOption = False,
    as_json: JSONErrorsOption = False,
) -> None:
    """Trigger a callback of one player.

    Example: ringback trigger client local:coords 7
    """
    check_key(key)
    called = parse_player_id(player_id, string_id, "PLAYER_ID")
    value = read_payload(payload)
    with connection.operator() as operator, gives_hints(connection, operator, key, called):
        call = operator.trigger_client_callback(
            key, called, value, timeout=connection.left_s(), progress=progress, retry=retry
        )
        result = _result(call, progress)
    print_json(result)


@app.command("all", short_help="Trigger a callback of every player.", epilog=EPILOG)
@connects(CALL_S)
def all_players(
    connection: Connection,
    key: ClientKeyArgument,
    payload: PayloadArgument = None,
    retry: RetryOption = False,
    as_json: JSONErrorsOption = False,
) -> None:
    """Trigger a callback of every connected player, and print an array of the outcomes.

    Example: ringback trigger all hud:message '"hello"'
    """
    from ringback import Code

    check_key(key)
    value = read_payload(payload)
    with connection.operator() as operator:
        called = [row[0] for row in all_rows(operator, "players", connection)]
        group = operator.trigger_all_client_callbacks(
            key, value, players=called, timeout=connection.left_s(), retry=retry
        )
        with progress_bar("calls", len(called)) as step:
            for _ in group:
                step()
        calls = group.all()
        print_json([_outcome(player_id, call) for player_id, call in calls.items()])
        errors = [call.error for call in calls.values() if call.error is not None]
        if not errors:
            return
        failure = Failure(Exit.SOME_FAILED, f"{len(errors)} of {len(calls)} calls failed")
        if len(errors) == len(calls) and all(error.code is Code.UNKNOWN_CALLBACK for error in errors):
            failure.hint = hint_for(errors[0], connection, operator, key, called[0])
        raise failure


def _result(call: Call, shows_progress: bool) -> Any:
    """Wait for a call. Return None for no result, the value of one, a tuple of several."""
    if shows_progress:
        for value in call.progress():
            print_progress(value)
    return call.result()


def _outcome(player_id: PlayerID, call: Call) -> dict[str, Any]:
    error = call.error
    if error is None:
        return {"player": player_id, "result": call.result()}
    return {"player": player_id, "error": outcome_of(error)}
