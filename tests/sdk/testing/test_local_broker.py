"""The broker that works in a thread of a test's process."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from ringback import Operator, Player, RejectCode, Server, UsageError
from ringback.testing import Endpoints, LocalBroker, reconnected, until_disconnected, until_joined
from ringback_broker import InvalidSetting


def test_it_starts_within_twenty_milliseconds() -> None:
    with LocalBroker():  # imports what it needs
        pass
    took = []
    for _ in range(20):
        began = time.perf_counter()
        with LocalBroker() as broker:
            took.append(time.perf_counter() - began)
            assert broker.running
    assert min(took) < 0.02, took


def test_it_shows_itself() -> None:
    broker = LocalBroker()
    assert repr(broker) == "<LocalBroker: down>"
    with broker:
        assert repr(broker) == f"<LocalBroker at {broker.players} and {broker.backend}: running>"
    assert repr(broker).endswith("down>")


def test_it_is_brought_back_at_the_same_addresses(
    ringback_broker: LocalBroker, ringback_endpoints: Endpoints
) -> None:
    addresses = ringback_broker.players, ringback_broker.backend
    server, player = ringback_endpoints.server(), ringback_endpoints.player(7)
    server.register_server_callback("echo", lambda source, payload: [source, payload])
    with reconnected(server, player):
        ringback_broker.restart()
    assert (ringback_broker.players, ringback_broker.backend) == addresses
    until_joined(server, 7)
    assert player.trigger_server_callback("echo", 1).result() == [7, 1]


def test_a_killed_broker_tells_nobody(ringback_broker: LocalBroker, ringback_endpoints: Endpoints) -> None:
    reasons: list[str] = []
    player = ringback_endpoints.player(7)
    player.on_disconnected(reasons.append)
    ringback_broker.kill()
    assert not ringback_broker.running
    with pytest.raises(UsageError, match="the broker is down"):
        _ = ringback_broker.broker
    until_disconnected(player)
    ringback_broker.kill()  # does nothing
    ringback_broker.start()
    ringback_endpoints.server()
    assert reasons == ["the connection was closed"]


def test_one_thread_kills_it_and_another_brings_it_back(
    ringback_broker: LocalBroker, ringback_endpoints: Endpoints
) -> None:
    """The test goes on as soon as its endpoints notice, before `kill` has returned in the other thread."""
    server, player = ringback_endpoints.server(), ringback_endpoints.player(7)
    for _ in range(20):
        killer = threading.Thread(target=ringback_broker.kill)
        with reconnected(server, player):
            killer.start()
            until_disconnected(player)
            ringback_broker.start()
        killer.join()
        assert ringback_broker.broker.players == ringback_broker.players
        assert ringback_broker.running


def test_a_stopped_broker_tells_everybody(
    ringback_broker: LocalBroker, ringback_endpoints: Endpoints
) -> None:
    reasons: list[str] = []
    player = ringback_endpoints.player(7)
    player.on_disconnected(reasons.append)
    ringback_broker.stop()
    until_disconnected(player)
    ringback_broker.start()
    ringback_endpoints.server()
    assert reasons == ["the broker is stopping"]


def test_nobody_else_gets_its_ports_while_it_is_down() -> None:
    with LocalBroker() as broker:
        ports = {int(address.rpartition(":")[2]) for address in (broker.players, broker.backend)}
        broker.kill()
        for port in ports:
            with socket.socket() as client, pytest.raises(ConnectionRefusedError):
                client.connect(("127.0.0.1", port))
            with socket.socket() as other, pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", port))
        broker.start()
        assert broker.running


def test_it_cannot_be_started_twice(ringback_broker: LocalBroker) -> None:
    with pytest.raises(UsageError, match="running already"):
        ringback_broker.start()


@pytest.mark.parametrize("side", ["players", "backend"])
def test_its_own_addresses(side: str, short_folder: object) -> None:
    with LocalBroker(**{side: f"ipc://{short_folder}/socket"}) as broker:
        assert getattr(broker, side) == f"ipc://{short_folder}/socket"
        with Server(broker.backend) as server, Player(broker.players, 7):
            until_joined(server, 7)
        broker.restart()
        with Operator(broker.backend) as operator:
            operator.ping().result()


def test_a_network_needs_tcp(short_folder: object) -> None:
    with (
        pytest.raises(ValueError, match="a network carries tcp only"),
        LocalBroker(proxied=True, players=f"ipc://{short_folder}/p"),
    ):
        pass


def test_a_network_that_is_not_there(ringback_broker: LocalBroker) -> None:
    with pytest.raises(UsageError, match="let the test have the argument ringback_network"):
        _ = ringback_broker.network


def test_a_wrong_setting() -> None:
    with pytest.raises(InvalidSetting, match=r"^grace: "), LocalBroker(grace=-1):
        pass


class TestSettings:
    """A fixture of a test module, or of a class, overrides the settings."""

    @pytest.fixture
    def ringback_settings(self) -> dict[str, object]:
        return {"max_players": 1, "http": "127.0.0.1:0"}

    def test_settings(self, ringback_broker: LocalBroker, ringback_endpoints: Endpoints) -> None:
        from ringback import Refused

        url = ringback_broker.http
        assert url is not None and url.startswith("http://127.0.0.1:")
        ringback_endpoints.player(7)
        with pytest.raises(Refused) as refused:
            ringback_endpoints.player(8)
        assert refused.value.code is RejectCode.FULL
        ringback_broker.kill()
        assert ringback_broker.http is None
        ringback_broker.start()
        assert ringback_broker.http == url
