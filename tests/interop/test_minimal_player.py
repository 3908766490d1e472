"""The minimal player of docs/protocol.md works with a real broker and with both faces of the SDK."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from interop.minimal_player import (
    HANDLER_ERROR,
    SERVER_LOST,
    TIMEOUT,
    UNKNOWN_CALLBACK,
    MinimalPlayer,
    Refused,
)
from support.faces import FACES, Face, HereBroker, Stage
from support.harness import PATIENCE_S

from ringback import Code, Operator, RejectCode


@pytest.fixture
def here() -> Iterator[HereBroker]:
    with HereBroker() as broker:
        yield broker


class Left(BaseException):
    """A player left amid a handler."""


def leave(player: MinimalPlayer, *_: Any) -> Any:
    player.leave()
    raise Left


def fail(payload: Any) -> Any:
    raise RuntimeError("it fails")


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.name)
def test_calls_both_ways(face: Face, here: HereBroker) -> None:
    async def run() -> None:
        async with Stage(face, here) as stage:
            player = MinimalPlayer(here.players, 7)
            player.handlers = {"echo": lambda payload: [payload, 1], "fail": fail}
            await asyncio.to_thread(player.connect)
            assert (player.player_id, player.server) == (7, False)
            lost = player.call("up", None, 10_000)
            await asyncio.to_thread(player.run_until, lambda: lost in player.outcomes, PATIENCE_S)
            assert player.outcomes[lost] == (Code.NO_SERVER, "bounced")
            server = await stage.server()
            handled, stopped = threading.Event(), threading.Event()
            server.register_server_callback("up", lambda source, payload: [source, payload])
            server.register_server_callback("fail", lambda source, payload: fail(payload))
            waiting: list[Any] = []
            server.register_server_callback(
                "never", lambda source, payload, cb: waiting.append(cb) or handled.set()
            )
            # The player runs in a thread of its own from here on. It makes its calls before that.
            calls = {key: player.call(key, {"a": [1, None]}, 60_000) for key in ("up", "fail", "nothing")}
            short = player.call("never", None, 500)
            runs = asyncio.create_task(asyncio.to_thread(player.run_until, stopped.is_set, PATIENCE_S))
            for key, code in (("fail", "HANDLER_ERROR"), ("nothing", "UNKNOWN_CALLBACK")):
                assert (await stage.failure(server.trigger_client_callback(key, 7))).code_name == code
            assert await stage.result(server.trigger_client_callback("echo", 7, {"x": 1})) == [{"x": 1}, 1]
            # It knows nothing of progress: it sends none, and never asks for any.
            values: list[Any] = []
            asking = server.trigger_client_callback("echo", 7, 1, on_progress=values.append)
            assert await stage.result(asking) == [1, 1] and values == []
            for _ in range(100):  # more than its window in all: it replies to each PING
                call = server.trigger_client_callback("echo", 7, "x" * 200_000)
                assert (await stage.result(call))[1] == 1
            stopped.set()
            wake = server.trigger_client_callback("echo", 7)
            await runs
            wake.cancel()
            await asyncio.to_thread(player.run_until, lambda: len(player.outcomes) == 5, PATIENCE_S)
            assert player.outcomes[calls["up"]] == ("results", [[7, {"a": [1, None]}]])
            assert player.outcomes[calls["fail"]][0] == HANDLER_ERROR
            assert player.outcomes[calls["nothing"]][0] == UNKNOWN_CALLBACK
            assert player.outcomes[short][0] == TIMEOUT and handled.is_set()
            await stage.until(await stage.player(8), lambda: waiting[0].cancelled, "the CANCEL has come")
            handled.clear()
            last = player.call("never", None, 60_000)
            for _ in range(10):  # on a busy machine the server may lose its link, and then a call bounces
                if await asyncio.to_thread(handled.wait, PATIENCE_S / 10):
                    break
                last = player.call("never", None, 60_000)
            assert handled.is_set()
            await face.close(server)
            await asyncio.to_thread(player.run_until, lambda: last in player.outcomes, PATIENCE_S)
            assert player.outcomes[last][0] == SERVER_LOST
            player.leave()

    asyncio.run(run())


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.name)
def test_it_knows_nothing_of_repeats(face: Face, here: HereBroker) -> None:
    """A call with retry that it lost may have run, so it does not run again."""

    async def run() -> None:
        async with Stage(face, here) as stage:
            server = await stage.server()
            runs = []
            first, second = MinimalPlayer(here.players, 7), MinimalPlayer(here.players, 7)
            first.handlers = {"work": lambda payload: leave(first, runs.append(payload))}
            second.handlers = {"work": runs.append}
            await asyncio.to_thread(first.connect)
            call = server.trigger_client_callback("work", 7, 1, timeout=PATIENCE_S, retry=True)
            with pytest.raises(Left):
                await asyncio.to_thread(first.run_until, lambda: False, PATIENCE_S)
            await asyncio.to_thread(second.connect)
            serves = asyncio.create_task(asyncio.to_thread(second.run_until, lambda: 2 in runs, PATIENCE_S))
            error = await stage.failure(call)
            assert (error.code, error.executed) == (Code.PLAYER_LEFT, "maybe")
            await stage.result(server.trigger_client_callback("work", 7, 2))
            await serves
            assert runs[0] == 1 and runs.count(1) == 1
            second.leave()

    asyncio.run(run())


def test_refusals_and_the_end(here: HereBroker) -> None:
    first = MinimalPlayer(here.players, "ann")
    first.connect()
    with pytest.raises(Refused) as caught:
        MinimalPlayer(here.players, "ann").connect()
    assert caught.value.args[0] == RejectCode.ID_TAKEN
    with pytest.raises(Refused) as caught:  # the REJECT has two parts here, and is read all the same
        MinimalPlayer(here.backend, "ann").connect()
    assert caught.value.args[0] == RejectCode.PROTOCOL_ERROR
    with Operator(here.backend) as operator:
        operator.kick("ann", "out").result()
        first.run_until(lambda: first.over, PATIENCE_S)
    second = MinimalPlayer(here.players)
    second.connect()
    assert type(second.player_id) is int
    here.drain()
    second.run_until(lambda: second.over, PATIENCE_S)
