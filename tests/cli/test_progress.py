"""Progress bars: on standard error, on a terminal only, and erased at the end."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support.harness import BrokerProcess
from support.terminals import Terminal

from ringback import Player
from ringback_cli.exits import Exit


class Slow(Terminal):
    """`ringback` on a terminal, with a bar that appears at once."""

    def __init__(self, broker: BrokerProcess, *arguments: str) -> None:
        code = (
            "import sys, ringback_cli.progress as progress\n"
            "from ringback_cli.app import run\n"
            "progress.AFTER_S = 0.0\n"
            "sys.exit(run(sys.argv[1:]))"
        )
        super().__init__(sys.executable, "-c", code, *arguments, "--backend", broker.backend)


@pytest.fixture
def held(broker: BrokerProcess) -> Iterator[tuple[BrokerProcess, threading.Event]]:
    """Start two players: one replies at once, one when the event is set."""
    released = threading.Event()
    quick, slow = Player(broker.players, 7), Player(broker.players, 8)
    quick.register_client_callback("k", lambda payload: None)
    slow.register_client_callback("k", lambda payload: released.wait(60))
    with quick, slow:
        yield broker, released
        released.set()


def test_a_bar_appears_and_is_erased(held: tuple[BrokerProcess, threading.Event]) -> None:
    broker, released = held
    with Slow(broker, "trigger", "all", "k") as terminal:
        terminal.wait_until(lambda: "1/2" in terminal.shown, "one of two calls has ended")
        released.set()
        assert terminal.end() == Exit.OK
        last = terminal.shown.rpartition("\x1b[2K")[2]  # this erases the line of the bar
        assert '[{"player": 7, "result": null}, {"player": 8, "result": true}]' in last
        assert "\x1b[?25h" in terminal.shown.rpartition("\x1b[?25l")[2]


def test_ctrl_c_erases_the_bar(held: tuple[BrokerProcess, threading.Event]) -> None:
    broker, _ = held
    with Slow(broker, "trigger", "all", "k") as terminal:
        terminal.wait_until(lambda: "1/2" in terminal.shown, "one of two calls has ended")
        terminal.send("\x03")
        assert terminal.end() == Exit.INTERRUPTED
        assert "\x1b[?25h" in terminal.shown.rpartition("\x1b[?25l")[2]


def test_a_measurement_has_a_bar(broker: BrokerProcess) -> None:
    arguments = ("--players", broker.players, "--seconds", "0.5", "--direction", "up", "--in-flight", "2,4")
    with Slow(broker, "bench", *arguments) as terminal:
        terminal.wait_until(lambda: "up, 4 in flight" in terminal.shown, "there is a bar")
        assert terminal.end() == Exit.OK
        assert "0/2" in terminal.shown and "1/2" in terminal.shown


@pytest.mark.parametrize("arguments", [("ping", "--count", "20"), ("ping", "--count", "20", "--json")])
def test_a_short_command_has_no_bar(broker: BrokerProcess, arguments: tuple[str, ...]) -> None:
    command = (sys.executable, "-m", "ringback_cli", *arguments, "--backend", broker.backend)
    with Terminal(*command) as terminal:
        assert terminal.end() == Exit.OK
        assert "\x1b[?25l" not in terminal.shown  # this hides the cursor, as a bar does


def test_json_has_no_bar(broker: BrokerProcess) -> None:
    # A bar would be drawn however short the command is: the thread that draws it begins before the pings.
    with Slow(broker, "ping", "--count", "20", "--json") as terminal:
        assert terminal.end() == Exit.OK
        assert terminal.shown.startswith("{") and "\x1b" not in terminal.shown


def test_no_bar_without_a_terminal(held: tuple[BrokerProcess, threading.Event], command: Any) -> None:
    broker, released = held
    released.set()
    code, output, errors = command("trigger", "all", "k", "--backend", broker.backend).end()
    assert (code, errors) == (Exit.OK, "") and output.startswith('[{"player": 7')
