"""The broker's settings as options: made of the schema that files and the environment have too."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringback_broker.settings.schema import SETTINGS, Setting
from ringback_cli.completion import one_of
from ringback_cli.exits import Exit, Failure

if TYPE_CHECKING:
    from ringback_broker.settings.sources import LoadedSettings

ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="RINGBACK_CONFIG",
        help="Settings as TOML. [default: ringback.toml in this folder, where there is one]",
    ),
]


def takes_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command an option for each setting of the broker. It is called with those that were given, as
    its last argument."""
    own = inspect.signature(command, eval_str=True).parameters
    parameters = list(own.values())[:-1] + [_parameter(setting) for setting in SETTINGS.values()]

    def run(**arguments: Any) -> None:
        said = {name: arguments.pop(name) for name in SETTINGS}
        command(**arguments, options={name: value for name, value in said.items() if value is not None})

    run.__doc__ = command.__doc__
    run.__name__ = command.__name__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _parameter(setting: Setting) -> inspect.Parameter:
    default = "" if setting.default in (None, False) else f"; default: {setting.default}"
    is_flag = setting.default is False
    option = typer.Option(
        setting.option,
        metavar=None if is_flag else setting.kind.metavar,
        help=f"{setting.about.text} [env: {setting.variable}{default}]",
        show_default=False,
        autocompletion=one_of(*setting.choices) if setting.choices else None,
    )
    return inspect.Parameter(
        setting.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[bool | None if is_flag else str | None, option],
    )


def settings_of(config: str | None, options: dict[str, Any]) -> LoadedSettings:
    """Gives what holds, by the file, the environment and options.

    Raises:
        Failure: some of it is wrong.
    """
    from ringback_broker.daemon.settings_file import read_settings
    from ringback_broker.settings.sources import SettingsError

    try:
        return read_settings(config, options, os.environ)
    except SettingsError as error:
        raise Failure(Exit.USAGE, str(error)) from None
