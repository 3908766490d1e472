"""Run every snippet of the README and of the guide, with the addresses of a broker of the test's own."""

from __future__ import annotations

import inspect
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest
from support.faces import HereBroker
from support.harness import PATIENCE_S, BrokerProcess, Process, eventually
from support.pages import at, run_piece

import ringback
import ringback.aio
import ringback.testing
from ringback import Operator

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs" / "guide.md").read_text()
SNIPPET = re.compile(r"```python\n(.*?)```", re.S)
PYTHON = SNIPPET.findall(README)
CONSOLE = re.findall(r"```console\n(.*?)```", README, re.S)
PROGRAMS = [snippet for snippet in SNIPPET.findall(GUIDE) if "run_forever" in snippet]
TESTS = [snippet for snippet in SNIPPET.findall(GUIDE) if "def test_" in snippet]
PIECES = [snippet for snippet in SNIPPET.findall(GUIDE) if snippet not in PROGRAMS + TESTS]


def test_all_snippets_are_found() -> None:
    assert len(PYTHON) == 4
    assert len(CONSOLE) == 2
    assert len(PROGRAMS) == 2
    assert len(TESTS) == 4
    assert len(PIECES) == GUIDE.count("```python") - 6 > 10


@pytest.mark.parametrize("snippet", PYTHON, ids=range(len(PYTHON)))
def test_python_snippet(snippet: str, broker: BrokerProcess, tmp_path: Path) -> None:
    script = tmp_path / "snippet.py"
    script.write_text(at(broker, snippet))
    with Process(str(script)) as process:
        assert process.wait() == 0, process.output()


@pytest.fixture(scope="module")
def here() -> Iterator[HereBroker]:
    with HereBroker() as broker:
        yield broker


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("snippet", PROGRAMS, ids=range(len(PROGRAMS)))
def test_program_of_the_guide(snippet: str, number: signal.Signals, here: HereBroker, tmp_path: Path) -> None:
    """Each program serves until a signal ends it, and then exits with code 0."""
    script = tmp_path / "snippet.py"
    script.write_text(at(here, snippet))
    with Process(str(script)) as process, Operator(here.backend) as operator:
        eventually(
            lambda: any(row[2] for row in operator.query("callbacks").results[0]), "the server is connected"
        )
        assert operator.trigger_callback("shop:items", 1).result() == ["apple"]
        process.signal(number)
        assert process.wait() == 0, process.output()
        assert process.output() == []


@pytest.mark.parametrize("snippet", PIECES, ids=range(len(PIECES)))
def test_snippet_of_the_guide(snippet: str, here: HereBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("guide")
    monkeypatch.setitem(sys.modules, "guide", module)  # where the types of a contract are looked up
    run_piece(at(here, snippet), here, vars(module))


def test_tests_of_the_guide(tmp_path: Path) -> None:
    """Run the tests as a project of a user does, with one more that fails."""
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n"
    )
    wrong = TESTS[0].replace('{"item": "rope"}, (True,)', '{"item": "bread"}, (True,)')
    assert wrong != TESTS[0]
    for number, snippet in enumerate([*TESTS, wrong]):
        (tmp_path / f"test_{number}.py").write_text(snippet)
    with Process("-m", "pytest", "-q", "--rootdir", str(tmp_path), str(tmp_path)) as process:
        assert process.wait() == 1, process.output()
        lines = process.output()
    assert lines[-1].startswith(f"1 failed, {len(TESTS)} passed"), lines
    assert any(line.startswith("FAILED") and f"test_{len(TESTS)}.py" in line for line in lines), lines


def public_names() -> list[str]:
    """Return the names in `__all__`, and the public methods and properties of the main classes.

    Other parts of the SDK use some methods without an underscore. Their docstrings say "Not for users."
    """
    names = {*ringback.__all__, *ringback.testing.__all__}
    for module in (ringback, ringback.aio):
        for kind in (module.Server, module.Player, module.Operator, module.Call, module.CallGroup):
            names |= {
                name
                for name, member in inspect.getmembers(kind)
                if name[0] != "_" and (inspect.isfunction(member) or isinstance(member, property))
                if "Not for users." not in str(member.__doc__)
            }
    return sorted(names)


def test_every_public_name_is_mentioned() -> None:
    code = " ".join(re.findall(r"```.*?```|`[^`\n]+`", README + GUIDE, re.S))
    assert [name for name in public_names() if not re.search(rf"\b{name}\b", code)] == []


def test_the_guide_lists_all_limits() -> None:
    listed = re.findall(r"^\| `(max_\w+)` \| (\w+) \| \S", GUIDE, re.M)
    assert dict(listed) == {field.name: str(field.default) for field in fields(ringback.Limits)}


@pytest.fixture
def shop(broker: BrokerProcess) -> Iterator[BrokerProcess]:
    """Start the example's server and player 7, and return their broker."""
    with ExitStack() as stack:
        for arguments in (["shop_server.py", broker.backend], ["shop_player.py", broker.players, "7"]):
            process = Process(str(ROOT / "examples" / arguments[0]), *arguments[1:], stdin=subprocess.PIPE)
            stack.callback(process.kill)
        with Operator(broker.backend) as operator:
            eventually(
                lambda: len(operator.query("callbacks").results[0]) == 5, "server and player are connected"
            )
        yield broker


def test_console_snippets(shop: BrokerProcess, tmp_path: Path) -> None:
    (tmp_path / "ringback").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ringback_cli "$@"\n')
    (tmp_path / "ringback").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "RINGBACK_PLAYERS": shop.players,
        "RINGBACK_BACKEND": shop.backend,
    }
    commands = re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", "".join(CONSOLE), re.M)
    assert len(commands) == 5
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
