"""Completion at Tab, in real shells and at a real broker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.harness import ENVIRONMENT, PATIENCE_S, BrokerProcess, eventually
from support.terminals import Terminal

from ringback import ClientCallback, Operator, Player, Server, ServerCallback
from ringback_cli.app import application, run
from ringback_cli.completion import MAX_VALUES

HOSTILE = (
    "$(touch pwned)",
    "`touch pwned`",
    "a b",
    "-rf",
    "x;y",
    "x'y",
    "x*",
    "x\ny",
    "x\\y",
    "=ls",
    '"',
    "~",
)
COMMANDS = ["broker", "players", "callbacks", "events", "explain", "stats", "top", "kick", "drain", "ping"]


@dataclass
class Move:
    x: int
    note: str = "it\u2019s"


@dataclass
class Place:
    """A folder with a `ringback` that shells find, and the environment that names its broker."""

    folder: Path
    environment: dict[str, str]

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**ENVIRONMENT, **self.environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.stderr == ""
        return done.stdout

    def bash(self, line: str) -> list[str]:
        """Return the completions of bash at the end of a line."""
        script = """
            source ringback.bash
            COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:' COMP_LINE=$1 COMP_POINT=${#1}
            _ringback_completion ringback
            printf '%s\\n' "${COMPREPLY[@]}"
        """
        return self.run("bash", "--norc", "-c", script, "bash", line).split()

    def at_tab(self, shell: str, *options: str, setup: str, line: str) -> str:
        """Return what a line becomes when Tab is pressed in an interactive shell."""
        environment = {**self.environment, "PS1": "prompt> ", "ZDOTDIR": str(self.folder)}
        with Terminal(shell, *options, environment=environment) as terminal:
            terminal.send(f"cd {self.folder}; {setup}; echo re''ady\n")
            terminal.wait_until(lambda: "ready" in terminal.shown, "the shell is ready")
            terminal.send(f"{line}\t\x01echo 'it is' \x05 .\n")  # Ctrl-A, Ctrl-E
            pattern = re.compile(r"it is (ringback .*?) \.")  # what was typed has a quote there
            terminal.wait_until(lambda: pattern.search(terminal.shown) is not None, "the line is printed")
            return pattern.findall(terminal.shown)[0].strip()

    def comes(self, complete: Callable[[], object], wanted: object) -> None:
        """Press Tab until the completion is right: a busy broker may take longer than half a second."""
        got: list[object] = []

        def is_there() -> bool:
            got.append(complete())
            return got[-1] == wanted

        try:
            eventually(is_there, f"{wanted} is completed")
        except AssertionError as error:
            raise AssertionError(f"{error}: {got}") from None


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("place")
    script = folder / "ringback"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m ringback_cli "$@"\n')
    script.chmod(0o755)
    (folder / "order.json").write_text("{}")
    with BrokerProcess() as broker:
        server, seven = Server(broker.backend), Player(broker.players, 7)
        server.register(ServerCallback("move", Move, None), lambda source, payload: None)
        seven.register(ClientCallback("local:show", str, None), lambda payload: None)
        for key in ("shop:items", "shop:buy", "plain", *HOSTILE):
            server.register_server_callback(key, lambda source, payload: None)
        seven.register_client_callback("local:coords", lambda payload: None)
        others = [Player(broker.players, player_id) for player_id in ("7", "70", "anna", "ä", 71, *HOSTILE)]
        for endpoint in (server, seven, *others):
            endpoint.start()
        moved = server.register_server_callback("moved", lambda source, payload: None)
        assert seven.trigger_server_callback("moved").result() is None
        moved.unregister()  # what was called is still listed
        with Operator(broker.backend) as operator:
            eventually(
                lambda: len(operator.query("callbacks").results[0]) == 7 + len(HOSTILE), "all callbacks"
            )
        path = f"{folder}{os.pathsep}{os.environ['PATH']}"
        place = Place(folder, {"PATH": path, "RINGBACK_BACKEND": broker.backend})
        (folder / "ringback.bash").write_text(place.run("ringback", "completion", "bash"))
        yield place
        for endpoint in (server, seven, *others):
            endpoint.close()
    assert not (folder / "pwned").exists()


@pytest.fixture
def lonely(place: Place, short_folder: Path) -> Place:
    """Return the same place, with an address where no broker is."""
    return Place(place.folder, {**place.environment, "RINGBACK_BACKEND": f"ipc://{short_folder}/b"})


def need(shell: str) -> str:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not installed")
    return found


def test_commands_and_options(place: Place) -> None:
    assert set(COMMANDS) < set(place.bash("ringback "))
    assert place.bash("ringback pi") == ["ping"]
    assert place.bash("ringback trigger ") == ["server", "client", "all"]
    assert place.bash("ringback trigger server --so") == ["--source"]
    assert place.bash("ringback ping --count ") == []


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("broker --log-format ", ["text", "json"]),
        ("broker --log-level d", ["debug"]),
        ("bench --direction ", ["up", "down", "both"]),
        ("keys new x --role s", ["server"]),
        ("keys allow x --role ", ["server", "operator", "player"]),
        ("top --view ", ["players", "callbacks"]),
        ("top --sort w", ["window_percent"]),
        ("top --view callbacks --sort p", ["p50_ms", "p99_ms"]),
        ("explain ", ["player", "callback"]),
        ("completion ", ["bash", "zsh", "fish"]),
    ],
)
def test_choices(lonely: Place, line: str, values: list[str]) -> None:
    assert lonely.bash(f"ringback {line}") == values


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("trigger server ", ["move", "plain", "shop:buy", "shop:items"]),
        ("trigger server pl", ["plain"]),
        ("trigger server shop:", ["buy", "items"]),  # bash keeps the part before the colon
        ("trigger server shop:it", ["items"]),
        ("trigger all ", ["local:coords", "local:show"]),
        ("trigger client local:coords 7", ["7", "71"]),
        ("trigger client local:coords --string-id 7", ["7", "70"]),
        ("trigger server shop:items '{\"a\": 1}' --source a", ["anna"]),
        ("kick a", ["anna"]),
        ("events --player ä", ["ä"]),
        ("explain player an", ["anna"]),
        ("explain callback p", ["plain"]),
        ("explain callback mo", ["move", "moved"]),
        ("callbacks --schema mo", ["move"]),
        ("explain callback l", ["local:coords", "local:show"]),
        ("trigger all local:show ", ["'\"\"'"]),
        ("trigger server plain ", []),
    ],
)
def test_values_from_a_broker(place: Place, line: str, values: list[str]) -> None:
    place.comes(lambda: sorted(place.bash(f"ringback {line}")), values)


def test_an_example_of_a_payload(place: Place) -> None:
    example = '\'{"x":0,"note":"it\\u2019s"}\''
    place.comes(lambda: "".join(place.bash("ringback trigger server move ")), example)
    bash, typed = need("bash"), "ringback trigger server move "

    def is_completed() -> bool:
        line = place.at_tab(bash, "--norc", "-i", setup="source ringback.bash", line=typed)
        return line.endswith('{"x": 0, "note": "it\\u2019s"}')

    place.comes(is_completed, True)


def test_names_with_special_characters_are_left_out(place: Place) -> None:
    assert sorted(place.bash("ringback kick ")) == ["7", "71", "anna", "ä"]
    assert sorted(place.bash("ringback kick --string-id ")) == ["7", "70", "anna", "ä"]


def test_the_number_of_values_is_limited(broker: BrokerProcess, place: Place) -> None:
    server = Server(broker.backend)
    for number in range(2 * MAX_VALUES):
        server.register_server_callback(f"k{number}", lambda source, payload: None)
    with server, Operator(broker.backend) as operator:
        eventually(lambda: len(operator.query("callbacks").results[0]) == 2 * MAX_VALUES, "all callbacks")
        there = Place(place.folder, {**place.environment, "RINGBACK_BACKEND": broker.backend})
        place.comes(lambda: len(there.bash("ringback trigger server k")), MAX_VALUES)
        elsewhere = Place(place.folder, {**place.environment, "RINGBACK_BACKEND": "tcp://127.0.0.1:1"})
        line = f"ringback trigger server --backend {broker.backend} k"
        place.comes(lambda: len(elsewhere.bash(line)), MAX_VALUES)


def test_without_a_broker_there_are_no_values(lonely: Place) -> None:
    begun_at = time.monotonic()
    assert lonely.bash("ringback kick ") == []
    assert time.monotonic() - begun_at < 15  # half a second, on a busy machine


def test_all_help_texts_pass_through_typer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For zsh and fish, typer reads help texts as rich's markup."""
    tree = application()
    groups = {group.name: group.typer_instance for group in tree.registered_groups if group.typer_instance}
    lines = [f"{command.name} --" for command in tree.registered_commands]
    lines += [
        f"{name} {command.name or command.callback.__name__} --"
        for name, group in groups.items()
        for command in group.registered_commands
        if command.callback
    ]
    assert len(lines) > 20
    monkeypatch.setenv("_RINGBACK_COMPLETE", "complete_fish")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    for line in lines:
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", f"ringback {line}")
        with pytest.raises(SystemExit):
            run([])
        assert "--help\t" in capsys.readouterr().out, line


