"""Serial callbacks with real brokers: one call of a source at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import closing
from queue import Queue
from typing import Any

import pytest
import zmq
from support.corefakes import envelopes_of
from support.faces import HereBroker, LogLines, Seen, Stage, played
from support.harness import PATIENCE_S, eventually
from support.rawpeers import RawPeer

import ringback
from ringback import CallbackError, CallTimeout, ServerCallback, UsageError, aio
from ringback.errors import EXECUTED, Code
from ringback.protocol.contexts import ONCE
from ringback.protocol.envelopes import RESULT, Encoder, join
from ringback.protocol.frames import FrameType, Role, header
from ringback.protocol.limits import Limits


class Shop:
    """It checks the purse, waits, and then takes the money: unless it is serial, it can be cheated."""

    def __init__(self, stage: Stage, server: Any) -> None:
        self.money = {7: 20, 8: 20}
        self._server = server
        self.buy = self._on_loop if stage.face.name == "asyncio" else self._blocking

    def _blocking(self, source: Any, payload: Any) -> int:
        self._check(source)
        self._server.trigger_client_callback("confirm", source).result()
        return self._pay(source)

    async def _on_loop(self, source: Any, payload: Any) -> int:
        self._check(source)
        await self._server.trigger_client_callback("confirm", source)
        return self._pay(source)

    def _check(self, source: Any) -> None:
        if self.money[source] < 12:
            raise CallbackError("it costs 12", code="TOO_POOR")

    def _pay(self, source: Any) -> int:
        self.money[source] -= 12
        return self.money[source]


@played
async def test_a_player_cannot_spend_the_same_money_twice(stage: Stage) -> None:
    server, player = await stage.pair()
    shop = Shop(stage, server)
    player.register_client_callback("confirm", lambda payload: True)
    server.register_server_callback("buy", shop.buy, serial=True)
    calls = [player.trigger_server_callback("buy") for _ in range(4)]
    assert await stage.result(calls[0]) == 8
    assert [(await stage.failure(call)).code for call in calls[1:]] == ["TOO_POOR"] * 3
    # Without `serial`, it can: all four are past the check before the first one pays.
    asked = Seen()
    player.register_client_callback("confirm", lambda payload, cb: asked(cb), replace=True)
    server.register_server_callback("buy", shop.buy, replace=True)
    shop.money[7] = 20
    calls = [player.trigger_server_callback("buy") for _ in range(4)]
    for cb in await asked.count(4):
        cb(True)
    for call in calls:
        await stage.result(call)
    assert shop.money[7] == 20 - 4 * 12


@played
async def test_calls_run_in_order_and_those_of_others_beside_them(stage: Stage) -> None:
    server, player = await stage.pair()
    other = await stage.player(8)
    began = Seen()
    server.register_server_callback(
        "k", lambda source, payload, cb: began((source, payload, cb)), serial=True
    )
    calls = [player.trigger_server_callback("k", number) for number in range(3)]
    beside = other.trigger_server_callback("k", 9)
    for count in (2, 3, 4):
        held = await began.count(count)
        assert len(held) == count and [payload for source, payload, _ in held if source == 7] == list(
            range(count - 1)
        )
        *_, (_, payload, cb) = [one for one in held if one[0] == 7]
        threading.Thread(target=cb, args=(payload,)).start()  # from another thread, later
        assert await stage.result(calls[payload]) == payload
    [cb] = [cb for source, _, cb in began.items if source == 8]
    cb("beside")
    assert await stage.result(beside) == "beside"


@played
async def test_calls_to_a_player_run_in_turn(stage: Stage) -> None:
    server, player = await stage.pair()
    began = Seen()
    player.register_client_callback("k", lambda payload, cb: began((payload, cb)), serial=True)
    calls = [server.trigger_client_callback("k", 7, number) for number in range(2)]
    [(first, cb)] = await began.count(1)
    cb(first)
    assert await stage.result(calls[0]) == 0
    _, (second, cb) = await began.count(2)
    cb(second)
    assert await stage.result(calls[1]) == 1


@played
async def test_a_handler_that_replies_at_once_lets_the_next_one_run(stage: Stage) -> None:
    """A plain function, which replies within the step that reads the calls."""
    server, player = await stage.pair()
    server.register_server_callback("k", lambda source, payload: payload, serial=True)
    calls = [player.trigger_server_callback("k", number) for number in range(200)]
    assert await stage.within(stage.face.result_of_each(calls)) == list(range(200))
    own = [server.trigger_callback("k", 7, number) for number in range(20)]
    assert await stage.within(stage.face.result_of_each(own)) == list(range(20))


@played
async def test_a_handler_that_fails_lets_the_next_one_run(stage: Stage) -> None:
    server, player = await stage.pair()

    def fails(source: Any, payload: Any) -> None:
        raise CallbackError("no", code=payload)

    async def fails_later(source: Any, payload: Any) -> None:
        await asyncio.sleep(0)
        raise CallbackError("no", code=payload)

    server.register_server_callback("plain", fails, serial=True)
    server.register_server_callback("async", fails_later, serial=True)
    for key in ("plain", "async"):
        calls = [player.trigger_server_callback(key, code) for code in ("A", "B")]
        assert [(await stage.failure(call)).code for call in calls] == ["A", "B"]


class Slow:
    """A handler that goes on after its caller has given up."""

    def __init__(self) -> None:
        self.began, self.at_once = Seen(), 0
        self.most, self.go = 0, threading.Event()

    def __call__(self, source: Any, payload: Any, cb: Any) -> None:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.began(cb)
        assert self.go.wait(PATIENCE_S)
        self.at_once -= 1
        cb(payload)


@played
async def test_the_next_call_does_not_run_beside_a_thread_that_goes_on(stage: Stage) -> None:
    server, player = await stage.pair()
    slow = Slow()
    server.register_server_callback("k", slow, serial=True, in_thread=True)
    first, second = [player.trigger_server_callback("k", number) for number in (1, 2)]
    [cb] = await slow.began.count(1)
    first.cancel()
    await stage.until(player, lambda: cb.cancelled, "the handler's side was told")
    assert len(slow.began.items) == 1
    slow.go.set()
    assert await stage.result(second) == 2
    assert slow.most == 1


@played
async def test_a_call_that_is_cancelled_before_its_turn_never_runs(stage: Stage) -> None:
    server, player = await stage.pair()
    ran = Seen()
    server.register_server_callback("k", lambda source, payload, cb: ran((payload, cb)), serial=True)
    first, second, third = [player.trigger_server_callback("k", number) for number in (1, 2, 3)]
    [(_, cb)] = await ran.count(1)
    second.cancel()
    await stage.until(player, lambda: server._endpoint.load().running == 2, "the handler's side was told")
    cb()
    await stage.result(first)
    _, (payload, cb) = await ran.count(2)
    assert payload == 3
    cb()
    await stage.result(third)


@played
async def test_a_player_that_left_holds_nobody_up(stage: Stage) -> None:
    server = await stage.server()
    ran = Seen()
    server.register_server_callback("k", lambda source, payload, cb: ran((payload, cb)), serial=True)
    player = stage.make("Player", stage.broker.players, 7)
    await stage.face.start(player)
    for number in (1, 2):
        player.trigger_server_callback("k", number, on_error=lambda error: None)
    await ran.count(1)
    await stage.face.close(player)
    player = await stage.player(7)
    call = player.trigger_server_callback("k", 3)
    _, (payload, cb) = await ran.count(2)
    assert payload == 3
    cb("back")
    assert await stage.result(call) == "back"


def reply_to(player: RawPeer) -> list[Any]:
    """Return the next envelope that comes to a player."""
    while True:
        [frame] = player.receive()
        if frame[1] == FrameType.DATA:
            [envelope] = envelopes_of(frame)
            return list(envelope)


@played
async def test_a_call_whose_time_is_over_before_its_turn_did_not_run(stage: Stage) -> None:
    """The handler's side says so. A caller of the SDK looks at its own clock, and does not wait for that."""
    server = await stage.server()
    began = Seen()
    server.register_server_callback("k", lambda source, payload, cb: began(cb), serial=True)
    write = Encoder(Limits())
    with zmq.Context() as context, RawPeer(context, stage.broker.players) as player:
        await asyncio.to_thread(player.join, Role.PLAYER, 7)
        for number, token in enumerate((None, {ONCE: bytes(16).hex()}), 1):
            calls = [write.call(2 * number, "k", None, None), write.call(1, "k", None, 100, token)]
            player.send(header(FrameType.DATA, 0) + join(calls))
            cb = (await began.count(number))[-1]
            _, call_id, code, _, executed, _ = await asyncio.to_thread(reply_to, player)
            assert (call_id, code, EXECUTED[executed]) == (1, Code.TIMEOUT, "no")
            cb("ran")
            assert await asyncio.to_thread(reply_to, player) == [RESULT, 2 * number, ["ran"]]
    assert len(began.items) == 2


