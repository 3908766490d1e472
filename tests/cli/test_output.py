"""What commands print: JSON, tables and errors."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from support.harness import ENVIRONMENT, PATIENCE_S, BrokerProcess
from support.terminals import Terminal

from ringback import CallbackError, CallTimeout, HandlerError, InvalidPayload, Player, RateLimited
from ringback_cli.app import application
from ringback_cli.exits import Exit, Failure, failure_of
from ringback_cli.output import Command, Group, complain_of, one_line, print_json, to_json

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.binary(), inner),
    max_leaves=15,
)


def refuse_constant(name: str) -> Any:
    raise AssertionError(f"{name} is not JSON")


@given(values)
def test_json_is_one_line(value: Any) -> None:
    text = to_json(value)
    json.loads(text, parse_constant=refuse_constant)
    assert len(text.splitlines()) == 1
    assert text.isprintable()


@given(st.text())
def test_an_error_is_one_line(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert len(line.splitlines()) <= 1


@pytest.mark.parametrize(
    ("error", "more"),
    [
        (RateLimited("slowly", data={"retry_after": 0.4}), ['data: {"retry_after": 0.4}']),
        (CallbackError("x", code="ODD", data="\x1b[2J"), ['data: "\\u001b[2J"']),
        (CallTimeout("x"), ["executed: maybe"]),
        (CallTimeout("x", executed="no"), ["executed: no"]),
        (InvalidPayload("x"), []),
        (InvalidPayload("x", executed="yes"), ["executed: yes"]),
        (HandlerError("x", data=False), ["data: false"]),
    ],
)
def test_an_error_says_all_that_its_code_does_not(
    error: CallbackError, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    complain_of(failure_of(error), as_json=False)
    assert capsys.readouterr().err.splitlines() == [str(error), *more]
    complain_of(failure_of(error), as_json=True)
    fields = {"code": error.code_name, "message": error.message, "executed": error.executed}
    assert json.loads(capsys.readouterr().err) == {"error": {**fields, "data": error.data}}


def test_standard_output_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(Failure, match="no standard output"):
        print_json(None)


PRINTING = (
    "--help",
    "--version",
    "trigger --help",
    "completion bash",
    "players",
    "players --json",
    "nodes",
    "ping --count 1",
    "trigger server echo",
    "trigger all seven --json",
)


@pytest.mark.parametrize("arguments", PRINTING)
def test_standard_output_that_fails(shop: Any, arguments: str) -> None:
    as_json = "--json" in arguments
    with Path("/dev/full").open("wb") as full:
        code, _, errors = shop.run(*arguments.split(), stdout=full)
    assert code == Exit.FAILED
    [line] = errors.splitlines()
    text = json.loads(line)["error"]["message"] if as_json else line.removeprefix("FAILED: ")
    assert text == f"cannot write the result to standard output: {os.strerror(errno.ENOSPC)}"


@pytest.mark.parametrize("arguments", PRINTING)
def test_standard_output_that_nobody_reads(shop: Any, arguments: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = shop.start(*arguments.split(), stdout=writing)
    os.close(writing)
    assert command.end() == (Exit.OUTPUT_CLOSED, "", "")


@pytest.mark.parametrize("arguments", PRINTING[:3])
def test_standard_output_that_is_not_there(arguments: str) -> None:
    closing = ("sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "ringback_cli")
    found = subprocess.run(
        [*closing, *arguments.split()], stderr=subprocess.PIPE, timeout=PATIENCE_S, env=ENVIRONMENT
    )
    assert found.returncode == Exit.FAILED
    assert found.stderr == b"FAILED: there is no standard output to write the result to\n"


def test_each_command_prints_its_help_as_results_are_printed() -> None:
    def check(command: Any) -> None:
        assert isinstance(command, Command | Group), command.name
        for child in getattr(command, "commands", {}).values():
            check(child)

    check(typer.main.get_command(application()))


def test_completions_that_cannot_be_written_say_nothing(command: Any) -> None:
    """A line would appear in the middle of what somebody types."""
    asks = {"_RINGBACK_COMPLETE": "complete_bash", "COMP_WORDS": "ringback pl", "COMP_CWORD": "1"}
    assert command(environment=asks).end() == (Exit.OK, "players\n", "")
    with Path("/dev/full").open("wb") as full:
        assert command(environment=asks, stdout=full).end() == (Exit.FAILED, "", "")


def test_a_terminal_has_a_table_as_wide_as_it_is(shop: Any) -> None:
    command = (sys.executable, "-m", "ringback_cli", "callbacks")
    with Terminal(*command, environment=shop.environment, size=(24, 80)) as terminal:
        assert terminal.end() == Exit.OK
    lines = re.sub(r"\x1b\[[0-9;]*m", "", terminal.shown).splitlines()
    assert max(map(len, lines)) <= 80 and any("\u2500" in line for line in lines)


def test_names_are_printed_as_text(command: Any) -> None:
    """Keys and IDs may contain sequences that a terminal, or rich, would obey."""
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
