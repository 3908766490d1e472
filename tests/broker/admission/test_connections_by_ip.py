"""Connections by IP. Their limits are tested with the switchboard, in test_strangers.py there."""

from __future__ import annotations

import pytest

from ringback_broker.admission.connections_by_ip import ConnectionsByIP
from ringback_broker.peers.connection import Connection, Side
from ringback_broker.settings.schema import BrokerSettings


def test_the_number_of_ips_that_are_shut_out_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringback_broker.admission.connections_by_ip.MAX_SHUT_OUT", 2)
    connections = ConnectionsByIP(BrokerSettings())
    ips = ("a", "", "b", "c")
    for ip in ips:
        connections.shut_out(ip, 10.0)
    assert [connections.is_shut_out(ip, 12.0) for ip in ips] == [True, False, True, False]
    connections.forget_old(12.0)
    assert connections.is_shut_out("a", 12.0)
    connections.forget_old(15.0)
    assert not connections.is_shut_out("a", 15.0) and connections._shut_out_until == {}


@pytest.mark.parametrize("rate", [1, 3, 10, 500])
def test_so_many_connections_pass_at_once_and_then_one_after_another(rate: int) -> None:
    connections = ConnectionsByIP(BrokerSettings(ip_handshakes=float(rate)))
    numbers = iter(range(10_000))

    def opened(count: int, now: float) -> int:
        reasons = [
            connections.opened(Side.PLAYERS, Connection(next(numbers), "a"), now) for _ in range(count)
        ]
        return reasons.count(None)

    now = 1000.0
    assert opened(rate + 1, now) == rate
    for _ in range(3):
        now += 0.9 / rate
        assert opened(1, now) == 0
        now += 0.1 / rate
        assert opened(2, now) == 1
    assert opened(2 * rate, now + 60.0) == rate


def test_so_many_connections_of_one_ip_may_be_open() -> None:
    connections = ConnectionsByIP(BrokerSettings(ip_connections=3))
    opened = [connections.opened(Side.PLAYERS, Connection(number, "a"), 10.0) for number in range(4)]
    assert [not reason for reason in opened] == [True, True, True, False]
    connections.closed(Side.PLAYERS, Connection(3, "a"))  # the broker closes it
    assert connections.opened(Side.PLAYERS, Connection(4, "a"), 11.0)
    connections.closed(Side.PLAYERS, Connection(4, "a"))
    connections.closed(Side.PLAYERS, Connection(0, "a"))
    assert not connections.opened(Side.PLAYERS, Connection(5, "a"), 12.0)


def test_a_crowd_that_is_delayed_is_a_crowd_until_its_ip_is_in_doubt() -> None:
    connections = ConnectionsByIP(BrokerSettings(ip_handshakes=2.0))
    closings = [connections.opened(Side.PLAYERS, Connection(number, "a"), 10.0) for number in range(3)]
    assert [closing and closing.delayed for closing in closings] == [None, None, True]
    assert connections.is_crowd(Side.PLAYERS, "a") and not connections.is_crowd(Side.BACKEND, "a")
    connections.doubt(Side.PLAYERS, "a")
    assert not connections.is_crowd(Side.PLAYERS, "a")
