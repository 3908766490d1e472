"""`ringback players`, `callbacks`, `stats`, `ping` and `doctor` as processes, at a real broker."""

from __future__ import annotations

import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from support.harness import BrokerProcess, eventually
from support.keyring import KeyRing
from support.terminals import Terminal

from ringback import CallbackError, Player, Server
from ringback.credentials import write_key_pair
from ringback_cli.exits import Exit


def table(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines()]


def test_players(shop: Any) -> None:
    code, output, errors = shop.run("players")
    assert (code, errors) == (Exit.OK, "")
    head, *rows = output.splitlines()
    assert head.split("  ")[0] == "player" and re.search(r"window used % +calls +errors +rtt ms$", head)
    assert [row.split()[0] for row in rows] == ["7", '"7"', "other"]
    code, output, _ = shop.run("players", "--json")
    found = json.loads(output)
    assert code == Exit.OK
    assert [list(row) for row in found] == [
        [
            *("player", "connected_s", "callbacks", "ip", "identity", "heard_s", "window_percent"),
            *("calls", "errors", "rtt_ms"),
        ]
    ] * 3
    assert [row["player"] for row in found] == [7, "7", "other"]
    for row in found:
        assert (row["ip"], row["identity"]) == ("127.0.0.1", None)
        assert 0 <= row["heard_s"] <= row["connected_s"] and 0 <= row["window_percent"] < 50
        assert 0 <= row["errors"] <= row["calls"] and 0 < row["rtt_ms"] < 1000


def test_players_with_keys(tmp_path: Path, command: Any) -> None:
    ring = KeyRing(tmp_path)
    anna = ring.add("anna", "player", 7)
    cli = write_key_pair(ring.add("cli", "operator"), tmp_path)
    with BrokerProcess(options=ring.options) as broker, Player(broker.players, key_file=anna):
        arguments = ("--backend", broker.backend, "--key-file", str(cli))
        _, output, _ = command("players", "--json", *arguments).end()
        [row] = json.loads(output)
        assert (row["player"], row["identity"]) == (7, "anna")


def test_callbacks(shop: Any) -> None:
    code, output, errors = shop.run("callbacks")
    assert (code, errors) == (Exit.OK, "")
    head, *rows = table(output)
    assert " ".join(head) == "key side endpoints in flight calls errors a second p50 ms p99 ms"
    assert ["seven", "player", "2"] in [row[:3] for row in rows]
    assert ["echo", "server", "1"] in [row[:3] for row in rows]
    _, output, _ = shop.run("callbacks", "--json")
    found = {(row["key"], row["side"]): row for row in json.loads(output)}
    assert found["where", "player"]["endpoints"] == 2


def test_callbacks_tell_how_calls_went(command: Any) -> None:
    with BrokerProcess() as broker, Server(broker.backend) as server, Player(broker.players, 7) as player:
        where = {"RINGBACK_BACKEND": broker.backend}
        server.register_server_callback("echo", lambda source, payload: payload)
        player.register_client_callback("invert", lambda payload: 1 / payload)
        for number in range(20):
            player.trigger_server_callback("echo", number).result()
        with pytest.raises(CallbackError):
            player.trigger_server_callback("nope").result()
        code, output, _ = command("trigger", "client", "invert", "7", "0", environment=where).end()
        assert code == Exit.HANDLER_ERROR

        def listed() -> dict[str, dict[str, Any]]:
            rows = json.loads(command("callbacks", "--json", environment=where).end()[1])
            return {f"{row['key']} {row['side']}": row for row in rows}

        eventually(lambda: listed()["echo server"]["calls"] == 20, "the report of the server")
        found = listed()
        echo = found["echo server"]
        assert (echo["errors"], echo["in_flight"]) == (0, 0) and echo["rate"] > 0.3
        assert 0 < echo["p50_ms"] <= echo["p99_ms"] < 10_000
        assert (found["(others) server"]["calls"], found["(others) server"]["errors"]) == (1, 1)
        inverted = found["invert player"]  # told by a command that has ended
        assert (inverted["calls"], inverted["errors"], inverted["p50_ms"]) == (1, 1, None)
        code, output, _ = command("explain", "callback", "echo", environment=where).end()
        assert code == Exit.OK and "20 calls have ended, 0 of them with an error; 0 are in flight" in output
        assert re.search(r"in the last minute \S+ calls a second; 50 of 100 took \S+ ms at most", output)
        _, output, _ = command("explain", "player", "7", environment=where).end()
        assert "22 of its calls have ended, 2 of them with an error; a packet takes" in output


