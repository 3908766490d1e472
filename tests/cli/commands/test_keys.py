"""`ringback keys`, and other commands at a broker with an access list."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zmq
from support.harness import PATIENCE_S, BrokerProcess
from support.keyring import KeyRing

from ringback import Player, Server, Unauthorized, __version__
from ringback.credentials import load_key_pair, write_key_pair
from ringback_broker.admission.access_list import AccessList
from ringback_cli import app
from ringback_cli.exits import Exit


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that runs `ringback keys` in a folder of its own.

    It returns the exit code, the value that was printed, and the line of the error.
    """
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("RINGBACK_"):
            monkeypatch.delenv(name)

    def run(*arguments: str) -> tuple[int, Any, str]:
        code = app.run(["keys", *arguments])
        shown = capsys.readouterr()
        return code, json.loads(shown.out) if shown.out else None, shown.err

    return run


def access(path: Path = Path("access.toml")) -> list[dict[str, Any]]:
    return AccessList.parse(path.read_text()).rows()


def test_new_allow_list_revoke(run: Any) -> None:
    _, made, _ = run("new", "broker", "--role", "broker")
    assert made == {"file": "broker.key", "public": load_key_pair("broker.key").public}
    assert stat.S_IMODE(Path("broker.key").stat().st_mode) == 0o600
    run("new", "anna", "--role", "player", "--id", "7", "--id", "anna", "--broker-key", made["public"])
    anna = load_key_pair("anna.key")
    assert (anna.role, anna.ids, anna.broker) == ("player", (7, "anna"), made["public"])
    assert run("allow", "anna.pub") == (Exit.OK, {"allowed": "anna", "access": "access.toml"}, "")
    assert anna.secret not in Path("access.toml").read_text()
    code, listed, _ = run("list", "--json")
    assert code == Exit.OK and listed == access()
    assert listed == [
        {"name": "anna", "role": "player", "public": anna.public, "ids": [7, "anna"], "note": ""}
    ]
    assert run("revoke", "anna")[:2] == (Exit.OK, {"revoked": "anna", "access": "access.toml"})
    assert access() == []


def test_the_access_list_keeps_comments_and_settings(run: Any) -> None:
    for name in ("shop", "other"):
        run("new", name, "--role", "server")
    Path("access.toml").write_text('# ours\naudience = "game"  # as the backend has it\n')
    Path("access.toml").chmod(0o640)
    run("allow", "shop.pub", "--note", 'the "big" one')
    run("allow", "other.pub")
    run("revoke", "shop")
    text = Path("access.toml").read_text()
    assert text.startswith('# ours\naudience = "game"  # as the backend has it\n')
    assert [row["name"] for row in access()] == ["other"]
    assert stat.S_IMODE(Path("access.toml").stat().st_mode) == 0o640
    assert sorted(path.name for path in Path().iterdir() if "access" in path.name) == ["access.toml"]


def test_a_public_key_without_its_file(run: Any) -> None:
    run("new", "x", "--role", "operator")
    public = load_key_pair("x.key").public
    code, _, line = run("allow", public, "--role", "operator")
    reason = "[[key]] 1: the name of a key pair must be a str, not NoneType"
    assert (code, line) == (Exit.USAGE, f"USAGE: {reason}\n")
    assert not Path("access.toml").exists()
    run("allow", public, "--name", "cli", "--role", "operator", "--no-sources", "--access", "other.toml")
    [row] = access(Path("other.toml"))
    assert (row["name"], row["role"], row["public"], row["sources"]) == ("cli", "operator", public, False)