@played
async def test_a_server_knows_that_its_own_call_did_not_run(stage: Stage) -> None:
    server, player = await stage.pair()
    began = Seen()
    server.register_server_callback("k", lambda source, payload, cb: began(cb), serial=True)
    first = player.trigger_server_callback("k")
    [cb] = await began.count(1)
    for retry in (False, True):
        error = await stage.failure(server.trigger_callback("k", 7, timeout=0.1, retry=retry))
        assert (error.code, error.executed) == (Code.TIMEOUT, "no")
    cb("ran")
    assert await stage.result(first) == "ran" and len(began.items) == 1


@played
async def test_a_contract_may_be_serial(stage: Stage) -> None:
    server, player = await stage.pair()
    began = Seen()
    contract: ServerCallback[int, int] = ServerCallback("k", int, int)
    server.register(contract, lambda source, number, cb: began((number, cb)), serial=True)
    calls = [player.trigger(contract, number) for number in (1, 2)]
    for count, call in enumerate(calls, 1):
        number, cb = (await began.count(count))[-1]
        assert number == count == len(began.items)
        cb(number)
        assert await stage.result(call) == number


# -- a handler that waits for itself


def test_a_handler_that_waits_for_its_own_turn_is_told_so(here: HereBroker) -> None:
    with ringback.Server(here.backend) as server, ringback.Player(here.players, 7) as player:
        problems: list[str] = []

        def again(source: Any, payload: Any) -> Any:
            if payload == 0:
                return "once more"
            call = server.trigger_callback("k", source, payload - 1)
            try:
                return call.result()
            except UsageError as error:
                problems.append(str(error))
                return call.done()

        server.register_server_callback("k", again, serial=True)
        assert player.trigger_server_callback("k", 0).result() == "once more"
        assert player.trigger_server_callback("k", 1).result() is False
        assert "the callback 'k' is serial" in problems[0] and "call the function itself" in problems[0]
        # In the name of another source it may wait.
        server.register_server_callback(
            "other", lambda source, payload: server.trigger_callback("k", 8, 0).result()
        )
        assert player.trigger_server_callback("other").result() == "once more"


