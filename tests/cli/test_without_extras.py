"""Commands in an environment without any extra: they work, or say in one line what to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from support.harness import ENVIRONMENT, PATIENCE_S

from ringback.extras import install_command
from ringback_cli.app import app
from ringback_cli.exits import Exit

HIDDEN = (
    *("rich", "tomlkit", "jwt", "cryptography", "prometheus_client", "starlette", "uvicorn"),
    *("opentelemetry", "nats", "nkeys", "uvloop"),
)
"""What extras install. pydantic is not here, because some versions of typer need it."""

WITHOUT_EXTRAS = f"""
import sys
from importlib.abc import MetaPathFinder

class Hiding(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HIDDEN!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hiding())
from ringback_cli.app import run
sys.exit(run(sys.argv[1:]))
"""

TABLES = f"USAGE: tables need rich (--json does not): {install_command('broker')}\n"
ACCESS = f"USAGE: editing the access list needs tomlkit: {install_command('broker')}\n"
TOKENS = f"USAGE: tokens need PyJWT and cryptography: {install_command('tokens')}\n"
CLUSTER = f"USAGE: --cluster: nats is not installed: {install_command('cluster')}\n"
KEY = "0" * 40


def run(*arguments: str, cwd: Path, environment: dict[str, str] | None = None) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, *arguments],
        cwd=cwd,
        env={**ENVIRONMENT, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def commands() -> list[list[str]]:
    """Return the words of all commands and groups."""
    found: list[list[str]] = [[]]

    def walk(command: Any, words: list[str]) -> None:
        for name, child in getattr(command, "commands", {}).items():
            found.append([*words, name])
            walk(child, [*words, name])

    walk(typer.main.get_command(app), [])
    return found


def test_help_needs_no_extra(tmp_path: Path) -> None:
    """All commands in one process: each `--help` is a run of its own."""
    code = WITHOUT_EXTRAS.replace(
        "sys.exit(run(sys.argv[1:]))",
        f"assert [run([*words, '--help']) for words in {commands()!r}] == [0] * {len(commands())}",
    )
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, cwd=tmp_path, check=False)
    assert done.returncode == 0
    assert len(commands()) > 25


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["config", "show"], TABLES),
        (["doctor", "--timeout", "0.1"], TABLES),
        (["keys", "allow", KEY, "--name", "a", "--role", "operator"], ACCESS),
        (["keys", "revoke", "a"], ACCESS),
        (["token", "new", "backend"], TOKENS),
        (["token", "show"], TOKENS),
        (["realm", "create", "main", "--cluster", "nats://127.0.0.1"], CLUSTER),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_a_command_whose_extra_is_missing(arguments: list[str], line: str, tmp_path: Path) -> None:
    (tmp_path / "access.toml").touch()
    assert run(*arguments, cwd=tmp_path) == (Exit.USAGE, "", line)
    assert (tmp_path / "access.toml").read_text() == ""


def test_what_needs_no_extra(tmp_path: Path) -> None:
    for arguments in (
        ["config", "show", "--json"],
        ["config", "schema"],
        ["keys", "new", "a", "--role", "server"],
    ):
        code, output, errors = run(*arguments, cwd=tmp_path)
        assert (code, errors) == (Exit.OK, "") and output
    assert run("keys", "list", cwd=tmp_path)[2].startswith("USAGE: --access: the file")


def test_commands_at_a_broker(shop: Any, tmp_path: Path) -> None:
    def at_broker(*arguments: str) -> tuple[int, str, str]:
        return run(*arguments, cwd=tmp_path, environment=shop.environment)

    assert at_broker("trigger", "server", "echo", "5", "--source", "7") == (Exit.OK, "[7, 5]\n", "")
    for arguments in (["players"], ["callbacks"], ["events"], ["stats"], ["ping"], ["top", "--count", "1"]):
        code, _, errors = at_broker(*arguments)
        assert (code, errors) == (Exit.USAGE, TABLES), arguments
        code, output, errors = at_broker(*arguments, "--json")
        assert (code, errors) == (Exit.OK, "") and output, arguments


def test_a_node_whose_extra_is_missing(tmp_path: Path) -> None:
    addresses = ["--players", "tcp://127.0.0.1:0", "--backend", "tcp://127.0.0.1:0"]
    code, output, errors = run("broker", *addresses, "--cluster", "nats://127.0.0.1", cwd=tmp_path)
    assert (code, output, errors) == (Exit.USAGE, "", CLUSTER)


@pytest.mark.parametrize(("options", "extra"), [([], "metrics"), (["--dashboard"], "dashboard")])
def test_a_broker_whose_extra_is_missing(options: list[str], extra: str, tmp_path: Path) -> None:
    addresses = ["--players", "tcp://127.0.0.1:0", "--backend", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0"]
    code, output, errors = run("broker", *addresses, *options, cwd=tmp_path)
    assert (code, output) == (Exit.USAGE, "")
    line = errors.splitlines()[-1]
    assert line.startswith("USAGE: --http: ")
    assert line.endswith(f" is not installed: {install_command(extra)}")