def test_a_public_key_that_begins_with_a_minus(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make = zmq.curve_keypair
    minus = next(pair for pair in iter(make, None) if re.match(rb"-[A-Za-z]", pair[0]))
    public = minus[0].decode()
    code, _, line = run("allow", public, "--name", "other", "--role", "player")
    where = "see `ringback keys allow --help`. Put -- before an argument that begins with a minus"
    assert (code, line) == (Exit.USAGE, f"USAGE: No such option: {public[:2]}: {where}\n")
    assert run("allow", "--name", "other", "--role", "operator", "--", public)[0] == Exit.OK
    assert [row["public"] for row in access()] == [public]
    pairs = iter([minus, minus])
    monkeypatch.setattr(zmq, "curve_keypair", lambda: next(pairs, None) or make())
    _, made, _ = run("new", "ours", "--role", "player")
    assert not made["public"].startswith("-")


def test_allow_replaces_the_key_of_a_name(run: Any) -> None:
    run("new", "shop", "--role", "server")
    run("allow", "shop.pub")
    before = access()
    for path in ("shop.key", "shop.pub"):
        Path(path).unlink()
    run("new", "shop", "--role", "server")
    run("allow", "shop.pub")
    [row] = access()
    assert row["public"] == load_key_pair("shop.key").public != before[0]["public"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["new", "x", "--role", "king"],
            "the role of a key pair must be one of broker, server, operator, player",
        ),
        (["new", "a b", "--role", "server"], "the name of a key pair must be 1 to 64"),
        (["new", "../x", "--role", "server"], "the name of a key pair must be 1 to 64"),
        (["new", "x", "--role", "server", "--id", "7"], "only a player may have IDs, not a server"),
        (["new", "x", "--role", "player", "--id", "0"], "--id: a player ID must be from"),
        (
            ["new", "x", "--role", "server", "--broker-key", "x"],
            "40 characters of Z85, or the path of its .pub",
        ),
        (["new", "x", "--role", "server", "--dir", "none"], "none/x.key: No such file or directory"),
        (
            ["new", "taken", "--role", "server"],
            "taken.key exists already, and is not overwritten: choose another name",
        ),
        (["new", "x"], "Missing option '--role'"),
        (["allow", "none.pub"], "KEY: none.pub: No such file or directory"),
        (["allow", "short"], "KEY: it does not end with .pub, so it must be a public key, but a public key"),
        (["allow", "taken.pub", "--role", "player"], "a player needs ids"),
        (["allow", "taken.pub", "--id", "7"], "a server has no ids"),
        (["revoke", "nobody"], "the file access.toml does not exist; `ringback keys init` and"),
        (["list"], "the file access.toml does not exist; `ringback keys init` and"),
        (["list", "--access", "."], "--access: cannot read .: Is a directory\n"),
        (["list", "--access", "binary.toml"], "--access: binary.toml is not UTF-8: byte 3\n"),
        (["list", "--access", "odd.toml"], "odd.toml: it is not TOML"),
        (["allow", "taken.pub", "--access", "odd.toml"], "odd.toml is not TOML"),
        (["list", "--access", "wrong.toml"], "wrong.toml: the access list: 'kay' is unknown"),
        (["allow", "taken.pub", "--access", "wrong.toml"], "'kay' is unknown"),
    ],
)
def test_wrong_use(run: Any, arguments: list[str], message: str) -> None:
    run("new", "taken", "--role", "server")
    Path("odd.toml").write_text("[[")
    Path("binary.toml").write_bytes(b"a=\xff")
    Path("wrong.toml").write_text("kay = 5\n")
    before = sorted(Path().iterdir())
    code, _, line = run(*arguments)
    assert code == Exit.USAGE and line.startswith("USAGE: ") and line.count("\n") == 1
    assert message in line
    assert sorted(Path().iterdir()) == before
    assert Path("wrong.toml").read_text() == "kay = 5\n"


def test_revoke_an_unknown_name(run: Any) -> None:
    Path("access.toml").write_text("")
    assert run("revoke", "anna")[2].splitlines() == [
        "USAGE: access.toml has no key with the name 'anna'",
        "hint: `ringback keys list` prints all names",
    ]