def test_events(command: Any) -> None:
    with BrokerProcess() as broker:
        where = {"RINGBACK_BACKEND": broker.backend}
        with Player(broker.players, 7), Player(broker.players, "7"):
            following = command("events", "--player", "7", "--follow", environment=where)
            assert b"joined  player  7  127.0.0.1" in following.popen.stdout.readline()
            code, output, errors = command("events", environment=where).end()
            assert (code, errors) == (Exit.OK, "")
            head, *rows = output.splitlines()
            assert head.split()[:4] == ["time", "(UTC)", "event", "role"]
            assert [row.split()[2:5] for row in rows if " player " in row] == [
                ["joined", "player", "7"],
                ["joined", "player", '"7"'],
            ]
        assert b"left  player  7  127.0.0.1  it said BYE" in following.popen.stdout.readline()
        following.popen.send_signal(signal.SIGINT)
        assert following.end()[0] == Exit.INTERRUPTED
        arguments = ("events", "--json", "--last", "1", "--player", "7", "--string-id")
        code, output, _ = command(*arguments, environment=where).end()
        found = json.loads(output)
        assert (found["event"], found["player"], found["reason"]) == ("left", "7", "it said BYE")


def test_explain_a_player(command: Any) -> None:
    with BrokerProcess() as broker:
        where = {"RINGBACK_BACKEND": broker.backend}
        player = Player(broker.players, 7)
        player.register_client_callback("where", lambda payload: None)
        with player, Player(broker.players, 8):
            code, output, errors = command("explain", "player", "7", environment=where).end()
            assert (code, errors) == (Exit.OK, "")
            lines = output.splitlines()
            assert re.fullmatch(r"player 7 is connected for \d+ s, from 127\.0\.0\.1", lines[0])
            assert lines[1] == "it has registered 1 callbacks"
            assert lines[-1].endswith("UTC joined 127.0.0.1 (ringback-python/0.1.0)")
            _, output, _ = command("explain", "player", "8", environment=where).end()
            assert "it has registered 0 callbacks: calls end with UNKNOWN_CALLBACK" in output
            arguments = ("explain", "player", "7", "--string-id", "--json")
            code, output, _ = command(*arguments, environment=where).end()
            found = json.loads(output)
            assert code == Exit.UNKNOWN_PLAYER and (found["player"], found["works"]) == ("7", False)
            assert "player 7 is connected: an int and a str are two IDs" in found["because"]
        code, output, _ = command("explain", "player", "7", environment=where).end()
        assert code == Exit.UNKNOWN_PLAYER
        assert output.splitlines()[0].startswith("player 7 is not connected")
        assert output.endswith("UTC left 127.0.0.1 (it said BYE)\n")
        code, output, _ = command("explain", "player", "9", environment=where).end()
        assert "nothing has happened to it that the broker remembers" in output


def test_explain_a_callback(shop: Any) -> None:
    code, output, errors = shop.run("explain", "callback", "echo")
    assert (code, errors) == (Exit.OK, "")
    assert output.splitlines()[0] == "the server has registered 'echo'"
    code, output, _ = shop.run("explain", "callback", "seven")
    assert output.splitlines()[0] == "2 players have registered 'seven'"
    code, output, _ = shop.run("explain", "callback", "ecko")
    assert code == Exit.UNKNOWN_CALLBACK
    assert output.splitlines()[:2] == [
        "nobody has registered 'ecko': its calls fail with UNKNOWN_CALLBACK, or NO_SERVER",
        "is it 'echo'?",
    ]
    code, output, _ = shop.run("explain", "callback", "echo", "--json")
    assert json.loads(output)["works"] is True


def test_explain_without_a_server(command: Any) -> None:
    with BrokerProcess() as broker:
        where = {"RINGBACK_BACKEND": broker.backend}
        code, output, _ = command("explain", "callback", "k", environment=where).end()
        assert code == Exit.UNKNOWN_CALLBACK and "no server with callbacks is connected" in output


def test_stats(shop: Any) -> None:
    code, output, errors = shop.run("stats")
    assert (code, errors) == (Exit.OK, "")
    head, *rows = table(output)
    counted = dict(rows)
    assert head == ["counter", "total"]
    assert int(counted["sessions_begun"]) >= 4 and counted["refused_full"] == "0"
    _, output, _ = shop.run("stats", "--json")
    assert list(json.loads(output)["counters"]) == list(counted)


