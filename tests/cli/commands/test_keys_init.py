"""`ringback keys init`: what it makes starts a broker, a server, an operator and a player."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.harness import PATIENCE_S, READY, Process

from ringback import Player, Server, Unauthorized
from ringback.credentials import load_key_pair
from ringback.testing.ports import ReservedPort
from ringback_broker.admission.access_list import AccessList
from ringback_cli.exits import Exit

NAMES = {"broker", "server", "operator", "player-7", "player-ann"}


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def addresses() -> Iterator[tuple[str, str]]:
    """Return two free addresses."""
    with ExitStack() as stack:
        ports = [ReservedPort(), ReservedPort()]
        for port in ports:
            stack.callback(port.close)
        yield ports[0].address, ports[1].address


def made_by(path: Path) -> dict[str, tuple[int, bytes]]:
    return {file.name: (file.stat().st_mode & 0o777, file.read_bytes()) for file in path.iterdir()}


def commands_in(output: str) -> dict[str, list[str]]:
    """Return the indented lines, by what is said of them."""
    found: dict[str, list[str]] = {}
    said = ""
    for line in output.splitlines():
        if line.startswith("    "):
            found.setdefault(said, []).append(line.strip())
        else:
            said = line.partition(",")[0]
    return found


def test_what_it_prints_starts_everything(command: Any, addresses: tuple[str, str]) -> None:
    players, backend = addresses
    where = ("--players", players, "--backend", backend)
    code, output, errors = command("keys", "init", "--id", "7", "--id", "ann", *where).end()
    assert (code, errors) == (Exit.OK, "")
    files = made_by(Path("keys"))
    assert set(files) == {f"{name}.{kind}" for name in NAMES for kind in ("key", "pub")} | {"access.toml"}
    assert {files[f"{name}.key"][0] for name in NAMES} == {0o600}
    printed = commands_in(output)
    broker, operator = (shlex.split(printed[part][0]) for part in ("broker", "operator"))
    assert broker[:2] == ["ringback", "broker"] and operator[:2] == ["ringback", "top"]
    with Process("-m", "ringback_cli", *broker[1:]) as process:
        assert process.wait_for(READY.pattern).groups() == addresses
        server = eval(printed["server"][0], {"Server": Server})
        player = eval(printed["player-ann"][0], {"Player": Player})
        server.register_server_callback("whoami", lambda source, payload: source)
        with server, player:
            assert player.trigger_server_callback("whoami").result(timeout=PATIENCE_S) == "ann"
            code, shown, errors = command(*operator[1:], "--count", "1", "--json").end()
            assert (code, errors) == (Exit.OK, "")
            assert json.loads(shown)["players"] == 1 and json.loads(shown)["server"]
        for line in printed["one more player"]:
            assert command(*shlex.split(line)[1:]).end()[0] == Exit.OK
        process.wait_for("the access list was reloaded: 5 keys")
        with Player(players, key_file="keys/anna.key") as anna:
            assert anna.player_id == 1
        with pytest.raises(Unauthorized):
            Player(players, key_file="keys/player-7.key", player_id=8).start()


def test_it_says_what_goes_where(command: Any) -> None:
    code, output, _ = command("keys", "init", "--id", "7").end()
    assert code == Exit.OK
    for name in ("broker", "server", "operator", "player-7"):
        assert re.search(rf"^keys/{name}\.key +secret: ", output, re.M)
    assert "    ringback broker --key-file keys/broker.key --access keys/access.toml\n" in output


def test_json(command: Any) -> None:
    where = ("--players", "tcp://game.example:5770")
    code, output, _ = command("keys", "init", "--dir", "a b", "--json", *where).end()
    assert code == Exit.OK
    made = json.loads(output)
    assert {path for path in made["files"] if not Path(path).is_file()} == set()
    assert shlex.split(made["start"]["broker"]) == [
        *("ringback", "broker", "--key-file", "a b/broker.key", "--access", "a b/access.toml"),
        *("--players", "tcp://0.0.0.0:5770"),
    ]
    assert made["start"]["server"] == 'Server("tcp://127.0.0.1:5771", key_file="a b/server.key")'
    broker = load_key_pair("a b/broker.key").public
    assert {load_key_pair(f"a b/{name}.key").broker for name in ("server", "operator")} == {broker}
    assert [row["name"] for row in AccessList.parse(Path("a b/access.toml").read_text()).rows()] == [
        "server",
        "operator",
    ]


@pytest.mark.parametrize("there", ["access.toml", "operator.pub", "broker.key", None])
def test_it_overwrites_nothing(command: Any, there: str | None) -> None:
    if there is None:
        assert command("keys", "init").end()[0] == Exit.OK
    else:
        Path("keys").mkdir()
        Path("keys", there).write_text("mine")
    before = made_by(Path("keys"))
    code, output, errors = command("keys", "init").end()
    assert (code, output) == (Exit.USAGE, "") and errors.startswith(f"USAGE: --dir: keys/{there or ''}")
    assert "exists already" in errors and errors.count("\n") == 1
    assert made_by(Path("keys")) == before


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--id", "a b"], "the name of a key pair must be 1 to 64"),
        (["--id", "0"], "--id: a player ID must be from 1"),
        (["--players", "game.example"], "--players: an address must be tcp://HOST:PORT or ipc://PATH"),
        (["--backend", "tcp://a:1,tcp://b:1"], "--backend: give one address, not 2"),
    ],
)
def test_wrong_use(command: Any, arguments: list[str], part: str) -> None:
    code, output, errors = command("keys", "init", *arguments).end()
    assert (code, output) == (Exit.USAGE, "") and part in errors and errors.count("\n") == 1
    assert not Path("keys").exists()


def test_a_folder_that_cannot_be_written(command: Any) -> None:
    Path("file").write_text("")
    code, output, errors = command("keys", "init", "--dir", "file/keys").end()
    assert (code, output) == (Exit.FAILED, "") and errors.startswith("FAILED: cannot write file/keys: ")