def waits_its_turn(server: ringback.Server) -> None:
    """Wait until a server handles two calls, of which one waits for its turn."""
    eventually(lambda: server.ready_to_call() or server._endpoint.load().running == 2, "the call came")


def test_a_wait_for_its_own_turn_with_a_timeout_ends_with_it(here: HereBroker) -> None:
    with ringback.Server(here.backend) as server, ringback.Player(here.players, 7) as player:

        def again(source: Any, payload: Any) -> str:
            call = server.trigger_callback("k", source)
            waits_its_turn(server)
            with pytest.raises(
                TimeoutError, match=r"1\.2 s were not enough; the callback 'k' is serial"
            ) as one:
                call.result(timeout=1.2)
            with pytest.raises(TimeoutError) as other:
                call.future().result(timeout=0.1)
            call.cancel()
            return f"{type(one.value).__name__} {type(other.value).__name__}"

        server.register_server_callback("k", again, serial=True)
        assert player.trigger_server_callback("k").result() == "TimeoutError TimeoutError"


def test_a_handler_may_wait_for_its_turn_if_another_thread_may_reply(here: HereBroker) -> None:
    with ringback.Server(here.backend) as server, ringback.Player(here.players, 7) as player:
        found: Queue[Any] = Queue()

        def again(source: Any, payload: Any, cb: Any) -> None:
            if payload == "inner":
                cb("ran")
                return
            call = server.trigger_callback("k", source, "inner")
            waits_its_turn(server)
            found.put(server._shell.endless_wait(call.deadline, (call,)))
            threading.Thread(target=cb, args=("replied",)).start()
            found.put(call.result())

        server.register_server_callback("k", again, serial=True)
        assert player.trigger_server_callback("k").result() == "replied"
        assert [found.get(timeout=PATIENCE_S) for _ in range(2)] == [None, "ran"]


WAITS_IN_VAIN = r"the handler of 'k' for player 7 \(call \d+\) waits for a call of 'k' .* has replied"


@pytest.mark.parametrize("timeout", [None, 0.2])
def test_the_log_says_that_no_other_thread_has_replied_yet(
    here: HereBroker, sdk_log: LogLines, timeout: float | None
) -> None:
    with ringback.Server(here.backend) as server, ringback.Player(here.players, 7) as player:

        def again(source: Any, payload: Any, cb: Any) -> None:
            call = server.trigger_callback("k", source, timeout=2.5)
            waits_its_turn(server)
            with pytest.raises(TimeoutError):
                call.result(timeout)
            call.cancel()
            cb("it said why")

        server.register_server_callback("k", again, serial=True)
        assert player.trigger_server_callback("k").result() == "it said why"
        assert asyncio.run(sdk_log.wait_for(WAITS_IN_VAIN)).levelname == "WARNING"


