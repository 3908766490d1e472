"""A wait that would wait for itself raises, and says what to write instead. One that only blocks goes on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from queue import Queue
from typing import Any

import pytest
from support.faces import Face, HereBroker, Seen, Stage, played
from support.harness import PATIENCE_S

from ringback import Operator, Player, Server, UsageError, aio
from ringback._runtime.wait_times import WATCH_S
from ringback.testing.proxy import NONE, STALLED, Proxy

Waits = dict[str, Callable[[Any], Any]]

WAITS: Waits = {
    "result": lambda call: call.result(),
    "results": lambda call: call.results,
    "error": lambda call: call.error,
    "exception": lambda call: call.exception(),
    "progress": lambda call: list(call.progress()),
    "future.result": lambda call: call.future().result(),
    "future.exception": lambda call: call.future().exception(),
}
"""How a program of the blocking face waits for a call."""

GROUP_WAITS: Waits = {
    "all": lambda group: group.all(),
    "result": lambda group: group.result(),
    "exception": lambda group: group.exception(),
    "iteration": list,
    "future.result": lambda group: group.future().result(),
}
"""How it waits for a group."""

BOUNDED_WAITS: dict[str, Callable[[Any, float], Any]] = {
    "result": lambda call, timeout: call.result(timeout),
    "exception": lambda call, timeout: call.exception(timeout),
    "future.result": lambda call, timeout: call.future().result(timeout),
    "future.exception": lambda call, timeout: call.future().exception(timeout),
}
"""How it waits for a call or a group for a time."""


@contextlib.asynccontextmanager
async def started(*endpoints: Any) -> AsyncIterator[None]:
    """Run endpoints of both faces. The blocking ones start and end in threads, so that the loop goes on."""
    async with contextlib.AsyncExitStack() as stack:
        for endpoint in endpoints:
            if isinstance(endpoint, Server | Player | Operator):
                await asyncio.to_thread(endpoint.start)
                stack.push_async_callback(asyncio.to_thread, endpoint.close)
            else:
                await stack.enter_async_context(endpoint)
        yield


# -- on the event loop that has to run the handler


@pytest.mark.parametrize("wait", WAITS.values(), ids=list(WAITS))
def test_a_coroutine_cannot_wait_for_a_handler_on_its_own_loop(
    here: HereBroker, wait: Callable[[Any], Any]
) -> None:
    server, player = aio.Server(here.backend), Player(here.players, 7)
    server.register_server_callback("echo", lambda source, payload: payload)

    async def main() -> None:
        async with started(server, player):
            call = player.trigger_server_callback("echo", 1, progress=True)
            with pytest.raises(UsageError, match=r"handler of 'echo': ringback.aio.Server\(.* on the loop"):
                wait(call)
            assert await asyncio.wrap_future(call.future()) == 1  # as the error says

    asyncio.run(main())


@pytest.mark.parametrize("wait", GROUP_WAITS.values(), ids=list(GROUP_WAITS))
def test_nor_for_a_group_of_them(here: HereBroker, wait: Callable[[Any], Any]) -> None:
    server, near, far = Server(here.backend), aio.Player(here.players, 7), Player(here.players, 8)
    for player in (near, far):
        player.register_client_callback("where", lambda payload: payload)

    async def main() -> None:
        async with started(server, near, far):
            group = server.trigger_all_client_callbacks("where", 1, players=[7, 8])
            with pytest.raises(UsageError, match=r"handler of 'where': ringback.aio.Player\(.*, 7\)"):
                wait(group)
            assert group.calls[8].done() and not group.calls[7].done()
            assert list(await asyncio.wrap_future(group.future())) == [7, 8]

    asyncio.run(main())


@pytest.mark.parametrize("timeout", [0.0, WATCH_S + 0.1])
@pytest.mark.parametrize("wait", BOUNDED_WAITS.values(), ids=list(BOUNDED_WAITS))
def test_a_wait_with_a_timeout_ends_with_it(
    here: HereBroker, wait: Callable[[Any, float], Any], timeout: float
) -> None:
    server, caller, player = aio.Server(here.backend), Operator(here.backend), aio.Player(here.players, 7)
    server.register_server_callback("echo", lambda source, payload: payload)
    player.register_client_callback("echo", lambda payload: payload)

    async def main() -> None:
        async with started(server, player, caller):
            triggers: tuple[Callable[[], Any], ...] = (
                lambda: caller.trigger_callback("echo", 7, 1),
                lambda: caller.trigger_all_client_callbacks("echo", 1, players=[7]),
            )
            for trigger in triggers:
                begun = time.monotonic()
                waited_for = trigger()
                with pytest.raises(TimeoutError):
                    wait(waited_for, timeout)
                assert time.monotonic() - begun >= timeout and not waited_for.done()
                await asyncio.wrap_future(waited_for.future())

    asyncio.run(main())


def test_its_error_says_that_no_timeout_would_do(here: HereBroker) -> None:
    server, player = aio.Server(here.backend), Player(here.players, 7)
    server.register_server_callback("echo", lambda source, payload: payload)

    async def main() -> None:
        async with started(server, player):
            call = player.trigger_server_callback("echo", 1)
            with pytest.raises(
                TimeoutError, match=r"0\.5 s were not enough; this wait blocks the event loop"
            ):
                call.result(0.5)
            assert await asyncio.wrap_future(call.future()) == 1

    asyncio.run(main())


def test_nor_can_an_operator(here: HereBroker) -> None:
    server, player, operator = aio.Server(here.backend), aio.Player(here.players, 7), Operator(here.backend)
    server.register_server_callback("echo", lambda source, payload: payload)
    player.register_client_callback("echo", lambda payload: payload)

    async def main() -> None:
        async with started(server, player, operator):
            for trigger, where in (
                (operator.trigger_callback, "aio.Server"),
                (operator.trigger_client_callback, "aio.Player"),
            ):
                call = trigger("echo", 7, 1)
                with pytest.raises(UsageError, match=where):
                    call.result()
                assert await asyncio.wrap_future(call.future()) == 1

    asyncio.run(main())


def test_a_player_that_the_server_has_not_heard_of_yet_cannot_wait(here: HereBroker) -> None:
    """It starts in the same step of the loop, so the server on the loop has read nothing since."""
    server, player = aio.Server(here.backend), Player(here.players, 7)
    server.register_server_callback("echo", lambda source, payload: payload)

    async def main() -> None:
        async with server:
            with player, pytest.raises(UsageError, match=r"aio\.Server"):
                player.trigger_server_callback("echo", 1).result()

    asyncio.run(main())


def test_a_wait_that_only_blocks_the_loop_goes_on(here: HereBroker) -> None:
    """The endpoints on the loop have no part in these calls."""
    server, operator = Server(here.backend), Operator(here.backend)
    caller, bystander, idle = Player(here.players, 7), aio.Player(here.players, 8), aio.Operator(here.backend)
    held = Seen()
    server.register_server_callback("echo", lambda source, payload, cb: held(cb))
    caller.register_client_callback("echo", lambda payload, cb: held(cb))

    async def main() -> None:
        async with started(server, operator, caller, bystander, idle):
            calls: list[Any] = [
                caller.trigger_server_callback("echo"),
                server.trigger_client_callback("echo", 7),
                operator.trigger_client_callback("echo", 7),
                operator.trigger_callback("echo", 8),
                server.trigger_callback("echo", 8),
            ]
            for call, cb in zip(calls, await held.count(len(calls)), strict=True):
                shell = call._endpoint._shell
                assert shell.endless_wait(call.deadline, (call,)) is None, call
                del cb
            for cb in held.items:
                cb("there")
            assert [call.result() for call in calls] == ["there"] * len(calls)

    asyncio.run(main())


def test_a_reply_that_is_on_its_way_is_waited_for(here: HereBroker) -> None:
    """The handler on the loop has replied, and the network holds the reply."""
    with Proxy(here.players) as proxy:
        server, player = aio.Server(here.backend), Player(proxy.address, 7)
        handled = asyncio.Event()

        @server.register_server_callback("echo")
        def echo(source: Any, payload: Any) -> Any:
            proxy.set_faults(STALLED)
            handled.set()
            return payload

        async def main() -> None:
            async with started(server, player):
                call = player.trigger_server_callback("echo", 1)
                await handled.wait()
                assert player._shell.endless_wait(call.deadline, (call,)) is None
                proxy.set_faults(NONE)
                assert call.result() == 1

        asyncio.run(main())


def test_a_handler_that_has_begun_on_the_loop_is_a_reason_but_its_progress_may_come(here: HereBroker) -> None:
    server, player = aio.Server(here.backend), Player(here.players, 7)
    began, go = Seen(), asyncio.Event()

    @server.register_server_callback("slow")
    async def slow(source: Any, payload: Any, cb: Any) -> None:
        cb.progress(1)
        began(cb)
        await go.wait()
        cb(2)

    async def main() -> None:
        async with started(server, player):
            silent = player.trigger_server_callback("slow")
            await began.count(1)
            with pytest.raises(UsageError, match="handler of 'slow'"):
                silent.result()
            asking = player.trigger_server_callback("slow", progress=True)
            await began.count(2)
            assert player._shell.endless_wait(asking.deadline, (asking,)) is None
            assert next(asking.progress()) == 1
            go.set()
            assert await asyncio.wrap_future(asking.future()) == 2
            assert await asyncio.wrap_future(silent.future()) == 2

    asyncio.run(main())


def test_a_server_on_the_loop_that_another_broker_has_is_no_reason(here: HereBroker) -> None:
    with HereBroker() as there, Server(there.backend) as far, Player(there.players, 7) as player:
        held = Seen()
        far.register_server_callback("echo", lambda source, payload, cb: held(cb))
        server, operator = aio.Server(here.backend), Operator(there.backend)

        async def main() -> None:
            async with started(operator, server):
                calls = [player.trigger_server_callback("echo"), operator.trigger_callback("echo", 7)]
                for cb in await held.count(2):
                    for call in calls:
                        assert call._endpoint._shell.endless_wait(call.deadline, (call,)) is None
                    cb(7)
                assert [call.result() for call in calls] == [7, 7]

        asyncio.run(main())


def test_nor_is_a_player_with_the_same_id_at_another_broker(here: HereBroker) -> None:
    """Both brokers are on one machine. Each has a player 7, and a server that knows it."""
    with HereBroker() as there, Server(there.backend) as far_server, Player(there.players, 7) as far_player:
        held, joined = Seen(), Seen()
        far_server.register_server_callback("echo", lambda source, payload, cb: held(cb))
        far_player.register_client_callback("echo", lambda payload, cb: held(cb))
        server, player, operator = (
            aio.Server(here.backend),
            aio.Player(here.players, 7),
            Operator(there.backend),
        )
        server.on_player_joined(joined)

        async def main() -> None:
            async with started(operator, server, player):
                await joined.count(1)
                calls: list[Any] = [
                    far_player.trigger_server_callback("echo"),
                    far_server.trigger_client_callback("echo", 7),
                    operator.trigger_client_callback("echo", 7),
                    operator.trigger_callback("echo", 7),
                ]
                for cb in await held.count(len(calls)):
                    for call in calls:
                        assert call._endpoint._shell.endless_wait(call.deadline, (call,)) is None, call
                    cb(7)
                assert [call.result() for call in calls] == [7] * len(calls)

        asyncio.run(main())


def test_waits_of_the_asyncio_face_raise_at_once(here: HereBroker) -> None:
    """In a plain function on the loop, `result` never waits: a handler, a callback, a listener."""
    server, player = aio.Server(here.backend), aio.Player(here.players, 7)
    outcomes: asyncio.Queue[Any] = asyncio.Queue()

    def tries_to_wait(*_: Any) -> None:
        call = server.trigger_client_callback("echo", 7)
        group = server.trigger_all_client_callbacks("echo", players=[7])
        for wait in (call.result, call.exception, lambda: call.error, group.result, group.exception):
            with pytest.raises(asyncio.InvalidStateError, match="await it first"):
                wait()
        outcomes.put_nowait(call)

    player.register_client_callback("echo", lambda payload: payload)
    server.register_server_callback("handler", lambda source, payload: tries_to_wait())
    server.on_player_joined(tries_to_wait)

    async def main() -> None:
        async with started(server, player):
            await player.trigger_server_callback("handler")
            server.trigger_client_callback("echo", 7, None, tries_to_wait)
            server.trigger_client_callback("echo", 7).add_done_callback(tries_to_wait)
            for _ in range(4):
                await asyncio.wait_for(outcomes.get(), PATIENCE_S)

    asyncio.run(main())


# -- on the I/O thread


def test_the_io_thread_cannot_wait(here: HereBroker) -> None:
    """It runs `allow` functions. Each way to wait raises there, and the call is forbidden."""
    server, player, other = Server(here.backend), Player(here.players, 7), Player(here.players, 8)
    player.register_client_callback("echo", lambda payload: payload)

    def call() -> Any:
        return server.trigger_client_callback("echo", 7, progress=True)

    def group() -> Any:
        return server.trigger_all_client_callbacks("echo", players=[7])

    waits: list[Callable[[], Any]] = [
        *[lambda wait=wait: wait(call()) for wait in WAITS.values()],
        *[lambda wait=wait: wait(group()) for wait in GROUP_WAITS.values()],
        server.ready_to_call,
        server.hand_over,
        server.run_forever,
        other.run_forever,
        other.start,
    ]
    outcomes: Queue[Any] = Queue()

    def allow(source: Any) -> bool:
        for wait in waits:
            try:
                outcomes.put((wait, wait()))
            except UsageError as error:
                outcomes.put(error)
        other.close()
        return True

    server.register_server_callback("guarded", lambda source, payload: payload, allow=allow)
    with server, player:
        assert player.trigger_server_callback("guarded", 1).result() == 1
        found = [outcomes.get(timeout=PATIENCE_S) for _ in waits]
        assert all(isinstance(outcome, UsageError) for outcome in found), found
        assert server.trigger_client_callback("echo", 7, 2).result() == 2


# -- in a worker


def test_callbacks_and_listeners_of_the_blocking_face_may_wait(here: HereBroker) -> None:
    server, player = Server(here.backend, workers=1), Player(here.players, 7)
    outcomes: Queue[Any] = Queue()

    def waits(*_: Any) -> None:
        try:
            outcomes.put(server.trigger_client_callback("echo", 7, 5).result(PATIENCE_S))
        except BaseException as error:
            outcomes.put(error)

    @player.register_client_callback("slow")
    def slow(payload: Any, cb: Any) -> None:
        cb.progress(1)
        cb(2)

    player.register_client_callback("echo", lambda payload: payload)
    server.register_server_callback("handler", lambda source, payload: waits())
    server.on_player_joined(waits)
    with server, player:
        assert player.trigger_server_callback("handler").result() is None
        server.trigger_client_callback("slow", 7, None, waits, on_progress=waits).add_done_callback(waits)
        assert [outcomes.get(timeout=PATIENCE_S) for _ in range(5)] == [5] * 5


@played
async def test_a_handler_that_has_not_replied_cannot_hand_over(stage: Stage) -> None:
    first, player = await stage.pair()
    outcomes = Seen()

    def hand_over(face: Face) -> Callable[[bool], Callable[..., Any]]:
        def make(replies: bool) -> Callable[..., Any]:
            def blocking(source: Any, payload: Any, cb: Any) -> None:
                if replies:
                    cb("first")
                try:
                    outcomes(first.hand_over())
                except UsageError as error:
                    outcomes(error)
                    cb("not handed over")

            async def on_loop(source: Any, payload: Any, cb: Any) -> None:
                if replies:
                    cb("first")
                try:
                    outcomes(await first.hand_over())
                except UsageError as error:
                    outcomes(error)
                    cb("not handed over")

            return on_loop if face.name == "asyncio" else blocking

        return make

    handler = hand_over(stage.face)
    first.register_server_callback("early", handler(False))
    first.register_server_callback("late", handler(True))
    assert await stage.result(player.trigger_server_callback("early")) == "not handed over"
    assert "the handler of 'early' has not replied" in str(outcomes.items[0])
    second = await stage.server(standby=True)
    second.register_server_callback("who", lambda source, payload: "second")
    assert await stage.result(player.trigger_server_callback("late")) == "first"
    assert (await outcomes.count(2))[1] is None
    assert await stage.result(player.trigger_server_callback("who")) == "second"


def test_an_endpoint_on_the_loop_of_another_thread_is_no_reason(here: HereBroker) -> None:
    """The loop runs in another thread, and goes on while this thread waits."""
    ready, over = Seen(), asyncio.Event()
    server, player = aio.Server(here.backend), Player(here.players, 7)
    server.register_server_callback("echo", lambda source, payload: payload)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with server:
            ready(loop)
            await over.wait()

    async def run() -> None:
        serving = asyncio.create_task(asyncio.to_thread(asyncio.run, main()))
        (loop,) = await ready.count(1)
        with player:
            assert player.trigger_server_callback("echo", 3).result() == 3
        loop.call_soon_threadsafe(over.set)
        await serving

    asyncio.run(run())
