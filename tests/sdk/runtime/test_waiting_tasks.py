"""Tasks that await calls. asyncio can do with them what it can do with any task."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Coroutine
from typing import Any

import pytest
from support.faces import HereBroker
from support.harness import PATIENCE_S

from ringback import CallTimeout
from ringback._runtime.asyncio_shell import LEAST_EARLY
from ringback.aio import Player, Server


class Pair:
    """A player, and a server that replies to "echo" at once and to "hold" when `release` is called."""

    def __init__(self, here: HereBroker) -> None:
        self.server, self.player = Server(here.backend), Player(here.players, 7)
        self.held: list[Any] = []
        self.server.register_server_callback("echo", lambda source, payload: payload)
        self.server.register_server_callback("hold", lambda source, payload, cb: self.held.append(cb))
        self.all_held = asyncio.Event()

    async def __aenter__(self) -> Pair:
        await self.server.start()
        await self.player.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.player.close()
        await self.server.close()

    async def hold(self, count: int) -> list[asyncio.Task[Any]]:
        """Return tasks that await calls. The server handles all of them."""
        tasks = [asyncio.create_task(self.wait(number)) for number in range(count)]
        while len(self.held) < count:
            await self.player.trigger_server_callback("echo")
        return tasks

    async def wait(self, number: int) -> int:
        return int(await self.player.trigger_server_callback("hold", number))

    def release(self) -> None:
        """Reply to all calls at once, so that the replies come in one frame."""
        for number, cb in enumerate(self.held):
            cb(number)


def run(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, PATIENCE_S))


def test_all_go_on_with_their_own_results(here: HereBroker) -> None:
    async def scene() -> None:
        async with Pair(here) as pair:
            tasks = await pair.hold(50)
            pair.release()
            assert await asyncio.gather(*tasks) == list(range(50))

    run(scene())


def test_many_await_one_call(here: HereBroker) -> None:
    async def scene() -> None:
        async with Pair(here) as pair:
            call = pair.player.trigger_server_callback("echo", "x")

            async def wait() -> Any:
                return await call

            assert await asyncio.gather(*(wait() for _ in range(5))) == ["x"] * 5
            assert await call == "x"

    run(scene())


def test_a_task_that_is_cancelled_cancels_its_call(here: HereBroker) -> None:
    async def scene() -> None:
        async with Pair(here) as pair:
            first, second = await pair.hold(2)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            pair.release()
            assert await second == 1
            assert pair.player.counters.errors == 1

    run(scene())


def test_a_task_cancelled_by_one_that_went_on_just_before_it(here: HereBroker) -> None:
    """Both replies came in one frame, but the second task has not gone on yet."""

    async def scene() -> None:
        async with Pair(here) as pair:
            tasks: list[asyncio.Task[Any]] = []

            async def cancels_the_other(number: int) -> None:
                await pair.wait(number)
                for task in tasks:
                    if task is not asyncio.current_task():
                        task.cancel()

            tasks += [asyncio.create_task(cancels_the_other(number)) for number in range(2)]
            while len(pair.held) < 2:
                await pair.player.trigger_server_callback("echo")
            pair.release()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert sorted(map(type, outcomes), key=str) == sorted(
                [type(None), asyncio.CancelledError], key=str
            )

    run(scene())


def test_a_timeout_of_asyncio_and_one_of_the_call(here: HereBroker) -> None:
    async def scene() -> None:
        async with Pair(here) as pair:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(pair.wait(1), 0.05)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await pair.player.trigger_server_callback("hold")
            with pytest.raises(CallTimeout):
                await pair.player.trigger_server_callback("hold", timeout=0.05)
            assert await asyncio.shield(pair.player.trigger_server_callback("echo", 1)) == 1

    run(scene())


def test_a_call_that_a_task_triggers_as_it_goes_on_leaves_at_once(here: HereBroker) -> None:
    async def scene() -> None:
        async with Pair(here) as pair:
            for number in range(200):
                assert await pair.player.trigger_server_callback("echo", number) == number

    run(scene())


def test_half_of_the_next_calls_leave_before_the_others_are_triggered(here: HereBroker) -> None:
    async def scene() -> None:
        async with Pair(here) as pair:
            count, went_on, all_went_on = 2 * (LEAST_EARLY + 6), 0, asyncio.Event()

            async def call_twice(number: int) -> int:
                nonlocal went_on
                await pair.wait(number)
                went_on += 1
                if went_on == count:
                    all_went_on.set()
                return await pair.wait(number)

            tasks = [asyncio.create_task(call_twice(number)) for number in range(count)]
            while len(pair.held) < count:
                await pair.player.trigger_server_callback("echo")
            link: Any = pair.player._shell._link
            send, sent_after = link.send, []

            def noted(id_part: bytes, frame: bytes) -> bool:
                sent_after.append(went_on)
                return bool(send(id_part, frame))

            link.send = noted
            pair.release()
            pair.held.clear()
            await all_went_on.wait()
            while len(pair.held) < count:
                await pair.player.trigger_server_callback("echo")
            assert sent_after[0] == count // 2 and set(sent_after[1:]) == {count}
            pair.release()
            assert await asyncio.gather(*tasks) == list(range(count))

    run(scene())


def test_a_server_may_call_itself_in_many_tasks_that_go_on(here: HereBroker) -> None:
    async def scene() -> None:
        async with Pair(here) as pair:
            count = 2 * (LEAST_EARLY + 6)
            pair.player.register_client_callback("hold", lambda payload, cb: pair.held.append(cb))

            async def wait_and_call(number: int) -> int:
                assert await pair.server.trigger_client_callback("hold", 7, number) == number
                return int(await pair.server.trigger_callback("echo", 7, number))

            tasks = [asyncio.create_task(wait_and_call(number)) for number in range(count)]
            while len(pair.held) < count:
                await pair.player.trigger_server_callback("echo")
            pair.release()
            assert await asyncio.gather(*tasks) == list(range(count))

    run(scene())


def test_tasks_that_go_on_after_a_time_out_may_call_again(here: HereBroker) -> None:
    """They go on outside of a step that reads. What comes meanwhile is read all the same."""

    async def scene() -> None:
        async with Pair(here) as pair:
            count = 2 * LEAST_EARLY

            async def wait_and_call(number: int) -> int:
                with pytest.raises(CallTimeout):
                    await pair.player.trigger_server_callback("hold", timeout=0.3)
                if number < LEAST_EARLY:
                    return int(await pair.player.trigger_server_callback("echo", number))
                return number

            for _ in range(3):
                calls = (wait_and_call(number) for number in range(count))
                assert await asyncio.gather(*calls) == list(range(count))

    run(scene())


def test_a_task_may_close_the_endpoint_whose_call_it_awaited(here: HereBroker) -> None:
    async def scene() -> None:
        async with Pair(here) as pair:
            tasks = await pair.hold(3)

            async def close() -> None:
                await pair.player.trigger_server_callback("echo")
                await pair.player.close()

            await close()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(outcome, Exception) for outcome in outcomes)

    run(scene())


def test_ctrl_c_in_one_task_leaves_the_others_their_results(here: HereBroker) -> None:
    """Ctrl-C ends the run of the loop. When the loop runs again, the other tasks go on."""
    loop = asyncio.new_event_loop()
    pair = None

    async def interrupted() -> None:
        assert pair is not None
        await pair.wait(0)
        raise KeyboardInterrupt

    async def begin() -> tuple[asyncio.Task[Any], list[asyncio.Task[Any]]]:
        nonlocal pair
        pair = await Pair(here).__aenter__()
        first = asyncio.create_task(interrupted())
        while not pair.held:
            await pair.player.trigger_server_callback("echo")
        others = [asyncio.create_task(pair.wait(number)) for number in (1, 2)]
        while len(pair.held) < 3:
            await pair.player.trigger_server_callback("echo")
        return first, others

    async def finish() -> list[int]:
        assert pair is not None
        results = await asyncio.gather(*others)
        await pair.__aexit__()
        return results

    try:
        first, others = loop.run_until_complete(begin())
        assert pair is not None
        pair.release()
        loop.call_later(PATIENCE_S, loop.stop)
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        assert loop.run_until_complete(asyncio.wait_for(finish(), PATIENCE_S)) == [1, 2]
        assert isinstance(first.exception(), KeyboardInterrupt)
    finally:
        loop.close()


def test_with_asyncios_debug_mode(here: HereBroker) -> None:
    async def scene() -> None:
        async with Pair(here) as pair:
            assert await pair.player.trigger_server_callback("echo", 1) == 1

    asyncio.run(asyncio.wait_for(scene(), PATIENCE_S), debug=True)


def test_a_coroutine_whose_task_never_begins_is_closed(here: HereBroker) -> None:
    """As when the loop ends just then. Python would warn that the coroutine was never awaited."""

    async def scene() -> None:
        async with Server(here.backend) as server:
            server.register_server_callback("echo", lambda source, payload: payload)
            cancelled = asyncio.Event()

            def cancel(loop: asyncio.AbstractEventLoop, coroutine: Any, **more: Any) -> Any:
                task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **more)
                task.cancel()
                task.add_done_callback(lambda _: cancelled.set())
                return task

            async def callback(result: Any) -> None: ...

            server.trigger_callback("echo", 7, None, callback)
            asyncio.get_running_loop().set_task_factory(cancel)
            await cancelled.wait()
            asyncio.get_running_loop().set_task_factory(None)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(asyncio.wait_for(scene(), PATIENCE_S))
        gc.collect()
    assert not caught, [str(warning.message) for warning in caught]


@pytest.mark.parametrize(
    ("form", "executed"), [("coroutine", "no"), ("thread", "no"), ("plain, with an awaitable", "yes")]
)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # asyncio's own, for the awaitable
def test_a_handler_whose_task_never_begins_is_replied_for(here: HereBroker, form: str, executed: str) -> None:
    """As when a supervisor of the program cancels all tasks. The caller has no timeout that would end it."""

    async def coroutine(source: Any, payload: Any) -> str:
        return "ran"

    def plain(source: Any, payload: Any) -> Any:
        return "ran" if in_thread else coroutine(source, payload)

    in_thread = form == "thread"
    handler = coroutine if form == "coroutine" else plain

    async def scene() -> None:
        async with Server(here.backend) as server:
            server.register_server_callback("k", handler, in_thread=in_thread)

            def cancel(loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> Any:
                task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **more)
                task.cancel()
                return task

            asyncio.get_running_loop().set_task_factory(cancel)
            call = server.trigger_callback("k", 7, timeout=None)
            ended = asyncio.Event()
            call.add_done_callback(lambda _: ended.set())
            await ended.wait()
            asyncio.get_running_loop().set_task_factory(None)
            assert "the handler was cancelled before it" in str(call.error)
            assert (call.error.code_name, call.error.executed) == ("HANDLER_ERROR", executed)
            assert await server.trigger_callback("k", 7) == "ran"

    asyncio.run(asyncio.wait_for(scene(), PATIENCE_S))
    gc.collect()  # the awaitable warns now, and not in another test
