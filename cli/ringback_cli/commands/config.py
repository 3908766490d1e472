"""`ringback config`: print and check the settings of a broker."""

from __future__ import annotations

from typing import Annotated

import typer

from ringback_cli.exits import Exit, Failure
from ringback_cli.options import JSONOption
from ringback_cli.output import Commands, complain, print_json, print_line, show_help
from ringback_cli.settings_options import SettingsOptions, takes_settings
from ringback_cli.tables import Column, Kind, always, print_table

app = Commands(help="Print and check the settings of a broker.")


_COLUMNS = (
    Column("setting", "setting", Kind.WORD, colour=always("cyan")),
    Column("value", "value", Kind.PROSE),
    Column("unit", "unit", Kind.WORD, gives_way=2),
    Column("from", "from", Kind.PROSE),
    Column("reloads", "on SIGHUP", Kind.WORD, gives_way=1),
)


@app.callback()
def _config(context: typer.Context) -> None:
    show_help(context)


@app.command("show", short_help="Print all settings, and where each comes from.")
@takes_settings
def show(options: SettingsOptions, as_json: JSONOption = False) -> None:
    """Print all settings that `ringback broker` would have here, and where each comes from.

    Options win over the environment, and the environment wins over the settings file.

    Example: ringback config show --config ringback.toml --lease 30
    """
    from ringback_broker.settings.schema import SETTINGS

    loaded = options.load()
    rows = [
        {
            "setting": name,
            "value": getattr(loaded.settings, name),
            "unit": setting.kind.metavar,
            "from": loaded.origin(name),
            "reloads": setting.about.reloads,
            "text": setting.about.text,
        }
        for name, setting in SETTINGS.items()
    ]
    if as_json:
        print_json(rows)
        return
    print_table(
        _COLUMNS,
        [
            [row["setting"], row["value"], row["unit"], row["from"], "reloads" if row["reloads"] else ""]
            for row in rows
        ],
    )


@app.command("check", short_help="Check a settings file.")
def check(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The settings file, TOML.", show_default=False)],
) -> None:
    """Check a settings file. Each error is a line on standard error, and the exit code is 2.

    Example: ringback config check /etc/ringback/ringback.toml
    """
    from ringback_broker.daemon.settings_file import read_settings
    from ringback_broker.settings.sources import SettingsError

    try:
        loaded = read_settings(file)
    except SettingsError as error:
        for problem in error.problems[:-1]:
            complain(Exit.USAGE.name, problem)
        raise Failure(Exit.USAGE, error.problems[-1]) from None
    print_line(f"{file}: {len(loaded.origins)} settings, all correct")


@app.command("schema", short_help="Print a JSON Schema of the settings file.")
def schema() -> None:
    """Print a JSON Schema of the settings file, for editors and other programs.

    Example: ringback config schema > ringback.schema.json
    """
    from ringback_broker.settings.schema import json_schema

    print_json(json_schema())
