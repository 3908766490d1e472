"""`ringback doctor` as a process, with and without a broker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.harness import BrokerProcess
from support.keyring import KeyRing

from ringback.credentials import write_key_pair
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


def test_doctor_without_a_broker(command: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    environment = {"RINGBACK_BACKEND": f"ipc://{tmp_path}/nobody"}
    code, output, _ = command("doctor", "--timeout", "1", environment=environment).end()
    assert code == Exit.OK  # a broker need not run
    [row] = [line for line in output.splitlines() if line.startswith("broker ")]
    assert "warning" in row and "no broker answered" in row
