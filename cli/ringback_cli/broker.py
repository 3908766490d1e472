"""`ringback broker`: the broker as a daemon in the foreground."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from ringback_broker import BindError, Broker, BrokerConfig, ConfigError
from ringback_broker.config import DEFAULT_BACKEND, DEFAULT_PLAYERS
from ringback_cli.exits import Exit


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
    lease: Annotated[
        float, typer.Option(help="A peer from which nothing came for so many seconds is out.")
    ] = 30.0,
    grace: Annotated[
        float, typer.Option(help="Seconds for calls in flight after the first signal to stop.")
    ] = 5.0,
    max_players: Annotated[int, typer.Option(help="Further players are refused.")] = 20_000,
) -> None:
    """Run the broker until SIGTERM or SIGINT; it then drains, and a second signal ends it at once.

    It logs one line with the addresses when it is ready. Addresses: tcp://HOST:PORT or ipc://PATH.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level=logging.INFO)
    logging.raiseExceptions = False  # a full disk under the log is no reason to stop routing
    try:
        config = BrokerConfig(
            players=players, backend=backend, lease_s=lease, grace_s=grace, max_players=max_players
        )
        daemon = Broker(config)
    except ConfigError as error:
        typer.echo(f"USAGE: {error}", err=True)
        raise typer.Exit(Exit.USAGE) from None
    except BindError as error:
        typer.echo(f"BIND_FAILED: {error}", err=True)
        raise typer.Exit(Exit.BIND_FAILED) from None
    daemon.handle_signals()
    forced = not daemon.run()
    raise typer.Exit(Exit.FORCED if forced else Exit.OK)
