"""Connections without a session."""

from __future__ import annotations

import pytest

from ringback.errors import Code
from ringback_broker.admission.strangers import Strangers
from ringback_broker.peers.connection import Connection, Side
from ringback_broker.settings.schema import BrokerSettings

BOUNCES = (Code.NO_SERVER, Code.UNKNOWN_PLAYER, Code.OVERLOADED, Code.DRAINING)


def test_doorman() -> None:
    doorman = Strangers(BrokerSettings())
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
    monkeypatch.setattr("ringback_broker.admission.strangers.MAX_SHUT_OUT", 2)
    doorman = Strangers(BrokerSettings())
    for remote in ("a", "", "b", "c"):
        doorman.shut_out(remote, 10.0)
    assert [doorman.is_shut_out(remote, 12.0) for remote in ("a", "", "b", "c")] == [True, False, True, False]
    doorman.overdue(12.0)
    assert doorman.is_shut_out("a", 12.0)
    doorman.overdue(15.0)
    assert not doorman.is_shut_out("a", 15.0) and doorman._shut_out == {}
