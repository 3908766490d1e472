"""The schema of the settings: defaults, texts, and values that are wrong."""

from __future__ import annotations

from typing import Any

import pytest

from ringback.core.remembered_calls import REMEMBER_S
from ringback_broker.settings.schema import SETTINGS, BrokerSettings, InvalidSetting, json_schema


def test_settings_have_sound_defaults() -> None:
    settings = BrokerSettings()
    assert (settings.players, settings.backend) == ("tcp://127.0.0.1:5770", "tcp://127.0.0.1:5771")
    everywhere = BrokerSettings(players="tcp://*:0", backend="tcp://*:*", insecure=True)
    assert everywhere.players == "tcp://*:0"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"players": "here"}, "players: an address must be"),
        ({"players": 5770}, "players: tcp://HOST:PORT or ipc://PATH is allowed, not 5770"),
        ({"backend": "tcp://127.0.0.1:99999"}, "backend: a port must be"),
        ({"backend": "ipc://" + "x" * 200}, "backend: the path"),
        (
            {"players": "tcp://127.0.0.1:1", "backend": "tcp://127.0.0.1:1"},
            "backend: it must differ from players",
        ),
        ({"players": "tcp://*:1"}, "players: other machines can reach"),
        ({"backend": "tcp://[::]:1"}, "backend: other machines can reach"),
        ({"key_file": "broker.key"}, "access: it and key_file go together"),
        ({"access": "access.toml"}, "access: it and key_file go together"),
        ({"key_file": 1}, "key_file: the path of a file is allowed, not 1"),
        ({"lease": 0}, "lease: a number of seconds above 0 and below 1e9 is allowed, not 0$"),
        ({"lease": -1.0}, "lease: .* not -1.0"),
        ({"grace": float("nan")}, "grace: .* not nan"),
        ({"grace": float("inf")}, "grace: .* not inf"),
        ({"grace": True}, "grace: .* not True"),
        ({"hello": "5"}, "hello: a number of seconds .* not '5'"),
        ({"max_players": 0}, "max_players: a whole number from 1 to"),
        ({"crowd_heartbeat": 61}, "crowd_heartbeat: a number of seconds above 0, at most 60"),
        ({"max_players": 1.5}, "max_players: .* not 1.5"),
        ({"player_queue": True}, "player_queue: .* not True"),
        ({"backend_queue": 10**10}, "backend_queue: .* not 10000000000"),
        ({"max_operators": None}, "max_operators: .* not None"),
        ({"player_frames": float("nan")}, "player_frames: a number a second above 0, or inf"),
        ({"insecure": 1}, "insecure: true or false is allowed, not 1"),
        ({"spin": 2.0}, "spin: a number of seconds from 0 to 1 is allowed"),
        ({"http": "5772"}, "http: HOST:PORT is allowed, with a port of 0 to 65535, not '5772'"),
        ({"http": "*:1"}, "http: HOST:PORT is allowed"),
        ({"http": "127.0.0.1:99999"}, "http: HOST:PORT is allowed"),
        ({"http": 5772}, "http: HOST:PORT is allowed, not 5772"),
        ({"http": "0.0.0.0:1"}, "http: other machines can reach 0.0.0.0:1, so it needs a token"),
        ({"cluster": "h:4222"}, "cluster: nats://HOST:PORT or tls://HOST:PORT is allowed"),
        ({"cluster": ""}, "cluster: nats://HOST:PORT or tls://HOST:PORT is allowed"),
        ({"cluster": "nats://h,"}, "cluster: nats://HOST:PORT or tls://HOST:PORT is allowed"),
        ({"cluster": "nats://h:0"}, "cluster: a port must be from 1 to 65535"),
        ({"cluster": "nats://secret:word@h"}, "cluster: an address must have no user or password(?!.*word@)"),
        ({"cluster": "nats://h/x"}, "cluster: nats://HOST:PORT or tls://HOST:PORT is allowed"),
        ({"cluster": "ws://h"}, "cluster: nats://HOST:PORT or tls://HOST:PORT is allowed"),
        ({"realm": ""}, "realm: 1 to 64 letters, digits, - and _ are allowed, not ''"),
        ({"realm": "a.b"}, "realm: 1 to 64 letters, digits, - and _ are allowed, not 'a.b'"),
        ({"realm": "x" * 65}, "realm: 1 to 64 letters"),
        ({"cluster": "nats://h", "node": "a>"}, "node: 1 to 64 letters, digits, - and _ are allowed"),
        ({"cluster": "nats://h", "node_lease": 11}, "node_lease: a number of seconds from 12 to 120"),
        ({"node": "a"}, "node: it needs cluster"),
        ({"nats_ca": "a"}, "nats_ca: it needs cluster"),
        ({"nats_credentials": "a"}, "nats_credentials: it needs cluster"),
        ({"cluster": "nats://h", "nats_cert": "a"}, "nats_key: it and nats_cert go together"),
        ({"cluster": "nats://h", "nats_key": "a"}, "nats_key: it and nats_cert go together"),
        ({"log_format": "yaml"}, "log_format: text or json is allowed, not 'yaml'"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSetting, match=message):
        BrokerSettings(**settings)


