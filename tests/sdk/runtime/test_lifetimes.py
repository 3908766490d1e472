"""Endpoints that a program forgets to close: which are collected, and that they leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.faces import Face, HereBroker, Seen, Stage, played
from support.harness import ENVIRONMENT, PATIENCE_S, BrokerProcess, Process, eventually

import ringback
import ringback.aio

ROUNDS = 200


def collect_until(check: Callable[[], bool], what: str) -> None:
    def collected() -> bool:
        gc.collect()
        return check()

    eventually(collected, what)


@played
async def test_a_forgotten_endpoint_leaves_the_broker(stage: Stage) -> None:
    server = await stage.server()
    joined, left = Seen(), Seen()
    server.on_player_joined(joined)
    server.on_player_left(left)
    player = stage.make("Player", stage.broker.players, 7)
    await stage.face.start(player)
    await joined.count(1)
    name = r"^unclosed ringback\.(aio\.)?Player\('tcp://127.*', 7\)$"
    with pytest.warns(ResourceWarning, match=name):
        del player
        gc.collect()
    assert await left.count(1) == [7]
    again = await stage.player(7)
    await stage.still_works(server, again)


@played
async def test_an_endpoint_with_a_callback_is_kept(stage: Stage) -> None:
    """Nobody holds this server but its handlers. They do not even name it."""

    async def serve() -> None:
        server = stage.make("Server", stage.broker.backend)
        server.register_server_callback("echo", lambda source, payload: payload)
        await stage.face.start(server)

    async def listen() -> None:
        player = stage.make("Player", stage.broker.players, 8)
        player.on_disconnected(print)
        await stage.face.start(player)

    await serve()
    await listen()
    gc.collect()
    player = await stage.player(7)
    assert await stage.result(player.trigger_server_callback("echo", 5)) == 5
    with pytest.raises(ringback.IDTaken):
        await stage.player(8)
    from ringback._runtime.lifetimes import started

    for shell in started.running():
        if (name := shell.lifetime.name()) is not None and ("Server" in name or ", 8)" in name):
            await stage.face.close(shell.lifetime._endpoint())  # type: ignore[attr-defined, misc]


@played
async def test_without_its_last_callback_an_endpoint_is_not_kept(stage: Stage) -> None:
    player = stage.make("Player", stage.broker.players, 7)
    await stage.face.start(player)
    registration = player.register_client_callback("k", lambda payload: None)
    assert player._shell.lifetime._held is player
    registration.unregister()
    assert player._shell.lifetime._held is None
    player.register_client_callback("k", lambda payload: None)
    await stage.face.close(player)
    assert player._shell.lifetime._held is None


@played
async def test_an_endpoint_lives_as_long_as_its_call(stage: Stage) -> None:
    server = await stage.server()
    kept = Seen()
    server.register_server_callback("later", lambda source, payload, cb: kept(cb))
    player = stage.make("Player", stage.broker.players, 7)
    await stage.face.start(player)
    call = player.trigger_server_callback("later", timeout=PATIENCE_S)
    del player
    (cb,) = await kept.count(1)
    gc.collect()
    cb("done")
    assert await stage.result(call) == "done"
    with pytest.warns(ResourceWarning, match="unclosed"):
        del call
        gc.collect()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.slow
def test_forgotten_endpoints_keep_no_threads_and_descriptors(face: Face, broker: BrokerProcess) -> None:
    async def forget(rounds: int) -> None:
        for _ in range(rounds):
            await face.start(face.module.Player(broker.players))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        asyncio.run(forget(3))
        collect_until(lambda: not io_threads(), "the first I/O threads have ended")
        before, threads = descriptors(), threading.active_count()
        asyncio.run(forget(ROUNDS))
        collect_until(
            lambda: descriptors() <= before + 5 and threading.active_count() <= threads,
            "threads and descriptors are as before",
        )


def io_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "ringback-io"]


@pytest.mark.parametrize("with_callback", [False, True])
def test_an_endpoint_of_a_closed_loop(here: HereBroker, with_callback: bool) -> None:
    """No loop can close it any more. It is collected even with a callback, which can never run again."""
    left = threading.Event()

    async def start() -> Any:
        player = ringback.aio.Player(here.players, 7)
        if with_callback:
            player.register_client_callback("k", lambda payload: player.player_id)
        return await player.start()

    with ringback.Server(here.backend) as server:
        server.on_player_left(lambda player_id: left.set())
        player = asyncio.run(start())
        with pytest.warns(ResourceWarning, match="unclosed ringback.aio.Player"):
            del player
            gc.collect()
        assert left.wait(PATIENCE_S)


def test_links_are_closed_by_their_endpoints(here: HereBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector may take an endpoint and its sockets at once, and in any order."""
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)

    async def start() -> None:
        for number in range(1, 21):
            player = ringback.aio.Player(here.players, number)
            player.on_connected(print)
            await player.start()
            if number % 5 == 0:
                gc.collect()  # older objects, and another order

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(start())
        gc.collect()
    texts = [str(warning.message) for warning in caught]
    assert len(texts) == 20 and all("unclosed ringback.aio.Player" in text for text in texts), texts
    assert not unraisable


