"""`ringback bench` as a process, at a real broker."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.harness import BrokerProcess, eventually
from support.keyring import KeyRing
from support.terminals import Terminal

from ringback import Server
from ringback.credentials import write_key_pair
from ringback_cli.exits import Exit

SHORT = ("--seconds", "0.2", "--in-flight", "8")
FIGURES = {"calls", "calls_per_s", "p50_us", "p99_us", "p999_us", "cpu_server_us", "cpu_players_us"}


def addresses(broker: BrokerProcess) -> dict[str, str]:
    return {"RINGBACK_PLAYERS": broker.players, "RINGBACK_BACKEND": broker.backend}


def children(pid: int) -> list[int]:
    """Return the processes that another process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # the process has ended in the meantime
            if path.read_text().rpartition(")")[2].split()[1] == str(pid):
                found.append(int(path.parent.name))
    return found


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def measuring(broker: BrokerProcess, command: Any) -> Any:
    """Return a function that starts a measurement of some seconds, and waits until it runs."""

    def start(direction: str) -> Any:
        arguments = ("--seconds", "1", "--in-flight", "8,8,8,8,8", "--direction", direction)
        bench = command("bench", *arguments, environment=addresses(broker))
        for _ in ("its head", "the first row"):
            assert bench.popen.stdout.readline() or bench.end() is None  # shows how it ended
        return bench

    return start


def test_a_table_of_both_directions(broker: BrokerProcess, command: Any) -> None:
    arguments = ("--seconds", "0.2", "--in-flight", "1,16")
    code, output, errors = command("bench", *arguments, environment=addresses(broker)).end()
    assert (code, errors) == (0, "")
    head, *rows = output.splitlines()
    assert head.split()[:4] == ["direction", "players", "in", "flight"]
    assert [row.split()[:3] for row in rows] == [
        ["up", "1", "1"],
        ["up", "1", "16"],
        ["down", "1", "1"],
        ["down", "1", "16"],
    ]
    assert all(float(cell) > 0 for row in rows for cell in row.split()[3:])
    assert {len(line) for line in (head, *rows)} == {len(head)}


@pytest.mark.parametrize("direction", ["up", "down"])
def test_json_with_some_players_and_payloads(direction: str, any_broker: BrokerProcess, command: Any) -> None:
    options = ("--direction", direction, "--count", "3", "--payload-bytes", "1000", "--json")
    code, output, errors = command("bench", *SHORT, *options, environment=addresses(any_broker)).end()
    assert (code, errors) == (0, "")
    [line] = output.splitlines()
    row = json.loads(line)
    figures = {key: row.pop(key) for key in FIGURES}
    assert all(value > 0 for value in figures.values())
    assert figures["p50_us"] <= figures["p99_us"] <= figures["p999_us"]
    assert row == {
        "direction": direction,
        "players": 3,
        "in_flight": 8,
        "payload_bytes": 1000,
        "seconds": 0.2,
    }


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_time_that_is_over_at_once(direction: str, broker: BrokerProcess, command: Any) -> None:
    """On a busy machine that happens to longer times too. Each call in flight is made once then."""
    options = ("--seconds", "1e-9", "--in-flight", "8", "--direction", direction, "--json")
    code, output, errors = command("bench", *options, environment=addresses(broker)).end()
    assert (code, errors) == (0, "")
    assert json.loads(output)["calls"] == 8


def test_another_server_is_connected(broker: BrokerProcess, command: Any) -> None:
    with Server(broker.backend):
        code, output, errors = command("bench", *SHORT, environment=addresses(broker)).end()
    assert (code, output, errors.count("\n")) == (Exit.REFUSED, "", 1)
    assert errors.startswith("SERVER_TAKEN: ")


def test_no_broker(command: Any) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{nobody.getsockname()[1]}"
        code, output, errors = command("bench", "--backend", address, "--players", address).end()
    assert (code, output, errors.count("\n")) == (Exit.NO_BROKER, "", 1)
    assert errors.startswith(f"NO_BROKER: no broker answered at {address}")


def test_calls_that_fail(broker: BrokerProcess, command: Any) -> None:
    code, output, errors = command("bench", "--in-flight", "5000", environment=addresses(broker)).end()
    assert (code, output, errors.count("\n")) == (Exit.OVERLOADED, "", 1)
    assert errors.startswith("OVERLOADED: ")


def test_keys(tmp_path: Path, command: Any) -> None:
    ring = KeyRing(tmp_path)
    server = write_key_pair(ring.add("shop", "server"), tmp_path)
    player = write_key_pair(ring.add("crowd", "player", "bench-0", "bench-1"), tmp_path)
    other = write_key_pair(ring.add("other", "player", 7), tmp_path)
    with BrokerProcess(options=ring.options) as broker:

        def run(*arguments: str) -> Any:
            return command("bench", *SHORT, "--count=2", *arguments, environment=addresses(broker)).end()

        code, output, errors = run("--key-file", str(server), "--player-key-file", str(player))
        assert (code, errors) == (0, "")
        assert len(output.splitlines()) == 3
        code, output, errors = run("--key-file", str(server), "--player-key-file", str(other))
        assert (code, output, errors.count("\n")) == (Exit.REFUSED, "", 1)
        assert errors.startswith("UNAUTHORIZED: ")
        code, output, errors = run()
        # The REJECT may be lost with the link. The line mentions keys in any case.
        assert code in (Exit.REFUSED, Exit.NO_BROKER)
        assert (output, errors.count("\n")) == ("", 1) and "key" in errors


