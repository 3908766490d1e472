"""`ringback realm`: make a realm, in which several brokers act as one."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from ringback_cli.exits import Exit, Failure
from ringback_cli.options import whole_number
from ringback_cli.output import Commands, print_line, show_help
from ringback_cli.settings_options import SettingsOptions, takes_some_settings

MAX_REPLICAS = 5
"""NATS has no more."""

app = Commands(help="Make a realm, in which several brokers act as one.")


@app.callback()
def _realm(context: typer.Context) -> None:
    show_help(context)


@app.command("create", short_help="Make a realm in NATS.")
@takes_some_settings("cluster", "nats_credentials", "nats_ca", "nats_cert", "nats_key")
def create(
    options: SettingsOptions,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The realm: letters, digits, - and _", show_default=False),
    ],
    replicas: Annotated[
        int,
        typer.Option(
            "--replicas",
            metavar="N",
            parser=whole_number("--replicas", 1, MAX_REPLICAS),
            help="How many servers of NATS keep each record: 1 to 5; an odd number is best.",
        ),
    ] = 1,
) -> None:
    """Make the records of a realm in NATS, once. If they are there, say whether they are as they must be.

    This needs an administrator's credentials of NATS. The brokers themselves need fewer rights.

    Example: ringback realm create main --cluster nats://n1,nats://n2,nats://n3
    """
    from ringback_broker import InvalidSetting, RealmFailed
    from ringback_broker.daemon.nats_side import create_realm

    loaded = options.load()
    try:
        settings = replace(loaded.settings, realm=name)
        made = create_realm(settings, replicas)
    except InvalidSetting as error:
        where = "NAME" if error.setting == "realm" else loaded.where(error.setting)
        raise Failure(Exit.USAGE, f"{where}: {error.reason}") from None
    except RealmFailed as error:
        raise Failure(Exit.REALM_FAILED, str(error)) from None
    what = "made" if made else "there already, as it must be"
    print_line(f"the realm {name} is {what}, with {replicas} {'replica' if replicas == 1 else 'replicas'}")
