"""The table of registered keys."""

from __future__ import annotations

import pytest

from ringback.protocol.frames import Role
from ringback_broker.operations import registered_keys
from ringback_broker.operations.registered_keys import RegisteredKeys


def test_the_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registered_keys, "MAX_KEYS", 3)
    table = RegisteredKeys()
    first = table.replace(Role.PLAYER, (), ("a", "b", "a"))
    assert first == ("a", "b")
    second = table.replace(Role.PLAYER, (), ("c", "d", "a"))
    assert second == ("c", "a")
    assert table.replace(Role.SERVER, (), ("a",)) == ()
    assert table.rows() == [("a", "player", 2), ("b", "player", 1), ("c", "player", 1)]
    assert table.replace(Role.PLAYER, second, ("d",)) == ("d",)
    table.replace(Role.PLAYER, first, ())
    assert table.rows() == [("d", "player", 1)]


def test_a_key_has_the_schema_that_was_said_last() -> None:
    table = RegisteredKeys()
    first = table.replace(Role.PLAYER, (), ("a", "b"), {"a": "1", "not listed": "{}"})
    second = table.replace(Role.PLAYER, (), ("a",), {"a": "2"})
    table.replace(Role.PLAYER, (), ("a",))  # it says nothing of its key
    assert table.schemas() == [("a", Role.PLAYER, "2")]
    assert table.has_schema("a", Role.PLAYER)
    assert not table.has_schema("b", Role.PLAYER) and not table.has_schema("a", Role.SERVER)
    table.replace(Role.PLAYER, second, ())
    assert table.schemas() == [("a", Role.PLAYER, "2")]
    table.replace(Role.PLAYER, first, ("b",), {"b": "3"})
    table.replace(Role.PLAYER, ("a",), ())
    assert table.schemas() == [("b", Role.PLAYER, "3")]


def test_a_server_takes_a_schema_back() -> None:
    table = RegisteredKeys()
    keys = table.replace(Role.SERVER, (), ("a",), {"a": "1"})
    assert table.replace(Role.SERVER, keys, ("a",)) == ("a",)
    assert table.schemas() == []


def test_schemas_of_players_are_bounded_and_never_in_the_way_of_a_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registered_keys, "MAX_CROWD_SCHEMAS_BYTES", 5)
    table = RegisteredKeys()
    keys = table.replace(Role.PLAYER, (), ("a", "b"), {"a": "1234", "b": "56"})
    table.replace(Role.SERVER, (), ("a",), {"a": "123456"})
    assert table.schemas() == [("a", Role.PLAYER, "1234"), ("a", Role.SERVER, "123456")]
    keys = table.replace(Role.PLAYER, keys, ("a", "b"), {"a": "12", "b": "56"})  # there is room again
    assert table.schemas()[0] == ("a", Role.PLAYER, "12") and table.has_schema("b", Role.PLAYER)
    table.replace(Role.PLAYER, keys, ())
    assert table.schemas() == [("a", Role.SERVER, "123456")]
    table.replace(Role.PLAYER, (), ("c",), {"c": "12345"})
    assert table.has_schema("c", Role.PLAYER)
