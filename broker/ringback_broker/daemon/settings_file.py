"""Reading the settings file, `ringback.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ringback_broker.settings.sources import LoadedSettings, SettingsError, combine

FILE_NAME = "ringback.toml"
"""The file that is read if no other is named, where the folder in which the broker starts has one."""

MAX_BYTES = 1024 * 1024


def read_settings(
    path: str | None = None,
    options: Mapping[str, str | bool] | None = None,
    environment: Mapping[str, str] | None = None,
) -> LoadedSettings:
    """Read the settings file, and combine it with the other sources.

    Args:
        path: of the file; None: `ringback.toml` if there is one.
        options: what was given on the command line, by the name of the setting.
        environment: the variables of a process.

    Raises:
        SettingsError: the file cannot be read, or something is wrong in it or in another source.
    """
    if path is None and Path(FILE_NAME).is_file():
        path = FILE_NAME
    in_file = {} if path is None else _read(path)
    return combine(path, in_file, environment or {}, options or {})


def _read(path: str) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SettingsError([f"{path}: {error.strerror}"]) from None
    except ValueError as error:  # a path with a zero byte
        raise SettingsError([f"{path!r}: {error}"]) from None
    if len(raw) > MAX_BYTES:
        raise SettingsError([f"{path}: a file of at most {MAX_BYTES} bytes is allowed, and this has more"])
    try:
        return tomllib.loads(raw.decode())
    except UnicodeDecodeError:
        raise SettingsError([f"{path}: it is not UTF-8"]) from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError([f"{path}: it is not TOML: {error}"]) from None
