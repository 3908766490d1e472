"""`ringback doctor` as a process, with and without a broker."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.harness import ENVIRONMENT, PATIENCE_S, BrokerProcess
from support.keyring import KeyRing

from ringback.credentials import write_key_pair
from ringback.extras import install_command
from ringback_cli.exits import Exit


def test_doctor_without_problems(tmp_path: Path, command: Any) -> None:
    ring = KeyRing(tmp_path)
    cli = write_key_pair(ring.add("cli", "operator"), tmp_path)
    with BrokerProcess(options=ring.options) as broker:
        path = tmp_path / "ringback.toml"
        path.write_text(
            f"backend = '{broker.backend}'\nmax_players = 100\n"
            "key_file = 'broker.key'\naccess = 'access.toml'\n"
        )
        code, output, errors = command(
            "doctor", "--config", str(path), "--key-file", str(cli), "--json"
        ).end()
    assert (code, errors) == (Exit.OK, "")
    found = {row["what"]: row for row in json.loads(output)}
    assert list(found) == [
        *("python", "libzmq", "ringback"),
        *("extra broker", "extra tokens", "extra metrics", "extra cluster", "extra typed", "extra tracing"),
        *("clock", "settings"),
        *("descriptors", "key_file", "access", "broker"),
    ]
    assert {row["verdict"] for name, row in found.items() if name != "clock"} == {"ok"}
    assert found["settings"]["found"] == str(path) and found["access"]["found"].endswith(", 1 keys")
    assert "0 players" in found["broker"]["found"]


def test_doctor_asks_each_broker_that_it_is_given(command: Any) -> None:
    with BrokerProcess() as one, BrokerProcess() as two:
        brokers = [one.backend, "tcp://127.0.0.1:1", two.backend]
        code, output, errors = command(
            "doctor", "--backend", ",".join(brokers), "--json", "--timeout", "5"
        ).end()
    assert (code, errors) == (Exit.OK, "")
    found = [row for row in json.loads(output) if row["what"] == "broker"]
    assert [row["verdict"] for row in found] == ["ok", "warning", "ok"]
    assert all(broker in row["found"] for broker, row in zip(brokers, found, strict=True))


def test_doctor_asks_the_brokers_that_endpoints_have(command: Any) -> None:
    with BrokerProcess() as one, BrokerProcess() as two:
        brokers = [one.backend, two.backend]
        where = {"RINGBACK_BACKEND": ",".join(brokers), "RINGBACK_PLAYERS": f"{one.players},{two.players}"}
        code, output, errors = command("doctor", "--json", environment=where).end()
    assert (code, errors) == (Exit.OK, "")
    rows = json.loads(output)
    assert [row["found"].split(" ")[0] for row in rows if row["what"] == "broker"] == brokers
    [settings] = [row for row in rows if row["what"] == "settings"]
    assert settings["verdict"] == "ok" and "RINGBACK_PLAYERS and RINGBACK_BACKEND" in settings["found"]


def test_doctor_with_problems(tmp_path: Path, command: Any) -> None:
    path, key, access = tmp_path / "ringback.toml", tmp_path / "broker.key", tmp_path / "access.toml"
    ring = KeyRing(tmp_path)
    with BrokerProcess(options=ring.options) as broker:
        key.chmod(0o644)
        access.write_text("[[key]]\nname = 5\n")
        path.write_text(f"backend = '{broker.backend}'\nkey_file = '{key}'\naccess = '{access}'\n")
        code, output, errors = command("doctor", "--config", str(path), "--json", "--timeout", "5").end()
        found = {row["what"]: row for row in json.loads(output)}
        assert (code, errors) == (Exit.FAILED, "")
        assert "chmod 600" in found["key_file"]["found"] and "[[key]] 1" in found["access"]["found"]
        # The broker may refuse the command, which has no key, or not answer it.
        told = found["key_file"]["verdict"], found["access"]["verdict"], found["broker"]["verdict"]
        assert told[:2] == ("failed", "failed") and told[2] in (
            "failed",
            "warning",
        )
    path.write_text("lease = 0\n")
    code, output, errors = command("doctor", "--config", str(path)).end()
    assert (code, errors) == (Exit.FAILED, "")
    assert "settings" in output and "lease: a number of seconds above 0" in output


def verdicts(output: str) -> dict[str, tuple[str, str]]:
    return {row["what"]: (row["verdict"], row["found"]) for row in json.loads(output)}


def test_files_that_are_missing_are_said_to_be_missing(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = ("key_file", "access", "dashboard_key_file", "http_token_file", "nats_credentials", "nats_ca")
    lines = [f"{name} = 'no-{name}'" for name in files]
    lines += ["http = '127.0.0.1:0'", "dashboard = true", "cluster = 'nats://127.0.0.1:1'"]
    Path("ringback.toml").write_text("\n".join([*lines, f"backend = 'ipc://{tmp_path}/nobody'"]))
    code, output, errors = command("doctor", "--key-file", "mine.key", "--json", "--timeout", "1").end()
    assert (code, errors) == (Exit.FAILED, "")
    found = verdicts(output)
    for name in files:
        assert found[name] == ("missing", f"the file no-{name} does not exist")
    assert found["--key-file"] == ("missing", "the file mine.key does not exist")
    assert found["broker"][0] == "failed" and "not asked: --key-file: mine.key" in found["broker"][1]
    rows = [row["what"] for row in json.loads(output)]
    assert len(rows) == len(set(rows)), "a missing file is one finding"


def test_settings_that_are_missing(command: Any, tmp_path: Path) -> None:
    code, output, _ = command("doctor", "--config", "no.toml", "--json", "--timeout", "1").end()
    assert code == Exit.FAILED and verdicts(output)["settings"] == (
        "missing",
        "the file no.toml does not exist",
    )
    environment = {
        "RINGBACK_BROKER_KEY_FILE": "broker.key",
        "RINGBACK_CONFIG": str(tmp_path / "ringback.toml"),
    }
    (tmp_path / "ringback.toml").touch()
    code, output, _ = command("doctor", "--json", "--timeout", "1", environment=environment).end()
    verdict, reason = verdicts(output)["settings"]
    assert code == Exit.FAILED and verdict == "failed" and reason.endswith("and access is missing")


def test_extras_that_are_missing_are_no_failure(tmp_path: Path) -> None:
    """Each extra looks as if its packages were not installed."""
    code = """
import sys
from importlib import metadata
version = metadata.version
def hide(name):
    if name != "ringback":
        raise metadata.PackageNotFoundError(name)
    return version(name)
metadata.version = hide
from ringback_cli.app import run
sys.exit(run(sys.argv[1:]))
"""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            "doctor",
            "--json",
            "--timeout",
            "1",
            "--backend",
            f"ipc://{tmp_path}/no",
        ],
        env=ENVIRONMENT,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (Exit.OK, "")
    extras = {row["what"]: row for row in json.loads(done.stdout) if row["what"].startswith("extra ")}
    assert {row["verdict"] for row in extras.values()} == {"missing"}
    assert extras["extra broker"]["found"] == "rich is not installed, tomlkit is not installed"
    assert extras["extra typed"]["advice"] == f"if you want it: {install_command('typed')}"


def test_doctor_without_a_broker(command: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    environment = {"RINGBACK_BACKEND": f"ipc://{tmp_path}/nobody"}
    code, output, _ = command("doctor", "--timeout", "1", environment=environment).end()
    assert code == Exit.OK  # a broker need not run
    [row] = [line for line in output.splitlines() if line.startswith("broker ")]
    assert "warning" in row and "no broker answered" in row
