"""The tables around the switchboard: roster, doorman, directory, counters, and the settings."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from ringback.errors import Code
from ringback.protocol.frames import Role
from ringback.protocol.names import encode_address
from ringback_broker import directory
from ringback_broker.config import BrokerConfig, ConfigError
from ringback_broker.counters import Counters
from ringback_broker.directory import Directory
from ringback_broker.doorman import Doorman
from ringback_broker.roster import Roster
from ringback_broker.session import Connection, Side

BOUNCES = (Code.NO_SERVER, Code.UNKNOWN_PLAYER, Code.OVERLOADED, Code.DRAINING)


def test_a_session_is_in_all_tables_or_in_none() -> None:
    roster = Roster(crowd_heartbeat_s=5.0)
    connection = Connection(5, "there")
    for session in (
        roster.add_player(b"P", connection, 7, 1000, 0.0),
        roster.add_trusted(Role.SERVER, b"S", connection, 0.0),
        roster.add_trusted(Role.OPERATOR, b"O", Connection(6, "there"), 0.0),
    ):
        assert session in roster.sessions()
        assert roster.by_routing_id[session.side][session.routing_id] is session
        assert roster.at(session.side, session.connection) is session
    assert (len(roster), roster.operators(), len(roster.trusted()), roster.quick) == (3, 1, 2, 1)
    assert [session.number for session in roster.sessions()] == [1, 2, 3]
    assert [session.name for session in roster.sessions()] == ["player 7", "server", "operator 1"]
    for session in roster.sessions():
        roster.remove(session)
        assert session not in roster.sessions()
        assert roster.at(session.side, session.connection) is None
        assert session.routing_id not in roster.by_routing_id[session.side]
    assert (len(roster), roster.operators(), roster.server, roster.quick) == (0, 0, None, 0)


def test_free_ids_are_found_at_once_however_many_are_taken() -> None:
    class Counting(dict[bytes, Any]):
        looked_up = 0

        def __contains__(self, key: object) -> bool:
            Counting.looked_up += 1
            return super().__contains__(key)

    roster = Roster(crowd_heartbeat_s=5.0)
    roster.players = Counting({encode_address(number): None for number in range(1, 1001)})
    assert [roster.free_player_id() for _ in range(1000)] == list(range(1001, 2001))
    assert Counting.looked_up == 2000


def test_doorman() -> None:
    doorman = Doorman(BrokerConfig())
    first, second, third = (Connection(number, "") for number in (1, 2, 3))
    for connection in (first, second):
        doorman.arrived(Side.PLAYERS, connection, 10.0)
        assert doorman.admits(Side.PLAYERS, connection)
        assert not doorman.admits(Side.BACKEND, connection)
    doorman.refuse(Side.PLAYERS, second, b"second")
    doorman.refuse(Side.BACKEND, third, b"third")
    assert doorman.refused == {Side.PLAYERS: {b"second"}, Side.BACKEND: {b"third"}}
    assert not doorman.admits(Side.PLAYERS, second)
    assert doorman.overdue(10.0) == []
    assert doorman.overdue(10.4) == []
    assert doorman.overdue(10.5) == [(Side.PLAYERS, second, False), (Side.BACKEND, third, False)]
    assert doorman.overdue(14.9) == []
    doorman.settled(Side.PLAYERS, first)
    doorman.settled(Side.PLAYERS, first)
    assert doorman.overdue(100.0) == []
    assert len(doorman) == 0
    assert doorman.refused == {Side.PLAYERS: set(), Side.BACKEND: set()}
    doorman.refuse(Side.PLAYERS, first, b"first")
    doorman.arrived(Side.PLAYERS, first, 200.0)  # somebody else has its descriptor now
    assert doorman.refused[Side.PLAYERS] == set() and doorman.admits(Side.PLAYERS, first)


def test_addresses_that_are_shut_out_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringback_broker.doorman.MAX_SHUT_OUT", 2)
    doorman = Doorman(BrokerConfig())
    for remote in ("a", "", "b", "c"):
        doorman.shut_out(remote, 10.0)
    assert [doorman.is_shut_out(remote, 12.0) for remote in ("a", "", "b", "c")] == [True, False, True, False]
    doorman.overdue(12.0)
    assert doorman.is_shut_out("a", 12.0)
    doorman.overdue(15.0)
    assert not doorman.is_shut_out("a", 15.0) and doorman._shut_out == {}


def test_directory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "MAX_KEYS", 3)
    table = Directory()
    first = table.replace(Role.PLAYER, (), ("a", "b", "a"))
    assert first == ("a", "b")
    second = table.replace(Role.PLAYER, (), ("c", "d", "a"))
    assert second == ("c", "a")
    assert table.replace(Role.SERVER, (), ("a",)) == ()
    assert table.rows() == [("a", "player", 2), ("b", "player", 1), ("c", "player", 1)]
    assert table.replace(Role.PLAYER, second, ("d",)) == ("d",)
    table.replace(Role.PLAYER, first, ())
    assert table.rows() == [("d", "player", 1)]


def test_counters() -> None:
    counters = Counters()
    for code in BOUNCES:
        counters.count_bounce(code)
    rows = dict(counters.rows())
    assert set(rows) == {field.name for field in fields(Counters)}
    assert {name for name, value in rows.items() if value} == {
        f"bounced_{code.name.lower()}" for code in BOUNCES
    }


def test_settings_have_sound_defaults() -> None:
    config = BrokerConfig()
    assert (config.players, config.backend) == ("tcp://127.0.0.1:5770", "tcp://127.0.0.1:5771")
    everywhere = BrokerConfig(players="tcp://*:0", backend="tcp://*:*", insecure=True)
    assert everywhere.players == "tcp://*:0"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"players": "here"}, "players: an address is"),
        ({"players": 5770}, "players: tcp://HOST:PORT or ipc://PATH is allowed, not 5770"),
        ({"backend": "tcp://127.0.0.1:99999"}, "backend: a port is"),
        ({"backend": "ipc://" + "x" * 200}, "backend: the path"),
        ({"players": "tcp://127.0.0.1:1", "backend": "tcp://127.0.0.1:1"}, "two addresses"),
        ({"players": "tcp://*:1"}, "players: others can reach"),
        ({"backend": "tcp://[::]:1"}, "backend: others can reach"),
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
        ({"http": "0.0.0.0:1"}, "http: others can reach 0.0.0.0:1, so it needs a token"),
        ({"log_format": "yaml"}, "log_format: text or json is allowed, not 'yaml'"),
    ],
)
def test_settings_that_are_wrong(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BrokerConfig(**settings)
