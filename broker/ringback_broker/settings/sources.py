"""Where the settings of a broker come from: a file, the environment, options. What comes later in this order
beats what comes before."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ringback_broker.settings.schema import SETTINGS, BrokerSettings, InvalidSetting

FILE_NAME = "ringback.toml"
"""The file that is read where none is named, if there is one in the folder that the broker is started in."""

MAX_BYTES = 1024 * 1024


class SettingsError(ValueError):
    """Some settings are wrong.

    Attributes:
        problems: a line for each, which says where it was found.
    """

    def __init__(self, problems: list[str]) -> None:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(problems[0] + more)
        self.problems = problems


@dataclass(frozen=True)
class LoadedSettings:
    """What holds, and where it comes from.

    Attributes:
        config: all settings.
        origins: by setting, a file's name, a variable, an option; what is not in it is as ever.
        path: the file that was read; None: there is none.
    """

    config: BrokerSettings
    origins: Mapping[str, str]
    path: Path | None

    def origin(self, setting: str) -> str:
        return self.origins.get(setting, "default")

    def where(self, setting: str) -> str:
        """Tells where one would mend a setting: in the file, a variable, an option."""
        return _where(setting, self.origins, None if self.path is None else str(self.path))


def read_settings(
    path: str | None = None,
    options: Mapping[str, str | bool] | None = None,
    environment: Mapping[str, str] | None = None,
) -> LoadedSettings:
    """Finds out what holds.

    Args:
        path: of the file; None: `ringback.toml` where that is there.
        options: by setting, as they were given.
        environment: that of a process.

    Raises:
        SettingsError: the file can't be read, or something is wrong in it, or elsewhere.
    """
    environment = environment or {}
    if path is None and Path(FILE_NAME).is_file():
        path = FILE_NAME
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    problems: list[str] = []

    def take(name: str, value: Any, origin: str, where: str, text: bool) -> None:
        try:
            values[name] = SETTINGS[name].check(value, text=text)
            origins[name] = origin
        except InvalidSetting as error:
            problems.append(f"{where}: {error.reason}")

    if path is not None:
        for name, value in _read_file(path).items():
            if name not in SETTINGS:
                problems.append(f"{path}: {name}: {_unknown(name)}")
                continue
            take(name, value, path, f"{path}: {name}", text=False)
            if SETTINGS[name].kind.is_path and name in values:
                values[name] = str(Path(path).parent / values[name])
    for name, setting in SETTINGS.items():
        if environment.get(setting.variable):
            take(name, environment[setting.variable], setting.variable, setting.variable, text=True)
    for name, value in (options or {}).items():
        take(name, value, SETTINGS[name].option, SETTINGS[name].option, text=True)
    if problems:
        raise SettingsError(problems)
    try:
        config = BrokerSettings(**values)
    except InvalidSetting as error:
        raise SettingsError([f"{_where(error.setting, origins, path)}: {error.reason}"]) from None
    return LoadedSettings(config, origins, None if path is None else Path(path))


def _where(setting: str, origins: Mapping[str, str], path: str | None) -> str:
    origin = origins.get(setting, SETTINGS[setting].option)
    return f"{origin}: {setting}" if origin == path else origin


def _read_file(path: str) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise SettingsError(
                [f"{path}: a file of at most {MAX_BYTES} bytes is allowed, and this has more"]
            )
        return tomllib.loads(raw.decode())
    except OSError as error:
        raise SettingsError([f"{path}: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{path}: it is not UTF-8"]) from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError([f"{path}: it is not TOML: {error}"]) from None
    except ValueError as error:  # a path with a zero byte
        if isinstance(error, SettingsError):
            raise
        raise SettingsError([f"{path!r}: {error}"]) from None


def _unknown(name: str) -> str:
    near = get_close_matches(name, SETTINGS, 1)
    hint = f"is it {near[0]}? " if near else ""
    return f"no setting has this name; {hint}`ringback config show` has all"


@dataclass(frozen=True)
class Change:
    """What becomes of settings that were read anew.

    Attributes:
        config: what holds from now on.
        taken: what has another value now, as `lease 60.0 -> 30.0`.
        waiting: what has another value once the broker is started anew.
    """

    config: BrokerSettings
    taken: list[str]
    waiting: list[str]


def change(old: BrokerSettings, new: BrokerSettings) -> Change:
    """Tells what of new settings can hold now."""
    taken, waiting, values = [], [], {}
    for name, setting in SETTINGS.items():
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        said = f"{name} {before} -> {after}"
        if setting.about.reloads:
            taken.append(said)
            values[name] = after
        else:
            waiting.append(said)
    return Change(replace(old, **values), taken, waiting)
