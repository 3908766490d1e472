"""Progress: what a handler reports before its outcome reaches its caller in order, and ends with the call."""

from __future__ import annotations

import asyncio
import threading
from queue import Queue
from typing import Any

import pytest
from support.faces import HereBroker, LogLines, Seen, Stage, played
from support.harness import PATIENCE_S

import ringback
from ringback import CallbackError, InvalidPayload, UsageError, aio
from ringback.core.progress import MAX_WAITING


def counting(source: Any, payload: Any, cb: Any) -> None:
    """Report the numbers below the payload, and reply with it."""
    for number in range(payload):
        cb.progress(number)
    cb(payload)


async def values_of(stage: Stage, call: Any) -> Any:
    """Iterate the progress of a call until the call ends."""

    async def iterate() -> list[Any]:
        if stage.face.name == "blocking":
            return await asyncio.to_thread(lambda: list(call.progress()))
        return [value async for value in call.progress()]

    return await stage.within(iterate())


@played
async def test_every_role_iterates_progress(stage: Stage) -> None:
    server, player = await stage.pair()
    operator = await stage.operator()
    server.register_server_callback("count", counting)
    player.register_client_callback("count", lambda payload, cb: counting(None, payload, cb))
    calls = [
        player.trigger_server_callback("count", 100, progress=True),
        server.trigger_client_callback("count", 7, 100, progress=True),
        server.trigger_callback("count", 9, 100, progress=True),
        operator.trigger_client_callback("count", 7, 100, progress=True),
        operator.trigger_callback("count", 9, 100, progress=True),
    ]
    for call in calls:
        assert await values_of(stage, call) == list(range(100))
        assert await stage.result(call) == 100 and call.progress_lost == 0
        assert await values_of(stage, call) == []
    for endpoint in (server, player, operator):
        assert endpoint.counters.stray_progress == endpoint.counters.dropped_progress == 0


@played
async def test_a_value_arrives_while_the_handler_runs(stage: Stage) -> None:
    server, player = await stage.pair()
    kept = Seen()
    server.register_server_callback("keep", lambda source, payload, cb: kept(cb))
    call = player.trigger_server_callback("keep", progress=True)
    (cb,) = await kept.count(1)
    came: list[Any] = []

    def next_step(value: int) -> None:
        came.append(value)
        cb(value) if value == 3 else cb.progress(value + 1)

    cb.progress(1)
    if stage.face.name == "blocking":
        await stage.within(asyncio.to_thread(lambda: [next_step(value) for value in call.progress()]))
    else:
        async for value in call.progress():
            next_step(value)
    assert came == [1, 2, 3] and await stage.result(call) == 3


@played
async def test_a_function_gets_the_values_in_order_and_before_the_callback(stage: Stage) -> None:
    server, player = await stage.pair()
    server.register_server_callback("count", counting)
    seen = Seen()
    player.trigger_server_callback("count", 200, seen, on_progress=seen)
    assert await seen.count(201) == [*range(200), 200]
    failed = Seen()

    def failing(source: Any, payload: Any, cb: Any) -> None:
        cb.progress("begun")
        raise CallbackError("no", code="NO")

    server.register_server_callback("fail", failing)
    call = player.trigger_server_callback(
        "fail", on_error=lambda error: failed(error.code), on_progress=failed
    )
    assert await failed.count(2) == ["begun", "NO"]
    with pytest.raises(UsageError, match="goes to its on_progress"):
        call.progress()


@played
async def test_a_coroutine_function_gets_one_value_at_a_time(stage: Stage) -> None:
    server, player = await stage.pair()
    server.register_server_callback("count", counting)
    seen = Seen()

    async def slow(value: Any) -> None:
        seen(("begins", value))
        await asyncio.sleep(0)
        seen(("ends", value))

    assert await stage.result(player.trigger_server_callback("count", 5, on_progress=slow)) == 5
    assert await seen.count(10) == [(what, n) for n in range(5) for what in ("begins", "ends")]


