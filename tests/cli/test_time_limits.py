"""`--timeout` keeps its word: at a dead or stopped broker, and in commands that go on until Ctrl-C."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from support.harness import BrokerProcess, Process

from ringback import CallbackError, Player, Server
from ringback_cli.exits import Exit

AT_MOST_S = 15.0
"""How long a command may take with a time limit of a second: on a busy machine it takes long to start."""

BETWEEN_CALLS_S = 0.01
"""How long the player of a busy broker waits between two calls. Without a pause, it takes both processors."""

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
    ["hand-over"],
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


ENDLESS_AND_BUSY = (
    ["tap"],
    ["tap", "--json"],
    ["events", "--follow"],
    ["stats", "--interval", "0.1"],
    ["top", "--json", "--interval", "0.1"],
)
_WITHOUT_HEARTBEATS = """
import functools, sys, ringback
from ringback_cli.app import run
ringback.Operator = functools.partial(ringback.Operator, heartbeat=60.0)
sys.exit(run(sys.argv[1:]))
"""
"""`ringback` that does not find out by heartbeats that the broker is stopped."""


@pytest.fixture(scope="module")
def busy() -> Iterator[BrokerProcess]:
    """Start a broker with a player that calls the server all the time."""
    with calls_all_the_time() as broker:
        yield broker


@pytest.fixture
def busy_of_own() -> Iterator[BrokerProcess]:
    """Start such a broker that a test may stop."""
    with calls_all_the_time() as broker:
        yield broker


@contextmanager
def calls_all_the_time() -> Iterator[BrokerProcess]:
    with BrokerProcess() as broker, Server(broker.backend) as server, Player(broker.players, 7) as player:
        server.register_server_callback("echo", lambda source, payload: payload)
        over = threading.Event()

        def call() -> None:
            while not over.wait(BETWEEN_CALLS_S):
                with suppress(CallbackError):  # a test has stopped the broker
                    player.trigger_server_callback("echo", 1).result()

        thread = threading.Thread(target=call)
        thread.start()
        try:
            yield broker
        finally:
            over.set()
            broker.process.signal(signal.SIGCONT)
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
    assert code == Exit.OK and 1.3 < took_s < AT_MOST_S
    says_what_it_saw = arguments[0] in ("tap", "events") and "--json" not in arguments
    assert re.fullmatch(r"the time is over: saw .*\n" if says_what_it_saw else "", errors)
    assert output or arguments[0] == "tap"


@pytest.mark.parametrize("arguments", ENDLESS_AND_BUSY, ids=" ".join)
def test_the_limit_ends_a_query_too(busy_of_own: BrokerProcess, arguments: list[str]) -> None:
    """The broker is stopped, so the last query waits until the end."""
    words = ["--timeout", "4", "--backend", busy_of_own.backend]
    with Process("-c", _WITHOUT_HEARTBEATS, *arguments, *words) as process:
        process.wait_for(".")
        busy_of_own.process.signal(signal.SIGSTOP)
        assert process.wait() == Exit.OK
        assert "TIMEOUT" not in "\n".join(process.output())


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


@pytest.mark.parametrize(
    "arguments", [["players"], ["ping", "--count", "10000"], ["kick", "7"], ["trigger", "client", "k", "7"]]
)
def test_only_a_callback_can_have_been_executed(busy_of_own: BrokerProcess, arguments: list[str]) -> None:
    words = [*arguments, "--timeout", "2", "--backend", busy_of_own.backend]
    stop_once_connected = (
        "import ringback, os, signal\n"
        "start = ringback.Operator.__enter__\n"
        "def enter(self):\n"
        "    start(self)\n"
        f"    os.kill({busy_of_own.process.popen.pid}, signal.SIGSTOP)\n"
        "    return self\n"
        "ringback.Operator.__enter__ = enter\n"
    )
    with Process("-c", stop_once_connected + _WITHOUT_HEARTBEATS, *words) as process:
        assert process.wait() == Exit.TIMEOUT
        lines = process.output()
    assert lines[0].startswith("TIMEOUT: ")
    more = ["executed: maybe", "hint: --timeout SECONDS allows more time"]
    assert lines[1:] == (more if arguments[0] == "trigger" else [])


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