def test_stats_again_and_again(shop: Any) -> None:
    code, output, errors = shop.run("stats", "--interval", "0.1", "--count", "3", "--json")
    assert (code, errors) == (Exit.OK, "")
    first, second, third = map(json.loads, output.splitlines())
    assert list(first) == ["counters"] and list(second) == ["counters", "a_second"]
    assert third["a_second"]["sessions_begun"] == 0.0  # nobody comes between: it asks over one link
    command = shop.start("stats", "--interval", "60")
    assert command.popen.stdout.readline().split() == [b"counter", b"total"]
    command.popen.send_signal(signal.SIGINT)
    code, _, errors = command.end()
    assert (code, errors) == (Exit.INTERRUPTED, "")


def test_stats_of_a_broker_that_dies(command: Any) -> None:
    with BrokerProcess() as broker:
        looking = command("stats", "--interval", "0.1", "--backend", broker.backend, "--timeout", "5")
        assert looking.popen.stdout.readline()
        broker.process.kill()
        code, _, errors = looking.end()
    assert code == Exit.CONNECTION_LOST and errors.count("\n") == 1


def test_ping(shop: Any) -> None:
    code, output, errors = shop.run("ping", "--count", "20")
    assert (code, errors) == (Exit.OK, "")
    head, row = table(output)
    assert " ".join(head) == "broker round trips min ms p50 ms p90 ms p99 ms max ms"
    assert row[:2] == [shop.broker.backend, "20"]
    times = list(map(float, row[2:]))
    assert times == sorted(times) and times[0] > 0
    _, output, _ = shop.run("ping", "--count", "1", "--json")
    found = json.loads(output)
    [only] = found["round_trips_ms"]
    assert [found[f"{name}_ms"] for name in ("min", "p50", "p90", "p99", "max")] == [only] * 5


def test_a_terminal_has_a_table_as_wide_as_it_is(shop: Any) -> None:
    command = (sys.executable, "-m", "ringback_cli", "callbacks")
    with Terminal(*command, environment=shop.environment, size=(24, 80)) as terminal:
        assert terminal.end() == Exit.OK
    lines = re.sub(r"\x1b\[[0-9;]*m", "", terminal.shown).splitlines()
    assert max(map(len, lines)) <= 80 and any("\u2500" in line for line in lines)


def test_what_others_name_is_printed_as_text(command: Any) -> None:
    """Keys and IDs with what a terminal, or rich, would take for more than text."""
    odd = "[bold]x[/bold]\x1b[31m\n:smile:"
    with BrokerProcess() as broker:
        player = Player(broker.players, odd)
        player.register_client_callback(odd, lambda payload: None)
        with player:
            for name in ("players", "callbacks"):
                code, output, _ = command(name, "--backend", broker.backend).end()
                assert code == Exit.OK and output.count("\n") == 2
                assert "[bold]x[/bold]\\x1b[31m\\n:smile:" in output
                code, output, _ = command(name, "--json", "--backend", broker.backend).end()
                assert json.loads(output)[0]["player" if name == "players" else "key"] == odd


def test_doctor_on_what_is_well(tmp_path: Path, command: Any) -> None:
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
        *("extra tokens", "extra metrics", "extra tracing", "clock", "settings"),
        *("descriptors", "key_file", "access", "broker"),
    ]
    assert {row["verdict"] for name, row in found.items() if name != "clock"} == {"ok"}
    assert found["settings"]["found"] == str(path) and found["access"]["found"].endswith(", 1 keys")
    assert "0 players" in found["broker"]["found"]


def test_doctor_on_what_is_not(tmp_path: Path, command: Any) -> None:
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
        told = found["key_file"]["verdict"], found["access"]["verdict"], found["broker"]["verdict"]
        assert told[:2] == ("failed", "failed") and told[2] in ("failed", "warning")  # it wants keys
    path.write_text("lease = 0\n")
    code, output, errors = command("doctor", "--config", str(path)).end()
    assert (code, errors) == (Exit.FAILED, "")
    assert "settings" in output and "lease: a number of seconds above 0" in output


def test_doctor_without_a_broker(command: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    environment = {"RINGBACK_BACKEND": f"ipc://{tmp_path}/nobody"}
    code, output, _ = command("doctor", "--timeout", "1", environment=environment).end()
    assert code == Exit.OK  # it need not run
    [row] = [line for line in output.splitlines() if line.startswith("broker ")]
    assert "warning" in row and "no broker answered" in row
