"""What commands print: JSON, tables and errors."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.harness import BrokerProcess
from support.terminals import Terminal

from ringback import CallbackError, CallTimeout, HandlerError, InvalidPayload, Player, RateLimited
from ringback_cli.exits import Exit, Failure, failure_of
from ringback_cli.output import complain_of, one_line, print_json, to_json

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