SCRIPT = """
    import asyncio, sys
    import ringback, ringback.aio

    async def start():
        return await ringback.aio.Player(sys.argv[1], 8).start()

    one = ringback.Player(sys.argv[1], 7).start()
    one.register_client_callback("k", lambda payload: None)
    two = asyncio.run(start())
    print("started")
"""


@pytest.mark.parametrize("filter_", ["default", "error"])
def test_endpoints_that_are_left_at_exit(here: HereBroker, filter_: str) -> None:
    left = Seen()
    with ringback.Server(here.backend) as server:
        server.on_player_left(left)
        command = [sys.executable, "-W", f"{filter_}::ResourceWarning", "-c", textwrap.dedent(SCRIPT)]
        done = subprocess.run(
            [*command, here.players],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=True,
        )
        assert "started" in done.stdout and "Traceback" not in done.stderr
        if filter_ == "default":
            assert f"unclosed ringback.Player('{here.players}', 7)" in done.stderr
            assert f"unclosed ringback.aio.Player('{here.players}', 8)" in done.stderr
        asyncio.run(left.count(2))


@pytest.mark.parametrize("role", ["Server", "Player", "Player with a list"])
def test_a_cell_that_runs_again(here: HereBroker, face: Face, role: str) -> None:
    """The second run of a notebook's cell: its error says that the first one is in the way."""
    arguments: Any = (here.backend,) if role == "Server" else (here.players, 7)
    if role == "Player with a list":
        role, arguments = "Player", (["tcp://127.0.0.1:1", here.players], 7)

    async def run() -> None:
        names: dict[str, Any] = {}

        async def cell() -> None:
            names["endpoint"] = await face.start(getattr(face.module, role)(*arguments))

        await cell()
        what = "server" if role == "Server" else "player with this ID"
        advice = rf"an earlier {what} of this process is still running: close\(\) it first. In a notebook"
        with pytest.raises(ringback.Refused, match=advice):
            await cell()
        await face.close(names["endpoint"])
        await cell()
        await face.close(names["endpoint"])

    asyncio.run(run())


def test_a_job_at_the_exit_is_no_problem() -> None:
    """From Python 3.12 on, no thread starts once the interpreter exits. The log says nothing about that."""
    script = """
import atexit, contextvars, logging
from ringback._runtime.worker_pool import Pool
logging.basicConfig()
pool = Pool(2, 8, lambda: "server")
atexit.register(pool.submit, contextvars.Context(), print, "done")
"""
    with Process("-c", script) as process:
        assert set(process.output()) <= {"done"} and process.wait() == 0
