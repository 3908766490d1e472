"""`ringback config`: what a broker would be told, and by whom."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ringback_cli.exits import Exit, Failure
from ringback_cli.options import JSONOption
from ringback_cli.output import complain, print_json, print_line, print_table, show_help
from ringback_cli.settings_options import ConfigOption, settings_of, takes_settings

app = typer.Typer(
    help="Show and check the broker's settings.", invoke_without_command=True, rich_markup_mode=None
)


@app.callback()
def _config(context: typer.Context) -> None:
    show_help(context)


@takes_settings
def show(
    config: ConfigOption = None,
    as_json: JSONOption = False,
    options: dict[str, Any] | None = None,
) -> None:
    """Print all settings that `ringback broker` would have here, and where each comes from.

    Options beat the environment, and that beats the file.

    Example: ringback config show --config ringback.toml --lease 30
    """
    from ringback_broker.settings.schema import SETTINGS

    loaded = settings_of(config, options or {})
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
        ["setting", "value", "unit", "from", "on SIGHUP"],
        [
            [row["setting"], row["value"], row["unit"], row["from"], "reloads" if row["reloads"] else ""]
            for row in rows
        ],
    )


app.command("show", short_help="Print all settings, and where each comes from.")(show)


@app.command("check", short_help="Tell whether a file is right.")
def check(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Settings as TOML.", show_default=False)],
) -> None:
    """Tell whether a file of settings is right: a line for each thing that is wrong, and exit code 2.

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
    print_line(f"{file}: {len(loaded.origins)} settings, all right")


@app.command("schema", short_help="Print what a file may say, as JSON Schema.")
def schema() -> None:
    """Print what a file of settings may say, as JSON Schema, for editors and other programs.

    Example: ringback config schema > ringback.schema.json
    """
    from ringback_broker.settings.schema import json_schema

    print_json(json_schema())
