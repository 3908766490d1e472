"""Tests of `guild.py`, with the plugin of ringback for pytest.

pytest examples/test_guild.py
"""

import threading

import pytest
from guild import add_guild

from ringback import Player, Server
from ringback.testing import Calls, Endpoints, LocalBroker, Network, reconnected, until_joined, until_left


@pytest.fixture
def server(ringback_endpoints: Endpoints) -> Server:
    server = ringback_endpoints.server()
    add_guild(server)
    return server


@pytest.fixture
def leader(server: Server, ringback_endpoints: Endpoints) -> Player:
    leader = ringback_endpoints.player("ann")
    assert leader.trigger_server_callback("guild:join").result() == ["ann"]
    return leader


@pytest.fixture
def bob(ringback_endpoints: Endpoints) -> Player:
    return ringback_endpoints.player("bob")


def test_the_leader_is_asked(leader: Player, bob: Player, ringback_calls: Calls) -> None:
    leader.register_client_callback("guild:accept", lambda player_id: player_id == "bob")
    assert bob.trigger_server_callback("guild:join").result() == ["ann", "bob"]
    [asked] = ringback_calls.until(1, "guild:accept")
    assert (asked.caller, asked.called, asked.payload) == ("server", "player 'ann'", "bob")


@pytest.mark.parametrize("answer", [False, None, "no", 1])
def test_only_true_means_yes(leader: Player, bob: Player, answer: object) -> None:
    leader.register_client_callback("guild:accept", lambda player_id: answer)
    error = bob.trigger_server_callback("guild:join").error
    assert error is not None and error.code == "NOT_WANTED"


def test_the_leader_s_link_is_cut_while_it_thinks(
    server: Server, leader: Player, bob: Player, ringback_network: Network
) -> None:
    asked = threading.Event()
    leader.register_client_callback("guild:accept", lambda payload, cb: asked.set())
    call = bob.trigger_server_callback("guild:join")
    assert asked.wait(10)
    ringback_network.refuse(leader)
    ringback_network.cut(leader)
    error = call.error
    assert error is not None and error.code == "NOT_WANTED"
    until_left(server, "ann")
    assert bob.trigger_server_callback("guild:join").result() == ["bob"]


def test_the_broker_comes_back(
    server: Server, leader: Player, bob: Player, ringback_broker: LocalBroker
) -> None:
    """For the server, everybody left meanwhile."""
    with reconnected(server, leader, bob):
        ringback_broker.restart()
    until_joined(server, "ann", "bob")
    assert bob.trigger_server_callback("guild:join").result() == ["bob"]
