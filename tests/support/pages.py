"""Pages of the documentation, run as they tell: files are written, and commands print what the pages show.

HTML comments, which readers do not see, say what a block is for:

- `<!-- file: game.py -->`: the next block is written into this file.
- `<!-- add to: game.py -->`: the next block is added to its end.
- `<!-- replace buy in: game.py -->`: the next block replaces all from the decorator of `buy` on.
- `<!-- change in: game.py -->`: the next block is one line. It replaces the one that begins in the same way.
- `<!-- start: server -->`: the command of the next block goes on. It prints what the block shows.
- `<!-- prints: server -->`: a command that goes on prints what the next block shows.
- `<!-- stop: server -->`: it gets Ctrl-C, and ends with exit code 0.
- `<!-- figures differ -->`: the numbers in the next block are different each time.
- `<!-- soon -->`: the same, and the command is repeated until it prints what the block shows.
- `<!-- exit code: 4 -->`: the command of the next block ends with this code.
- `<!-- not run: why -->`: the next block is only read.
- `<!-- fmt: off -->` and `<!-- fmt: on -->` are for ruff.

Without such a comment, `console` blocks have commands after `$` with their output, `sh` blocks have commands
that end well, and `python` blocks are programs that do. Blocks in other languages are only read.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from support.faces import HereBroker
from support.harness import ENVIRONMENT, PATIENCE_S, BrokerProcess, Process, eventually
from support.nats_servers import free_ports

import ringback
import ringback.aio

PORTS = ("5770", "5771", "5772", "8000")
"""The ports of the pages. A walk uses others, which are free."""

_STEP = re.compile(r"^[ ]*<!-- ((?!fmt: ).*?) -->$|^[ ]*```(\w+)\n(.*?)^[ ]*```$", re.M | re.S)
_COMMAND = re.compile(r"^\$ (.*(?:\\\n.*)*)\n((?:(?!\$ ).*\n)*)", re.M)
_TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(,\d+)?|\bin \d+\.\d+s"
_PROCESS = r"\bpid=\d+|\[\d+\]|pid: \d+|process \d+"
_VARIES = re.compile(f"{_TIME}|{_PROCESS}")


class Block(NamedTuple):
    """A block of a page, with the comment before it.

    Attributes:
        note: the comment, or "".
        language: of the block; "" for a comment that has no block.
    """

    note: str
    language: str
    text: str


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of a page in their order. Comments that need no block come alone."""
    note = ""
    for comment, language, text in _STEP.findall(page):
        if comment:
            assert not note, f"no block follows {note!r}"
            note = comment
            if comment.startswith("stop: "):
                yield Block(comment, "", "")
                note = ""
        else:
            yield Block(note, language, text)
            note = ""
    assert not note, f"no block follows {note!r}"


def commands(console: str) -> list[tuple[str, str]]:
    """Return the commands of a `console` block, each with the output that it shows."""
    return _COMMAND.findall(console)


def alike(text: str) -> list[str]:
    """Return the lines of an output without the parts that differ each time: numbers and column widths."""
    lines = [re.sub(r"\d+(\.\d+)?", "#", line) for line in text.strip().splitlines()]
    return [re.sub(r" +", " ", line).strip() for line in lines]


def steady(text: str) -> list[str]:
    """Return the lines of an output without times and process IDs."""
    return _VARIES.sub("#", text.rstrip()).splitlines()


