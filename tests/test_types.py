"""Type checkers accept the snippets of the README and the guide, and find wrong arguments of an endpoint."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SNIPPET = re.compile(r"```python\n(.*?)```", re.S)
IMPORT = re.compile(r"^(?:import|from) .*\n", re.M)
AWAITS = re.compile(r"^(?:.* |    )?await |^async (?:for|with) ", re.M)
SOURCES = [str(ROOT / folder) for folder in ("sdk", "broker", "cli")]

CHECKED_WITHIN_S = 110.0

UNTYPED = (
    *("--allow-untyped-defs", "--allow-incomplete-defs", "--allow-untyped-calls"),
    *("--allow-untyped-decorators", "--check-untyped-defs"),
)
"""The snippets do not annotate their functions. Everything else of mypy's strict mode holds for them."""

RIGHT = """
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, assert_type

import ringback
import ringback.aio
from ringback import Call, CallGroup, Limits, PlayerID
from ringback.aio import Call as AioCall, CallGroup as AioGroup
from ringback.testing import AioCalls, AioEndpoints, Calls, Endpoints, Network, RecordedCall
from ringback.testing import reconnected, until_connected, until_joined

ADDRESS = "tcp://127.0.0.1:5771"
ringback.Server(ADDRESS, limits=Limits(), connect_timeout=1, heartbeat=None, key_file=Path("a"), workers=2)
ringback.Operator(ADDRESS, limits=None, key_file="a.key", broker_key="x", max_threads=9)
ringback.Player(ADDRESS, "ann", token=lambda: "x", broker_key="x", heartbeat=0.5)
ringback.aio.Server(ADDRESS, limits=Limits(), connect_timeout=1, heartbeat=None, key_file=Path("a"))
ringback.aio.Operator(ADDRESS, limits=None, key_file="a.key", broker_key="x")
ringback.aio.Player(ADDRESS, player_id=7, token="x", broker_key="x", heartbeat=0.5)


class Ann(ringback.Player):
    pass


Ann(ADDRESS, 7, workers=2)
Ann([ADDRESS, ADDRESS], 7)
assert_type(ringback.Server((ADDRESS,), standby=True).addresses, tuple[str, ...])
assert_type(ringback.aio.Operator([ADDRESS]).address, str)
ringback.aio.Server([ADDRESS])
partial(ringback.aio.Player, ADDRESS)(7, heartbeat=0.5)


class Order(TypedDict):
    item: str


def blocking(server: ringback.Server, operator: ringback.Operator) -> None:
    order: Order = {"item": "sword"}
    words: dict[str, int] = {"x": 1}
    plain: Call = server.trigger_callback("shop:buy", 7, order)
    assert_type(plain.result(), Any)
    assert_type(server.trigger_client_callback("coords", 7, words, print), Call[Any])
    group: CallGroup = server.trigger_all_client_callbacks("coords")
    assert_type(group.all(), dict[PlayerID, Call[Any]])
    assert_type(operator.ping(), Call[None])
    rows, following = operator.query("players").result()
    assert_type(rows, list[list[Any]])
    assert_type(following, int | None)
    made: Call[int] = server.trigger_callback("shop:count", 7)
    assert_type(made.result(timeout=2.5), int)
    assert_type(made.future().result(), int)
    assert_type(made.exception(0), ringback.CallbackError | None)
    running: Call = server.trigger_callback("world:load", 7, progress=True, on_progress=print)
    assert_type(running.progress(), Iterator[Any])
    assert_type(running.progress_lost, int)
    wide: Call[object] = Call[int].__new__(Call)
    server.register_server_callback("a", lambda source, payload: None, allow=[1, 2])
    server.register_server_callback("b", lambda source, payload: None, allow={"ann"})


async def awaiting(server: ringback.aio.Server, operator: ringback.aio.Operator) -> None:
    made: AioCall[bytes] = server.trigger_callback("shop:icon", 7)
    plain: AioCall = server.trigger_callback("shop:buy", 7)
    assert_type(await plain, Any)
    assert_type(await made, bytes)
    async for value in made.progress():
        assert_type(value, Any)
    group: AioGroup[int] = server.trigger_all_client_callbacks("coords")
    assert_type(await group, dict[PlayerID, AioCall[int]])
    async for player_id, call in group:
        assert_type(call.result(), int)
    assert_type((await operator.query("players"))[1], int | None)


def testing(endpoints: Endpoints, calls: Calls, network: Network) -> None:
    server = endpoints.server(workers=2, standby=True)
    assert_type(server, ringback.Server)
    player = endpoints.player("ann", start=False, heartbeat=0.5)
    assert_type(player, ringback.Player)
    until_joined(server, 7, "ann", timeout=1)
    with reconnected(server, player):
        network.cut(player, reset=True)
    assert_type(calls.until(2), list[RecordedCall])


async def testing_aio(endpoints: AioEndpoints, calls: AioCalls) -> None:
    server = await endpoints.server()
    assert_type(server, ringback.aio.Server)
    await until_joined(server, 7)
    await until_connected(await endpoints.player(7))
    async with reconnected(server):
        pass
    assert_type((await calls.until(1))[0].outcome, str | None)
"""

