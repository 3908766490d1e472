"""Combining a file, the environment and options: which value holds, and what the errors say."""

from __future__ import annotations

from typing import Any

import pytest

from ringback_broker.settings.schema import BrokerSettings
from ringback_broker.settings.sources import LoadedSettings, SettingsError, combine

FILE = "/etc/ringback/settings.toml"


def combined(
    in_file: dict[str, Any] | None = None,
    environment: dict[str, str] | None = None,
    options: dict[str, str | bool] | None = None,
) -> LoadedSettings:
    path = None if in_file is None else FILE
    return combine(path, in_file or {}, environment or {}, options or {})


def problems(*sources: Any, **others: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        combined(*sources, **others)
    return caught.value.problems


def test_later_sources_win() -> None:
    environment = {
        "RINGBACK_GRACE": "21",
        "RINGBACK_HELLO": "22",
        "RINGBACK_LEASE": "",
        "RINGBACK_OTHER": "1",
    }
    in_file = {"lease": 10, "grace": 11, "hello": 12, "insecure": True}
    found = combined(in_file, environment, {"hello": "32"})
    settings = found.settings
    assert (settings.lease, settings.grace, settings.hello, settings.slow) == (10.0, 21.0, 32.0, 10.0)
    origins = [found.origin(name) for name in ("lease", "grace", "hello", "slow")]
    assert origins == [FILE, "RINGBACK_GRACE", "--hello", "default"]
    assert settings.insecure and found.path == FILE


def test_without_sources_the_defaults_hold() -> None:
    found = combined()
    assert (found.settings, found.path, dict(found.origins)) == (BrokerSettings(), None, {})


def test_paths_in_a_file_are_relative_to_it() -> None:
    settings = combined({"key_file": "broker.key", "access": "/etc/access.toml"}).settings
    assert (settings.key_file, settings.access) == ("/etc/ringback/broker.key", "/etc/access.toml")
    assert combined(options={"audit": "a.log"}).settings.audit == "a.log"


def test_the_key_file_of_an_endpoint_is_not_the_broker_s() -> None:
    environment = {"RINGBACK_KEY_FILE": "cli.key", "RINGBACK_BROKER_KEY_FILE": "b", "RINGBACK_ACCESS": "a"}
    assert combined(environment=environment).settings.key_file == "b"


def test_each_problem_says_where_it_stands() -> None:
    wrong: tuple[dict[str, Any], dict[str, str], dict[str, str | bool]] = (
        {"leese": 10, "grace": "soon", "key_file": 5, "zzz": {"x": 1}},
        {"RINGBACK_INSECURE": "perhaps"},
        {"lease": "x"},
    )
    seconds = "a number of seconds above 0 and below 1e9 is allowed, not"
    assert problems(*wrong) == [
        f"{FILE}: leese: no setting has this name; did you mean 'lease'? `ringback config show` prints all",
        f"{FILE}: grace: {seconds} 'soon'",
        f"{FILE}: key_file: the path of a file is allowed, not 5",
        f"{FILE}: zzz: no setting has this name; `ringback config show` prints all",
        "RINGBACK_INSECURE: true or false is allowed, not 'perhaps'",
        f"--lease: {seconds} 'x'",
    ]
    with pytest.raises(SettingsError, match=r"leese.* \(and 5 more\)$"):
        combined(*wrong)


def test_settings_that_do_not_go_together() -> None:
    found = problems({"players": "tcp://*:1"})[0]
    assert found.startswith(f"{FILE}: players: other machines can reach tcp://*:1, so the broker needs keys")
    others = {"RINGBACK_BACKEND": "tcp://*:1"}
    assert problems(environment=others)[0].startswith("RINGBACK_BACKEND: other machines can reach")
    assert problems(options={"key_file": "b"})[0].startswith("--access: it and key_file go together")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "--dashboard: it is served over HTTP: set http too"),
        (
            {"http": "0.0.0.0:1", "insecure": "true"},
            "--dashboard: other machines can reach 0.0.0.0:1, and the page",
        ),
        ({"http": ":1"}, "--http: HOST:PORT is allowed"),
        (
            {"http": "127.0.0.1:1", "backend": "ipc://b"},
            "--dashboard: not everybody on this machine may join",
        ),
        ({"http": "127.0.0.1:1", "dashboard_key_file": "d"}, "--dashboard-key-file: it needs key_file and"),
        (
            {"http": "127.0.0.1:1", "key_file": "b", "access": "a"},
            "--dashboard: on a broker with keys it needs",
        ),
        (
            {"http": "127.0.0.1:1", "key_file": "b", "access": "a", "dashboard_key_file": "d"},
            "--dashboard: not everybody on this machine may join, and the page triggers calls, so it"
            " needs a token: set http_token_file (--http-token-file)",
        ),
        ({"dashboard": "false", "dashboard_key_file": "d"}, "--dashboard-key-file: it needs dashboard"),
    ],
)
def test_a_dashboard_that_too_many_could_use(options: dict[str, str], message: str) -> None:
    assert problems(options={"dashboard": "true", **options})[0].startswith(message)


def test_where_to_change_a_setting() -> None:
    found = combined({"lease": 10}, {"RINGBACK_GRACE": "2"}, {"hello": "1"})
    places = [found.where(name) for name in ("lease", "hello", "grace", "key_file")]
    assert places == [f"{FILE}: lease", "--hello", "RINGBACK_GRACE", "--key-file"]
