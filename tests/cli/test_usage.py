"""The whole command line: wrong use is one line on standard error, and help and documents are complete."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ringback_broker.settings.schema import SETTINGS
from ringback_cli.app import SUMMARIES, application, run
from ringback_cli.exits import MEANINGS, Exit, failure_of

MINT = ("token", "mint", "--key", "no/such.key", "--id", "7", "--ttl", "1h")
BAD_TTLS = (
    "",
    "1",
    "h",
    "0s",
    "-1s",
    "01s",
    "1.5h",
    "1w",
    "1H",
    "1h30m",
    " 1h",
    "1h\n",
    "\u0661h",
    "9" * 10 + "s",
)
ODD_SECONDS = ("nan", "inf", "-inf", "-1", "1e300")
NUMBERS = (
    ("ping", "--timeout"),
    ("tap", "--log"),
    ("drain", "--grace"),
    ("stats", "--interval"),
    ("top", "--interval"),
    ("bench", "--seconds"),
)
COUNTS = (
    ("realm", "create", "a", "--replicas"),
    ("ping", "--count"),
    ("events", "--last"),
    ("tap", "--count"),
    ("stats", "--interval", "1", "--count"),
    ("top", "--count"),
    ("bench", "--count"),
)
BROKER_NUMBERS = [
    setting.option
    for setting in SETTINGS.values()
    if setting.kind.metavar in ("SECONDS", "N", "BYTES", "RATE")
]
CASES: list[tuple[list[str], str]] = [
    (["nothing"], "No such command 'nothing': see `ringback --help`"),
    (["trigger", "nothing"], "No such command 'nothing': see `ringback trigger --help`"),
    (["trgger"], "No such command 'trgger'. Did you mean 'trigger'?"),
    (["trigger", "server"], "Missing argument 'KEY': see `ringback trigger server --help`"),
    (["keys", "new", "a"], "Missing option '--role': see `ringback keys new --help`"),
    (["realm", "create", "a"], "--cluster: it must name the addresses of NATS: nats://HOST:PORT"),
    (["trigger", "client", "k"], "Missing argument 'PLAYER_ID'"),
    (["trigger", "server", "k", "1", "2"], "unexpected extra argument"),
    (["trigger", "server", "k", "--nothing"], "No such option: --nothing"),
    (["trigger", "server", "k", "--nothing"], ": see `ringback trigger server --help`"),
    (["trigger", "server", "k", "-5"], "Put --"),
    (["trigger", "server", ""], "KEY: a key must have 1 to 256 UTF-8 bytes, not 0"),
    (["trigger", "all", "ä" * 129], "KEY: a key must have 1 to 256 UTF-8 bytes, not 258"),
    (["trigger", "client", "k\udcff", "1"], "KEY: a key must be valid Unicode"),
    (["trigger", "client", "k", "0"], "PLAYER_ID: a player ID must be from 1 to"),
    (["trigger", "client", "k", "--", "-5"], "--string-id makes it a str"),
    (["trigger", "client", "k", str(2**63)], "PLAYER_ID: a player ID must be from 1 to"),
    (["trigger", "client", "k", "9" * 5000], "PLAYER_ID: a player ID must not be an int of 5000 characters"),
    (["trigger", "client", "k", ""], "PLAYER_ID: a player ID must have 1 to 64 UTF-8 bytes, not 0"),
    (["trigger", "client", "k", "x" * 65], "1 to 64 UTF-8 bytes, not 65"),
    (["trigger", "server", "k", "--source", "-1"], "--source: a player ID must be from 1 to"),
    (["trigger", "server", "k", "--as-player", "0"], "--as-player: a player ID must be from 1 to"),
    (["trigger", "server", "k", "--as-player", "1", "--source", "1"], "the player is the source"),
    (["trigger", "server", "k", "--players", "tcp://h:1"], "--players is not used without --as-player"),
    (["trigger", "server", "k", "--as-player", "1", "--backend", "tcp://h:1"], "--backend is not used with"),
    (["trigger", "server", "k", '{"a": nope}'], "PAYLOAD is not JSON: line 1, column 7"),
    (["trigger", "server", "k", "[1,\n 2"], "PAYLOAD is not JSON: line 2, column 3"),
    (["trigger", "server", "k", "abc"], "a str needs double quotes"),
    (["trigger", "server", "k", "NaN"], "NaN is not a JSON number"),
    (["trigger", "server", "k", ""], "PAYLOAD is empty"),
    (["trigger", "server", "k", "@"], "the path of a file must follow the @"),
    (["trigger", "server", "k", "@no/such/file"], "cannot read no/such/file: No such file"),
    (["trigger", "all", "k", "@/"], "cannot read /: Is a directory"),
    (["ping", "--timeout", "-1"], "--timeout: the seconds must be above 0, or inf for no limit, not -1"),
    (["players", "--timeout", "nan"], "--timeout: the seconds must be above 0, or inf for no limit, not nan"),
    (
        ["trigger", "all", "k", "--timeout", "0"],
        "--timeout: the seconds must be above 0, or inf for no limit, not 0",
    ),
    (
        ["ping", "--timeout", "soon"],
        "--timeout: the seconds must be above 0, or inf for no limit, not 'soon'",
    ),
    (["callbacks", "--timeout", "0"], "--timeout: the seconds must be above 0, or inf for no limit, not 0"),
    (["events", "--last", "0"], "--last: the number must be a whole one, "),
    (["events", "--player", "0"], "--player: a player ID must be from 1 to"),
    (["explain", "server", "x"], "'server' is not one of 'player', 'callback'"),
    (["explain", "player", "0"], "NAME: a player ID must be from 1 to"),
    (["explain", "callback", ""], "KEY: "),
    (["kick"], "Missing argument 'PLAYER_ID'"),
    (["kick", "0"], "PLAYER_ID: a player ID must be from 1 to"),
    (["kick", "7", "--timeout", "0"], "--timeout: the seconds must be above 0"),
    (["drain", "--grace", "0"], "--grace: the seconds must be above 0 and at most 86400, not 0"),
    (["drain", "--grace", "nan"], "--grace: the seconds must be above 0 and at most 86400, not nan"),
    (["drain", "now"], "unexpected extra argument"),
    (["nodes", "drain"], "Missing argument 'NAME'"),
    (
        ["nodes", "drain", "a.b"],
        "NAME: the name of a node must be 1 to 64 of A-Z, a-z, 0-9, '_' and '-', not 'a.b'",
    ),
    (
        ["nodes", "drain", "a", "--grace", "0"],
        "--grace: the seconds must be above 0 and at most 86400, not 0",
    ),
    (["nodes", "forget", "a"], "No such command 'forget'"),
    (["players", "--node", ""], "--node: the name of a node must be 1 to 64 of"),
    (["tap", "--node", "a b"], "--node: the name of a node must be 1 to 64 of"),
    (["stats", "--node", "x" * 65], "--node: the name of a node must be 1 to 64 of"),
    (["hand-over", "now"], "(now): see `ringback hand-over --help`"),
    (["callbacks", "x"], "unexpected extra argument"),
    (["tap", "--key", ""], "--key: a pattern must have 1 to 256 UTF-8 bytes, not 0"),
    (["tap", "--key", "x" * 257], "--key: a pattern must have 1 to 256 UTF-8 bytes, not 257"),
    (["tap", "--key", "k\udcff"], "--key: a pattern must be valid Unicode"),
    *(
        (["tap", "--key", glob], "--key: a pattern must close each [")
        for glob in ("[", "[]", "[!]", "[!", "a[", "[a][", "[a", "[[]b[")
    ),
    (["tap", "--key", "[z-a]"], "--key: a range in a pattern must ascend, as in [a-z], not z-a"),
    *((["tap", "--log", text], "--log: the seconds must be from 0 to 86400") for text in ODD_SECONDS),
    *((["drain", "--grace", text], "--grace: the seconds must be above 0") for text in ODD_SECONDS),
    *((["stats", "--interval", text], "--interval: the seconds must be from 0.1") for text in ODD_SECONDS),
    *((["top", "--interval", text], "--interval: the seconds must be from 0.1") for text in ODD_SECONDS),
    *((["bench", "--seconds", text], "--seconds: the seconds must be above 0") for text in ODD_SECONDS),
    *(
        (["ping", "--timeout", text], "--timeout: the seconds must be above 0")
        for text in ("nan", "-inf", "-0")
    ),
    *(
        ([*command, option, text], f"{option}: the seconds must be ")
        for *command, option in NUMBERS
        for text in ("", "x", "1s", "1,5", "0x1", "1e", "--")
    ),
    *(
        ([*command, option, text], f"{option}: the number must be a whole one, ")
        for *command, option in COUNTS
        for text in ("0", "-1", "1.5", "nan", "inf", "", "x")
    ),
    *(
        (["events", "--last", text], "--last: the number must be a whole one, ")
        for text in ("1001", "9" * 40)
    ),
    *(
        (["ping", "--count", text], "--count: the number must be a whole one, ")
        for text in ("10001", "9" * 40)
    ),
    *(
        (["bench", "--count", text], "--count: the number must be a whole one, ")
        for text in ("1001", "9" * 40)
    ),
    (["tap", "--log", "9", "--count", "2"], "--log: it prints nothing"),
    (["completion", "tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
    (["config", "show", "--timeout", "1"], "No such option: --timeout"),
    (["config", "check"], "Missing argument 'FILE'"),
    (["config", "schema", "x"], "unexpected extra argument"),
    (["keys", "new"], "Missing argument 'NAME'"),
    (["keys", "allow"], "Missing argument 'KEY'"),
    (["keys", "revoke"], "Missing argument 'NAME'"),
    (["keys", "init", "--id", "0"], "--id: a player ID must be from 1"),
    (["keys", "list", "x"], "unexpected extra argument"),
    (["token", "show", "x", "y"], "unexpected extra argument"),
    (["stats", "--interval", "0"], "--interval: the seconds must be from 0.1 to 86400, not 0"),
    (["stats", "--interval", "nan"], "--interval: the seconds must be from 0.1 to 86400, not nan"),
    (["stats", "--count", "2"], "--count: it limits --interval, so give --interval too"),
    (["top", "--interval", "0"], "--interval: the seconds must be from 0.1 to 86400, not 0"),
    (["top", "--count", "0"], "--count: the number must be a whole one, "),
    (["top", "--view", "servers"], "'servers' is not one of 'players', 'callbacks'"),
    (["top", "--sort", "cals"], "identity, not 'cals': did you mean 'calls"),
    (["explain", "playr", "7"], "Invalid value for 'player|callback': 'playr' is not one of"),
    (["top", "--sort", "size"], "--sort: the columns of players are player, calls_s, calls, errors"),
    (["top", "--view", "callbacks", "--sort", "player"], "--sort: the columns of callbacks are key, side"),
    (["top", "--timeout", "0"], "--timeout: the seconds must be above 0"),
    (["top", "--backend", "x"], "--backend: an address must be"),
    (["stats", "--backend", "x"], "--backend: an address must be"),
    (["doctor", "--timeout", "0"], "--timeout: the seconds must be above 0, or inf for no limit, not 0"),
    (["ping", "--count", "0"], "--count: the number must be a whole one, "),
    (["ping", "--backend", "localhost"], "--backend: an address must be tcp://HOST:PORT or ipc://PATH"),
    (["ping", "--backend", "tcp://h:99999"], "--backend: a port must be from 1 to 65535"),
    (["ping", "--backend", "tcp://h:1,tcp://h:0"], "--backend: address 2 of the list: a port must be from 1"),
    (["ping", "--backend", "tcp://h:1,tcp://H:1"], "--backend: the addresses of a list must differ"),
    (["ping", "--backend", "tcp://h:1,h:2"], "--backend: an address must be tcp://HOST:PORT or ipc://PATH"),
    (
        ["bench", "--players", "tcp://h:1,tcp://h:0"],
        "--players: address 2 of the list: a port must be from 1",
    ),
    (["doctor", "--backend", "tcp://h:1,x"], "--backend: an address must be"),
    (["drain", "--backend", "tcp://h:1,tcp://h:2"], "--backend: only one broker drains at a time"),
    (["trigger", "server", "k", "--as-player", "1", "--players", "x"], "--players: an address must be"),
    (["bench", "--backend", "x"], "--backend: an address must be"),
    (["bench", "--players", "x"], "--players: an address must be"),
    (["bench", "--direction", "left"], "Invalid value for '--direction'"),
    (["bench", "--count", "0"], "--count: the number must be a whole one, "),
    (
        ["bench", "--in-flight", "1,,64"],
        "--in-flight: the numbers must be from 1 to 100000, as in 1,64, not '1,,64'",
    ),
    (["bench", "--in-flight", "0"], "--in-flight: the numbers must be from 1 to 100000"),
    (["bench", "--in-flight", ""], "--in-flight: the numbers must be from 1 to 100000"),
    (["bench", "--payload-bytes", "-1"], "--payload-bytes: the number must be a whole one, "),
    (["bench", "--payload-bytes", "1000001"], "--payload-bytes: the number must be a whole one, "),
    (["bench", "--seconds", "0"], "--seconds: the seconds must be above 0 and at most 3600, not 0"),
    (["bench", "--seconds", "nan"], "--seconds: the seconds must be above 0 and at most 3600, not nan"),
    (["bench", "--key-file", "no/such.key"], "--key-file: no/such.key: "),
    (["bench", "--player-key-file", "no/such.key"], "--player-key-file: no/such.key: "),
    (
        ["bench", "--broker-key", "x"],
        "--broker-key: it must be the public key of a broker, 40 characters of Z85",
    ),
    (["ping", "--broker-key", "no/such.pub"], "or the path of its .pub file; no/such.pub: No such file"),
    (["ping", "--broker-key", ""], "or the path of its .pub file; not ''"),
    (["broker", "--backend", "x"], "--backend: an address must be"),
    (["broker", "--backend", "tcp://h:1,tcp://h:2"], "a broker listens at one address of each side"),
    (["broker", "--players", "tcp://h:1", "--backend", "tcp://h:1"], "must differ from players"),
    (["broker", "--lease", "nan"], "--lease: a number of seconds above 0"),
    (["broker", "--grace", "-1"], "--grace: a number of seconds above 0"),
    (["broker", "--max-players", "0"], "--max-players: a whole number from 1"),
    *(
        (["broker", option, text], f"{option}: ")
        for option in BROKER_NUMBERS
        for text in ("nan", "-inf", "-1", "", "x", "1s", "1e400x")
    ),
    (["realm", "create"], "Missing argument 'NAME'"),
    (
        ["realm", "create", "a.b", "--cluster", "nats://h"],
        "NAME: 1 to 64 letters, digits, - and _ are allowed",
    ),
    (
        ["realm", "create", "a", "--cluster", "nats://u:p@h"],
        "--cluster: an address must have no user or pass",
    ),
    (["realm", "create", "a", "--replicas", "6"], "--replicas: the number must be a whole one, "),
    (["realm", "create", "a", "--cluster", "nats://h", "--nats-credentials", "no/such"], "no/such: No such"),
    (["broker", "--cluster", "http://h"], "--cluster: nats://HOST:PORT or tls://HOST:PORT is allowed"),
    (["broker", "--node", "a"], "--node: it needs cluster"),
    (["broker", "--cluster", "nats://h", "--nats-cert", "x"], "--nats-key: it and nats_cert go together"),
    (["token", "nothing"], "No such command 'nothing'"),
    (["token", "new"], "Missing argument 'NAME'"),
    (["token", "new", "a/b"], "NAME: the name of a key pair must be 1 to 64 of"),
    (["token", "new", "a", "--dir", "no/such"], "--dir: no/such/a.key: No such file"),
    (["token", "mint"], "Missing option '--key'"),
    ([*MINT[:-2]], "Missing option '--ttl'"),
    ([*MINT], "--key: no/such.key: No such file"),
    ([*MINT, "--key", "/"], "--key: /: Is a directory"),
    ([*MINT, "--key", "a\0b"], "--key: embedded null"),
    ([*MINT, "--id", "0"], "--id: a player ID must be from 1 to"),
    ([*MINT, "--id", ""], "--id: a player ID must have 1 to"),
    *(([*MINT, "--ttl", ttl], "--ttl: it must be a number above 0 and a unit") for ttl in BAD_TTLS),
    ([*MINT, "--audience", ""], "--audience: an audience must not be empty"),
    ([*MINT, "--audience", "\udcff"], "--audience: an audience must be valid Unicode"),
    ([*MINT, "--allow-key", "x"], "--allow-key: it must be the public key of a player, 40"),
    ([*MINT, "--secret", "x"], "No such option"),
]


def all_commands() -> Iterator[list[str]]:
    """Yield the words of each command, as typer knows them."""
    tree = application()
    groups: list[tuple[list[str], Any]] = [([], tree)]
    groups += [([str(group.name)], group.typer_instance) for group in tree.registered_groups]
    for words, group in groups:
        for command in group.registered_commands:
            yield [*words, command.name or command.callback.__name__]


COMMANDS = list(all_commands())
GROUPS = ("config", "keys", "trigger", "nodes", "realm", "token")


@pytest.mark.parametrize(("arguments", "part"), CASES, ids=lambda value: str(value)[:40])
def test_one_line(usage: Callable[..., str], arguments: list[str], part: str) -> None:
    assert part in usage(*arguments)


def test_an_address_from_the_environment(usage: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGBACK_BACKEND", "udp://x:1")
    assert usage("players").startswith("--backend: an address must be")


@pytest.mark.parametrize("arguments", [[], ["trigger"], ["token"]])
def test_a_group_alone_shows_its_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == Exit.USAGE
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("Usage: ringback")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["broker", "players", "ping", "trigger", "--version"]),
        (["broker"], ["--players", "--backend", "--lease", "--grace", "--max-players", "RINGBACK_PLAYERS"]),
        (["trigger"], ["server", "client", "all"]),
        (
            ["trigger", "server"],
            ["KEY", "[PAYLOAD]", "--source", "--as-player", "--string-id", "--timeout", "default: cli"],
        ),
        (["trigger", "client"], ["PLAYER_ID", "--string-id", "--timeout", "--backend"]),
        (["trigger", "all"], ["KEY", "--timeout", "--backend", "RINGBACK_BACKEND"]),
        (["players"], ["--timeout", "--backend"]),
        (["ping"], ["--count", "--json", "--timeout", "--backend"]),
        (["callbacks"], ["--json", "--backend"]),
        (["events"], ["--player", "--last", "--follow", "--json"]),
        (["explain"], ["player|callback", "NAME", "--string-id", "--json"]),
        (["kick"], ["PLAYER_ID", "--reason", "--string-id"]),
        (["drain"], ["--grace"]),
        (["hand-over"], ["--timeout", "--backend"]),
        (["stats"], ["--interval", "--count", "--json"]),
        (["doctor"], ["--config", "--key-file", "--json"]),
        (["bench"], ["--players", "--backend", "--direction", "--in-flight", "--seconds", "--json"]),
        (["realm"], ["create"]),
        (["realm", "create"], ["NAME", "--replicas", "--cluster", "--nats-credentials", "--config"]),
        (["token"], ["new", "mint", "show"]),
        (["token", "new"], ["NAME", "--dir"]),
        (["token", "mint"], ["--key", "--id", "--ttl", "--audience", "--allow-key", "--string-id"]),
        (["token", "show"], ["not checked"]),
    ],
    ids=lambda value: "-".join(value)[:20],
)
def test_help(arguments: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*arguments, "--help"]) == Exit.OK
    shown = capsys.readouterr()
    assert shown.err == ""
    for part in parts:
        assert part in shown.out


def test_help_lists_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    run(["--help"])
    listed = re.findall(r"^ +(\d+)  ([A-Z_]+) +\S", capsys.readouterr().out, re.MULTILINE)
    assert [(int(number), name) for number, name in listed] == [(code.value, code.name) for code in Exit]


def test_the_document_lists_the_exit_codes_and_all_options(capsys: pytest.CaptureFixture[str]) -> None:
    document = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    listed = re.findall(r"^\| (\d+) \| ([A-Z_]+) \| (.*) \|$", document, re.MULTILINE)
    assert listed == [(str(code.value), code.name, MEANINGS[code]) for code in Exit]
    for command in COMMANDS:
        run([*command, "--help"])
        for option in re.findall(r"--[a-z-]+", capsys.readouterr().out):
            assert f"`{option}" in document, (command, option)


def test_the_document_lists_all_commands() -> None:
    document = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    rows = re.findall(r"^\| (`ringback .*?`) \|", document, re.MULTILINE)
    listed = [words.split() for row in rows for words in re.findall(r"`ringback (.*?)`", row)]
    for command in COMMANDS:
        assert command in [words[: len(command)] for words in listed], command


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_command_is_used_in_a_wrong_way(command: list[str]) -> None:
    assert any(arguments[: len(command)] == command for arguments, _ in CASES)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_command_has_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command, "--help"]) == Exit.OK
    shown = capsys.readouterr().out
    examples = re.findall(r"^  Example: (.+)\n\n", shown, re.MULTILINE)
    assert len(examples) == 1, f"the help of {command} has no example on one line"
    words = shlex.split(examples[0].replace("<(", ""), comments=True)
    assert words[words.index("ringback") + 1 :][: len(command)] == command
    for option in [word for word in words if word.startswith("--")]:
        assert re.search(rf"^  ({option}|--[a-z-]+/{option}) ", shown, re.MULTILINE), option


@pytest.mark.parametrize("command", [[], *([group] for group in GROUPS), *COMMANDS], ids=" ".join)
def test_help_fits_into_80_columns(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command, "--help"]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 80] == []


def test_help_lists_the_commands_in_our_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == Exit.OK
    listed = re.search(r"Commands:\n((?:  .+\n)+)", capsys.readouterr().out)
    assert listed is not None
    assert tuple(line.split()[0] for line in listed[1].splitlines()) == tuple(SUMMARIES)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from ringback import __version__

    assert run(["--version"]) == Exit.OK
    assert capsys.readouterr().out == f"ringback {__version__}\n"


def test_a_bug_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("x\ny")

    monkeypatch.setattr("ringback_cli.connection.Connection.operator", broken)
    assert run(["players"]) == Exit.FAILED
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("FAILED: KeyError: ")
    monkeypatch.setenv("RINGBACK_TRACEBACK", "1")
    assert run(["players"]) == Exit.FAILED
    assert "Traceback" in capsys.readouterr().err


def test_a_failure_without_a_text() -> None:
    assert failure_of(RuntimeError()).message.startswith("RuntimeError (")
