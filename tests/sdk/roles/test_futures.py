"""Calls and groups do what programs expect of futures of `concurrent.futures`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, as_completed
from contextlib import suppress
from queue import Queue
from typing import Any

import pytest
from support.faces import HereBroker, LogLines, Seen, Stage, played
from support.harness import PATIENCE_S

import ringback
from ringback import Call, CallTimeout, Cancelled, Player, Server, UnknownCallback


@pytest.fixture
def server(here: HereBroker) -> Iterator[Server]:
    with Server(here.backend) as server:
        server.register_server_callback("echo", lambda source, payload: payload)
        yield server


@pytest.fixture
def player(here: HereBroker, server: Server) -> Iterator[Player]:
    with Player(here.players, 7) as player:
        player.register_client_callback("echo", lambda payload: payload)
        assert (
            player.trigger_server_callback("echo", 1).result() == 1
        )  # then the server has read that it joined
        yield player


@pytest.fixture
def kept(server: Server) -> Seen:
    """The `cb` of each call of "keep"."""
    kept = Seen()
    server.register_server_callback("keep", lambda source, payload, cb: kept(cb))
    return kept


def first(kept: Seen) -> Any:
    """Wait until a call of "keep" has come, and return its `cb`."""
    return asyncio.run(kept.count(1))[0]


# -- waiting with a timeout


def test_a_wait_that_ends_too_early_leaves_the_call_alone(player: Player, kept: Seen) -> None:
    call = player.trigger_server_callback("keep")
    for wait in (call.result, call.exception):
        for timeout in (0, 0.01):
            with pytest.raises(TimeoutError, match="the call of 'keep' goes on") as caught:
                wait(timeout)
            assert not isinstance(caught.value, ringback.CallbackError)
    assert not call.done() and not call._waiters
    first(kept)("late")
    assert call.result(PATIENCE_S) == "late" and call.exception(0) is None
    assert call.result(timeout=0) == "late" and call.done() and not call.cancelled()


def test_the_time_of_a_call_is_over_before_that_of_a_wait(player: Player, kept: Seen) -> None:
    call = player.trigger_server_callback("keep", timeout=0.01)
    assert isinstance(call.exception(PATIENCE_S), CallTimeout)
    with pytest.raises(CallTimeout):
        call.result(0)


def test_waits_with_odd_timeouts(player: Player, kept: Seen) -> None:
    call = player.trigger_server_callback("keep")
    for timeout in (-1, float("nan")):
        with pytest.raises(ValueError, match="timeout must be 0 or more"):
            call.result(timeout)
    wrong: Any = "1"
    with pytest.raises(TypeError, match="timeout must be a number"):
        call.exception(wrong)
    first(kept)(5)
    assert call.result(float("inf")) == 5 and call.exception(1e18) is None


def test_a_failure_that_comes_after_a_wait_is_logged(player: Player, kept: Seen, sdk_log: LogLines) -> None:
    """A program that gave up waiting has not seen the error."""
    call = player.trigger_server_callback("keep")
    with pytest.raises(TimeoutError):
        call.result(0)
    ended = threading.Event()
    call.add_waiter(ended.set)
    first(kept).fail(ringback.CallbackError("too late", code="LATE"))
    assert ended.wait(PATIENCE_S)
    del call
    gc.collect()
    asyncio.run(sdk_log.wait_for("nobody looked at its error: LATE"))


def test_many_threads_wait_for_one_call(player: Player, kept: Seen) -> None:
    call = player.trigger_server_callback("keep")
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        waits = [threads.submit(call.result, PATIENCE_S if n % 2 else 0.001) for n in range(8)]
        impatient = [wait.exception() for wait in waits[::2]]
        assert all(type(error) is TimeoutError for error in impatient)
        first(kept)("all")
        assert [wait.result() for wait in waits[1::2]] == ["all"] * 4


def test_a_group_waits_with_a_timeout(server: Server, player: Player) -> None:
    kept = Seen()
    player.register_client_callback("keep", lambda payload, cb: kept(cb))
    group = server.trigger_all_client_callbacks("keep")
    for wait in (group.all, group.result, group.exception):
        with pytest.raises(TimeoutError, match="go on"):
            wait(0.01)
    assert not group.done()
    first(kept)(1)
    assert group.all(PATIENCE_S)[7].result() == 1 and group.exception(0) is None
    assert group.done() and not group.cancelled() and not group.cancel()
    assert group.result(0) == group.all()


# -- asking and cancelling


@played
async def test_cancel_says_whether_there_was_a_call_to_cancel(stage: Stage) -> None:
    server, player = await stage.pair()
    server.register_server_callback("echo", lambda source, payload: payload)
    server.register_server_callback("silent", lambda source, payload, cb: None)
    silent = player.trigger_server_callback("silent")
    assert not silent.cancelled() and silent.cancel()
    assert isinstance(await stage.failure(silent), Cancelled)
    assert silent.cancelled() and not silent.cancel()
    ended = player.trigger_server_callback("echo")
    await stage.result(ended)
    assert not ended.cancel() and not ended.cancelled() and ended.exception() is None
    player.register_client_callback("silent", lambda payload, cb: None)
    group = server.trigger_all_client_callbacks("silent")
    assert group.cancel()
    await stage.within(stage.face.all(group))
    assert not group.cancel()


# -- done callbacks


@played
async def test_done_callbacks_of_calls_and_groups(stage: Stage) -> None:
    server, player = await stage.pair()
    kept, ended = Seen(), Seen()
    server.register_server_callback("keep", lambda source, payload, cb: kept(cb))
    player.register_client_callback("echo", lambda payload: payload)
    call = player.trigger_server_callback("keep")
    call.add_done_callback(lambda call: ended(("first", call, call.done())))
    call.add_done_callback(lambda call: ended(("second", call, call.result())))
    assert ended.items == []
    (await kept.count(1))[0](5)
    assert sorted(item[0] for item in await ended.count(2)) == ["first", "second"]
    assert all(item[1] is call for item in ended.items)
    call.add_done_callback(lambda call: ended(("late", call, call.result())))
    assert (await ended.count(3))[2] == ("late", call, 5)
    assert (await stage.within(stage.face.all(server.trigger_all_client_callbacks("echo", 1))))[
        7
    ].result() == 1
    group = server.trigger_all_client_callbacks("echo", 2)
    group.add_done_callback(ended)
    assert (await ended.count(4))[3] is group and group.done() and group.exception() is None
    group.add_done_callback(ended)
    assert (await ended.count(5))[4] is group


def test_a_done_callback_runs_in_a_worker(player: Player, kept: Seen, sdk_log: LogLines) -> None:
    """It may wait for calls. What it raises is logged, and the next one runs."""
    seen, one = Seen(), player.trigger_server_callback("keep")

    def failing(call: Call[Any]) -> None:
        raise ValueError("of a done callback")

    async def coroutine(call: Call[Any]) -> None:
        seen(call.result())

    one.add_done_callback(failing)
    one.add_done_callback(lambda call: seen(player.trigger_server_callback("echo", "nested").result()))
    one.add_done_callback(coroutine)
    first(kept)("outcome")
    assert sorted(asyncio.run(seen.count(2))) == ["nested", "outcome"]
    asyncio.run(sdk_log.wait_for("player 7: a done callback of a call of 'keep' failed"))
    wrong: Any = 5
    with pytest.raises(TypeError, match="must be a function, not int"):
        one.add_done_callback(wrong)


@pytest.mark.parametrize("debug", [False, True])
def test_what_cannot_be_a_done_callback_in_asyncio(here: HereBroker, debug: bool) -> None:
    """In debug mode, the loop would refuse it only when the call ends."""

    async def coroutine(ended: object) -> None: ...

    async def add() -> None:
        async with (
            ringback.aio.Player(here.players, 7) as player,
            ringback.aio.Server(here.backend) as server,
        ):
            call = player.trigger_server_callback("silent")
            group = server.trigger_all_client_callbacks("silent")
            for ended in (call, group):
                not_a_function: Any = 5
                with pytest.raises(TypeError, match="must be a function, not int"):
                    ended.add_done_callback(not_a_function)
                with pytest.raises(TypeError, match="not a coroutine function: let it start a task"):
                    ended.add_done_callback(coroutine)
            call.cancel()
            await group

    asyncio.run(add(), debug=debug)


# -- futures


def test_the_future_of_a_group(server: Server, player: Player) -> None:
    kept = Seen()
    player.register_client_callback("keep", lambda payload, cb: kept(cb))
    future = server.trigger_all_client_callbacks("echo", 3).future()
    assert {player_id: call.result() for player_id, call in future.result(PATIENCE_S).items()} == {7: 3}
    group = server.trigger_all_client_callbacks("keep")
    future = group.future()
    assert future.cancel()
    assert isinstance(group.all(PATIENCE_S)[7].error, Cancelled)
    group = server.trigger_all_client_callbacks("echo", 4)
    group.all(PATIENCE_S)
    assert group.future().result(0)[7].result() == 4  # also of one that has ended
    nobody = server.trigger_all_client_callbacks("echo", players=[]).future()
    assert nobody.result(PATIENCE_S) == {}


def test_the_result_of_a_group_in_asyncio(here: HereBroker) -> None:
    async def look() -> None:
        async with (
            ringback.aio.Server(here.backend) as server,
            ringback.aio.Player(here.players, 7) as player,
        ):
            player.register_client_callback("echo", lambda payload: payload)
            group = server.trigger_all_client_callbacks("echo", 5, players=[7])
            with pytest.raises(asyncio.InvalidStateError, match="await it first"):
                group.result()
            assert await group == group.result()

    asyncio.run(look())


def test_wait_and_as_completed_take_futures_of_calls(player: Player, kept: Seen) -> None:
    echoes = [player.trigger_server_callback("echo", number).future() for number in range(5)]
    assert sorted(future.result() for future in as_completed(echoes, PATIENCE_S)) == list(range(5))
    silent = player.trigger_server_callback("keep").future()
    failing = player.trigger_server_callback("nothing").future()
    done, pending = concurrent.futures.wait([silent, failing], PATIENCE_S, FIRST_COMPLETED)
    assert done == {failing} and pending == {silent}
    assert isinstance(failing.exception(), UnknownCallback)
    with pytest.raises(TimeoutError):
        silent.result(0.01)
    first(kept)(1, 2)
    assert silent.result(PATIENCE_S) == (1, 2) and silent.done()


def test_cancelling_a_future_cancels_its_call_and_the_reverse(player: Player, kept: Seen) -> None:
    call = player.trigger_server_callback("keep")
    future = call.future()
    assert future.cancel() and future.cancelled()
    assert concurrent.futures.wait([future], PATIENCE_S).done == {future}
    assert isinstance(call.exception(PATIENCE_S), Cancelled) and call.cancelled()
    other = player.trigger_server_callback("keep")
    future = other.future()
    assert other.cancel()
    with pytest.raises(CancelledError):
        future.result(PATIENCE_S)
    assert concurrent.futures.wait([future], PATIENCE_S).done == {future}
    assert other.future().cancelled()


def test_an_event_loop_awaits_calls_of_the_blocking_face(player: Player, kept: Seen) -> None:
    async def main() -> None:
        futures = [asyncio.wrap_future(player.trigger_server_callback("echo", n).future()) for n in range(3)]
        assert await asyncio.wait_for(asyncio.gather(*futures), PATIENCE_S) == [0, 1, 2]
        silent = player.trigger_server_callback("keep")
        task = asyncio.ensure_future(asyncio.wrap_future(silent.future()))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert isinstance(await asyncio.to_thread(silent.exception, PATIENCE_S), Cancelled)

    asyncio.run(main())


def test_futures_end_with_their_endpoint(here: HereBroker, player: Player, kept: Seen) -> None:
    future = player.trigger_server_callback("keep").future()
    player.close()
    assert isinstance(future.exception(PATIENCE_S), ringback.ConnectionLost)


def test_a_done_callback_of_a_future_cannot_wait(server: Server, player: Player) -> None:
    """It runs on the thread that would end its wait."""
    waits: list[Callable[[Any], object]] = [
        lambda call: call.result(),
        lambda call: call.future().result(),
        lambda call: call.future().exception(),
    ]
    outcomes: Queue[Any] = Queue()
    for wait in waits:

        def waits_for_another(_: Any, wait: Callable[[Any], object] = wait) -> None:
            try:
                outcomes.put(wait(server.trigger_client_callback("echo", 7)))
            except ringback.UsageError as error:
                outcomes.put(error)

        held = Seen()
        player.register_client_callback("hold", lambda payload, cb, held=held: held(cb), replace=True)
        server.trigger_client_callback("hold", 7).future().add_done_callback(waits_for_another)
        first(held)()  # only now: the done callback of a future that has ended runs in this thread
        assert "a done callback of a future, cannot wait" in str(outcomes.get(timeout=PATIENCE_S))


def test_handlers_that_wait_for_futures_make_room_for_others(here: HereBroker) -> None:
    with Server(here.backend, workers=1) as server, Player(here.players, 7, workers=1) as player:

        def countdown(source: Any, number: int) -> int:
            if number == 0:
                return 0
            asked = server.trigger_callback("countdown", 7, number - 1).future()
            assert asked.exception() is None
            return 1 + server.trigger_callback("countdown", 7, number - 1).future().result()

        server.register_server_callback("countdown", countdown)
        assert player.trigger_server_callback("countdown", 3, timeout=PATIENCE_S).result() == 3


def test_an_error_of_a_future_is_in_no_cycle(player: Player, server: Server) -> None:
    future = player.trigger_server_callback("unknown").future()
    gone = weakref.ref(future)
    gc.disable()
    try:
        with suppress(UnknownCallback):
            future.result(PATIENCE_S)
        del future
        assert gone() is None
    finally:
        gc.enable()


def test_polling_leaves_nothing_behind(player: Player, kept: Seen) -> None:
    call = player.trigger_server_callback("keep")
    until = time.monotonic() + 0.05
    while time.monotonic() < until:
        with pytest.raises(TimeoutError):
            call.result(0)
    assert call._waiters == []
    first(kept)()
    assert call.result(PATIENCE_S) is None
