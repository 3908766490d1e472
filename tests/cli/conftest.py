"""Fixtures: the command line as processes, and a broker with endpoints for it."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from support.harness import ENVIRONMENT, PATIENCE_S, BrokerProcess

from ringback import CallbackError, Player, Server
from ringback_cli import app

Outcome = tuple[int, str, str]

ODD = "\x1b]0;x\x07\u202e\x9b"
"""A text that commands a terminal: it sets the title, turns the direction of writing, begins a sequence."""


class Command:
    """A running `ringback` process, with separate standard output and standard error."""

    running: ClassVar[list[Command]] = []

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None, **pipes: Any) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "ringback_cli", *arguments],
            stdin=pipes.get("stdin", subprocess.PIPE),
            stdout=pipes.get("stdout", subprocess.PIPE),
            stderr=subprocess.PIPE,
            env={**ENVIRONMENT, **(environment or {})},
        )
        self.running.append(self)

    def end(self, stdin: bytes | None = None) -> Outcome:
        """Wait for the end. Return the exit code, standard output and standard error."""
        output, errors = self.popen.communicate(stdin, timeout=PATIENCE_S)
        self.running.remove(self)
        return self.popen.returncode, (output or b"").decode(), errors.decode()


@pytest.fixture(autouse=True)
def no_process_stays() -> Iterator[None]:
    """Kill the processes that a failed test left behind."""
    yield
    for command in Command.running:
        command.popen.kill()
        command.popen.communicate()
    Command.running.clear()


@dataclass
class Shop:
    """A broker process, with a server and three players in this process."""

    broker: BrokerProcess
    arrived: threading.Event = field(default_factory=threading.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def environment(self) -> dict[str, str]:
        return {"RINGBACK_PLAYERS": self.broker.players, "RINGBACK_BACKEND": self.broker.backend}

    def start(self, *arguments: str, **settings: Any) -> Command:
        return Command(*arguments, environment=self.environment, **settings)

    def run(self, *arguments: str, stdin: bytes | None = None, **settings: Any) -> Outcome:
        return self.start(*arguments, **settings).end(stdin)

    def never(self, payload: Any, cb: Any) -> None:
        """Handle a call without replying."""
        self.arrived.set()
        for _ in range(int(PATIENCE_S / 0.01)):
            if cb.cancelled:
                self.cancelled.set()
                return
            if self.ended.wait(0.01):
                return


def refuse(source: Any, payload: Any) -> Any:
    """Handle a call with an error of the application, whose texts command a terminal."""
    raise CallbackError("none\nleft \x1b[31m", code="OUT_OF_STOCK", data={"left": 0, "name": ODD})


def add_server_callbacks(shop: Shop, server: Server) -> None:
    def echo(source: Any, payload: Any) -> Any:
        return [source, payload]

    def reply(source: Any, payload: Any, cb: Any) -> None:
        cb(*payload)

    def odd(source: Any, payload: Any) -> Any:
        return {"b": b"\xff\x00", "f": [float("nan"), float("-inf")], "m": {7: "int", "7": "str"}}

    def fail(source: Any, payload: Any) -> Any:
        raise RuntimeError("secret")

    def never(source: Any, payload: Any, cb: Any) -> None:
        shop.never(payload, cb)

    for handler in (echo, reply, odd, refuse, fail, never):
        server.register_server_callback(handler.__name__, handler)


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    """Start a shop for all tests of a module. No test may stop a part of it."""
    with BrokerProcess() as broker:
        shop = Shop(broker)
        server = Server(broker.backend)
        seven, text = Player(broker.players, 7), Player(broker.players, "7")
        other = Player(broker.players, "other")
        add_server_callbacks(shop, server)
        seven.register_client_callback("where", lambda payload: {"at": payload})
        seven.register_client_callback("seven", lambda payload: 7)
        text.register_client_callback("where", lambda payload: b"here")
        other.register_client_callback("seven", lambda payload: 8)
        with server, seven, text, other:
            yield shop
            shop.ended.set()


@pytest.fixture
def shop_of_own(broker: BrokerProcess) -> Iterator[tuple[Shop, Server, Player]]:
    """Start a broker, a server and player 7 that a test may stop."""
    shop = Shop(broker)
    server, player = Server(broker.backend), Player(broker.players, 7)
    add_server_callbacks(shop, server)

    def never(payload: Any, cb: Any) -> None:
        shop.never(payload, cb)

    player.register_client_callback("never", never)
    with server, player:
        yield shop, server, player
        shop.ended.set()


@pytest.fixture
def command() -> type[Command]:
    """Return the class whose objects are processes of the command line."""
    return Command


@pytest.fixture
def usage() -> Callable[..., str]:
    """Return a function that runs a wrong command line in this process, and returns its one line."""

    def run(*arguments: str) -> str:
        output, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            code = app.run(list(arguments))
        assert code == 2, errors.getvalue()
        assert output.getvalue() == ""
        (line,) = errors.getvalue().splitlines()
        assert line.startswith("USAGE: ")
        return line.removeprefix("USAGE: ")

    return run
