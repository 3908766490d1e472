"""`ringback broker`: the broker as a daemon in the foreground."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import Annotated

import typer

from ringback_cli.exits import Exit, Failure
from ringback_cli.options import DEFAULT_BACKEND, DEFAULT_PLAYERS

_OPTIONS = {
    "lease_s": "--lease",
    "grace_s": "--grace",
    "max_players": "--max-players",
    "player_frames_per_s": "--player-frames",
    "player_bytes_per_s": "--player-bytes",
    "slow_s": "--slow",
    "key_file": "--key-file",
    "address_connections": "--connections",
    "address_handshakes_per_s": "--handshakes",
    "crowd": "--crowd",
    "crowd_heartbeat_s": "--crowd-heartbeat",
    "spin_s": "--spin",
}
"""What the broker's configuration calls a setting, and what the command line calls it."""


def broker(
    players: Annotated[
        str,
        typer.Option(
            metavar="ADDR", envvar="RINGBACK_PLAYERS", help="Where players connect to; port 0: any."
        ),
    ] = DEFAULT_PLAYERS,
    backend: Annotated[
        str,
        typer.Option(
            metavar="ADDR", envvar="RINGBACK_BACKEND", help="Where the server and operators connect to."
        ),
    ] = DEFAULT_BACKEND,
    key_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", envvar="RINGBACK_BROKER_KEY_FILE", help="The broker's own key: encrypt."
        ),
    ] = None,
    access: Annotated[
        str | None,
        typer.Option(metavar="FILE", envvar="RINGBACK_ACCESS", help="The list of the keys that may join."),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let anybody in who can reach an address, without keys.")
    ] = False,
    audit: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Who joined, left or was refused: a line of JSON for each."),
    ] = None,
    lease: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="A peer from which nothing came for so long is out."),
    ] = 60.0,
    grace: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="For calls in flight, after the first signal to stop."),
    ] = 5.0,
    max_players: Annotated[int, typer.Option(metavar="N", help="Further players are refused.")] = 16_000,
    crowd: Annotated[
        int, typer.Option(metavar="N", help="Players with heartbeats as often as they like.")
    ] = 500,
    crowd_heartbeat: Annotated[
        float, typer.Option(metavar="SECONDS", help="How often the players beyond those may send them.")
    ] = 5.0,
    connections: Annotated[
        int, typer.Option(metavar="N", help="Connections that one address may have.")
    ] = 20_000,
    handshakes: Annotated[
        float, typer.Option(metavar="RATE", help="Connections that one address may make in a second.")
    ] = 500.0,
    player_frames: Annotated[
        float,
        typer.Option(
            metavar="RATE", help="Frames a second of one player, of up to 256 calls each; inf: any."
        ),
    ] = 10_000,
    player_bytes: Annotated[
        float, typer.Option(metavar="RATE", help="Bytes a second of one player, inf: any.")
    ] = 100e6,
    slow: Annotated[
        float, typer.Option(metavar="SECONDS", help="A peer that does not read for so long is out.")
    ] = 10.0,
    spin: Annotated[
        float, typer.Option(metavar="SECONDS", help="While frames come: stay awake so long for the next.")
    ] = 0.0005,
) -> None:
    """Run the broker until SIGTERM or SIGINT; it then drains, and a second signal ends it at once.

    It logs to standard error, when it is ready a line with its addresses. An address is
    tcp://HOST:PORT or ipc://PATH.
    """
    from ringback_broker import BindError, Broker, BrokerConfig, ConfigError
    from ringback_broker.logs import audit_to, log_to_stderr

    try:
        config = BrokerConfig(
            players=players,
            backend=backend,
            key_file=key_file,
            access=access,
            insecure=insecure,
            lease_s=lease,
            grace_s=grace,
            max_players=max_players,
            crowd=crowd,
            crowd_heartbeat_s=crowd_heartbeat,
            address_connections=connections,
            address_handshakes_per_s=handshakes,
            player_frames_per_s=player_frames,
            player_bytes_per_s=player_bytes,
            slow_s=slow,
            spin_s=spin,
        )
        with ExitStack() as stack:
            if audit is not None:
                try:
                    stack.enter_context(audit_to(audit))
                except OSError as error:
                    raise Failure(Exit.USAGE, f"--audit: {audit}: {error.strerror}") from None
            stack.enter_context(log_to_stderr("%(asctime)s %(levelname)s %(name)s %(message)s", logging.INFO))
            daemon = Broker(config)
            daemon.handle_signals()
            forced = not daemon.run()
    except ConfigError as error:
        raise Failure(Exit.USAGE, _in_options(str(error))) from None
    except BindError as error:
        raise Failure(Exit.BIND_FAILED, str(error)) from None
    if forced:
        raise typer.Exit(Exit.FORCED)


def _in_options(message: str) -> str:
    name, colon, rest = message.partition(": ")
    if not colon:
        return message
    return f"{_OPTIONS.get(name, f'--{name}')}: {rest}"