def test_a_callback_that_is_not_serial_any_more_may_be_waited_for(here: HereBroker) -> None:
    with ringback.Server(here.backend) as server, ringback.Player(here.players, 7) as player:
        held: Queue[Any] = Queue()

        def replaces(source: Any, payload: Any) -> Any:
            server.register_server_callback("k", lambda source, payload, cb: held.put(cb), replace=True)
            call = server.trigger_callback("k", source)
            cb = held.get(timeout=PATIENCE_S)
            problem = server._shell.endless_wait(call.deadline, (call,))
            cb("ran beside it")
            return [repr(problem), call.result()]

        server.register_server_callback("k", replaces, serial=True)
        assert player.trigger_server_callback("k").result() == ["None", "ran beside it"]


def test_a_call_from_before_its_callback_was_replaced_may_not(here: HereBroker) -> None:
    """The queues of a callback go on."""
    with ringback.Server(here.backend) as server, ringback.Player(here.players, 7) as player:

        def replaces(source: Any, payload: Any) -> str:
            call = server.trigger_callback("k", source)
            waits_its_turn(server)
            server.register_server_callback("k", lambda source, payload: "never", replace=True)
            with pytest.raises(UsageError, match="the callback 'k' is serial"):
                call.result()
            call.cancel()
            return "told"

        server.register_server_callback("k", replaces, serial=True)
        assert player.trigger_server_callback("k").result() == "told"


def test_on_a_loop_it_ends_with_its_timeout(here: HereBroker) -> None:
    async def main() -> None:
        async with aio.Server(here.backend) as server, aio.Player(here.players, 7) as player:

            async def again(source: Any, payload: Any) -> Any:
                return await server.trigger_callback("k", source, timeout=0.2)

            server.register_server_callback("k", again, serial=True)
            error = await asyncio.wait_for(failure(player.trigger_server_callback("k")), PATIENCE_S)
            assert error.code_name == "HANDLER_ERROR"  # its handler has run into the TIMEOUT of the other
            with pytest.raises(CallTimeout):
                await server.trigger_callback("k", 7, timeout=0.0)

    asyncio.run(main())


async def failure(call: Any) -> Any:
    try:
        await call
    except CallbackError as error:
        return error
    raise AssertionError(f"{call} did not fail")


# -- the asyncio face


def test_a_coroutine_may_clean_up_before_the_next_one_runs(here: HereBroker) -> None:
    async def main() -> None:
        async with aio.Server(here.backend) as server, aio.Player(here.players, 7) as player:
            began, cleaning, clean = asyncio.Event(), asyncio.Event(), asyncio.Event()
            order: list[str] = []

            async def handler(source: Any, payload: Any) -> None:
                order.append(f"begins {payload}")
                if payload == 1:
                    began.set()
                    try:
                        await asyncio.Event().wait()
                    finally:
                        cleaning.set()
                        await clean.wait()
                order.append(f"ends {payload}")

            def ends_without_a_word(*_: Any) -> None:
                order.append("clean")

            server.register_server_callback("k", handler, serial=True)
            first = player.trigger_server_callback("k", 1)
            second = player.trigger_server_callback("k", 2)
            await asyncio.wait_for(began.wait(), PATIENCE_S)
            first.cancel()
            await asyncio.wait_for(cleaning.wait(), PATIENCE_S)
            assert order == ["begins 1"]
            ends_without_a_word()
            clean.set()
            await asyncio.wait_for(second, PATIENCE_S)
            assert order == ["begins 1", "clean", "begins 2", "ends 2"]

    asyncio.run(main())


def test_a_task_that_the_program_cancels_lets_the_next_one_run(here: HereBroker) -> None:
    async def main() -> None:
        async with aio.Server(here.backend) as server, aio.Player(here.players, 7) as player:

            async def handler(source: Any, payload: Any) -> Any:
                if payload == 1:
                    task = asyncio.current_task()
                    assert task is not None
                    task.cancel()
                    await asyncio.sleep(0)
                return payload

            server.register_server_callback("k", handler, serial=True)
            first = player.trigger_server_callback("k", 1)
            second = player.trigger_server_callback("k", 2)
            assert (await failure(first)).code_name == "HANDLER_ERROR"
            assert await asyncio.wait_for(second, PATIENCE_S) == 2

    asyncio.run(main())


