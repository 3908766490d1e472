"""Ctrl-C ends a program, or a wait of it. The log then says nothing of calls that nobody looked at."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest
from support.faces import Asyncio, Blocking, HereBroker, LogLines, Stage, played
from support.harness import Process

UNSEEN = "nobody looked at its error"

BLOCKING = """
import logging, os, signal, sys, threading, time
import ringback
logging.basicConfig()
way, block, backend = sys.argv[1:]

def calls(server):
    if way == "result":
        made = [server.trigger_client_callback("hold", number) for number in (1, 2, 3)]
        print("ready")
        for call in made:
            call.result()
    if way == "progress":
        call = server.trigger_client_callback("hold", 1, progress=True)
        print("ready")
        list(call.progress())
    group = server.trigger_all_client_callbacks("hold", players=(1, 2, 3))
    print("ready")
    list(group) if way == "iter" else group.all()

def interrupt():
    main = threading.main_thread().ident
    while True:
        frame, names = sys._current_frames()[main], []
        while frame is not None:
            names.append(frame.f_code.co_name)
            frame = frame.f_back
        if names[0] == "wait" and "calls" in names:
            os.kill(os.getpid(), signal.SIGINT)
            return
        time.sleep(0.001)

server = ringback.Server(backend)
if block == "with":
    with server:
        calls(server)
server.start()
if block == "without":
    calls(server)
threading.Thread(target=interrupt).start()
try:
    calls(server)
except KeyboardInterrupt:
    print("caught")
server.close()
"""

ASYNCIO = """
import asyncio, logging, sys
import ringback.aio
logging.basicConfig()
way, block, backend = sys.argv[1:]

async def calls(server):
    if way == "result":
        made = [server.trigger_client_callback("hold", number) for number in (1, 2, 3)]
        print("ready")
        for call in made:
            await call
    group = server.trigger_all_client_callbacks("hold", players=(1, 2, 3))
    print("ready")
    [one async for one in group] if way == "iter" else await group.all()

async def main():
    server = ringback.aio.Server(backend)
    if block == "with":
        async with server:
            await calls(server)
    await server.start()
    await calls(server)

asyncio.run(main())
"""


async def hold(stage: Stage) -> None:
    """Start three players that do not reply."""
    for number in (1, 2, 3):
        player = await stage.player(number)
        player.register_client_callback("hold", lambda payload, cb: None)


@pytest.mark.parametrize("block", ["with", "without"])
@pytest.mark.parametrize("way", ["all", "iter", "result"])
def test_ctrl_c_ends_a_program(face: Any, here: HereBroker, tmp_path: Path, way: str, block: str) -> None:
    program = tmp_path / "waits.py"
    program.write_text(BLOCKING if face.name == "blocking" else ASYNCIO)

    @played
    async def scene(stage: Stage) -> None:
        await hold(stage)
        with Process(str(program), way, block, here.backend) as process:
            await asyncio.to_thread(process.wait_for, "^ready$")
            process.signal(signal.SIGINT)
            lines = await asyncio.to_thread(process.output)
        assert lines[-1] == "KeyboardInterrupt" or "loop was closed" in lines[-1], lines
        assert not any(UNSEEN in line for line in lines), lines

    scene(face, here)


@pytest.mark.parametrize("way", ["all", "iter", "progress"])
def test_a_program_goes_on_after_ctrl_c(here: HereBroker, tmp_path: Path, way: str) -> None:
    """It has looked at the calls of the group, or at the call, that it waited for."""
    program = tmp_path / "catches.py"
    program.write_text(BLOCKING)

    @played
    async def scene(stage: Stage) -> None:
        await hold(stage)
        with Process(str(program), way, "neither", here.backend) as process:
            assert await asyncio.to_thread(process.output) == ["ready", "caught"]

    scene(Blocking(), here)


@pytest.mark.parametrize("way", ["all", "iter"])
def test_a_wait_for_a_group_that_is_cancelled(here: HereBroker, sdk_log: LogLines, way: str) -> None:
    @played
    async def scene(stage: Stage) -> None:
        await hold(stage)
        server = await stage.server()
        groups = [server.trigger_all_client_callbacks("hold", players=(1, 2, 3))]

        async def wait() -> Any:
            return await groups[0].all() if way == "all" else [one async for one in groups[0]]

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait(), 0.05)
        await server.close()
        assert groups.pop().done()
        assert not any(UNSEEN in text for _, text, _ in sdk_log.seen.items)

    scene(Asyncio(), here)


def test_calls_of_a_block_that_an_error_ends_are_logged(
    face: Any, here: HereBroker, sdk_log: LogLines
) -> None:
    """They are in the log: only an interrupt keeps them out of it."""

    @played
    async def scene(stage: Stage) -> None:
        await hold(stage)
        server = await stage.server()
        call = server.trigger_client_callback("hold", 1)
        server._leaves(ValueError)
        await stage.face.close(server)
        assert call.done()
        del call
        await sdk_log.wait_for(UNSEEN)

    scene(face, here)
