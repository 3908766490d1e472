"""`ringback config`, and the settings of a broker process: their sources, and how they change."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from support.harness import BrokerProcess, eventually

from ringback import Operator, Player, Refused
from ringback_broker.settings.schema import SETTINGS, json_schema
from ringback_cli.app import run
from ringback_cli.exits import Exit

ANY = ("--players", "tcp://127.0.0.1:0", "--backend", "tcp://127.0.0.1:0")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for setting in SETTINGS.values():
        monkeypatch.delenv(setting.variable, raising=False)
    return tmp_path / "ringback.toml"


def test_show(file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("lease = 10\ngrace = 11\n")
    monkeypatch.setenv("RINGBACK_GRACE", "21")
    assert run(["config", "show", "--hello", "31"]) == Exit.OK
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["setting", "value", "unit", "from", "on", "SIGHUP"]
    assert [row[0] for row in rows[1:]] == list(SETTINGS)
    for row in (
        ["lease", "10.0", "SECONDS", "ringback.toml"],
        ["grace", "21.0", "SECONDS", "RINGBACK_GRACE", "reloads"],
        ["hello", "31.0", "SECONDS", "--hello", "reloads"],
        ["key_file", "-", "FILE", "default"],
        ["insecure", "no", "default"],
    ):
        assert row in rows
    assert run(["config", "show", "--json"]) == Exit.OK
    found = {row["setting"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(found) == list(SETTINGS)
    assert (found["grace"]["value"], found["grace"]["from"]) == (21.0, "RINGBACK_GRACE")


def test_check(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text('lease = 10\nlog_format = "json"\n')
    assert run(["config", "check", "ringback.toml"]) == Exit.OK
    assert capsys.readouterr().out == "ringback.toml: 2 settings, all correct\n"
    file.write_text('lease = -1\nlog_format = "xml"\n')
    assert run(["config", "check", "ringback.toml"]) == Exit.USAGE
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "USAGE: ringback.toml: lease: a number of seconds above 0 and below 1e9 is allowed, not -1",
        "USAGE: ringback.toml: log_format: text or json is allowed, not 'xml'",
    ]


def test_schema(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "schema"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == json_schema()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["config"], "Usage: ringback config"),
        (["config", "check"], "Missing argument 'FILE'"),
        (["config", "check", "no.toml"], "USAGE: no.toml: No such file or directory\n"),
        (["config", "show", "--lease", "x"], "USAGE: --lease: a number of seconds"),
        (["config", "show", "--config", "no.toml"], "USAGE: no.toml: No such file"),
        (["broker", "--config", "no.toml"], "USAGE: no.toml: No such file"),
        (["broker", "--max-players", "0"], "USAGE: --max-players: a whole number from 1 to 999999999"),
        (["broker", "--http", "x"], "USAGE: --http: HOST:PORT is allowed"),
        (
            ["broker", *ANY, "--http", "0.0.0.0:0", "--http-token-file", "no"],
            "file: no: No such",
        ),
        (["broker", *ANY, "--http", "0.0.0.0:0", "--http-token-file", "."], "file: .: Is a dir"),
        (["broker", *ANY, "--http", "h:0", "--http-token-file", "short"], "at least 16 characters, not 5"),
        (["broker", *ANY, "--http", "h:0", "--http-token-file", "latin"], "latin: it is not ASCII"),
        (["config", "schema", "x"], "unexpected extra argument"),
    ],
)
def test_wrong_usage(file: Path, arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("short").write_text("short")
    Path("latin").write_bytes(b"\xe9" * 20)
    assert run(arguments) == Exit.USAGE
    shown = capsys.readouterr()
    assert shown.out == "" and part in shown.err
    assert arguments == ["config"] or shown.err.count("\n") == 1


def test_a_running_broker_reloads_its_settings(file: Path) -> None:
    file.write_text("max_players = 1\nlease = 50\n")
    with BrokerProcess(options=("--config", str(file), "--grace", "3")) as broker, Player(broker.players, 1):
        assert f"settings are read from {file}" in broker.process.lines[0]
        with pytest.raises(Refused, match="the limit of 1 players is reached"):
            Player(broker.players, 2).start()
        file.write_text('max_players = 2\nlease = 40\ngrace = 9\nlog_level = "debug"\n')
        broker.process.signal(signal.SIGHUP)
        broker.process.wait_for("settings were reloaded: log_level info -> debug, max_players 1 -> 2")
        broker.process.wait_for(r"these settings change after a restart: lease 50\.0 -> 40\.0")
        with Player(broker.players, 2), Operator(broker.backend) as operator:
            broker.process.wait_for("DEBUG ringback.broker joined operator")
            file.write_text("max_players = 0\n")
            broker.process.signal(signal.SIGHUP)
            broker.process.wait_for(
                r"not reloaded, and the old ones stay valid: .*ringback.toml: max_players: a whole"
            )
            with pytest.raises(Refused, match="the limit of 2 players is reached"):
                Player(broker.players, 3).start()
            file.unlink()
            broker.process.signal(signal.SIGHUP)
            broker.process.wait_for(
                "not reloaded, and the old ones stay valid: .*ringback.toml: No such file"
            )
            operator.ping().result()


def test_a_limit_of_descriptors_is_not_a_change(file: Path) -> None:
    """The broker lowers max_players if descriptors are few. A reload does not take that for a change."""
    file.write_text("max_players = 1000000\n")
    with BrokerProcess(options=("--config", str(file))) as broker:
        assert any("max_players is " in line for line in broker.process.lines)
        broker.process.signal(signal.SIGHUP)
        broker.process.wait_for("settings were reloaded: nothing has changed")


def test_a_signal_with_nothing_to_read() -> None:
    with BrokerProcess() as broker:
        broker.process.signal(signal.SIGHUP)
        broker.process.wait_for("there is nothing to reload: no settings file, no access list")


def test_a_new_rate_limit_holds_for_connected_players(file: Path) -> None:
    file.write_text("player_frames = 2\n")
    with BrokerProcess(options=("--config", str(file))) as broker, Player(broker.players, 1) as player:

        def one_after_the_other(count: int) -> set[str]:
            calls = (player.trigger_server_callback("x", timeout=5.0) for _ in range(count))
            errors = set()
            for call in calls:
                with pytest.raises(Exception) as caught:
                    call.result()
                errors.add(caught.value.code_name)
            return errors

        assert "RATE_LIMITED" in one_after_the_other(10)
        file.write_text("player_frames = inf\n")
        broker.process.signal(signal.SIGHUP)
        broker.process.wait_for("player_frames 2.0 -> inf")
        eventually(lambda: one_after_the_other(1) == {"NO_SERVER"}, "the new rate")
        assert one_after_the_other(50) == {"NO_SERVER"}


def test_a_log_of_objects() -> None:
    started = time.time()
    broker = BrokerProcess(options=("--log-format", "json"))
    with broker, Player(broker.players, 5):
        with pytest.raises(Refused):
            Player(broker.players, 5).start()
        broker.process.wait_for("ID_TAKEN")
    ready, joined, refused = [json.loads(line) for line in broker.process.lines]
    assert ready["logger"] == "ringback.broker" and ready["message"].startswith("ready players=tcp://")
    assert ready["time"][:4] == time.strftime("%Y", time.gmtime(started))
    assert joined["level"] == "INFO" and (joined["event"], joined["role"], joined["player"]) == (
        *("joined", "player"),
        5,
    )
    assert refused["level"] == "WARNING" and (refused["event"], refused["code"]) == ("refused", "ID_TAKEN")


def test_the_document_lists_the_settings() -> None:
    document = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()
    rows = ["| setting | option | variable | default | |", "|---|---|---|---|---|"]
    for setting in SETTINGS.values():
        unit = f" {setting.kind.metavar}" if setting.kind.metavar else ""
        default = "" if setting.default in (None, False) else f"`{setting.default}`"
        reloads = "" if setting.about.reloads else " *"
        rows.append(
            f"| `{setting.name}`{reloads} | `{setting.option}{unit}` | `{setting.variable}` | {default} |"
            f" {setting.about.text} |"
        )
    table = "\n".join(rows)
    assert table in document, f"replace the table of docs/cli.md by:\n{table}"
