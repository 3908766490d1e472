"""The unit for systemd, and the states that a broker reports to the service manager."""

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
"""The highest score of `systemd-analyze security` that the test allows, of 10. Below 2.5 is "OK"."""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """Return a socket that takes the place of systemd."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_S)
        yield manager


def receive(manager: socket.socket, pattern: str) -> str:
    """Wait for a message that matches, and return it."""
    while True:
        text = manager.recv(4096).decode()
        if re.search(pattern, text):
            return text


def test_a_broker_reports_its_states(manager: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "600000"}
    with BrokerProcess(environment=environment) as broker:
        assert manager.recv(4096) == b"READY=1"
        for _ in range(5):
            assert receive(manager, "WATCHDOG=1") == "WATCHDOG=1\nSTATUS=0 players"
        with Player(broker.players, 1):
            receive(manager, "WATCHDOG=1\nSTATUS=1 players")
        broker.process.signal(signal.SIGTERM)
        assert receive(manager, "STOPPING=1") == "STOPPING=1\nSTATUS=draining"
        assert broker.process.wait() == 0


def test_a_broker_without_a_watchdog_reports_its_state_too(manager: socket.socket) -> None:
    with BrokerProcess(environment={"NOTIFY_SOCKET": manager.getsockname()}):
        assert manager.recv(4096) == b"READY=1"
        receive(manager, "STATUS=0 players")


def test_a_broker_works_without_the_manager_that_its_environment_names(tmp_path: Path) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "500000"}
    with BrokerProcess(environment=environment) as broker, Player(broker.players, 1) as player:
        assert player.connected


def test_the_environment_names_socket_and_watchdog() -> None:
    assert Notifier({}).watchdog_s is None
    assert Notifier({"NOTIFY_SOCKET": "/x"}).watchdog_s is None
    assert Notifier({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "3000000"}).watchdog_s == 1.5
    ignored = ({"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"})
    for environment in ignored:
        assert Notifier({"NOTIFY_SOCKET": "/x", **environment}).watchdog_s is None
    abstract = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with abstract:
        abstract.bind("")  # the kernel chooses a name
        Notifier({"NOTIFY_SOCKET": "@" + abstract.getsockname()[1:].decode()}).ready()
        assert abstract.recv(100) == b"READY=1"


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    text = UNIT.read_text()
    assert "ExecStart=/opt/ringback/bin/ringback broker " in text
    path = tmp_path / "ringback.service"
    path.write_text(text.replace("/opt/ringback/bin/ringback", "/bin/true"))  # a program that exists
    done = subprocess.run([analyze, "verify", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(
        [analyze, "security", "--offline=true", path], capture_output=True, text=True, check=False
    )
    score = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    if score is None:
        pytest.skip(f"this systemd-analyze prints no score without a running systemd: {done.stderr}")
    assert float(score[1]) <= MOST_EXPOSED
