"""Strangers: connections without a session."""

from __future__ import annotations

from ringback_broker.admission.strangers import Strangers
from ringback_broker.peers.connection import Connection, Side
from ringback_broker.settings.schema import BrokerSettings


def test_strangers_stay_until_they_are_overdue() -> None:
    strangers = Strangers(BrokerSettings())
    first, second, third = (Connection(number, "") for number in (1, 2, 3))
    for connection in (first, second):
        strangers.add(Side.PLAYERS, connection, 10.0)
        assert strangers.awaits_hello(Side.PLAYERS, connection)
        assert not strangers.awaits_hello(Side.BACKEND, connection)
    strangers.refuse(Side.PLAYERS, second, b"second")
    strangers.refuse(Side.BACKEND, third, b"third")
    assert strangers.refused == {Side.PLAYERS: {b"second"}, Side.BACKEND: {b"third"}}
    assert not strangers.awaits_hello(Side.PLAYERS, second)
    assert strangers.take_overdue(10.0) == []
    assert strangers.take_overdue(10.4) == []
    assert strangers.take_overdue(10.5) == [(Side.PLAYERS, second, False), (Side.BACKEND, third, False)]
    assert strangers.take_overdue(14.9) == []
    strangers.forget(Side.PLAYERS, first)
    strangers.forget(Side.PLAYERS, first)
    assert strangers.take_overdue(100.0) == []
    assert len(strangers) == 0
    assert strangers.refused == {Side.PLAYERS: set(), Side.BACKEND: set()}
    strangers.refuse(Side.PLAYERS, first, b"first")
    strangers.add(Side.PLAYERS, first, 200.0)  # another connection has its descriptor now
    assert strangers.refused[Side.PLAYERS] == set() and strangers.awaits_hello(Side.PLAYERS, first)


def test_one_that_is_gone_is_not_extended() -> None:
    strangers = Strangers(BrokerSettings())
    strangers.extend(Side.PLAYERS, Connection(7, "10.0.0.1"), 10.0)
    assert len(strangers) == 0
