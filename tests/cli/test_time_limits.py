"""`--timeout` keeps its word: at a dead or stopped broker, and in commands that go on until Ctrl-C."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.harness import BrokerProcess, Process

from ringback import Player, Server
from ringback_cli.exits import Exit

AT_MOST_S = 15.0
"""How long a command may take with a time limit of a second: on a busy machine it takes long to start."""

ONCE = (
    ["players"],
    ["callbacks"],
    ["events"],
    ["stats"],
    ["ping"],
    ["ping", "--count", "10000"],
    ["explain", "player", "7"],
    ["explain", "callback", "k"],
    ["kick", "7"],
    ["drain"],
    ["tap", "--log", "1"],
    ["trigger", "server", "k"],
    ["trigger", "client", "k", "7"],
    ["trigger", "all", "k"],
    ["trigger", "server", "k", "--as-player", "9"],
)
ENDLESS = (
    ["tap"],
    ["tap", "--payloads", "--json"],
    ["events", "--follow"],
    ["stats", "--interval", "0.1"],
    ["stats", "--interval", "3600"],
    ["top", "--json", "--interval", "0.1"],
    ["top", "--json", "--interval", "3600"],
)


@pytest.fixture(scope="module")
def busy() -> Iterator[BrokerProcess]:
    """Start a broker with a player that calls the server all the time."""
    with BrokerProcess() as broker, Server(broker.backend) as server, Player(broker.players, 7) as player:
        server.register_server_callback("echo", lambda source, payload: payload)
        over = threading.Event()

        def call() -> None:
            while not over.is_set():
                player.trigger_server_callback("echo", 1).result()

        thread = threading.Thread(target=call)
        thread.start()
        try:
            yield broker
        finally:
            over.set()
            thread.join()


def where(players: str, backend: str) -> dict[str, str]:
    return {"RINGBACK_PLAYERS": players, "RINGBACK_BACKEND": backend}


def timed(command: Any, *arguments: str, environment: dict[str, str]) -> tuple[int, str, str, float]:
    began_at = time.monotonic()
    code, output, errors = command(*arguments, environment=environment).end()
    return code, output, errors, time.monotonic() - began_at


def code_in(errors: str, arguments: list[str]) -> str:
    """Return the code in the one line that a command wrote to standard error."""
    [line] = errors.splitlines()
    if "--json" in arguments:
        return str(json.loads(line)["error"]["code"])
    return line.partition(":")[0]


@pytest.mark.parametrize("arguments", ENDLESS, ids=" ".join)
def test_what_goes_on_until_ctrl_c_ends_at_its_limit(
    busy: BrokerProcess, command: Any, arguments: list[str]
) -> None:
    environment = where(busy.players, busy.backend)
    code, output, errors, took_s = timed(command, *arguments, "--timeout", "1.5", environment=environment)
    assert (code, errors) == (Exit.OK, "") and 1.3 < took_s < AT_MOST_S
    assert output or arguments[0] == "tap"


@pytest.mark.parametrize("arguments", [["tap"], ["stats", "--interval", "0.2"], ["top", "--interval", "0.2"]])
def test_a_count_that_is_not_reached(busy: BrokerProcess, command: Any, arguments: list[str]) -> None:
    environment = where(busy.players, busy.backend)
    count = ("--count", "1000000", "--timeout", "1")
    code, _, errors, took_s = timed(command, *arguments, *count, environment=environment)
    assert code == Exit.TIMEOUT and "of 1000000" in errors and took_s < AT_MOST_S


@pytest.mark.parametrize("arguments", [*ONCE, *ENDLESS], ids=" ".join)
def test_no_broker(command: Any, arguments: list[str]) -> None:
    environment = where("tcp://127.0.0.1:1", "tcp://127.0.0.1:1")
    code, _, errors, took_s = timed(command, *arguments, "--timeout", "1", environment=environment)
    assert code == Exit.NO_BROKER and code_in(errors, arguments) == "NO_BROKER" and took_s < AT_MOST_S


@pytest.mark.parametrize("arguments", [*ONCE, *ENDLESS], ids=" ".join)
def test_a_broker_that_is_stopped(stopped: BrokerProcess, command: Any, arguments: list[str]) -> None:
    environment = where(stopped.players, stopped.backend)
    code, _, errors, took_s = timed(command, *arguments, "--timeout", "1", environment=environment)
    assert code == Exit.NO_BROKER and code_in(errors, arguments) == "NO_BROKER" and took_s < AT_MOST_S


@pytest.fixture(scope="module")
def stopped() -> Iterator[BrokerProcess]:
    """Start a broker, and stop its process: the kernel still accepts connections for it."""
    with BrokerProcess() as broker:
        broker.process.signal(signal.SIGSTOP)
        yield broker


@pytest.mark.parametrize(
    "arguments", [["stats", "--interval", "0.1"], ["ping", "--count", "10000", "--json"]]
)
def test_a_broker_that_stops_in_the_middle(arguments: list[str]) -> None:
    with BrokerProcess() as broker:
        command = ["-m", "ringback_cli", *arguments, "--timeout", "4", "--backend", broker.backend]
        with Process(*command) as process:
            if arguments[0] == "stats":
                process.wait_for("sessions_begun")
            broker.process.signal(signal.SIGSTOP)
            stopped_at = time.monotonic()
            code = process.wait()
            assert code != Exit.OK and time.monotonic() - stopped_at < AT_MOST_S