def test_commands_at_a_broker_with_keys(tmp_path: Path, command: Any) -> None:
    ring = KeyRing(tmp_path)
    shop = ring.add("shop", "server")
    for name, role, ids in (("cli", "operator", ()), ("anna", "player", (7,))):
        write_key_pair(ring.add(name, role, *ids), tmp_path)
    with BrokerProcess(options=ring.options) as broker:
        where = {"RINGBACK_PLAYERS": broker.players, "RINGBACK_BACKEND": broker.backend}
        server = Server(broker.backend, key_file=shop)
        server.register_server_callback("who", lambda source, payload: source)
        with server:
            by_option = command("ping", "--key-file", str(tmp_path / "cli.key"), environment=where)
            assert by_option.end()[0] == Exit.OK
            by_environment = {**where, "RINGBACK_KEY_FILE": str(tmp_path / "cli.key")}
            code, output, _ = command("trigger", "server", "who", environment=by_environment).end()
            assert (code, output) == (Exit.OK, '"cli"\n')
            as_anna = ["trigger", "server", "who", "--as-player", "7", "--key-file"]
            code, output, _ = command(*as_anna, str(tmp_path / "anna.key"), environment=where).end()
            assert (code, output) == (Exit.OK, "7\n")
            code, _, line = command("players", environment=where).end()
            assert code in (Exit.REFUSED, Exit.NO_BROKER)
            assert "requires an encrypted link" in line or "require a key pair" in line
            code, _, line = command(*as_anna, str(tmp_path / "cli.key"), environment=where).end()
            assert (code, line) == (
                Exit.USAGE,
                "USAGE: --key-file: the key pair 'cli' has the role operator, not player\n",
            )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--players", "tcp://0.0.0.0:0"], "--players: other machines can reach tcp://0.0.0.0:0"),
        (["--key-file", "{0}/broker.key"], "--access: it and key_file go together"),
        (["--key-file", "{0}/none.key", "--access", "{0}/access.toml"], "--key-file: {0}/none.key: No such"),
        (["--key-file", "{0}/shop.key", "--access", "{0}/access.toml"], "is the key of a server, not of a"),
        (["--key-file", "{0}/broker.key", "--access", "{0}/none.toml"], "--access: {0}/none.toml: No such"),
        (["--key-file", "{0}/broker.key", "--access", "{0}/odd.toml"], "--access: {0}/odd.toml: it is not"),
    ],
)
def test_a_broker_with_wrong_settings(options: list[str], message: str, tmp_path: Path, command: Any) -> None:
    ring = KeyRing(tmp_path)
    write_key_pair(ring.make("shop", "server"), tmp_path)
    (tmp_path / "odd.toml").write_text("[[")
    given = [option.format(tmp_path) for option in options]
    code, _, line = command("broker", "--backend", "tcp://127.0.0.1:0", *given).end()
    assert code == Exit.USAGE and line.count("\n") == 1
    assert message.format(tmp_path) in line


def test_an_open_broker_warns_each_time() -> None:
    with BrokerProcess(players="tcp://0.0.0.0:0", options=("--insecure",)) as broker:
        assert any("INSECURE: anybody who can reach tcp://0.0.0.0:" in line for line in broker.process.lines)


