"""A task that awaits a call is cancelled exactly as one that awaits a future of asyncio.

Each scenario runs twice, with a future and with a call, and must leave the same record.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import uvloop
from support.faces import HereBroker
from support.harness import PATIENCE_S

from ringback.aio import Server

Record = list[Any]


class Awaited:
    """Something to await that ends when `finish` is called, in this very round of the loop."""

    def __init__(self, awaitable: Any, finish: Callable[[], None], result: Callable[[], Any]) -> None:
        self.awaitable = awaitable
        self._finish = finish
        self._result = result

    def __await__(self) -> Any:
        return self.awaitable.__await__()

    def finish(self) -> None:
        """Give it the result "x", unless it has ended."""
        if not self.awaitable.done():
            self._finish()

    def outcome(self) -> Any:
        """Return its result, or how it failed."""
        try:
            return self._result()
        except (asyncio.CancelledError, Exception) as error:
            return type(error).__name__.replace("CancelledError", "Cancelled")


Make = Callable[[], Awaited]
Scenario = Callable[[Make, Record], Coroutine[Any, Any, None]]
SCENARIOS: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


async def rounds(count: int = 3) -> None:
    """Let all that is scheduled happen."""
    for _ in range(count):
        await asyncio.sleep(0)


async def ended(task: asyncio.Task[Any], record: Record) -> None:
    """Wait for a task, and record how it ended."""
    await asyncio.wait({task}, timeout=PATIENCE_S)
    record.append(("cancelling", task.cancelling()))
    if not task.done():
        record.append("hangs")
    elif task.cancelled():
        try:
            task.result()
        except asyncio.CancelledError as error:
            record.append(("cancelled", error.args))
    else:
        error = task.exception()
        record.append(("result", task.result()) if error is None else ("error", repr(error)))


async def waiting(awaited: Awaitable[Any], record: Record) -> Any:
    """Await something, and record with what the task went on."""
    try:
        result = await awaited
    except BaseException as error:
        record.append((type(error).__name__, error.args))
        raise
    record.append(result)
    return result


@scenario
async def finished_while_it_waits(make: Make, record: Record) -> None:
    awaited = make()
    task = asyncio.create_task(waiting(awaited, record))
    await rounds()
    awaited.finish()
    await ended(task, record)


@scenario
async def cancelled_before_it_starts(make: Make, record: Record) -> None:
    awaited = make()
    task = asyncio.create_task(waiting(awaited, record))
    task.cancel("early")
    await ended(task, record)
    record.append(awaited.awaitable.done())
    awaited.finish()


@scenario
async def cancelled_while_it_waits(make: Make, record: Record) -> None:
    awaited = make()
    task = asyncio.create_task(waiting(awaited, record))
    await rounds()
    record.append(task.cancel("why"))
    await ended(task, record)
    record.append(awaited.outcome())


@scenario
async def cancelled_without_a_message(make: Make, record: Record) -> None:
    task = asyncio.create_task(waiting(make(), record))
    await rounds()
    task.cancel()
    await ended(task, record)


@scenario
async def cancelled_twice_in_one_round(make: Make, record: Record) -> None:
    task = asyncio.create_task(waiting(make(), record))
    await rounds()
    record.extend([task.cancel("first"), task.cancel("second")])
    await ended(task, record)


@scenario
async def cancelled_twice_and_going_on(make: Make, record: Record) -> None:
    """The second cancel comes in the round in which the first one is noticed."""

    async def stubborn() -> str:
        for number in range(3):
            try:
                await waiting(make(), record)
            except asyncio.CancelledError:
                current = asyncio.current_task()
                assert current is not None
                record.append((number, current.cancelling(), current.uncancel()))
                if number == 2:
                    raise
        return "never"

    task = asyncio.create_task(stubborn())
    await rounds()
    for message in ("a", "b", "c"):
        task.cancel(message)
        await rounds()
    await ended(task, record)


@scenario
async def cancelled_after_the_result_in_one_round(make: Make, record: Record) -> None:
    awaited = make()
    task = asyncio.create_task(waiting(awaited, record))
    await rounds()
    awaited.finish()
    record.append(task.cancel("late"))
    await ended(task, record)
    record.append(awaited.outcome())


@scenario
async def cancelled_twice_after_the_result(make: Make, record: Record) -> None:
    awaited = make()
    task = asyncio.create_task(waiting(awaited, record))
    await rounds()
    awaited.finish()
    record.extend([task.cancel("late"), task.cancel("later")])
    await ended(task, record)
    record.append(awaited.outcome())


@scenario
async def the_result_after_the_cancel_in_one_round(make: Make, record: Record) -> None:
    awaited = make()
    task = asyncio.create_task(waiting(awaited, record))
    await rounds()
    task.cancel("first")
    awaited.finish()
    await ended(task, record)


@scenario
async def cancelled_by_itself_before_it_waits(make: Make, record: Record) -> None:
    async def cancels_itself() -> None:
        current = asyncio.current_task()
        assert current is not None
        current.cancel("myself")
        await waiting(make(), record)

    await ended(asyncio.create_task(cancels_itself()), record)


@scenario
async def cancelled_from_a_done_callback(make: Make, record: Record) -> None:
    first, second = make(), make()
    one, two = (asyncio.create_task(waiting(awaited, record)) for awaited in (first, second))
    one.add_done_callback(lambda _: two.cancel("from a done callback"))
    await rounds()
    first.finish()
    second.finish()
    await ended(one, record)
    await ended(two, record)
    record.extend([first.outcome(), second.outcome()])


@scenario
async def cancelled_by_a_task_that_goes_on_in_the_same_round(make: Make, record: Record) -> None:
    first, second = make(), make()

    async def cancels_the_other() -> None:
        await waiting(first, record)
        record.append(other.cancel("neighbour"))

    one = asyncio.create_task(cancels_the_other())
    other = asyncio.create_task(waiting(second, record))
    await rounds()
    first.finish()
    second.finish()
    await ended(one, record)
    await ended(other, record)
    record.append(second.outcome())


@scenario
async def under_a_timeout_of_asyncio(make: Make, record: Record) -> None:
    async def limited() -> None:
        async with asyncio.timeout(0.01):
            await waiting(make(), record)

    await ended(asyncio.create_task(limited()), record)


@scenario
async def under_a_timeout_and_cancelled_from_outside(make: Make, record: Record) -> None:
    async def limited() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await waiting(make(), record)

    task = asyncio.create_task(limited())
    await rounds()
    task.cancel("from outside")
    await ended(task, record)


@scenario
async def a_timeout_in_the_round_of_the_result(make: Make, record: Record) -> None:
    awaited = make()

    async def limited() -> Any:
        async with asyncio.timeout(None) as timeout:
            timeouts.append(timeout)
            return await waiting(awaited, record)

    timeouts: list[asyncio.Timeout] = []
    task = asyncio.create_task(limited())
    await rounds()
    timeouts[0].reschedule(asyncio.get_running_loop().time())
    awaited.finish()
    await ended(task, record)


@scenario
async def in_wait_for(make: Make, record: Record) -> None:
    async def limited() -> None:
        await asyncio.wait_for(waiting(make(), record), 0.01)

    await ended(asyncio.create_task(limited()), record)


@scenario
async def in_wait_for_and_cancelled_with_the_result(make: Make, record: Record) -> None:
    awaited = make()
    task = asyncio.create_task(asyncio.wait_for(waiting(awaited, record), PATIENCE_S))
    await rounds()
    awaited.finish()
    task.cancel("with the result")
    await ended(task, record)


@scenario
async def in_a_task_group_that_fails(make: Make, record: Record) -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("of a neighbour")

    async def group() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(waiting(make(), record))
            tasks.create_task(fails())

    await ended(asyncio.create_task(group()), record)


@scenario
async def in_a_gather_that_is_cancelled(make: Make, record: Record) -> None:
    async def all_of_them() -> None:
        await asyncio.gather(*(waiting(make(), record) for _ in range(3)))

    task = asyncio.create_task(all_of_them())
    await rounds()
    task.cancel("all")
    await ended(task, record)


@scenario
async def shielded(make: Make, record: Record) -> None:
    awaited = make()
    inner = asyncio.create_task(waiting(awaited, record))

    async def outer() -> None:
        await asyncio.shield(inner)

    task = asyncio.create_task(outer())
    await rounds()
    task.cancel("only the outer one")
    await ended(task, record)
    awaited.finish()
    await ended(inner, record)


@scenario
async def in_a_scope_of_anyio_that_moves_on(make: Make, record: Record) -> None:
    async def limited() -> bool:
        with anyio.move_on_after(0.01) as scope:
            await waiting(make(), [])  # the message has an address in it
        return scope.cancelled_caught

    await ended(asyncio.create_task(limited()), record)


@scenario
async def in_a_scope_of_anyio_that_fails(make: Make, record: Record) -> None:
    async def limited() -> None:
        with anyio.fail_after(0.01):
            await waiting(make(), [])

    await ended(asyncio.create_task(limited()), record)


@scenario
async def in_nested_scopes_of_anyio(make: Make, record: Record) -> None:
    async def limited() -> tuple[bool, bool]:
        with anyio.move_on_after(0.01) as outer, anyio.move_on_after(PATIENCE_S) as inner:
            await waiting(make(), [])
        return outer.cancelled_caught, inner.cancelled_caught

    await ended(asyncio.create_task(limited()), record)


@scenario
async def a_scope_of_anyio_is_cancelled_after_the_result(make: Make, record: Record) -> None:
    """anyio looks whether the task waits for a future that is done, and then lets it have its result."""
    awaited = make()
    scopes: list[anyio.CancelScope] = []

    async def limited() -> Any:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            return await waiting(awaited, record)

    task = asyncio.create_task(limited())
    await rounds()
    awaited.finish()
    scopes[0].cancel()
    await ended(task, record)


@scenario
async def a_shielded_scope_of_anyio(make: Make, record: Record) -> None:
    awaited = make()

    async def limited() -> bool:
        with anyio.move_on_after(0.0) as outer:
            with anyio.CancelScope(shield=True):
                await waiting(awaited, record)
            await anyio.lowlevel.checkpoint()
        return outer.cancelled_caught

    task = asyncio.create_task(limited())
    await rounds(6)
    awaited.finish()
    await ended(task, record)


@scenario
async def in_a_task_group_of_anyio(make: Make, record: Record) -> None:
    async def group() -> str:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(waiting, make(), [])
            await rounds()
            tasks.cancel_scope.cancel()
        return "ended"

    await ended(asyncio.create_task(group()), record)


@asynccontextmanager
async def calls(here: HereBroker) -> AsyncIterator[Make]:
    """Give a function that makes calls, which end only when they are told to."""
    async with Server(here.backend) as server:
        held: list[Any] = []
        server.register_server_callback("hold", lambda source, payload, cb: held.append(cb))
        endpoint: Any = server._endpoint

        def make() -> Awaited:
            call: Any = server.trigger_callback("hold", 7, timeout=None)

            def finish() -> None:
                endpoint._calls_out.finish(endpoint._state.peers[call.route], call.id, ("x",), None)

            return Awaited(call, finish, call.result)

        yield make


def make_future() -> Awaited:
    future = asyncio.get_running_loop().create_future()
    return Awaited(future, lambda: future.set_result("x"), future.result)


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
if sys.version_info >= (3, 12):

    def new_eager_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop

    LOOPS["eager tasks"] = new_eager_loop


@pytest.mark.parametrize("new_loop", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_call_is_cancelled_as_a_future_is(
    here: HereBroker, name: str, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def both() -> tuple[Record, Record]:
        with_future: Record = []
        with_call: Record = []
        await SCENARIOS[name](make_future, with_future)
        async with calls(here) as make:
            await SCENARIOS[name](make, with_call)
        return with_future, with_call

    with asyncio.Runner(loop_factory=new_loop) as runner:
        with_future, with_call = runner.run(asyncio.wait_for(both(), 2 * PATIENCE_S))
    assert with_call == with_future
    assert "hangs" not in with_call


def test_sys_exit_in_one_task_leaves_the_others_their_results(here: HereBroker) -> None:
    """The calls end in a step that no message began."""

    async def exits(awaited: Awaited) -> None:
        await awaited
        sys.exit(3)

    async def scene() -> None:
        async with calls(here) as make:
            first, second = make(), make()
            tasks.append(asyncio.create_task(exits(first)))
            tasks.append(asyncio.create_task(waiting(second, record)))
            await rounds()
            first.finish()
            second.finish()
            await rounds(10)

    tasks: list[asyncio.Task[Any]] = []
    record: Record = []
    loop = asyncio.new_event_loop()
    try:
        scene_task = loop.create_task(scene())
        with pytest.raises(SystemExit):
            loop.run_until_complete(scene_task)
        loop.run_until_complete(asyncio.wait_for(scene_task, PATIENCE_S))
        assert record == ["x"]
        assert isinstance(tasks[0].exception(), SystemExit)
    finally:
        loop.close()
