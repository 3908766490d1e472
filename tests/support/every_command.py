"""Run commands in one process: each of the command line, with arguments with which it has something to do.

python tests/support/every_command.py FOLDER [COMMAND ...]

It prints a line of JSON: the exit code of each command, and what it wrote to standard error. A broker, a
server that has registered `echo`, and player 7 who has registered `where` must be there.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from ringback_cli.app import application, run

EVERY = {
    "broker": "--players tcp://127.0.0.1:0 --backend tcp://127.0.0.1:0",
    "players": "",
    "callbacks": "",
    "events": "",
    "explain": "player 7",
    "tap": "--count 1 --timeout 0.1",
    "stats": "",
    "top": "--count 1",
    "ping": "--count 1",
    "doctor": "",
    "bench": "--seconds 0.1 --in-flight 1",
    "completion": "bash",
    "config show": "",
    "config check": "ringback.toml",
    "config schema": "",
    "trigger server": "echo 5 --source 7",
    "trigger client": "where 7 5",
    "trigger all": "where 5",
    "keys init": "--id 7",
    "keys new": "anna --role player --id 7",
    "keys allow": "anna.key",
    "keys revoke": "anna",
    "keys list": "",
    "token new": "backend",
    "token mint": "--key backend.key --id 7 --ttl 60s",
    "token show": "",
    "realm create": "main --cluster nats://127.0.0.1:1",
    "nodes drain": "nowhere",
    "kick": "99",
    "hand-over": "",
    "drain": "",
}
"""The arguments of each command."""


def names() -> Iterator[str]:
    """Yield the words of all commands that are no groups."""

    def walk(command: Any, words: list[str]) -> Iterator[str]:
        children = getattr(command, "commands", None)
        if children is None:
            yield " ".join(words)
        for name, child in (children or {}).items():
            yield from walk(child, [*words, name])

    return walk(typer.main.get_command(application()), [])


def run_each(folder: str, commands: list[str]) -> None:
    """Run commands in a folder, and print how they ended."""
    os.chdir(folder)
    for name in ("ringback.toml", "access.toml"):
        Path(name).touch()
    found = {}
    for command in commands:
        output, errors = (io.TextIOWrapper(io.BytesIO()) for _ in range(2))
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            code = run([*command.split(), *EVERY[command].split()])
        errors.seek(0)
        found[command] = code, errors.read()
    print(json.dumps(found))


if __name__ == "__main__":
    run_each(sys.argv[1], sys.argv[2:] or list(EVERY))
