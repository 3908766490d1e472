"""The figures that endpoints report, through a real broker, in both faces."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from support.faces import Stage, played
from support.harness import PATIENCE_S

from ringback.errors import Code


async def reported(stage: Stage, operator: Any, key: str, calls: int) -> list[Any]:
    """Return the row of a callback, once this many calls of it were reported."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            rows, _ = await stage.result(operator.query("callbacks"))
            for row in rows:
                if row[0] == key and row[4] >= calls:
                    found: list[Any] = row
                    return found
            await asyncio.sleep(0.05)


@played
async def test_the_latency_of_a_later_reply(stage: Stage) -> None:
    """A handler keeps its `cb`. The time until the reply counts, not the time until the handler returns."""
    server, player = await stage.pair()
    operator = await stage.operator()

    def later(source: Any, payload: Any, cb: Any) -> None:
        threading.Timer(0.3, cb, (payload,)).start()

    server.register_server_callback("later", later)
    server.register_server_callback("soon", lambda source, payload: payload)
    for number in range(5):
        assert await stage.result(player.trigger_server_callback("soon", number)) == number
    assert await stage.result(player.trigger_server_callback("later", 1)) == 1
    soon, late = await reported(stage, operator, "soon", 5), await reported(stage, operator, "later", 1)
    assert soon[3:6] == [0, 5, 0] and late[3:6] == [0, 1, 0]
    assert 250 <= late[7] <= 1000 * PATIENCE_S and soon[7] < late[7]


@played
async def test_calls_in_flight_of_a_player_that_hangs(stage: Stage) -> None:
    server, player = await stage.pair()
    operator = await stage.operator()
    held: list[Any] = []
    player.register_client_callback("hang", lambda payload, cb: held.append(cb))

    async def in_flight(wanted: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                [row], _ = await stage.result(operator.query("players"))
                if row[10] == wanted:
                    return
                await asyncio.sleep(0.05)

    calls = [server.trigger_client_callback("hang", 7) for _ in range(2)]
    calls.append(operator.trigger_client_callback("hang", 7))
    await in_flight(3)  # of two endpoints
    for cb in held:
        cb(1)
    assert [await stage.result(call) for call in calls] == [1, 1, 1]
    await in_flight(0)


@played
async def test_watch_raises_for_wrong_arguments(stage: Stage) -> None:
    await stage.pair()
    operator = await stage.operator()
    for arguments, settings, problem in (
        ((0,), {}, "1 to 2"),
        ((), {"key": ""}, "a pattern must have 1 to 256"),
        ((), {"for_s": -1}, "for_s must be from 0 to 86400 seconds"),
        ((), {"for_s": "5"}, "for_s must be"),
        ((), {"payloads": "no"}, "payloads must be a bool, not str"),
        ((), {"log": 1}, "log must be a bool, not int"),
    ):
        with pytest.raises((TypeError, ValueError), match=problem):
            operator.watch(*arguments, **settings)
    for number in range(16):
        assert await stage.result(operator.watch(number + 1)) is None
    assert (await stage.failure(operator.watch(17))).code is Code.OVERLOADED
    assert await stage.result(operator.watch(16, for_s=0)) is None
    assert await stage.result(operator.watch(17)) is None