@pytest.mark.parametrize("direction", ["up", "down"])
def test_ctrl_c_leaves_no_process(direction: str, broker: BrokerProcess, measuring: Any) -> None:
    bench = measuring(direction)
    started = children(bench.popen.pid)
    assert len(started) == 2
    bench.popen.send_signal(signal.SIGINT)
    assert bench.end() == (Exit.INTERRUPTED, "", "")
    assert not any(map(runs, started))
    broker.process.wait_for(r"left player 'bench-0' \S+ \(it said BYE\)")
    broker.process.wait_for(r"left server \S+ \(it said BYE\)")


def test_ctrl_c_while_it_waits_for_a_broker(command: Any) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        bench = command("bench", "--backend", f"tcp://127.0.0.1:{silent.getsockname()[1]}")
        silent.accept()[0].close()
        started = children(bench.popen.pid)
        assert len(started) == 1
        bench.popen.send_signal(signal.SIGINT)
        assert bench.end() == (Exit.INTERRUPTED, "", "")
        assert not any(map(runs, started))


def test_a_kill_leaves_no_process(measuring: Any) -> None:
    bench = measuring("up")
    started = children(bench.popen.pid)
    bench.popen.kill()
    bench.end()
    eventually(lambda: not any(map(runs, started)), "its processes end")


@pytest.mark.parametrize(
    ("direction", "expected"), [("up", {Exit.SERVER_LOST, Exit.NO_SERVER}), ("down", {Exit.FAILED})]
)
def test_its_server_dies(direction: str, expected: set[Exit], measuring: Any) -> None:
    bench = measuring(direction)
    os.kill(min(children(bench.popen.pid)), signal.SIGKILL)  # the server starts first
    code, _, errors = bench.end()
    assert code in expected and errors.count("\n") == 1, errors
    assert errors.startswith(f"{Exit(code).name}: ")


def test_the_broker_dies(broker: BrokerProcess, measuring: Any) -> None:
    bench = measuring("up")
    broker.process.kill()
    code, _, errors = bench.end()
    assert (code, errors.count("\n")) == (Exit.CONNECTION_LOST, 1)
    assert errors.startswith("CONNECTION_LOST: ")


class Local:
    """`ringback bench --local` in the middle of its measurements."""

    def __init__(self, command: Any) -> None:
        arguments = ("--local", "--seconds", "1", "--in-flight", "8,8,8,8,8")
        self.bench = command("bench", *arguments, environment=NOWHERE)
        for _ in ("its head", "the first row"):
            assert self.bench.popen.stdout.readline() or self.bench.end() is None  # shows how it ended
        self.started = children(self.bench.popen.pid)
        assert len(self.started) == 3, "the broker, the server and the players"


NOWHERE = {"RINGBACK_PLAYERS": "tcp://127.0.0.1:1", "RINGBACK_BACKEND": "tcp://127.0.0.1:1"}


def test_a_broker_of_its_own(command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the environment nor a settings file says anything about it."""
    monkeypatch.chdir(tmp_path)
    Path("ringback.toml").write_text("max_players = 0")
    code, output, errors = command("bench", "--local", *SHORT, environment=NOWHERE).end()
    assert (code, errors) == (Exit.OK, "")
    heads, up, down = output.splitlines()
    assert heads.endswith("broker CPU us") and up.split()[0] == "up" and down.split()[0] == "down"
    arguments = ("bench", "--local", "--json", "--direction", "up", "--count", "3", *SHORT)
    code, output, errors = command(*arguments, environment=NOWHERE).end()
    assert (code, errors) == (Exit.OK, "")
    [row] = map(json.loads, output.splitlines())
    assert set(row) >= {*FIGURES, "cpu_broker_us"} and row["calls"] > 0 and row["cpu_broker_us"] > 0


def test_ctrl_c_ends_its_broker_too(command: Any) -> None:
    local = Local(command)
    local.bench.popen.send_signal(signal.SIGINT)
    assert local.bench.end() == (Exit.INTERRUPTED, "", "")
    assert not any(map(runs, local.started))


def test_a_kill_ends_its_broker_too(command: Any) -> None:
    local = Local(command)
    local.bench.popen.kill()
    local.bench.end()
    eventually(lambda: not any(map(runs, local.started)), "its processes end")


@pytest.mark.parametrize(
    "option", ["--players", "--backend", "--key-file", "--player-key-file", "--broker-key"]
)
def test_an_option_for_another_broker(usage: Any, option: str) -> None:
    value = "0" * 40 if option == "--broker-key" else "tcp://127.0.0.1:1"
    line = usage("bench", "--local", option, value)
    assert line == f"{option}: it is for another broker than the one that --local starts"


def test_a_narrow_terminal_has_the_heads_on_two_lines() -> None:
    words = (sys.executable, "-m", "ringback_cli", "bench", "--local", *SHORT, "--direction", "up")
    with Terminal(*words, size=(24, 80)) as terminal:
        assert terminal.end() == Exit.OK
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.shown).splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) == 3
    assert lines[0].split() == ["p99.9", "server", "players", "broker"]
    assert lines[1].split()[:4] == ["direction", "in", "flight", "calls/s"] and lines[2].split()[0] == "up"
