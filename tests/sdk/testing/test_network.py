"""The network between endpoints and a broker, with its faults."""

from __future__ import annotations

import time

import pytest

from ringback import BrokerUnreachable, CallTimeout, Player
from ringback.testing import (
    Endpoints,
    LocalBroker,
    Network,
    reconnected,
    until_connected,
    until_disconnected,
    until_joined,
    until_left,
)


def test_a_delay_of_one_endpoint(ringback_endpoints: Endpoints, ringback_network: Network) -> None:
    server = ringback_endpoints.server()
    slow, fast = ringback_endpoints.player(7, heartbeat=60.0), ringback_endpoints.player(8)
    server.register_server_callback("echo", lambda source, payload: payload)
    ringback_network.delay(0.1, slow)
    began = time.monotonic()
    assert slow.trigger_server_callback("echo", 7).result() == 7
    assert time.monotonic() - began >= 0.2  # there and back
    ringback_network.delay(1000.0, slow)
    call = slow.trigger_server_callback("echo", 7)
    assert fast.trigger_server_callback("echo", 8).result() == 8
    assert not call.done()
    ringback_network.restore(slow)
    assert call.result() == 7


def test_drop_and_restore(ringback_endpoints: Endpoints, ringback_network: Network) -> None:
    """What was dropped arrives later, as after a short outage."""
    server = ringback_endpoints.server()
    player = ringback_endpoints.player(7, heartbeat=60.0)
    server.register_server_callback("echo", lambda source, payload: payload)
    ringback_network.drop(player)
    lost, kept = (player.trigger_server_callback("echo", 1, timeout=timeout) for timeout in (0.1, 10.0))
    assert isinstance(lost.error, CallTimeout)
    assert not kept.done()
    ringback_network.restore(player)
    assert kept.result() == 1
    assert player.connected


def test_a_silent_link_is_noticed(ringback_endpoints: Endpoints, ringback_network: Network) -> None:
    server, player = ringback_endpoints.server(), ringback_endpoints.player(7, heartbeat=0.1)
    until_joined(server, 7)
    ringback_network.drop(player)
    until_disconnected(player)
    ringback_network.restore()
    until_connected(player)


def test_cut_one_of_two(ringback_endpoints: Endpoints, ringback_network: Network) -> None:
    one, two = ringback_endpoints.player(1), ringback_endpoints.player(2)
    lost: list[int] = []
    one.on_disconnected(lambda reason: lost.append(1))
    two.on_disconnected(lambda reason: lost.append(2))
    with reconnected(one):
        assert ringback_network.cut(one, reset=True) == 1
    assert two.connected and lost == [1]
    with reconnected(one, two):
        assert ringback_network.cut() == 2


def test_refuse(ringback_endpoints: Endpoints, ringback_network: Network) -> None:
    server, player = ringback_endpoints.server(), ringback_endpoints.player(7)
    until_joined(server, 7)
    ringback_network.refuse(player)
    assert player.connected  # connections that are open stay
    ringback_network.cut(player)
    until_left(server, 7)
    with pytest.raises(BrokerUnreachable, match="the connection was refused"):
        Player(player.address, 8, connect_timeout=0.2).start()
    ringback_network.restore(player)
    until_joined(server, 7)


def test_endpoints_that_the_test_makes_itself(
    ringback_broker: LocalBroker, ringback_endpoints: Endpoints, ringback_network: Network
) -> None:
    """They share a link."""
    server = ringback_endpoints.server()
    with Player(ringback_broker.players, 7) as one, Player(ringback_broker.players, 8) as two:
        until_joined(server, 7, 8)
        with reconnected(one, two):
            assert ringback_network.cut(one) == 2
        assert server.connected


def test_the_broker_comes_back_behind_the_network(
    ringback_broker: LocalBroker, ringback_endpoints: Endpoints, ringback_network: Network
) -> None:
    server, player = ringback_endpoints.server(), ringback_endpoints.player(7)
    ringback_network.delay(0.01)
    with reconnected(server, player):
        ringback_broker.restart()
    until_joined(server, 7)


def test_an_endpoint_of_another_network(ringback_network: Network) -> None:
    stranger = Player("tcp://127.0.0.1:1", 7)
    with pytest.raises(ValueError, match="does not connect through this network"):
        ringback_network.cut(stranger)


def test_what_is_done_to_all_links_is_done_to_later_ones(
    ringback_endpoints: Endpoints, ringback_network: Network
) -> None:
    ringback_network.refuse()
    with pytest.raises(BrokerUnreachable):
        ringback_endpoints.server(connect_timeout=0.2)
    ringback_network.restore()
    ringback_endpoints.server().register_server_callback("echo", lambda source, payload: payload)
    ringback_network.delay(0.1)
    slow = ringback_endpoints.player(7)
    began = time.monotonic()
    assert slow.trigger_server_callback("echo", 7).result() == 7
    assert time.monotonic() - began >= 0.2  # there and back
    ringback_network.drop()
    with pytest.raises(BrokerUnreachable):
        ringback_endpoints.player(8, connect_timeout=0.2)
    ringback_network.restore()
    ringback_network.refuse(slow)  # about this one alone
    ringback_endpoints.player(9)


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), None, "1"])
def test_a_wrong_delay(ringback_network: Network, seconds: float) -> None:
    with pytest.raises((TypeError, ValueError), match="seconds must be"):
        ringback_network.delay(seconds)


def test_what_is_not_an_endpoint(ringback_network: Network) -> None:
    for function in (ringback_network.drop, ringback_network.cut, ringback_network.refuse):
        with pytest.raises(TypeError, match="must be a Server, a Player or an Operator, not int"):
            function(7)  # type: ignore[arg-type]
