"""Commands in an environment without any extra: they work, or say in one line what to install."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import every_command
from support.harness import ENVIRONMENT, PATIENCE_S, BrokerProcess
from support.terminals import Terminal

from ringback.extras import install_command
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

LIVE = f"USAGE: the live table needs rich (--count N and --json do not): {install_command('broker')}\n"
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


def test_help_needs_no_extra(tmp_path: Path) -> None:
    """All commands in one process: each `--help` is a run of its own."""
    commands = ["", "config", "trigger", "keys", "token", "realm", "nodes", *every_command.names()]
    code = WITHOUT_EXTRAS.replace(
        "sys.exit(run(sys.argv[1:]))",
        f"assert [run([*words.split(), '--help']) for words in {commands!r}] == [0] * {len(commands)}",
    )
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, cwd=tmp_path, check=False)
    assert done.returncode == 0


def test_each_command(shop: Any, tmp_path: Path) -> None:
    """It works, or says in one line what to install. `broker` and `bench` have tests of their own.

    Other tests use the shop too, so its broker must not drain.
    """
    commands = [command for command in every_command.EVERY if command not in ("broker", "bench", "drain")]
    code = WITHOUT_EXTRAS.replace("from ringback_cli", "import runpy\nfrom ringback_cli").replace(
        "sys.exit(run(sys.argv[1:]))",
        f"sys.argv[0] = {every_command.__file__!r}\nrunpy.run_path(sys.argv[0], run_name='__main__')",
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), *commands],
        env={**ENVIRONMENT, **shop.environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    ended = {command: tuple(end) for command, end in json.loads(done.stdout).items()}
    edits = ("keys init", "keys allow", "keys revoke")
    works = set(ended) - {*edits, "token new", "token mint", "token show"}
    works -= {"realm create"}
    assert {command: end for command, end in ended.items() if command not in works} == {
        **dict.fromkeys(edits, (Exit.USAGE, ACCESS)),
        **dict.fromkeys(("token new", "token show"), (Exit.USAGE, TOKENS)),
        "token mint": (Exit.USAGE, "USAGE: --key: backend.key: No such file or directory\n"),
        "realm create": (Exit.USAGE, CLUSTER),
    }
    assert {command: ended[command][0] for command in works if ended[command][0] != Exit.OK} == {
        "tap": Exit.TIMEOUT,
        "trigger all": Exit.SOME_FAILED,
        "nodes drain": Exit.UNKNOWN_NODE,
        "kick": Exit.UNKNOWN_PLAYER,
        "hand-over": Exit.NO_SERVER,
    }


def test_bench_and_drain_need_no_extra(tmp_path: Path) -> None:
    with BrokerProcess() as broker:
        addresses = ("--players", broker.players, "--backend", broker.backend)
        code, output, errors = run("bench", "--seconds", "0.1", "--in-flight", "1", *addresses, cwd=tmp_path)
        assert (code, errors) == (Exit.OK, "") and "server CPU us" in output
        assert run("drain", "--backend", broker.backend, cwd=tmp_path)[0] == Exit.OK


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["keys", "init"], ACCESS),
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
    assert (tmp_path / "access.toml").read_text() == "" and not (tmp_path / "keys").exists()


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
        for as_json in ([], ["--json"]):
            code, output, errors = at_broker(*arguments, *as_json)
            assert (code, errors) == (Exit.OK, "") and output, arguments


def test_the_live_table_needs_an_extra(shop: Any, tmp_path: Path) -> None:
    environment = {**ENVIRONMENT, **shop.environment}
    with Terminal(sys.executable, "-c", WITHOUT_EXTRAS, "top", environment=environment) as terminal:
        assert terminal.end() == Exit.USAGE
        assert terminal.shown.replace("\r\n", "\n") == LIVE


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
