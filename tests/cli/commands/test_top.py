"""`ringback top` with and without a terminal, at a real broker."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.harness import BrokerProcess
from support.terminals import Terminal

from ringback import Player, Server
from ringback_cli.exits import Exit


class Top(Terminal):
    """`ringback top` on a terminal, at a broker."""

    def __init__(self, broker: BrokerProcess, *arguments: str, **settings: Any) -> None:
        command = (sys.executable, "-m", "ringback_cli", "top", "--backend", broker.backend)
        super().__init__(*command, "--interval", "0.2", *arguments, **settings)

    def table(self) -> list[str]:
        """Return the first column of the rows on the screen."""
        return [line.split()[0] for line in self.screen().splitlines()[3:-1] if line.strip()]

    def wait_for_table(self, *names: str) -> None:
        self.wait_until(lambda: self.table() == list(names), f"the rows are {names}")


@pytest.fixture
def some(broker: BrokerProcess) -> Iterator[BrokerProcess]:
    """Start a server and two players at a broker."""
    server = Server(broker.backend)
    server.register_server_callback("shop:items", lambda source, payload: None)
    player = Player(broker.players, 7)
    player.register_client_callback("local:coords", lambda payload: None)
    with server, player, Player(broker.players, "anna"):
        yield broker


def test_players_come_and_go(some: BrokerProcess) -> None:
    with Top(some) as top:
        screen = top.wait_for(
            "2 players", "server connected", "frames/s up 0.0, down 0.0, bounced 0.0", "F10 quit"
        )
        assert screen.splitlines()[0].startswith(some.backend)
        assert top.table() == ["7", "anna"] and top.present_settings() != top.settings
        with Player(some.players, "berta"):
            top.wait_for_table("7", "anna", "berta")
        top.wait_for_table("7", "anna")
        top.send("q")
        assert top.end() == Exit.OK
        assert top.present_settings() == top.settings
        assert "\x1b[?1049h" in top.shown and "\x1b[?1049l" in top.shown  # the alternate screen, and back
        assert top.shown.rindex("\x1b[?25h") > top.shown.rindex("\x1b[?25l")  # the cursor is visible again


def test_keys(some: BrokerProcess) -> None:
    with Top(some, "--sort", "player") as top, Player(some.players, "berta"):
        top.wait_for_table("7", "anna", "berta")
        top.send("I")
        top.wait_for_table("berta", "anna", "7")
        top.wait_for("by player, descending")
        top.send("/AN")
        top.wait_for_table("anna")
        top.wait_for("filter: AN_")
        top.send("\r")
        top.wait_for('1 by player, descending  with "AN"', "F10 quit")
        top.send("\x1b")
        top.wait_for_table("berta", "anna", "7")
        top.send("\t")
        top.wait_for_table("local:coords", "shop:items")
        top.send("\x1b[17~")
        top.wait_for("by calls, descending")
        top.send("h")
        top.wait_for("PgUp", "quit; Ctrl-C too")
        top.send("xp ")
        top.wait_for("3 players", "paused")
        top.send("\x1b[21~")
        assert top.end() == Exit.OK


def test_a_broker_that_dies_and_comes_back(some: BrokerProcess) -> None:
    with Top(some) as top:
        top.wait_for("2 players")
        some.process.kill()
        top.wait_for("no answer for", "trying again (CONNECTION_LOST")
        some.start()
        top.wait_for("2 players", "server connected")
        top.wait_until(lambda: sorted(top.table()) == ["7", "anna"], "both are back")
        some.process.signal(signal.SIGSTOP)
        top.wait_for("no answer for")
        top.send("q")
        assert top.end() == Exit.OK


def size_of(top: Top) -> tuple[int, int]:
    """Return how many lines of the screen are used, and how many columns."""
    lines = top.screen().splitlines()
    return len(lines), max(map(len, lines), default=0)


def test_another_size(some: BrokerProcess) -> None:
    with Top(some) as top:
        top.wait_for("window %", "in flight", "connected s")
        top.resize(6, 40)
        top.wait_until(lambda: size_of(top) == (6, 40), "it has 6 lines and 40 columns")
        top.resize(2, 10)
        top.wait_until(lambda: size_of(top) == (2, 10), "it has 2 lines and 10 columns")
        top.send("q")
        assert top.end() == Exit.OK


@pytest.mark.parametrize(
    "variables",
    [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "latin-1"}],
    ids=["C", "latin-1"],
)
def test_it_writes_utf_8_in_each_locale(some: BrokerProcess, variables: dict[str, str]) -> None:
    with Player(some.players, "\u65e5\u672c"), Top(some, environment=variables, size=(24, 60)) as top:
        top.wait_for("3 players", "\u65e5\u672c")
        top.send("q")
        assert top.end() == Exit.OK


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda top: top.send("\x03"), Exit.INTERRUPTED),
        (lambda top: top.send("\x1c"), 128 + signal.SIGQUIT),
        (lambda top: top.popen.terminate(), 128 + signal.SIGTERM),
        (lambda top: top.popen.send_signal(signal.SIGHUP), 128 + signal.SIGHUP),
    ],
    ids=["ctrl-c", "ctrl-backslash", "term", "hup"],
)
def test_signals_leave_the_terminal_as_it_was(
    some: BrokerProcess, end: Callable[[Top], None], code: int
) -> None:
    with Top(some) as top:
        top.wait_for("2 players")
        end(top)
        assert top.end() == code
        assert top.present_settings() == top.settings and "\x1b[?1049l" in top.shown
        assert "Traceback" not in top.shown


def test_ctrl_z_and_fg(some: BrokerProcess) -> None:
    """Use a shell with job control, because a process without one cannot be stopped."""
    with Terminal("/bin/bash", "--norc", "-i", environment={"PS1": "prompt> "}) as shell:
        shell.wait_until(lambda: "prompt> " in shell.shown, "there is a prompt")
        shell.send(f"{sys.executable} -m ringback_cli top --backend {some.backend}\n")
        shell.wait_for("2 players", "F10 quit")
        shell.send("\x1a")
        shell.wait_until(lambda: "Stopped" in shell.shown and "\x1b[?1049l" in shell.shown, "it is stopped")
        drawn = len(shell.shown)
        shell.send("fg\n")
        shell.wait_until(lambda: "2 players" in shell.shown[drawn:], "it draws again")
        drawn = len(shell.shown)
        shell.send("q")
        shell.wait_until(lambda: "prompt> " in shell.shown[drawn:], "it has ended")
        shell.send("exit 3\n")
        assert shell.end() == 3


def test_a_bug_leaves_the_terminal_as_it_was(some: BrokerProcess) -> None:
    code = (
        "import sys, ringback_cli.commands.top as top\n"
        "from ringback_cli.app import run\n"
        "top.draw = lambda *_: 1 / 0\n"
        "sys.exit(run(sys.argv[1:]))"
    )
    with Terminal(sys.executable, "-c", code, "top", "--backend", some.backend) as top:
        assert top.end() == Exit.FAILED
        assert top.present_settings() == top.settings
        assert "FAILED: ZeroDivisionError" in top.shown.rpartition("\x1b[?1049l")[2]


def test_without_a_terminal(some: BrokerProcess, command: Any) -> None:
    where = ("--backend", some.backend, "--interval", "0.1")
    code, output, errors = command("top", "--count", "2", *where).end()
    assert (code, errors) == (Exit.OK, "")
    first, heads, seven, _, second, *_ = output.splitlines()
    assert first.startswith(f"{some.backend}  2 players  server connected  frames/s up -")
    assert heads.startswith("player  calls/s") and seven.startswith("7 ")
    assert "frames/s up 0.0, down 0.0" in second
    arguments = ("top", "--count", "2", "--json", "--view", "callbacks", "--sort", "key", *where)
    code, output, errors = command(*arguments).end()
    assert (code, errors) == (Exit.OK, "")
    one, two = map(json.loads, output.splitlines())
    assert [row["key"] for row in one["rows"]] == ["local:coords", "shop:items"]
    assert (one["frames_up_s"], two["frames_up_s"]) == (None, 0.0)
    assert (two["broker"], two["problem"], two["players"]) == (some.backend, None, 2)
    assert (two["server"], two["view"]) == (True, "callbacks")


def test_without_a_terminal_it_waits_for_a_broker_that_dies(some: BrokerProcess, command: Any) -> None:
    top = command("top", "--json", "--interval", "0.1", "--backend", some.backend)
    assert json.loads(top.popen.stdout.readline())["problem"] is None
    some.process.kill()
    lines = iter(top.popen.stdout.readline, b"")
    gone = next(found for found in map(json.loads, lines) if found["problem"])
    assert gone["problem"].startswith("CONNECTION_LOST: ")
    assert (gone["players"], gone["server"], gone["rows"]) == (None, None, [])
    some.start()
    assert next(found for found in map(json.loads, lines) if found["players"] == 2)
    top.popen.send_signal(signal.SIGINT)
    assert top.end()[0] == Exit.INTERRUPTED


def test_no_broker(command: Any, short_folder: Any) -> None:
    code, output, errors = command("top", "--backend", f"ipc://{short_folder}/b", "--timeout", "1").end()
    assert (code, output) == (Exit.NO_BROKER, "")
    assert errors.startswith("NO_BROKER: ") and errors.count("\n") == 1
