"""Connections by IP. Their limits are tested with the switchboard, in test_strangers.py there."""

from __future__ import annotations

import pytest

from ringback_broker.admission.connections_by_ip import ConnectionsByIP
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
