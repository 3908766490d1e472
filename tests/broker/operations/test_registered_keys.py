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