def test_handlers_sides_remember_calls_for_as_long_as_a_node_may_hold_them_back() -> None:
    BrokerSettings(cluster="nats://h", node_lease=REMEMBER_S)
    with pytest.raises(InvalidSetting, match="node_lease: a number of seconds from 12 to 120"):
        BrokerSettings(cluster="nats://h", node_lease=REMEMBER_S + 1)


def test_addresses_of_nats_have_a_normal_form() -> None:
    settings = BrokerSettings(cluster="nats://h, tls://b:1/,nats://[::1]")
    assert settings.cluster == "nats://h:4222,tls://b:1,nats://[::1]:4222"
    assert (settings.realm, settings.node, settings.node_lease) == ("main", None, 15.0)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("lease", "2", 2.0),
        ("lease", " 1e3 ", 1000.0),
        ("max_players", "5", 5),
        ("insecure", "Yes", True),
        ("insecure", "0", False),
        ("ip_handshakes", "inf", float("inf")),
        ("access", "5", "5"),
    ],
)
def test_a_text_stands_for_a_value(name: str, text: str, value: Any) -> None:
    found = SETTINGS[name].check(text, text=True)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("lease", text) for text in ("", "nan", "inf", "1e999", "0x5")),
        *(("max_players", text) for text in ("", "1.5", "9" * 10_000)),
        *(("insecure", text) for text in ("", "2")),
        *(("log_format", text) for text in ("", "TEXT")),
    ],
)
def test_a_text_that_stands_for_none(name: str, text: str) -> None:
    with pytest.raises(InvalidSetting, match=f"{name}: .* is allowed, not '"):
        SETTINGS[name].check(text, text=True)


def test_a_whole_number_that_no_float_can_hold() -> None:
    with pytest.raises(InvalidSetting, match="player_bytes: a number a second above 0, or inf is allowed"):
        BrokerSettings(player_bytes=10**400)


def test_dashboards_that_are_allowed() -> None:
    assert BrokerSettings(http="127.0.0.1:0", dashboard=True).dashboard
    assert BrokerSettings(
        http="0.0.0.0:0",
        http_token_file="t",
        dashboard=True,
        key_file="b",
        access="a",
        dashboard_key_file="d",
    ).dashboard


def test_all_settings_have_a_text_and_one_name() -> None:
    assert len({setting.variable for setting in SETTINGS.values()}) == len(SETTINGS)
    for setting in SETTINGS.values():
        assert setting.about.text.endswith(".") and setting.kind.allowed
        assert setting.check(setting.default) == setting.default


def test_the_schema() -> None:
    schema = json_schema()
    assert list(schema["properties"]) == list(SETTINGS)
    assert schema["properties"]["lease"] == {
        "description": "A session ends when nothing comes from its peer for this long.",
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
