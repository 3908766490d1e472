"""The functions of asyncio take a call and a group, as they take futures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.faces import HereBroker
from support.harness import PATIENCE_S

import ringback
from ringback import CallbackError, aio

Body = Callable[[aio.Server, aio.Player], Awaitable[None]]


@pytest.fixture
def run(here: HereBroker) -> Callable[[Body], None]:
    """Return a function that runs a coroutine with a server and player 7."""

    def run(body: Body) -> None:
        async def main() -> None:
            async with aio.Server(here.backend) as server, aio.Player(here.players, 7) as player:
                server.register_server_callback("echo", lambda source, payload: payload)
                server.register_server_callback("silent", lambda source, payload, cb: None)
                player.register_client_callback("echo", lambda payload: payload)
                player.register_client_callback("silent", lambda payload, cb: None)
                await player.trigger_server_callback("echo")  # then the server has read that it joined
                await asyncio.wait_for(body(server, player), PATIENCE_S)

        asyncio.run(main())

    return run


def test_wait_takes_calls(run: Any) -> None:
    async def body(server: aio.Server, player: aio.Player) -> None:
        calls: list[Any] = [player.trigger_server_callback("echo", number) for number in range(5)]
        done, pending = await asyncio.wait(calls)
        assert done == set(calls) and not pending
        assert [call.result() for call in calls] == list(range(5))
        again, _ = await asyncio.wait(calls)  # calls that have ended already
        assert again == done

        silent: Any = player.trigger_server_callback("silent")
        call: Any = player.trigger_server_callback("echo", 1)
        done, pending = await asyncio.wait([silent, call], return_when=asyncio.FIRST_COMPLETED)
        assert done == {call} and pending == {silent}
        done, pending = await asyncio.wait([silent], timeout=0.01)
        assert not done and pending == {silent} and not silent._waiters
        with pytest.raises(asyncio.InvalidStateError):
            silent.exception()

        failing: Any = player.trigger_server_callback("nothing")
        done, pending = await asyncio.wait([silent, failing], return_when=asyncio.FIRST_EXCEPTION)
        assert done == {failing} and isinstance(failing.exception(), ringback.UnknownCallback)
        assert not failing.cancelled()
        silent.cancel()
        done, _ = await asyncio.wait([silent])
        assert silent.cancelled()

    run(body)


def test_wait_takes_groups(run: Any) -> None:
    async def body(server: aio.Server, player: aio.Player) -> None:
        group: Any = server.trigger_all_client_callbacks("echo", 5)
        silent: Any = server.trigger_all_client_callbacks("silent")
        done, pending = await asyncio.wait([group, silent], return_when=asyncio.FIRST_COMPLETED)
        assert done == {group} and pending == {silent}
        assert group.done() and group.exception() is None and not group.cancelled()
        assert not silent.done() and repr(silent) == "<CallGroup: 0 of 1 calls have ended>"
        with pytest.raises(asyncio.InvalidStateError):
            silent.exception()
        silent.cancel()
        await asyncio.wait([silent])
        assert (await group)[7].result() == 5
        assert repr(silent) == "<CallGroup: 1 of 1 calls have ended>"

    run(body)


@pytest.mark.parametrize("what", ["call", "group"])
def test_functions_that_take_awaitables(run: Any, what: str) -> None:
    async def body(server: aio.Server, player: aio.Player) -> None:
        def trigger() -> Any:
            if what == "call":
                return player.trigger_server_callback("echo", 5)
            return server.trigger_all_client_callbacks("echo", 5)

        def check(outcome: Any) -> None:
            assert (outcome if what == "call" else outcome[7].result()) == 5

        for outcome in await asyncio.gather(trigger(), trigger()):
            check(outcome)
        check(await asyncio.wait_for(trigger(), PATIENCE_S))
        check(await asyncio.shield(trigger()))
        check(await asyncio.ensure_future(trigger()))
        for first in asyncio.as_completed([trigger()]):
            check(await first)
        with pytest.raises(TypeError, match="a coroutine was expected"):
            await asyncio.create_task(trigger())

    run(body)


def test_wait_for_cancels_the_call(run: Any) -> None:
    async def body(server: aio.Server, player: aio.Player) -> None:
        call = player.trigger_server_callback("silent")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call, 0.01)
        with pytest.raises(ringback.Cancelled):
            await call
        outcomes = await asyncio.gather(player.trigger_server_callback("nothing"), return_exceptions=True)
        assert isinstance(outcomes[0], CallbackError)

    run(body)


def test_timeout_cancels_the_call_and_shield_keeps_it(run: Any) -> None:
    async def body(server: aio.Server, player: aio.Player) -> None:
        kept: list[Any] = []
        server.register_server_callback("keep", lambda source, payload, cb: kept.append(cb))
        call = player.trigger_server_callback("silent")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await call
        assert isinstance(await asyncio.gather(call, return_exceptions=True), list) and call.cancelled()

        call = player.trigger_server_callback("keep")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(call), 0.01)
        assert not call.done()
        await player.trigger_server_callback("echo")  # then the handler of "keep" has begun
        kept[0]("late")
        assert await asyncio.wait_for(call, PATIENCE_S) == "late"

    run(body)


def test_a_task_group_takes_coroutines_that_await_calls(run: Any) -> None:
    async def body(server: aio.Server, player: aio.Player) -> None:
        calls: list[aio.Call[Any]] = []

        async def ask(key: str, payload: object = None) -> Any:
            calls.append(player.trigger_server_callback(key, payload))
            return await calls[-1]

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask("echo", number)) for number in range(3)]
        assert [task.result() for task in tasks] == [0, 1, 2]

        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(ask("silent"))
                group.create_task(ask("nothing"))
        assert [type(error) for error in caught.value.exceptions] == [ringback.UnknownCallback]
        with pytest.raises(ringback.Cancelled):  # the task of the other call was cancelled, and so its call
            await calls[3]

    run(body)


def test_as_completed_gives_results_in_the_order_in_which_they_come(run: Any) -> None:
    async def body(server: aio.Server, player: aio.Player) -> None:
        kept: list[Any] = []
        server.register_server_callback("keep", lambda source, payload, cb: kept.append(cb))
        slow, quick = player.trigger_server_callback("keep"), player.trigger_server_callback("echo", "quick")
        came = []
        for earliest in asyncio.as_completed([slow, quick]):
            came.append(await earliest)
            if len(came) == 1:
                kept[0]("slow")
        assert came == ["quick", "slow"]
        failing = player.trigger_server_callback("nothing")
        for earliest in asyncio.as_completed([failing], timeout=PATIENCE_S):
            with pytest.raises(ringback.UnknownCallback):
                await earliest

    run(body)


def test_run_until_complete(here: HereBroker) -> None:
    loop = asyncio.new_event_loop()
    try:
        server = loop.run_until_complete(aio.Server(here.backend).start())
        server.register_server_callback("echo", lambda source, payload: payload)

        async def trigger() -> aio.Call:
            return server.trigger_callback("echo", 7, 5)

        call = loop.run_until_complete(trigger())
        assert loop.run_until_complete(call) == 5
        loop.run_until_complete(server.close())
    finally:
        loop.close()
