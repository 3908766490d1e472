"""One server follows another: by a hand-over no call fails, and after a kill none waits for ever."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections import defaultdict
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.harness import PATIENCE_S, BrokerProcess, Process

from ringback import CallbackError, ServerLost
from ringback.aio import Player

SUCCESSOR = str(Path(__file__).with_name("successor.py"))
REPLACED = 10
PLAYERS = 4
AT_ONCE = 8


class Load:
    """Players that call the server all the time, and are called by it."""

    def __init__(self) -> None:
        self.over = False
        self.failed: list[str] = []
        self.by_server: dict[str, int] = defaultdict(int)
        self.served_by: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def call(self, player: Player) -> None:
        number = 0
        while not self.over:
            number += 1
            try:
                name, echoed = await player.trigger_server_callback("up", number)
            except CallbackError as error:
                self.failed.append(f"{error} {error.executed}")
                await asyncio.sleep(0.05)
            else:
                assert echoed == number
                self.by_server[name] += 1
                self.served_by[name].set()


def start(stack: ExitStack, broker: BrokerProcess, number: int) -> Process:
    face = ("asyncio", "blocking")[number % 2]
    arguments = SUCCESSOR, face, broker.backend, str(number)
    server = stack.enter_context(Process(*arguments, stdin=subprocess.PIPE))
    server.wait_for("ready")
    return server


def order_hand_over(server: Process) -> None:
    assert server.popen.stdin is not None
    server.popen.stdin.write("hand over\n")
    server.popen.stdin.flush()


def hand_over(server: Process) -> dict[str, Any]:
    """Have a server hand over and end. Return what became of its calls."""
    order_hand_over(server)
    found: dict[str, Any] = json.loads(server.wait_for(r"^\{.*\}$")[0])
    assert server.wait() == 0, server.output()
    return found


async def replace(stack: ExitStack, broker: BrokerProcess) -> None:
    load = Load()
    acting = await asyncio.to_thread(start, stack, broker, 0)
    async with AsyncExitStack() as players, asyncio.TaskGroup() as group, asyncio.timeout(4 * PATIENCE_S):
        for player_id in range(1, PLAYERS + 1):
            player = Player(broker.players, player_id)
            player.register_client_callback("down", lambda payload: payload)
            await players.enter_async_context(player)
            for _ in range(AT_ONCE):
                group.create_task(load.call(player))
        ended = []
        for number in range(1, REPLACED + 1):
            next_one = await asyncio.to_thread(start, stack, broker, number)
            await load.served_by[str(number - 1)].wait()
            ended.append(await asyncio.to_thread(hand_over, acting))
            acting = next_one
        await load.served_by[str(REPLACED)].wait()
        load.over = True
    assert load.failed == [] and [end["failed"] for end in ended] == [[]] * REPLACED
    assert sorted(map(int, load.by_server)) == list(range(REPLACED + 1))
    assert all(end["succeeded"] for end in ended)
    print(f"{sum(load.by_server.values())} calls up, {sum(end['succeeded'] for end in ended)} calls down")


@pytest.mark.faults
def test_a_server_is_replaced_ten_times_and_no_call_fails() -> None:
    with ExitStack() as stack:
        broker = stack.enter_context(BrokerProcess())
        asyncio.run(replace(stack, broker))


async def kill_one_that_acts(stack: ExitStack, broker: BrokerProcess) -> None:
    load = Load()
    first, _second = [await asyncio.to_thread(start, stack, broker, number) for number in range(2)]
    player = Player(broker.players, 7)
    player.register_client_callback("down", lambda payload: payload)
    async with player, asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(load.call(player))
        await load.served_by["0"].wait()
        first.popen.kill()
        await load.served_by["1"].wait()
        load.over = True
    assert 0 < len(load.failed) <= AT_ONCE
    assert {error.split(":")[0] + error.split()[-1] for error in load.failed} == {"SERVER_LOSTmaybe"}


@pytest.mark.faults
def test_a_server_is_killed_while_another_one_stands_by() -> None:
    """The calls that were in flight end, and no call fails for want of a server."""
    with ExitStack() as stack:
        broker = stack.enter_context(BrokerProcess())
        asyncio.run(kill_one_that_acts(stack, broker))


async def kill_one_that_retires(stack: ExitStack, broker: BrokerProcess) -> None:
    first, second = [await asyncio.to_thread(start, stack, broker, number) for number in range(2)]
    async with Player(broker.players, 7) as player:
        player.register_client_callback("down", lambda payload: payload)
        slow = player.trigger_server_callback("slow", 600, timeout=None)
        assert (await player.trigger_server_callback("up", 1))[0] == "0"
        order_hand_over(first)
        await asyncio.to_thread(second.wait_for, "acts")
        assert (await player.trigger_server_callback("up", 1))[0] == "1"
        assert not slow.done()
        first.popen.kill()
        with pytest.raises(ServerLost) as raised:
            await slow
        assert raised.value.executed == "maybe"
        assert (await player.trigger_server_callback("up", 1))[0] == "1"


@pytest.mark.faults
def test_a_server_is_killed_while_it_retires() -> None:
    """A call that it handles has no time limit, and ends all the same."""
    with ExitStack() as stack:
        broker = stack.enter_context(BrokerProcess())
        asyncio.run(kill_one_that_retires(stack, broker))
