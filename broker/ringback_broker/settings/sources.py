"""Where the settings of a broker come from: a file, the environment, options.

Later sources in this order win. All three are given as mappings; `ringback_broker.daemon.settings_file` reads
the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from ringback.protocol.names import did_you_mean
from ringback_broker.settings.schema import SETTINGS, BrokerSettings, InvalidSetting


class SettingsError(ValueError):
    """Some settings are wrong.

    Attributes:
        problems: one line for each, which says where it was found.
    """

    def __init__(self, problems: list[str]) -> None:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(problems[0] + more)
        self.problems = problems


@dataclass(frozen=True)
class LoadedSettings:
    """The settings that hold, and where they come from.

    Attributes:
        settings: all settings.
        origins: by the name of a setting: the path of the file, a variable or an option. Settings that are
            not in it have their default.
        path: the file that was read; None: there is none.
    """

    settings: BrokerSettings
    origins: Mapping[str, str]
    path: str | None

    def origin(self, name: str) -> str:
        """Return where a setting comes from."""
        return self.origins.get(name, "default")

    def where(self, name: str) -> str:
        """Return where to change a setting: a place in the file, a variable or an option."""
        return _where(name, self.origins, self.path)


def combine(
    path: str | None,
    in_file: Mapping[str, Any],
    environment: Mapping[str, str],
    options: Mapping[str, str | bool],
) -> LoadedSettings:
    """Combine the sources of settings.

    Args:
        path: of the file, for messages. Paths in the file are relative to it. None: there is no file.
        in_file: what the file says, by the name of the setting.
        environment: the variables of a process.
        options: what was given on the command line, by the name of the setting.

    Raises:
        SettingsError: something is wrong in one of the sources.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    problems: list[str] = []

    def take(name: str, value: Any, origin: str, where: str, text: bool) -> None:
        try:
            values[name] = SETTINGS[name].check(value, text=text)
            origins[name] = origin
        except InvalidSetting as error:
            problems.append(f"{where}: {error.reason}")

    for name, value in in_file.items():
        if name not in SETTINGS:
            problems.append(f"{path}: {name}: {_unknown(name)}")
            continue
        take(name, value, f"{path}", f"{path}: {name}", text=False)
        if SETTINGS[name].kind.is_path and name in values:
            values[name] = str(PurePath(f"{path}").parent / values[name])
    for name, setting in SETTINGS.items():
        if environment.get(setting.variable):
            take(name, environment[setting.variable], setting.variable, setting.variable, text=True)
    for name, value in options.items():
        take(name, value, SETTINGS[name].option, SETTINGS[name].option, text=True)
    if problems:
        raise SettingsError(problems)
    try:
        settings = BrokerSettings(**values)
    except InvalidSetting as error:
        raise SettingsError([f"{_where(error.setting, origins, path)}: {error.reason}"]) from None
    return LoadedSettings(settings, origins, path)


def _where(name: str, origins: Mapping[str, str], path: str | None) -> str:
    origin = origins.get(name, SETTINGS[name].option)
    return f"{origin}: {name}" if origin == path else origin


def _unknown(name: str) -> str:
    near = did_you_mean(name, SETTINGS)
    hint = f"{near} " if near else ""
    return f"no setting has this name; {hint}`ringback config show` prints all"
