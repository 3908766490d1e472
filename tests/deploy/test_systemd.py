"""The unit for systemd, and what a broker tells the manager that has started it."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.harness import PATIENCE_S, BrokerProcess

from ringback import Player
from ringback_broker.daemon.systemd import Notifier

UNIT = Path(__file__).resolve().parents[2] / "deploy" / "systemd" / "ringback.service"
MOST_EXPOSED = 2.0
"""Of 10, as `systemd-analyze security` counts; it calls less than 2.5 OK."""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_S)
        yield manager


def told(manager: socket.socket, pattern: str) -> str:
    """Waits until something like this is told."""
    while True:
        text = manager.recv(4096).decode()
        if re.search(pattern, text):
            return text


def test_a_manager_is_told_how_it_goes(manager: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "600000"}
    with BrokerProcess(environment=environment) as broker:
        assert manager.recv(4096) == b"READY=1"
        for _ in range(5):
            assert told(manager, "WATCHDOG=1") == "WATCHDOG=1\nSTATUS=0 players"
        with Player(broker.players, 1):
            told(manager, "WATCHDOG=1\nSTATUS=1 players")
        broker.process.signal(signal.SIGTERM)
        assert told(manager, "STOPPING=1") == "STOPPING=1\nSTATUS=draining"
        assert broker.process.wait() == 0


def test_without_a_watchdog_the_state_is_told_all_the_same(manager: socket.socket) -> None:
    with BrokerProcess(environment={"NOTIFY_SOCKET": manager.getsockname()}):
        assert manager.recv(4096) == b"READY=1"
        told(manager, "STATUS=0 players")


def test_a_manager_that_is_gone_does_no_harm(tmp_path: Path) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "500000"}
    with BrokerProcess(environment=environment) as broker, Player(broker.players, 1) as player:
        assert player.connected


def test_the_environment() -> None:
    assert Notifier({}).watchdog_s is None
    assert Notifier({"NOTIFY_SOCKET": "/x"}).watchdog_s is None
    assert Notifier({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "3000000"}).watchdog_s == 1.5
    for odd in ({"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}):
        assert Notifier({"NOTIFY_SOCKET": "/x", **odd}).watchdog_s is None
    abstract = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with abstract:
        abstract.bind("")  # the system gives it a name
        Notifier({"NOTIFY_SOCKET": "@" + abstract.getsockname()[1:].decode()}).ready()
        assert abstract.recv(100) == b"READY=1"


def test_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd-analyze")
    text = UNIT.read_text()
    assert "ExecStart=/opt/ringback/bin/ringback broker " in text
    path = tmp_path / "ringback.service"
    path.write_text(text.replace("/opt/ringback/bin/ringback", "/bin/true"))  # which has to be there
    done = subprocess.run([analyze, "verify", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(
        [analyze, "security", "--offline=true", path], capture_output=True, text=True, check=False
    )
    score = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    if score is None:
        pytest.skip(f"this systemd-analyze has no score without a running systemd: {done.stderr}")
    assert float(score[1]) <= MOST_EXPOSED