def test_the_audit_log(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    anna = ring.add("anna", "player", 7)
    path = tmp_path / "audit.jsonl"
    path.write_text('{"event": "of an earlier run"}\n')
    ended = threading.Event()
    with BrokerProcess(options=(*ring.options, "--audit", str(path))) as broker:
        with pytest.raises(Unauthorized):
            Player(broker.players, 8, key_file=anna).start()
        with Player(broker.players, key_file=anna) as player:
            player.on_disconnected(lambda reason: ended.set())
            ring.list("odd", "[[key]]\nname = 5\n")
            broker.process.wait_for("was not reloaded")
            ring.remove("odd")
            broker.process.wait_for("was reloaded: 1 keys")
            ring.remove("anna")
            assert ended.wait(PATIENCE_S)
        broker.process.signal(signal.SIGTERM)
        assert broker.process.wait() == Exit.OK
    first, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert first == {"event": "of an earlier run"}
    for line in lines:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    who = {"role": "player", "player": 7, "identity": "anna", "ip": "127.0.0.1"}
    [refused, joined, odd, mended, revoked, left, *later] = lines
    assert refused == {
        "event": "refused",
        "ip": "127.0.0.1",
        "code": "UNAUTHORIZED",
        "reason": "'anna' may not be player 8",
    }
    assert joined == {"event": "joined", **who, "reason": f"ringback-python/{__version__}"}
    assert (
        odd["event"] == "keys not reloaded" and "access.toml: [[key]] 2: role must be one of" in odd["reason"]
    )
    assert mended == {"event": "keys reloaded", "keys": 1}
    assert revoked == {"event": "keys reloaded", "keys": 0}
    assert left["event"] == "left" and left["reason"].startswith(
        "REVOKED: the access list no longer admits 'anna'"
    )
    assert left["code"] == "REVOKED"
    assert {line["code"] for line in later} <= {"UNAUTHORIZED"}  # the SDK tries again
    assert anna.secret not in path.read_text()


def test_an_audit_log_that_cannot_be_written(tmp_path: Path, command: Any) -> None:
    path = tmp_path / "none" / "audit.jsonl"
    code, _, line = command("broker", "--audit", str(path)).end()
    assert (code, line) == (Exit.USAGE, f"USAGE: --audit: {path}: No such file or directory\n")


def test_list_is_a_table(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run("new", "anna", "--role", "player", "--id", "7", "--id", "007")
    run("new", "cli", "--role", "operator")
    run("allow", "anna.pub", "--note", "a friend")
    run("allow", "cli.pub", "--no-orders")
    assert app.run(["keys", "list"]) == Exit.OK
    heads, anna, cli = (re.split(" {2,}", line) for line in capsys.readouterr().out.splitlines())
    assert heads == ["name", "role", "IDs", "sources", "orders", "note", "public key"]
    assert anna == ["anna", "player", '7, "007"', "-", "-", "a friend", load_key_pair("anna.key").public]
    assert cli == ["cli", "operator", "-", "yes", "no", "-", load_key_pair("cli.key").public]


def test_the_brokers_key_as_a_file(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, made, _ = run("new", "broker", "--role", "broker")
    run("new", "a", "--role", "server", "--broker-key", "broker.pub")
    run("new", "b", "--role", "server", "--broker-key", "broker.key")
    monkeypatch.setenv("RINGBACK_BROKER_KEY", "broker.pub")
    run("new", "c", "--role", "server")
    assert {load_key_pair(f"{name}.key").broker for name in "abc"} == {made["public"]}
    monkeypatch.setenv("RINGBACK_BROKER_KEY", "a.pub")
    code, _, line = run("new", "d", "--role", "server")
    assert code == Exit.USAGE and "a.pub: this is a key of the role 'server', not 'broker'" in line
    assert "40 characters of Z85, or the path of its .pub file" in line


@contextmanager
def no_room() -> Iterator[None]:
    """Let no file of this process grow, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_files_that_cannot_be_written_are_not_left(run: Any) -> None:
    run("new", "anna", "--role", "server")
    run("allow", "anna.pub")
    before = {path.name: path.read_text() for path in Path().iterdir()}
    reason = os.strerror(errno.EFBIG)
    for arguments, line in (
        (("new", "ben", "--role", "server"), f"USAGE: ben.key: {reason}\n"),
        (("revoke", "anna"), f"FAILED: cannot write access.toml: {reason}\n"),
        (("init", "--id", "7"), f"FAILED: cannot write keys/broker.key: {reason}\n"),
    ):
        with no_room():
            code, _, said = run(*arguments)
        assert (Exit(code).name, said) == (line.partition(":")[0], line)
    Path("keys").rmdir()
    assert {path.name: path.read_text() for path in Path().iterdir()} == before
    Path("ben.pub").touch()
    code, _, said = run("new", "ben", "--role", "server")
    assert code == Exit.USAGE and "ben.pub exists already" in said and not Path("ben.key").exists()


@pytest.mark.parametrize("form", ["argument", "environment"])
def test_a_command_with_the_brokers_key_as_a_file(form: str, tmp_path: Path, command: Any) -> None:
    ring = KeyRing(tmp_path)
    cli = write_key_pair(replace(ring.add("cli", "operator"), broker=None), tmp_path)
    assert load_key_pair(cli).broker is None
    path = str(tmp_path / "broker.pub")
    with BrokerProcess(options=ring.options) as broker:
        where = ("--backend", broker.backend, "--key-file", str(cli))
        given = ("--broker-key", path) if form == "argument" else ()
        environment = {"RINGBACK_BROKER_KEY": path} if form == "environment" else {}
        assert command("ping", *where, *given, environment=environment).end()[0] == Exit.OK
