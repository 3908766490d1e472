"""The settings file: where it is found, and files that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringback_broker.daemon.settings_file import MAX_BYTES, read_settings
from ringback_broker.settings.schema import BrokerSettings
from ringback_broker.settings.sources import SettingsError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "settings.toml"


def test_all_sources_are_combined(file: Path) -> None:
    file.write_text('lease = 10\ngrace = 11\nkey_file = "broker.key"\naccess = "access.toml"\n')
    found = read_settings(str(file), {"hello": "32"}, {"RINGBACK_GRACE": "21"})
    settings = found.settings
    assert (settings.lease, settings.grace, settings.hello) == (10.0, 21.0, 32.0)
    assert settings.key_file == str(file.parent / "broker.key")
    assert found.path == str(file)


def test_without_a_file_the_defaults_hold(file: Path) -> None:
    found = read_settings()
    assert (found.settings, found.path, dict(found.origins)) == (BrokerSettings(), None, {})


def test_the_file_in_this_folder_is_found(file: Path) -> None:
    Path("ringback.toml").write_text("lease = 7")
    found = read_settings()
    assert (found.settings.lease, found.origin("lease")) == (7.0, "ringback.toml")
    file.write_text("")
    assert read_settings(str(file)).settings == BrokerSettings()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"lease = ", "it is not TOML: Invalid value (at end of document)"),
        (b"lease = 1\nlease = 2", "it is not TOML: Cannot overwrite a value (at end of document)"),
        (b"\xff", "it is not UTF-8"),
        (b"a = " + b"[" * 5000, "it is not TOML: "),
        (b"#" * (MAX_BYTES + 1), "a file of at most 1048576 bytes is allowed"),
    ],
)
def test_content_that_is_wrong(file: Path, content: bytes, reason: str) -> None:
    file.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        read_settings(str(file))
    [problem] = caught.value.problems
    assert problem.startswith(f"{file}: {reason}")


@pytest.mark.parametrize(
    ("path", "reason"), [("no/such", "No such file"), (".", "Is a dir"), ("a\0b", "embed")]
)
def test_files_that_cannot_be_read(file: Path, path: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        read_settings(path)