WRONG = """
from functools import partial

import ringback
import ringback.aio
from ringback.testing import AioEndpoints, Calls, Endpoints, until_joined


class Ann(ringback.Player):
    pass


ringback.Server("tcp://127.0.0.1:5771", limit=5)
ringback.Player("tcp://127.0.0.1:5770", 7, heartbeat="1")
ringback.Operator("tcp://127.0.0.1:5771", workers="2")
ringback.Player("tcp://127.0.0.1:5770", player_id=7.5)
ringback.Player(["tcp://127.0.0.1:5770", 5770])
ringback.Operator({"tcp://127.0.0.1:5771"})
ringback.aio.Server("tcp://127.0.0.1:5771", workers=2)
ringback.aio.Player("tcp://127.0.0.1:5770", connect_timeout=None)
ringback.aio.Operator("tcp://127.0.0.1:5771", token=5)
Ann("tcp://127.0.0.1:5770", 7, worker=2)
partial(ringback.Player, "tcp://127.0.0.1:5770", 7, worker=2)


def mistaken(call: ringback.Call[int], other: ringback.aio.Call[int], operator: ringback.Operator) -> None:
    text: str = call.result()  # wrong
    other.add_done_callback(lambda ended: ended.result().upper())  # wrong
    operator.query("players").result().rows  # wrong
    operator.on_disconnected(7)  # wrong
    operator.trigger_callback("world:load", 7, on_progress="print")  # wrong
    operator.trigger_callback("world:load", 7, on_progres=print)  # wrong


async def mistaken_tests(endpoints: Endpoints, aio_endpoints: AioEndpoints, calls: Calls) -> None:
    until_joined(endpoints.player(7), 7)  # wrong
    until_joined(endpoints.server(), 7.5)  # wrong
    until_joined(await aio_endpoints.server(), 7)  # wrong
    await until_joined(endpoints.server(), 7)  # wrong
    endpoints.player(7, worker=2)  # wrong
    await aio_endpoints.server(workers=2)  # wrong
    calls.until("shop:buy")  # wrong
    calls[0].payloads  # wrong
"""
"""Each of the lines that call an endpoint's class or end with "# wrong" has a mistake."""


TYPED_PROGRAM = (ROOT / "tests" / "support" / "typed_program.py").read_text()
"""The program of a user with contracts. Each line that ends in "# wrong" has a mistake."""


def as_module(snippet: str) -> str:
    """Return a snippet as a module. One that uses `server` and `player` becomes a function of them."""
    if "import Player, Server" in snippet or "run_forever" in snippet:  # a whole program
        return snippet
    face = "ringback.aio" if AWAITS.search(snippet) else "ringback"
    imports = "".join(IMPORT.findall(snippet))
    body = "".join(f"    {line}\n" for line in IMPORT.sub("", snippet).splitlines())
    head = f"async def snippet(server: {face}.Server, player: {face}.Player) -> None:"
    return f"{imports}import {face}\n\n{head}\n{body}"


def write_snippets(folder: Path) -> None:
    """Write each snippet of the pages as a module."""
    for page in (ROOT / "README.md", ROOT / "docs" / "guide.md"):
        for number, snippet in enumerate(SNIPPET.findall(page.read_text())):
            (folder / f"{page.stem.lower()}_{number}.py").write_text(as_module(snippet))
    assert len(list(folder.glob("*.py"))) > 12


def mypy(folder: Path) -> str:
    """Return what mypy says about the modules of a folder."""
    config = folder / "mypy.ini"
    config.write_text(f"[mypy]\nstrict = true\nmypy_path = {':'.join(SOURCES)}\n")
    arguments = ["--config-file", str(config), "--cache-dir", str(folder / "cache"), *UNTYPED]
    return output_of("mypy", *arguments, *map(str, sorted(folder.glob("*.py"))))


def pyright(folder: Path) -> str:
    """Return what pyright says about the modules of a folder, in its basic mode."""
    config = {"typeCheckingMode": "basic", "pythonVersion": "3.11", "extraPaths": SOURCES}
    (folder / "pyrightconfig.json").write_text(json.dumps(config))
    return output_of("basedpyright", "--pythonpath", sys.executable, "--project", str(folder))


def output_of(module: str, *arguments: str) -> str:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=CHECKED_WITHIN_S, check=False)
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("checker", [mypy, pyright], ids=["mypy", "pyright"])
def test_the_snippets_are_right_and_each_wrong_argument_is_found(
    checker: Callable[[Path], str], tmp_path: Path
) -> None:
    """One run of a checker for all modules, since it reads the packages anew each time."""
    write_snippets(tmp_path)
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(WRONG)
    (tmp_path / "typed_program.py").write_text(TYPED_PROGRAM)
    output = checker(tmp_path)
    complaints = re.findall(r"(\w+)\.py:(\d+):.* (?:error|warning)", output)
    mistakes = {
        n
        for n, line in enumerate(WRONG.splitlines(), 1)
        if line.startswith(("ringback.", "Ann(", "partial(")) or line.endswith("# wrong")
    }
    typed = {n for n, line in enumerate(TYPED_PROGRAM.splitlines(), 1) if line.endswith("# wrong")}
    assert len(typed) >= 20
    expected = {("wrong", n) for n in mistakes} | {("typed_program", n) for n in typed}
    assert {(module, int(line)) for module, line in complaints} == expected, output