def test_a_function_that_fails_is_logged(face: Any, here: HereBroker, sdk_log: LogLines) -> None:
    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair()
        server.register_server_callback("count", counting)
        seen = Seen()

        def failing(value: Any) -> None:
            seen(value)
            raise ValueError(value)

        async def failing_later(value: Any) -> None:
            failing(value)

        for function in (failing, failing_later):
            assert await stage.result(player.trigger_server_callback("count", 3, on_progress=function)) == 3
        await sdk_log.wait_for("player 7: on_progress of a call of 'count' failed")
        assert sorted(await seen.count(6)) == [0, 0, 1, 1, 2, 2]

    scene(face, here)


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_whatever_a_function_raises_the_next_value_comes(raised: Any, here: HereBroker) -> None:
    with ringback.Server(here.backend) as server, ringback.Player(here.players, 7) as player:
        server.register_server_callback("count", counting)
        seen: Queue[Any] = Queue()

        def failing(value: Any) -> None:
            seen.put(value)
            if value == 0:
                raise raised

        async def also_failing(value: Any) -> None:
            failing(value)

        for function in (failing, also_failing):
            player.trigger_server_callback("count", 3, seen.put, on_progress=function)
            assert [seen.get(timeout=PATIENCE_S) for _ in range(4)] == [0, 1, 2, 3]
            player.trigger_server_callback("count", 3, on_progress=function)
            assert [seen.get(timeout=PATIENCE_S) for _ in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("raised", [GeneratorExit, asyncio.CancelledError])
@pytest.mark.parametrize("is_async", [True, False])
def test_whatever_a_function_of_the_loop_raises_the_next_value_comes(
    is_async: bool, raised: Any, here: HereBroker
) -> None:
    async def main() -> None:
        async with aio.Server(here.backend) as server, aio.Player(here.players, 7) as player:
            server.register_server_callback("count", counting)
            seen: asyncio.Queue[Any] = asyncio.Queue()

            def failing(value: Any) -> None:
                seen.put_nowait(value)
                if value == 0:
                    raise raised

            async def also_failing(value: Any) -> None:
                failing(value)

            function = also_failing if is_async else failing
            await player.trigger_server_callback("count", 3, on_progress=function)
            assert [await seen.get() for _ in range(3)] == [0, 1, 2]

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


def test_after_a_cancelled_function_the_next_value_comes_unless_the_endpoint_is_closed(
    here: HereBroker,
) -> None:
    async def main() -> None:
        async with aio.Server(here.backend) as server:
            server.register_server_callback("count", counting)
            tasks: list[asyncio.Task[Any] | None] = []
            begun = asyncio.Event()

            async def endless(value: Any) -> None:
                tasks.append(asyncio.current_task())
                begun.set()
                await asyncio.Event().wait()

            async with aio.Player(here.players, 7) as player:
                await player.trigger_server_callback("count", 3, on_progress=endless)
                for number in (1, 2):
                    await begun.wait()
                    begun.clear()
                    assert len(tasks) == number
                    tasks[-1].cancel()  # type: ignore[union-attr]
                await begun.wait()
            assert len(tasks) == 3 and all(task is not None and task.cancelled() for task in tasks)

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


@played
async def test_progress_from_other_threads_precedes_the_reply(stage: Stage) -> None:
    server, player = await stage.pair()

    def start(source: Any, payload: Any, cb: Any) -> None:
        threading.Thread(target=counting, args=(source, payload, cb)).start()

    server.register_server_callback("thread", start)
    server.register_server_callback("in thread", counting, in_thread=True)
    for key in ("thread", "in thread"):
        call = player.trigger_server_callback(key, 50, progress=True)
        assert await values_of(stage, call) == list(range(50))
        assert await stage.result(call) == 50


def test_polling_the_progress_of_a_loop_leaves_nothing_behind(here: HereBroker) -> None:
    async def main() -> None:
        async with aio.Server(here.backend) as server, aio.Player(here.players, 7) as player:
            kept: asyncio.Queue[Any] = asyncio.Queue()
            server.register_server_callback("keep", lambda source, payload, cb: kept.put_nowait(cb))
            call = player.trigger_server_callback("keep", progress=True)
            values = call.progress()
            for _ in range(100):
                asking = asyncio.ensure_future(anext(values))
                await asyncio.sleep(0)
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
            assert not values._iterators  # type: ignore[attr-defined]
            cb = await kept.get()
            cb.progress(1)
            assert await anext(values) == 1
            cb(2)
            assert await call == 2 and [value async for value in values] == []

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


@played
async def test_progress_with_a_contract_and_with_waiting_for_room(stage: Stage) -> None:
    pytest.importorskip("msgspec")
    server = await stage.server()
    player = await stage.player(7, limits=ringback.Limits(max_in_flight=1))
    count = ringback.ServerCallback("count", int, int)
    server.register_server_callback("count", counting)
    seen = Seen()
    calls = [
        player.trigger(count, 5, progress=True),
        player.trigger(count, 5, seen, on_progress=seen, wait_for_room=True),
        player.trigger_server_callback("count", 5, progress=True, wait_for_room=True),
    ]
    for call in (calls[0], calls[2]):
        assert await values_of(stage, call) == [0, 1, 2, 3, 4]
        assert await stage.result(call) == 5
    assert await seen.count(6) == [0, 1, 2, 3, 4, 5]
    with pytest.raises(TypeError, match="on_progress must be a function"):
        player.trigger(count, 5, on_progress=5)


@played
async def test_without_a_caller_that_asked_nothing_is_sent(stage: Stage) -> None:
    server, player = await stage.pair()
    server.register_server_callback("count", counting)
    call = player.trigger_server_callback("count", 10)
    assert await stage.result(call) == 10
    assert player.counters.stray_progress == server.counters.dropped_progress == 0
    assert call.progress_lost == 0
    with pytest.raises(UsageError, match="trigger it with progress=True"):
        call.progress()
    for wrong in ({"on_progress": 5}, {"progress": 1}):
        with pytest.raises(TypeError, match=f"{next(iter(wrong))} must be"):
            player.trigger_server_callback("count", 10, **wrong)


@played
async def test_cancelling_the_call_ends_the_iteration(stage: Stage) -> None:
    server, player = await stage.pair()
    kept = Seen()
    server.register_server_callback("keep", lambda source, payload, cb: kept(cb))
    call = player.trigger_server_callback("keep", progress=True)
    (cb,) = await kept.count(1)
    cb.progress("one")
    await stage.result(_round_trip(server, player))
    call.cancel()
    assert await values_of(stage, call) == ["one"]
    assert (await stage.failure(call)).code is ringback.Code.CANCELLED
    await stage.until(player, lambda: cb.cancelled, "the handler's side knows")
    cb.progress("late")
    await stage.still_works(server, player)
    assert player.counters.stray_progress == 0


def _round_trip(server: Any, player: Any) -> Any:
    server.register_server_callback("echo", lambda source, payload: payload, replace=True)
    return player.trigger_server_callback("echo", 1)


@played
async def test_leaving_the_loop_early_leaves_the_call_alone(stage: Stage) -> None:
    server, player = await stage.pair()
    server.register_server_callback("count", counting)
    call = player.trigger_server_callback("count", 3, progress=True)
    if stage.face.name == "blocking":

        def leave() -> None:
            for value in call.progress():
                assert value == 0
                break

        await stage.within(asyncio.to_thread(leave))
    else:
        async for value in call.progress():
            assert value == 0
            break
    assert await stage.result(call) == 3
    assert await values_of(stage, call) == [1, 2]


@played
async def test_the_oldest_values_are_dropped_if_too_many_wait(stage: Stage) -> None:
    server, player = await stage.pair()
    server.register_server_callback("count", counting)
    call = player.trigger_server_callback("count", MAX_WAITING + 10, progress=True)
    await stage.result(call)
    assert call.progress_lost == 10
    assert await values_of(stage, call) == list(range(10, MAX_WAITING + 10))


def test_progress_after_the_reply_is_ignored_and_logged(
    face: Any, here: HereBroker, sdk_log: LogLines
) -> None:
    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair()

        def late(source: Any, payload: Any, cb: Any) -> None:
            cb("done")
            cb.progress("late")

        server.register_server_callback("late", late)
        call = player.trigger_server_callback("late", progress=True)
        assert await values_of(stage, call) == []
        await sdk_log.wait_for("'late' reported progress to .* after its reply")
        assert server.counters.dropped_progress == 1 and player.counters.stray_progress == 0

    scene(face, here)


@played
async def test_a_value_that_cannot_be_sent_raises_in_the_handler(stage: Stage) -> None:
    server, player = await stage.pair()
    errors = Seen()

    def odd(source: Any, payload: Any, cb: Any) -> None:
        for value in (object(), bytes(2**20)):
            try:
                cb.progress(value)
            except CallbackError as error:
                errors(type(error))
        cb("done")

    server.register_server_callback("odd", odd)
    server.register_server_callback("odd in thread", odd, in_thread=True)
    for key in ("odd", "odd in thread"):
        call = player.trigger_server_callback(key, progress=True)
        assert await values_of(stage, call) == [] and await stage.result(call) == "done"
    assert errors.items == [InvalidPayload, ringback.TooLarge] * 2


@played
async def test_the_iteration_ends_with_the_link(stage: Stage) -> None:
    server, player = await stage.pair()
    kept = Seen()
    server.register_server_callback("keep", lambda source, payload, cb: kept(cb))
    call = player.trigger_server_callback("keep", progress=True)
    await kept.count(1)
    await stage.face.close(player)
    assert await values_of(stage, call) == []
    assert (await stage.failure(call)).code is ringback.Code.CONNECTION_LOST
    kept.items[0].progress("for nobody")


@played
async def test_a_call_that_is_never_sent_has_no_progress(stage: Stage) -> None:
    player = await stage.player(7)
    for payload, timeout in ((object(), 1.0), (1, 0.0)):
        call = player.trigger_server_callback("count", payload, progress=True, timeout=timeout)
        assert await values_of(stage, call) == []


def test_in_asyncio_the_last_value_comes_before_the_result(here: HereBroker) -> None:
    async def main() -> None:
        async with aio.Server(here.backend) as server, aio.Player(here.players, 7) as player:
            server.register_server_callback("count", counting)
            seen: list[Any] = []
            for number in range(1, 30):
                seen.clear()
                await player.trigger_server_callback("count", number, on_progress=seen.append)
                assert seen == list(range(number))

    asyncio.run(main())


def test_cancelling_the_task_of_a_loop_leaves_the_call_alone(here: HereBroker) -> None:
    async def main() -> None:
        async with aio.Server(here.backend) as server, aio.Player(here.players, 7) as player:
            kept: list[Any] = []
            began = asyncio.Event()

            def keep(source: Any, payload: Any, cb: Any) -> None:
                kept.append(cb)
                cb.progress("begun")

            server.register_server_callback("keep", keep)
            call = player.trigger_server_callback("keep", progress=True)

            async def iterate() -> None:
                async for _ in call.progress():
                    began.set()

            task = asyncio.create_task(iterate())
            await asyncio.wait_for(began.wait(), PATIENCE_S)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            kept[0].progress("more")
            kept[0]("done")
            assert await asyncio.wait_for(call, PATIENCE_S) == "done"
            assert [value async for value in call.progress()] == ["more"]

    asyncio.run(main())


def test_a_worker_that_iterates_makes_room_for_another(here: HereBroker) -> None:
    """A handler waits for the progress of a call whose handler needs the only worker."""
    with ringback.Server(here.backend, workers=1) as server:
        server.register_server_callback("count", counting)
        server.register_server_callback(
            "sum",
            lambda source, payload: sum(
                server.trigger_callback("count", source, payload, progress=True).progress()
            ),
        )
        assert server.trigger_callback("sum", 7, 10, timeout=PATIENCE_S).result() == 45
