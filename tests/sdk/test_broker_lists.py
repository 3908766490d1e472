"""Endpoints with a list of addresses, in both faces: who lets them in, and what is said if nobody does.

The brokers here are no realm: each of them is one of its own. `tests/cluster` has tests with realms.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.faces import Face, HereBroker, LogLines, Seen, Stage
from support.harness import PATIENCE_S, eventually
from support.keyring import KeyRing
from support.names import Names

from ringback import BrokerUnreachable, Operator, Player, Refused, RejectCode, Server
from ringback._runtime import resolver
from ringback.testing import Calls, Endpoints, LocalBroker, Network, until_connected

DEAD = ["tcp://127.0.0.1:1", "tcp://127.0.0.2:1", "ipc:///nobody/listens/here"]
"""Addresses where nobody listens."""


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    known = Names()
    monkeypatch.setattr(socket, "getaddrinfo", known.getaddrinfo)
    yield known
    known.released.set()
    eventually(lambda: not resolver.resolver._threads, "all lookups have ended")


@pytest.fixture
def other() -> Iterator[HereBroker]:
    with HereBroker() as broker:
        yield broker


def test_dead_addresses_are_passed_over(face: Face, here: HereBroker) -> None:
    """Each endpoint has an order of its own, so in most of them a dead address comes first."""

    async def run() -> None:
        async with Stage(face, here) as stage:
            for number in range(1, 7):
                player = stage.make("Player", [*DEAD, here.players], number, connect_timeout=PATIENCE_S)
                await stage._start(player)
                assert player.address == player.link_address == here.players
                assert player.addresses == (*DEAD, here.players)
            server = stage.make("Server", [*DEAD, here.backend], connect_timeout=PATIENCE_S)
            await stage._start(server)
            operator = stage.make("Operator", (here.backend, DEAD[0]), connect_timeout=PATIENCE_S)
            await stage._start(operator)
            await stage.still_works(server, player)

    asyncio.run(run())


def test_each_name_of_a_list_has_all_its_ips(face: Face, here: HereBroker, names: Names) -> None:
    """Names that are unknown, whose lookup hangs, or whose first IP is dead hold nobody up for long."""

    async def run() -> None:
        port = here.players.rpartition(":")[2]
        names.table |= {"hangs.test": None, "two.test": ["127.0.0.2", "::1", "127.0.0.1"]}
        addresses = [f"tcp://{name}.test:{port}" for name in ("unknown", "hangs", "two")]
        async with Stage(face, here) as stage:
            server = await stage.server()
            player = stage.make("Player", addresses, 7, connect_timeout=6.0)
            await stage._start(player)
            assert (player.address, player.link_address) == (addresses[2], here.players)
            await stage.still_works(server, player)

    asyncio.run(run())


def test_when_all_are_dead_the_error_names_each(face: Face) -> None:
    async def run() -> None:
        player = Stage(face, None).make("Player", DEAD, 7, connect_timeout=0.5)
        with pytest.raises(BrokerUnreachable) as caught:
            await asyncio.wait_for(face.start(player), PATIENCE_S)
        assert str(caught.value).startswith("no broker answered in time (")
        for address in DEAD:
            assert f"{address}: the connection was refused" in str(caught.value)

    asyncio.run(run())


def test_an_endpoint_goes_on_at_another_broker_and_says_so(
    face: Face, here: HereBroker, other: HereBroker, sdk_log: LogLines
) -> None:
    async def run() -> None:
        brokers = {here.players: here, other.players: other}
        async with Stage(face, here) as stage:
            player = stage.make("Player", list(brokers), 7)
            connected = Seen()
            player.on_connected(connected)
            await stage._start(player)
            left = player.address
            assert repr(player).endswith(f"Player({list(brokers)!r}, 7) connected to {left}>")
            await asyncio.to_thread(brokers.pop(left).drain)
            [stays] = brokers
            assert await connected.count(2) == [left, stays]
            assert player.address == player.link_address == stays
            await sdk_log.wait_for(f"player 7: the link to {left} was lost ")
            await sdk_log.wait_for(f"player 7: there is a link again, to {stays}")

    asyncio.run(run())


def test_a_broker_that_is_full_is_passed_over(face: Face, other: HereBroker) -> None:
    async def run() -> None:
        with HereBroker(max_players=1) as small:
            addresses = [small.players, other.players]
            async with Stage(face, small) as stage:
                await stage.player(7)
                for number in range(8, 12):
                    player = stage.make("Player", addresses, number)
                    await stage._start(player)
                    assert player.address == other.players

    asyncio.run(run())


def test_when_all_are_full_a_start_fails_at_once(face: Face) -> None:
    async def run() -> None:
        with HereBroker(max_players=1) as one, HereBroker(max_players=1) as two:
            addresses = [one.players, two.players]
            async with Stage(face, one) as stage:
                await stage.player(7)
                await stage._start(stage.make("Player", two.players, 7))
                late = stage.make("Player", addresses, 8, connect_timeout=10 * PATIENCE_S)
                with pytest.raises(Refused) as caught:
                    await stage.within(face.start(late))
                assert caught.value.code is RejectCode.FULL
                for address in addresses:
                    assert f"{address}: FULL: the limit of 1 players is reached" in caught.value.message

    asyncio.run(run())


def test_brokers_of_a_list_share_a_key_pair(face: Face, tmp_path: Path) -> None:
    async def run() -> None:
        ring = KeyRing(tmp_path)
        anna = ring.add("anna", "player", 7)
        with HereBroker(**ring.settings) as one, HereBroker(**ring.settings) as two:
            brokers = {one.players: one, two.players: two}
            async with Stage(face, one) as stage:
                player = stage.make("Player", list(brokers), 7, key_file=anna)
                connected = Seen()
                player.on_connected(connected)
                await stage._start(player)
                await asyncio.to_thread(brokers[player.address].kill)
                first, second = await connected.count(2)
                assert {first, second} == set(brokers)

    asyncio.run(run())


@pytest.mark.parametrize("make", [Player, Server, Operator], ids=lambda make: make.__name__)
def test_a_wrong_list_is_one_clear_error(make: Any) -> None:
    for wrong, said in (
        ([], "a list of addresses must have 1 to 64 of them, not 0"),
        ("tcp://a.test:1,tcp://b.test:1", "give several as a list of str"),
        (["tcp://a.test:1", "tcp://a.test:1"], "must differ"),
    ):
        with pytest.raises(ValueError, match=said):
            make(wrong)
    for wrong in (7, None, b"tcp://a.test:1", {"tcp://a.test:1"}, ["tcp://a.test:1", 7]):
        with pytest.raises(TypeError, match=r"an address must be a str"):
            make(wrong)


def test_what_an_endpoint_says_before_it_is_started() -> None:
    given = ["tcp://a.test:1", "tcp://b.test:1"]
    player = Player(given, 7)
    given.append("tcp://c.test:1")
    assert player.addresses == ("tcp://a.test:1", "tcp://b.test:1") and player.address in player.addresses
    assert repr(player) == (
        "<ringback.Player(['tcp://a.test:1', 'tcp://b.test:1'], 7) not started, or closed>"
    )
    one = Player(["tcp://a.test:1"])
    assert repr(one) == "<ringback.Player('tcp://a.test:1') not started, or closed>"
    assert one.addresses == ("tcp://a.test:1",) and one.address == "tcp://a.test:1"


# -- ringback.testing


def test_the_recorder_and_the_network_know_endpoints_with_lists(
    ringback_broker: LocalBroker,
    ringback_endpoints: Endpoints,
    ringback_network: Network,
    ringback_calls: Calls,
) -> None:
    server = ringback_endpoints.server()
    server.register_server_callback("echo", lambda source, payload: payload)
    with ExitStack() as stack:
        player = stack.enter_context(Player([DEAD[0], ringback_broker.players], 7))
        stranger = stack.enter_context(HereBroker())
        elsewhere = stack.enter_context(Player([DEAD[0], stranger.players], 7))
        player.trigger_server_callback("echo", 1).result()
        assert elsewhere.trigger_server_callback("echo", 1).error is not None
        assert [call.outcome for call in ringback_calls.until(1)] == ["OK"]
        assert ringback_network.cut(player) == 1
        until_connected(player)
        with pytest.raises(ValueError, match="does not connect through this network"):
            ringback_network.cut(elsewhere)
