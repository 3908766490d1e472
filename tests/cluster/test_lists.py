"""Endpoints with the addresses of all nodes: they spread, and go on elsewhere when their node is gone."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from itertools import count
from typing import Any

import pytest
from support.harness import PATIENCE_S, eventually
from support.promises import Promise
from support.realm_processes import LEASE_S, RealmOfProcesses, outcome

from ringback import CallbackError, Code, aio
from ringback.core.remembered_calls import ON_THE_WAY_S
from ringback_cli.exits import Exit

CROWD = 60
"""So many players that they cannot all choose the same of two nodes by chance."""

MOVED_S = 8.0
STOPPED_S = 15.0
"""How long the players of a node may take to work elsewhere after it was killed, or stopped."""


def nodes_of(realm: RealmOfProcesses, players: list[Any]) -> Counter[str | None]:
    return Counter(map(realm.node_of, players))


def until_works_for_all(players: list[Any]) -> None:
    """Have players call the server, all at once and again and again, until each has had a result."""
    left = list(players)

    def works() -> bool:
        calls = [(player, player.trigger_server_callback("echo", "up", timeout=30)) for player in left]
        left[:] = [player for player, call in calls if call.error is not None]
        return not left

    eventually(works, f"all players work, the last of them: {left[:5]}")


def until_all_are_called(server: Any, players: int) -> None:
    """Have the server call all players at once, until each has replied."""

    def works() -> bool:
        calls = server.trigger_all_client_callbacks("echo", 5, timeout=30).all()
        return set(calls) == set(range(1, players + 1)) and not any(call.error for call in calls.values())

    eventually(works, "all players can be called")


def test_players_spread_over_all_nodes_and_move_when_one_is_killed_or_drains(
    realm: RealmOfProcesses, promise: Promise
) -> None:
    dead = "tcp://127.0.0.1:1"
    server = realm.server([dead, *realm.backends])
    players = [realm.player([dead, *realm.players], number) for number in range(1, CROWD + 1)]
    assert set(nodes_of(realm, players)) == set("abc")
    eventually(lambda: len(server.players) == CROWD, "presence")

    lost = [player for player in players if realm.node_of(player) == "a"]
    pending = [player.trigger_server_callback("never", timeout=60) for player in lost]
    killed_at = time.monotonic()
    realm.kill("a")
    until_works_for_all(players)
    promise("players with lists work after their node was killed", time.monotonic() - killed_at, MOVED_S)
    assert {outcome(lambda call=call: call) for call in pending} <= {"CONNECTION_LOST", "SERVER_LOST"}
    assert set(nodes_of(realm, lost)) == {"b", "c"}
    until_all_are_called(server, CROWD)

    realm.brokers["b"].process.signal(signal.SIGTERM)
    assert realm.brokers["b"].process.wait() == Exit.OK
    until_works_for_all(players)
    assert set(nodes_of(realm, players)) == {"c"} and realm.node_of(server) == "c"
    until_all_are_called(server, CROWD)


@pytest.mark.faults
def test_a_node_that_is_stopped_is_left(realm: RealmOfProcesses, timed: Promise) -> None:
    """No connection closes, and nothing comes. New endpoints pass the node over."""
    server = realm.server(realm.backends)
    players = [realm.player(realm.players, number) for number in range(1, CROWD + 1)]
    stopped = next(name for name in "abc" if name != realm.node_of(server))
    process = realm.brokers[stopped].process
    process.signal(signal.SIGSTOP)
    stopped_at = time.monotonic()
    until_works_for_all(players)
    timed("players with lists work after their node was stopped", time.monotonic() - stopped_at, STOPPED_S)
    assert stopped not in nodes_of(realm, players)
    for number in range(101, 107):
        assert realm.node_of(realm.player(realm.players, number)) != stopped
    process.signal(signal.SIGCONT)


@pytest.mark.faults
def test_all_nodes_are_gone_and_come_back(short: RealmOfProcesses, timed: Promise) -> None:
    server = short.server(short.backends)
    players = [short.player(short.players, number) for number in range(1, 13)]
    until_works_for_all(players)
    for name in "abc":
        short.kill(name)
    eventually(lambda: not any(player.connected for player in players), "all links are lost")
    for player in players:
        error = player.trigger_server_callback("echo", 1).error
        assert error is not None and (error.code_name, error.executed) == ("CONNECTION_LOST", "no")
        assert error.message == "there is no link to a broker now"
    for name in "abc":
        short.restart(name)
    back_at = time.monotonic()
    until_works_for_all(players)
    timed("players with lists work after all nodes are back", time.monotonic() - back_at, LEASE_S + 8)
    until_all_are_called(server, 12)


# -- all nodes are restarted, one after the other


class Load:
    """Players and a server that call each other all the time. Every call is noted, and how it ended.

    Attributes:
        handled: how often each call reached its handler.
        failed: the calls with `retry` that failed.
    """

    def __init__(self) -> None:
        self.handled: Counter[str] = Counter()
        self.outcomes: dict[str, list[Any]] = {}
        self.failed: list[CallbackError] = []
        self.over = False
        self._numbers = count()

    def handle(self, payload: str) -> str:
        self.handled[payload] += 1
        return payload

    async def call(self, trigger: Any, *, retry: bool) -> None:
        """Make calls one after the other, until the load is over."""
        while not self.over:
            name = f"{'retry' if retry else 'plain'} {next(self._numbers)}"
            ends = self.outcomes[name] = []
            made = trigger(name, retry, ends.append)
            try:
                assert await made == name
            except CallbackError as error:
                ends.append(error)
                # A call to a player that is moving fails: nobody knows then that there is such a player.
                if retry and error.code is not Code.UNKNOWN_PLAYER:
                    self.failed.append(error)
                await asyncio.sleep(0)  # without a link, calls fail at once

    def check(self) -> Counter[str]:
        """Check that each call had one outcome, and that it is true. Return how many there were of each."""
        found: Counter[str] = Counter()
        for name, ends in self.outcomes.items():
            assert len(ends) == 1, (name, ends)
            [end] = ends
            if isinstance(end, CallbackError):
                found[end.code_name] += 1
                allowed = {"no": (0,), "maybe": (0, 1), "yes": (1,)}[end.executed]
            else:
                found["OK"] += 1
                allowed = (1,)
            assert self.handled[name] in allowed, (name, end, self.handled[name])
        return found


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_all_nodes_are_restarted_one_after_the_other_under_load(realm: RealmOfProcesses) -> None:
    """No call with `retry` fails. Every other one has one outcome, and it is true.

    A repeat is refused by an endpoint that was not there when the first try may have been on its way. So all
    are there for a while before anything happens.
    """
    load = Load()

    async def restart_all() -> None:
        for name in "abc":
            process = realm.brokers[name].process
            process.signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait) == Exit.OK
            await asyncio.to_thread(realm.restart, name)

    async def run() -> None:
        server = aio.Server(realm.backends, connect_timeout=PATIENCE_S)
        server.register_server_callback("up", lambda source, payload: load.handle(payload))
        players = [aio.Player(realm.players, number, connect_timeout=PATIENCE_S) for number in range(1, 13)]
        async with server:
            for player in players:
                player.register_client_callback("down", load.handle)
                await player.start()

            def up(player: aio.Player) -> Any:
                return lambda name, retry, done: player.trigger_server_callback(
                    "up", name, done, retry=retry, timeout=PATIENCE_S
                )

            def down(number: int) -> Any:
                return lambda name, retry, done: server.trigger_client_callback(
                    "down", number, name, done, retry=retry, timeout=PATIENCE_S
                )

            calls = [load.call(up(player), retry=retry) for player in players for retry in (True, False)]
            calls += [load.call(down(number), retry=retry) for number in (1, 2, 3) for retry in (True, False)]
            tasks = [asyncio.create_task(call) for call in calls]
            ready_at = time.monotonic() + ON_THE_WAY_S + 1.0
            while time.monotonic() < ready_at:
                await players[0].trigger_server_callback("up", "before", timeout=PATIENCE_S)
            await restart_all()
            load.over = True
            await asyncio.wait_for(asyncio.gather(*tasks), 2 * PATIENCE_S)
            for player in players:
                assert await player.trigger_server_callback("up", "at the end", retry=True) == "at the end"
                await player.close()

    asyncio.run(run())
    found = load.check()
    print(found)
    assert load.failed == []
    assert found["OK"] > 1000
    assert set(found) <= {
        "OK",
        "DRAINING",
        "CONNECTION_LOST",
        "NO_SERVER",
        "SERVER_LOST",
        "PLAYER_LEFT",
        "UNKNOWN_PLAYER",
    }
