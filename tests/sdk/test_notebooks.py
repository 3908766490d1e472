"""Both faces in a notebook: a Jupyter kernel, whose event loop runs already when a cell begins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faces import HereBroker
from support.notebooks import Run, kernel

from ringback import Operator


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with kernel(tmp_path) as run:
        yield run


def test_the_asyncio_face_uses_the_loop_of_the_kernel(run: Run, here: HereBroker) -> None:
    run(f"""
from ringback import ServerTaken
from ringback.aio import Player, Server
server = await Server("{here.backend}").start()
@server.register_server_callback("echo")
async def echo(source, payload):
    return [source, payload]
""")
    # Between two cells, the loop goes on, and so does the server.
    with Operator(here.backend) as operator:
        assert operator.trigger_callback("echo", 5, "from outside").result() == [5, "from outside"]
    run(f'player = await Player("{here.players}", 7).start()')
    assert run('print(await player.trigger_server_callback("echo", 1))') == "[7, 1]\n"
    again = run(f"""
try:
    server = await Server("{here.backend}").start()
except ServerTaken as error:
    print(error)
""")
    assert "close() it first" in again
    assert run("await server.close(); await player.close(); print(server.connected)") == "False\n"


def test_the_blocking_face_has_a_thread_of_its_own(run: Run, here: HereBroker) -> None:
    run(f"""
from ringback import Player, Server
server = Server("{here.backend}").start()
@server.register_server_callback("echo")
async def echo(source, payload):
    return [source, payload]
""")
    assert (
        run(f"""
with Player("{here.players}", 7) as player:
    print(player.trigger_server_callback("echo", 1).result())
""")
        == "[7, 1]\n"
    )
    assert run("server.close(); print(server.connected)") == "False\n"
