"""The broker's settings as options of a command, made from the schema of all settings."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Concatenate, ParamSpec

import typer

from ringback_broker.settings.schema import SETTINGS
from ringback_broker.settings.setting import Setting
from ringback_cli.exits import Exit, Failure
from ringback_cli.options import one_of
from ringback_cli.signatures import expand_first_parameter, option

if TYPE_CHECKING:
    from ringback_broker.settings.sources import LoadedSettings

Own = ParamSpec("Own")

ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="RINGBACK_CONFIG",
        help="The settings file, TOML. [default: ringback.toml in the current folder, if it exists]",
    ),
]


@dataclass(frozen=True)
class SettingsOptions:
    """The options that say which settings a broker has.

    Attributes:
        config: the settings file; None: `ringback.toml` in the current folder, if it exists.
        given: the settings that were given as options, by name.
    """

    config: str | None
    given: Mapping[str, str | bool] = field(default_factory=dict)

    def load(self, without: Collection[str] = ()) -> LoadedSettings:
        """Return all settings: an option beats the environment, and that beats the file.

        Args:
            without: variables of the environment that do not count.

        Raises:
            Failure: a setting is wrong, or the file cannot be read.
        """
        from ringback_broker.daemon.settings_file import read_settings
        from ringback_broker.settings.sources import SettingsError

        try:
            environment = {name: value for name, value in os.environ.items() if name not in without}
            return read_settings(self.config, self.given, environment)
        except SettingsError as error:
            raise Failure(Exit.USAGE, str(error)) from None


def takes_settings(
    command: Callable[Concatenate[SettingsOptions, Own], None],
) -> Callable[..., None]:
    """Give a command `--config` and an option for each setting, in place of its first parameter,
    `options: SettingsOptions`."""
    return takes_some_settings(*SETTINGS)(command)


def takes_some_settings(
    *names: str,
) -> Callable[[Callable[Concatenate[SettingsOptions, Own], None]], Callable[..., None]]:
    """Return a decorator that does the same with some settings.

    Args:
        names: of the settings.
    """
    settings = [SETTINGS[name] for name in names]

    def make(config: str | None, **values: str | bool | None) -> SettingsOptions:
        return SettingsOptions(config, {name: value for name, value in values.items() if value is not None})

    options = [option("config", ConfigOption), *map(_option_of, settings)]
    return lambda command: expand_first_parameter(command, options, make)


def _option_of(setting: Setting) -> inspect.Parameter:
    default = "" if setting.default in (None, False) else f"; default: {setting.default}"
    is_flag = setting.default is False
    made = typer.Option(
        setting.option,
        metavar=None if is_flag else setting.kind.metavar,
        help=f"{setting.about.text} [env: {setting.variable}{default}]",
        show_default=False,
        autocompletion=one_of(*setting.choices) if setting.choices else None,
    )
    return option(setting.name, Annotated[bool | None if is_flag else str | None, made])