class Walk:
    """A folder in which a page is followed, with free ports in place of the usual ones.

    Attributes:
        folder: where files are written and commands run.
        players, backend: the addresses of its broker.
        ready: the line that its broker prints when it is ready.
        running: the commands that go on, by name.
        read: the blocks that were only read, by reason.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, Process] = {}
        self.read: list[str] = []
        self._stack = ExitStack()
        self._ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
        self.players, self.backend = (f"tcp://127.0.0.1:{self._ports[port]}" for port in PORTS[:2])
        addresses = f"players={self.players} backend={self.backend}"
        self.ready = f"2026-11-29 20:15:03,101 INFO ringback.broker ready {addresses} pid=1"
        programs = folder.parent / f"{folder.name}-programs"
        programs.mkdir()
        folder.mkdir(exist_ok=True)
        for name, module in {"python": "", "ringback": "-m ringback_cli ", "pytest": "-m pytest "}.items():
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module}"$@"\n')
            program.chmod(0o755)
        beside = Path(sys.executable).parent  # other commands, such as uvicorn
        self.environment = {
            **ENVIRONMENT,
            "HOME": str(programs),
            "PATH": f"{programs}:{beside}:{ENVIRONMENT['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "RINGBACK_PLAYERS": self.players,
            "RINGBACK_BACKEND": self.backend,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def at(self, text: str) -> str:
        """Return a text of the page with the ports of this walk."""
        return re.sub(r"(?<=[:= ])(" + "|".join(PORTS) + r")\b", lambda found: self._ports[found[1]], text)

    def shown(self, output: str) -> str:
        """Return an output with the ports of the page."""
        for port, used in self._ports.items():
            output = output.replace(f":{used}", f":{port}")
        return output.replace(str(self.folder), "FOLDER")

    def follow(self, page: str) -> None:
        """Do what each block of a page says."""
        for block in blocks(page):
            self.step(block)

    def step(self, block: Block) -> None:
        kind, _, what = block.note.partition(": ")
        if kind == "stop":
            self.stop(what)
        elif kind == "not run":
            self.read.append(what)
        elif kind in ("file", "add to", "change in") or kind.startswith("replace "):
            self.write(kind, what, block.text)
        elif kind == "start":
            [(command, output)] = commands(block.text)
            self.start(what, command, output)
        elif kind == "prints":
            self.prints(what, block.text)
        elif block.language == "console":
            assert kind in ("", "figures differ", "soon", "exit code"), block
            for command, output in commands(block.text):
                if kind == "soon":
                    self.repeat(command, output)
                else:
                    self.run(command, output, kind == "figures differ", int(what or 0))
        elif block.language in ("sh", "python"):
            assert not kind, block
            script = block.text if block.language == "sh" else f"python - <<'END'\n{block.text}END\n"
            code, output = self.shell(script)
            assert code == 0, f"{block.text} ends with {code}:\n{output}"
        else:
            assert not kind, block

    def write(self, kind: str, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        before = path.read_text() if path.exists() else ""
        if kind == "file":
            path.write_text(self.at(text))
        elif kind == "add to":
            path.write_text(before + "\n" + self.at(text))
        elif kind == "change in":
            begin = re.escape(text.partition("(")[0] + "(")
            changed, count = re.subn(rf"^{begin}.*\n", lambda _: self.at(text), before, flags=re.M)
            assert count == 1, f"{count} lines of {name} begin with {begin}"
            path.write_text(changed)
        else:
            function = kind.removeprefix("replace ").removesuffix(" in")
            beginning = rf"^ *@.*\n *(async )?def {function}\("
            [start] = [found.start() for found in re.finditer(beginning, before, re.M)]
            path.write_text(before[:start] + self.at(text))

    def shell(self, script: str) -> tuple[int, str]:
        """Run commands to their end. Return the exit code, and what they print."""
        done = subprocess.run(
            ["bash", "-euc", self.at(script)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=4 * PATIENCE_S,
            check=False,
        )
        return done.returncode, self.shown(done.stdout)

    def run(self, command: str, output: str, figures_differ: bool = False, code: int = 0) -> None:
        """Run a command to its end, and compare what it prints."""
        found, printed = self.shell(command)
        compared = alike if figures_differ else steady
        assert compared(printed) == compared(output), f"{command} prints:\n{printed}"
        assert found == code, f"{command} ends with {found}"

    def repeat(self, command: str, output: str) -> None:
        """Repeat a command until it prints the same, apart from numbers."""
        shown = alike(output)
        eventually(lambda: alike(self.shell(command)[1]) == shown, f"{command} prints what the page shows")

    def start(self, name: str, command: str, output: str) -> None:
        """Start a command, and wait until it has printed what the page shows."""
        words = shlex.split(self.at(command))
        become = "import os, sys; os.execvpe(sys.argv[1], sys.argv[1:], os.environ)"
        inside = ("env", "-C", str(self.folder))
        process = Process("-c", become, *words, prefix=inside, environment=self.environment)
        self._stack.callback(end, process)
        self.running[name] = process
        self.prints(name, output)
        if words[0] == "uvicorn":  # its workers say that they have started just before they listen
            port = int(self._ports["8000"])
            eventually(lambda: listens(port), f"{command} listens")

    def prints(self, name: str, output: str) -> None:
        """Wait until a command that goes on has printed some lines. Others may come between them."""
        for line in output.splitlines():
            parts = _VARIES.sub("\0", self.at(line)).split("\0")
            self.running[name].wait_for("^" + ".*".join(map(re.escape, parts)) + "$")

    def stop(self, name: str) -> None:
        process = self.running.pop(name)
        process.signal(signal.SIGINT)
        assert process.wait() == 0, process.output()


def listens(port: int) -> bool:
    """Return whether a program listens on a port of loopback."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def end(process: Process) -> None:
    """End a command with SIGTERM, so that it ends its workers, or with SIGKILL."""
    if process.popen.poll() is None:
        process.signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.popen.wait(PATIENCE_S / 3)
    process.kill()


def at(broker: BrokerProcess | HereBroker, snippet: str) -> str:
    """Return a snippet with the addresses of a broker."""
    snippet = snippet.replace("tcp://127.0.0.1:5770", broker.players)
    return snippet.replace("tcp://127.0.0.1:5771", broker.backend)


def run_piece(code: str, here: HereBroker, names: dict[str, Any]) -> None:
    """Run a snippet with a `server` and a `player`, those of ringback.aio if the snippet awaits something.

    The player starts first, so that the server knows it from the beginning.

    Args:
        names: the global names of the snippet. Those of its module are among them.
    """
    compiled = compile(code, "snippet", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if compiled.co_flags & inspect.CO_COROUTINE:

        async def run() -> None:
            async with (
                ringback.aio.Player(here.players, 7) as names["player"],
                ringback.aio.Server(here.backend) as names["server"],
            ):
                await eval(compiled, names)

        asyncio.run(run())
    elif "Broker(" in code:  # the snippet makes its own endpoints
        exec(compiled, names)
    else:
        with (
            ringback.Player(here.players, 7) as names["player"],
            ringback.Server(here.backend) as names["server"],
        ):
            exec(compiled, names)