def test_interactive_bash(place: Place) -> None:
    def line(typed: str) -> str:
        setup = "source <(ringback completion bash)"
        return place.at_tab("/bin/bash", "--norc", "-i", setup=setup, line=typed)

    place.comes(lambda: line("ringback trigger server shop:it"), "ringback trigger server shop:items")
    place.comes(lambda: line("ringback config check ord"), "ringback config check order.json")  # a file


def test_interactive_zsh(place: Place) -> None:
    zsh = need("zsh")

    def line(typed: str) -> str:
        setup = "autoload -U compinit; compinit -u -D; source <(ringback completion zsh)"
        return place.at_tab(zsh, "-f", "-i", setup=setup, line=typed)

    place.comes(lambda: line("ringback pi"), "ringback ping")
    place.comes(lambda: line("ringback trigger server shop:it"), "ringback trigger server shop:items")
    place.comes(lambda: line("ringback kick --rea"), "ringback kick --reason")
    place.comes(lambda: line("ringback kick an"), "ringback kick anna")
    place.comes(lambda: line("ringback config check ord"), "ringback config check order.json")


def test_fish(place: Place) -> None:
    fish = need("fish")

    def candidates(line: str) -> list[str]:
        script = f"source (ringback completion fish | psub); complete -C '{line}'"
        output = place.run(fish, "--no-config", "-c", script)
        return sorted(candidate.split("\t")[0] for candidate in output.splitlines())

    place.comes(lambda: candidates("ringback pi"), ["ping"])
    place.comes(lambda: candidates("ringback trigger server shop:"), ["shop:buy", "shop:items"])
    place.comes(lambda: candidates("ringback kick "), ["7", "71", "anna", "ä"])
    place.comes(lambda: candidates("ringback config check ord"), ["order.json"])


def test_an_unknown_shell(usage: Callable[..., str]) -> None:
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in usage("completion", "tcsh")
