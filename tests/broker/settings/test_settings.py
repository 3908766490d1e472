"""Settings from a file, the environment and options: which one holds, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringback_broker.settings.schema import SETTINGS, BrokerSettings, json_schema
from ringback_broker.settings.sources import MAX_BYTES, SettingsError, change, read_settings


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "settings.toml"


def problems(path: Path | None = None, **others: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read_settings(None if path is None else str(path), **others)
    return caught.value.problems


def test_what_comes_later_beats_what_comes_before(file: Path) -> None:
    file.write_text("lease = 10\ngrace = 11\nhello = 12\ninsecure = true\n")
    environment = {
        "RINGBACK_GRACE": "21",
        "RINGBACK_HELLO": "22",
        "RINGBACK_LEASE": "",
        "RINGBACK_OTHER": "1",
    }
    found = read_settings(str(file), {"hello": "32"}, environment)
    config = found.config
    assert (config.lease, config.grace, config.hello, config.slow) == (10.0, 21.0, 32.0, 10.0)
    origins = [found.origin(name) for name in ("lease", "grace", "hello", "slow")]
    assert origins == [str(file), "RINGBACK_GRACE", "--hello", "default"]
    assert config.insecure and found.path == file


def test_nothing_said_is_the_defaults(file: Path) -> None:
    found = read_settings()
    assert (found.config, found.path, dict(found.origins)) == (BrokerSettings(), None, {})


def test_the_file_of_this_folder_is_found(file: Path) -> None:
    Path("ringback.toml").write_text("lease = 7")
    found = read_settings()
    assert (found.config.lease, found.origin("lease")) == (7.0, "ringback.toml")
    file.write_text("")
    assert read_settings(str(file)).config == BrokerSettings()


def test_paths_in_a_file_begin_at_it(file: Path) -> None:
    file.write_text('key_file = "broker.key"\naccess = "/etc/access.toml"\n')
    config = read_settings(str(file)).config
    assert (config.key_file, config.access) == (str(file.parent / "broker.key"), "/etc/access.toml")
    config = read_settings(None, {"audit": "a.log"}, {}).config
    assert config.audit == "a.log"


def test_the_key_of_an_endpoint_is_not_the_broker_s(file: Path) -> None:
    environment = {"RINGBACK_KEY_FILE": "cli.key", "RINGBACK_BROKER_KEY_FILE": "b", "RINGBACK_ACCESS": "a"}
    assert read_settings(environment=environment).config.key_file == "b"


def test_each_wrong_thing_is_told_with_where_it_stands(file: Path) -> None:
    file.write_text('leese = 10\ngrace = "soon"\nkey_file = 5\n[zzz]\nx = 1\n')
    told = problems(file, options={"lease": "x"}, environment={"RINGBACK_INSECURE": "perhaps"})
    seconds = "a number of seconds above 0 and below 1e9 is allowed, not"
    assert told == [
        f"{file}: leese: no setting has this name; is it lease? `ringback config show` has all",
        f"{file}: grace: {seconds} 'soon'",
        f"{file}: key_file: the path of a file is allowed, not 5",
        f"{file}: zzz: no setting has this name; `ringback config show` has all",
        "RINGBACK_INSECURE: true or false is allowed, not 'perhaps'",
        f"--lease: {seconds} 'x'",
    ]
    with pytest.raises(SettingsError, match=r"leese.* \(and 5 more\)$"):
        read_settings(str(file), {"lease": "x"}, {"RINGBACK_INSECURE": "perhaps"})


def test_settings_that_do_not_go_together(file: Path) -> None:
    file.write_text('players = "tcp://*:1"')
    assert problems(file)[0].startswith(f"{file}: players: others can reach tcp://*:1, so it needs keys")
    others = {"RINGBACK_BACKEND": "tcp://*:1"}
    assert problems(environment=others)[0].startswith("RINGBACK_BACKEND: others can reach")
    assert problems(options={"key_file": "b"})[0].startswith("--access: it and key_file go together")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "--dashboard: HTTP serves it: give http too"),
        ({"http": "0.0.0.0:1", "insecure": "true"}, "--dashboard: others can reach 0.0.0.0:1, and the page"),
        ({"http": ":1"}, "--http: HOST:PORT is allowed"),
        (
            {"http": "127.0.0.1:1", "backend": "ipc://b"},
            "--dashboard: not everybody on this machine may join",
        ),
        ({"http": "127.0.0.1:1", "dashboard_key_file": "d"}, "--dashboard-key-file: it goes with key_file"),
        (
            {"http": "127.0.0.1:1", "key_file": "b", "access": "a"},
            "--dashboard: on a broker with keys it needs",
        ),
        (
            {"http": "127.0.0.1:1", "key_file": "b", "access": "a", "dashboard_key_file": "d"},
            "--dashboard: not everybody on this machine may join, and the page triggers callbacks, so it"
            " needs a token: give http_token_file (--http-token-file)",
        ),
        ({"dashboard": "false", "dashboard_key_file": "d"}, "--dashboard-key-file: it goes with dashboard"),
    ],
)
def test_a_dashboard_that_too_many_could_use(options: dict[str, str], told: str) -> None:
    assert problems(options={"dashboard": "true", **options})[0].startswith(told)


def test_dashboards_that_are_all_right() -> None:
    assert BrokerSettings(http="127.0.0.1:0", dashboard=True).dashboard
    assert BrokerSettings(
        http="0.0.0.0:0",
        http_token_file="t",
        dashboard=True,
        key_file="b",
        access="a",
        dashboard_key_file="d",
    ).dashboard


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
def test_files_that_are_none(file: Path, content: bytes, reason: str) -> None:
    file.write_bytes(content)
    [told] = problems(file)
    assert told.startswith(f"{file}: {reason}")


@pytest.mark.parametrize(
    ("path", "reason"), [("no/such", "No such file"), (".", "Is a dir"), ("a\0b", "embed")]
)
def test_files_that_can_t_be_read(file: Path, path: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        read_settings(path)


def test_what_can_change_while_the_broker_runs() -> None:
    old = BrokerSettings(lease=60, grace=5)
    found = change(old, BrokerSettings(lease=30, grace=6, max_players=7))
    assert (found.config.lease, found.config.grace, found.config.max_players) == (60.0, 6.0, 7)
    assert found.taken == ["grace 5.0 -> 6.0", "max_players 16000 -> 7"]
    assert found.waiting == ["lease 60.0 -> 30.0"]
    nothing = change(old, old)
    assert (nothing.config, nothing.taken, nothing.waiting) == (old, [], [])


def test_all_settings_have_a_text_and_one_name() -> None:
    assert len({setting.variable for setting in SETTINGS.values()}) == len(SETTINGS)
    for setting in SETTINGS.values():
        assert setting.about.text.endswith(".") and setting.kind.allowed
        assert setting.check(setting.default) == setting.default


def test_where_a_setting_would_be_mended(file: Path) -> None:
    file.write_text("lease = 10\n")
    found = read_settings(str(file), {"hello": "1"}, {"RINGBACK_GRACE": "2"})
    told = [found.where(name) for name in ("lease", "hello", "grace", "key_file")]
    assert told == [f"{file}: lease", "--hello", "RINGBACK_GRACE", "--key-file"]


def test_the_schema() -> None:
    schema = json_schema()
    assert list(schema["properties"]) == list(SETTINGS)
    assert schema["properties"]["lease"] == {
        "description": "A peer from which nothing came for so long is out.",
        "type": "number",
        "exclusiveMinimum": 0,
        "exclusiveMaximum": 1e9,
        "default": 60.0,
        "x-unit": "SECONDS",
    }
    assert schema["properties"]["access"]["type"] == "string"
    assert "default" not in schema["properties"]["access"]
    assert "x-unit" not in schema["properties"]["insecure"]
    assert schema["properties"]["log_format"]["enum"] == ["text", "json"]