@pytest.mark.parametrize("awaits", [False, True])
def test_a_cancelled_task_ends_no_turn_while_its_thread_goes_on(
    here: HereBroker, recwarn: pytest.WarningsRecorder, awaits: bool
) -> None:
    """As when a supervisor of the program cancels all tasks."""
    slow = Slow()

    async def later() -> None: ...

    def handler(source: Any, payload: Any, cb: Any) -> Any:
        slow(source, payload, cb)
        return later() if awaits else None

    async def main() -> None:
        async with aio.Server(here.backend) as server, aio.Player(here.players, 7) as player:
            server.register_server_callback("k", handler, serial=True, in_thread=True)
            server.register_server_callback("beside", lambda source, payload: "beside")
            others = asyncio.all_tasks()
            first = player.trigger_server_callback("k", 1)
            second = player.trigger_server_callback("k", 2)
            [cb] = await slow.began.count(1)
            for task in asyncio.all_tasks() - others:
                task.cancel()
            error = await asyncio.wait_for(failure(first), PATIENCE_S)
            assert (error.code_name, error.executed) == ("HANDLER_ERROR", "yes") and cb.cancelled
            assert await asyncio.wait_for(player.trigger_server_callback("beside"), PATIENCE_S) == "beside"
            assert len(slow.began.items) == 1 and not second.done()
            slow.go.set()
            assert await asyncio.wait_for(second, PATIENCE_S) == 2
            assert slow.most == 1

    asyncio.run(main())
    assert not recwarn.list


def on_a_loop_that_is_closed(main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on a loop that then ends without waiting for its tasks and threads."""
    with closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(main)


def test_an_endpoint_whose_loop_was_closed_begins_anew(here: HereBroker, recwarn: Any) -> None:
    server = aio.Server(here.backend)

    async def handler(source: Any, payload: Any) -> Any:
        if payload == "for ever":
            await asyncio.Event().wait()
        return payload

    server.register_server_callback("k", handler, serial=True)

    async def leaves_it() -> None:
        await server.start()
        server.trigger_callback("k", 7, "for ever")
        await server.ready_to_call()

    async def again() -> None:
        async with server:
            assert await asyncio.wait_for(server.trigger_callback("k", 7, "done"), PATIENCE_S) == "done"

    on_a_loop_that_is_closed(leaves_it())
    asyncio.run(again())
    assert server.counters.faults == 0


def test_a_closed_endpoint_waits_for_its_thread(here: HereBroker) -> None:
    """A serial handler in a thread, an end, and a new start on the same loop."""
    slow = Slow()

    async def main() -> None:
        server = aio.Server(here.backend)
        server.register_server_callback("k", slow, serial=True, in_thread=True)
        async with server:
            server.trigger_callback("k", 7)
            await slow.began.count(1)
        async with server:
            call = server.trigger_callback("k", 7, "second")
            await server.ready_to_call()
            assert len(slow.began.items) == 1
            slow.go.set()
            assert await asyncio.wait_for(call, PATIENCE_S) == "second"
        assert slow.most == 1

    asyncio.run(main())


@pytest.mark.parametrize("closes", [False, True])
def test_a_thread_outlives_its_loop_and_holds_the_next_one_up(here: HereBroker, closes: bool) -> None:
    slow, server = Slow(), aio.Server(here.backend)
    server.register_server_callback("k", slow, serial=True, in_thread=True)

    async def leaves_it() -> None:
        await server.start()
        server.trigger_callback("k", 7, "first", on_error=lambda error: None)
        await slow.began.count(1)
        if closes:
            await server.close()

    async def again(payload: str) -> None:
        async with server:
            call = server.trigger_callback("k", 7, payload)
            await server.ready_to_call()
            assert len(slow.began.items) == 1
            slow.go.set()
            assert await asyncio.wait_for(call, PATIENCE_S) == payload
            assert await asyncio.wait_for(server.trigger_callback("k", 7, "more"), PATIENCE_S) == "more"

    on_a_loop_that_is_closed(leaves_it())
    on_a_loop_that_is_closed(again("second"))
    assert slow.most == 1


def test_a_handler_whose_loop_ended_before_it_was_over_holds_nobody_up(here: HereBroker) -> None:
    """Its endpoint was closed in time. The loop was not left the time to end its task."""
    server = aio.Server(here.backend)

    async def handler(source: Any, payload: Any) -> Any:
        if payload == "first":
            await asyncio.Event().wait()
        return payload

    server.register_server_callback("k", handler, serial=True)

    async def leaves_it() -> None:
        await server.start()
        server.trigger_callback("k", 7, "first", on_error=lambda error: None)
        await server.ready_to_call()
        server._shell.stop()

    async def again() -> None:
        async with server:
            assert await asyncio.wait_for(server.trigger_callback("k", 7, "done"), PATIENCE_S) == "done"

    on_a_loop_that_is_closed(leaves_it())
    asyncio.run(again())
