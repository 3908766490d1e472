"""`ringback trigger`: calls a callback and prints what it gives."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ringback_cli.completion import client_keys, player_ids, server_keys
from ringback_cli.connection import Keys, calls_of, operator, player, result_of
from ringback_cli.exits import Exit, Failure
from ringback_cli.options import (
    CALL_S,
    DEFAULT_BACKEND,
    DEFAULT_PLAYERS,
    BackendOption,
    BrokerKeyOption,
    KeyFileOption,
    Patience,
    PayloadArgument,
    PlayersOption,
    StringIDOption,
    TimeoutOption,
    check_key,
    check_timeout,
    parse_player_id,
)
from ringback_cli.output import print_json, progress, show_help
from ringback_cli.payloads import read_payload
from ringback_cli.rows import all_rows

DEFAULT_SOURCE = "cli"

EPILOG = "Before what begins with a minus put --, as in: trigger server KEY -- -5"

ServerKeyArgument = Annotated[
    str,
    typer.Argument(metavar="KEY", help="The callback's key.", show_default=False, autocompletion=server_keys),
]
ClientKeyArgument = Annotated[
    str,
    typer.Argument(metavar="KEY", help="The callback's key.", show_default=False, autocompletion=client_keys),
]

app = typer.Typer(
    invoke_without_command=True,
    help="Trigger a callback and print its result as JSON: one bare, none null, several an array.",
    short_help="Trigger a callback and print its result.",
    rich_markup_mode=None,
)


@app.callback()
def _trigger(context: typer.Context) -> None:
    show_help(context)


@app.command(short_help="Trigger a callback of the server.", epilog=EPILOG)
def server(
    context: typer.Context,
    key: ServerKeyArgument,
    payload: PayloadArgument = None,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help=f"The source that the handler is given, connected or not. [default: {DEFAULT_SOURCE}]",
            autocompletion=player_ids,
        ),
    ] = None,
    as_player: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Join as this player, through --players, and be the source."),
    ] = None,
    string_id: StringIDOption = False,
    timeout: TimeoutOption = None,
    backend: BackendOption = DEFAULT_BACKEND,
    key_file: KeyFileOption = None,
    broker_key: BrokerKeyOption = None,
    players: PlayersOption = DEFAULT_PLAYERS,
) -> None:
    """Trigger a callback of the server: as an operator that names the source, or as a player.

    Example: ringback trigger server shop:items '{"category": "food"}' --source 7
    """
    check_timeout(timeout)
    check_key(key)
    if as_player is None:
        caller = parse_player_id(DEFAULT_SOURCE if source is None else source, string_id, "--source")
    elif source is None:
        caller = parse_player_id(as_player, string_id, "--as-player")
    else:
        raise Failure(Exit.USAGE, "--source is an operator's; with --as-player the player is the source")
    unused = "players" if as_player is None else "backend"
    given = context.get_parameter_source(unused)
    if given is not None and given.name == "COMMANDLINE":  # one in the environment is for other commands too
        without = "without" if as_player is None else "with"
        raise Failure(Exit.USAGE, f"--{unused} is not used {without} --as-player")
    value = read_payload(payload)
    patience = Patience(timeout, CALL_S)
    if as_player is None:
        with operator(backend, patience, Keys(key_file, broker_key)) as endpoint:
            call = endpoint.trigger_callback(key, caller, value, timeout=patience.left_s())
            result = result_of(call)
    else:
        with player(players, caller, patience, Keys(key_file, broker_key)) as joined:
            call = joined.trigger_server_callback(key, value, timeout=patience.left_s())
            result = result_of(call)
    print_json(result)


@app.command(short_help="Trigger a callback of one player.", epilog=EPILOG)
def client(
    key: ClientKeyArgument,
    player_id: Annotated[
        str, typer.Argument(metavar="PLAYER_ID", help="Whose callback.", autocompletion=player_ids)
    ],
    payload: PayloadArgument = None,
    string_id: StringIDOption = False,
    timeout: TimeoutOption = None,
    backend: BackendOption = DEFAULT_BACKEND,
    key_file: KeyFileOption = None,
    broker_key: BrokerKeyOption = None,
) -> None:
    """Trigger a callback of one player.

    Example: ringback trigger client local:coords 7
    """
    check_timeout(timeout)
    check_key(key)
    called = parse_player_id(player_id, string_id, "PLAYER_ID")
    value = read_payload(payload)
    patience = Patience(timeout, CALL_S)
    with operator(backend, patience, Keys(key_file, broker_key)) as endpoint:
        call = endpoint.trigger_client_callback(key, called, value, timeout=patience.left_s())
        result = result_of(call)
    print_json(result)


@app.command("all", short_help="Trigger a callback of every player.", epilog=EPILOG)
def all_players(
    key: ClientKeyArgument,
    payload: PayloadArgument = None,
    timeout: TimeoutOption = None,
    backend: BackendOption = DEFAULT_BACKEND,
    key_file: KeyFileOption = None,
    broker_key: BrokerKeyOption = None,
) -> None:
    """Trigger a callback of every player that is connected, and print an array of their outcomes.

    Example: ringback trigger all hud:message '"hello"'
    """
    check_timeout(timeout)
    check_key(key)
    value = read_payload(payload)
    patience = Patience(timeout, CALL_S)
    with operator(backend, patience, Keys(key_file, broker_key)) as endpoint:
        called = [row[0] for row in all_rows(endpoint, "players", patience)]
        group = endpoint.trigger_all_client_callbacks(key, value, players=called, timeout=patience.left_s())
        with progress("calls", len(called)) as step:
            calls = calls_of(group, step)
        outcomes = [_outcome(player_id, call) for player_id, call in calls.items()]
    print_json(outcomes)
    failed = sum("error" in outcome for outcome in outcomes)
    if failed:
        raise Failure(Exit.SOME_FAILED, f"{failed} of {len(outcomes)} calls failed")


def _outcome(player_id: Any, call: Any) -> dict[str, Any]:
    error = call.error
    if error is None:
        return {"player": player_id, "result": call.result()}
    return {
        "player": player_id,
        "error": {
            "code": error.code_name,
            "message": error.message,
            "executed": error.executed,
            "data": error.data,
        },
    }
