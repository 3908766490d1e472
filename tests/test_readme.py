"""Every snippet of the README is run, against a real broker, with the addresses of that broker."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from harness import PATIENCE_S, BrokerProcess, Process, eventually

from ringback import Operator

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.S)
CONSOLE = re.findall(r"```console\n(.*?)```", README, re.S)


def test_there_are_snippets() -> None:
    assert len(PYTHON) == 3
    assert len(CONSOLE) == 1


@pytest.mark.parametrize("snippet", PYTHON, ids=range(len(PYTHON)))
def test_python_snippet(snippet: str, broker: BrokerProcess, tmp_path: Path) -> None:
    code = snippet.replace("tcp://127.0.0.1:5770", broker.players)
    code = code.replace("tcp://127.0.0.1:5771", broker.backend)
    script = tmp_path / "snippet.py"
    script.write_text(code)
    with Process(str(script)) as process:
        assert process.wait() == 0, process.output()


@pytest.fixture
def shop(broker: BrokerProcess) -> Iterator[BrokerProcess]:
    """The example's server and player 7, at a broker."""
    with ExitStack() as stack:
        for arguments in (["shop_server.py", broker.backend], ["shop_player.py", broker.players, "7"]):
            process = Process(str(ROOT / "examples" / arguments[0]), *arguments[1:], stdin=subprocess.PIPE)
            stack.callback(process.kill)
        with Operator(broker.backend) as operator:
            eventually(
                lambda: len(operator.query("callbacks").results[0]) == 5, "server and player are there"
            )
        yield broker


def test_console_snippet(shop: BrokerProcess, tmp_path: Path) -> None:
    (tmp_path / "ringback").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ringback_cli "$@"\n')
    (tmp_path / "ringback").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "RINGBACK_PLAYERS": shop.players,
        "RINGBACK_BACKEND": shop.backend,
    }
    commands = re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", CONSOLE[0], re.M)
    assert len(commands) == 4
    for command, shown in commands:
        done = subprocess.run(
            command,
            shell=True,
            capture_output=True,
            text=True,
            env=environment,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.stdout + done.stderr == shown, command


def test_the_demo_does_what_it_says() -> None:
    with Process(str(ROOT / "examples" / "demo.py")) as process:
        assert process.wait() == 0, process.output()
        assert process.output()[-1] == "All was as it should be."


def test_the_demo_notices_a_difference(tmp_path: Path) -> None:
    for name in ("demo.py", "shop_player.py"):
        (tmp_path / name).write_text((ROOT / "examples" / name).read_text())
    server = (ROOT / "examples" / "shop_server.py").read_text()
    assert '"bread": 5' in server
    (tmp_path / "shop_server.py").write_text(server.replace('"bread": 5', '"bread": 6'))
    demo = (tmp_path / "demo.py").read_text()
    (tmp_path / "demo.py").write_text(demo.replace("PATIENCE_S = 30.0", "PATIENCE_S = 2.0"))
    with Process(str(tmp_path / "demo.py")) as process:
        assert process.wait() == 1
        assert any("DIFFERENT" in line for line in process.output())
