"""Bars of what takes long: on a terminal, on standard error, and gone in the end."""

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
    """`ringback trigger all` on a terminal: its bar comes at once."""

    def __init__(self, broker: BrokerProcess, *arguments: str) -> None:
        code = (
            "import sys, ringback_cli.output as output\n"
            "from ringback_cli.app import run\n"
            "output.PROGRESS_AFTER_S = 0.0\n"
            "sys.exit(run(sys.argv[1:]))"
        )
        super().__init__(sys.executable, "-c", code, *arguments, "--backend", broker.backend)


@pytest.fixture
def held(broker: BrokerProcess) -> Iterator[tuple[BrokerProcess, threading.Event]]:
    """Two players: one answers at once, one when it is let."""
    let = threading.Event()
    quick, slow = Player(broker.players, 7), Player(broker.players, 8)
    quick.register_client_callback("k", lambda payload: None)
    slow.register_client_callback("k", lambda payload: let.wait(60))
    with quick, slow:
        yield broker, let
        let.set()


def test_a_bar_comes_and_goes(held: tuple[BrokerProcess, threading.Event]) -> None:
    broker, let = held
    with Slow(broker, "trigger", "all", "k") as terminal:
        terminal.wait_until(lambda: "1/2" in terminal.shown, "one of two calls has ended")
        let.set()
        assert terminal.end() == Exit.OK
        last = terminal.shown.rpartition("\x1b[2K")[2]  # the bar's line is erased
        assert '[{"player": 7, "result": null}, {"player": 8, "result": true}]' in last
        assert "\x1b[?25h" in terminal.shown.rpartition("\x1b[?25l")[2]


def test_ctrl_c_takes_the_bar_away(held: tuple[BrokerProcess, threading.Event]) -> None:
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


@pytest.mark.parametrize("arguments", [("ping", "--count", "200"), ("ping", "--count", "200", "--json")])
def test_what_is_soon_over_has_none(broker: BrokerProcess, arguments: tuple[str, ...]) -> None:
    command = (sys.executable, "-m", "ringback_cli", *arguments, "--backend", broker.backend)
    with Terminal(*command) as terminal:
        assert terminal.end() == Exit.OK
        assert "\x1b[?25l" not in terminal.shown  # a bar hides the cursor


def test_json_has_none(broker: BrokerProcess) -> None:
    with Slow(broker, "ping", "--count", "2000", "--json") as terminal:
        assert terminal.end() == Exit.OK
        assert terminal.shown.startswith("{") and "\x1b" not in terminal.shown


def test_without_a_terminal_there_is_none(held: tuple[BrokerProcess, threading.Event], command: Any) -> None:
    broker, let = held
    let.set()
    code, output, errors = command("trigger", "all", "k", "--backend", broker.backend).end()
    assert (code, errors) == (Exit.OK, "") and output.startswith('[{"player": 7')
