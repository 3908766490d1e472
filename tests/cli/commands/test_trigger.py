"""`ringback trigger` as a process, with real endpoints."""

from __future__ import annotations

import json
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.harness import PATIENCE_S

from ringback import CallbackError, Operator, Player, Server, UnknownCallback, UnknownPlayer
from ringback_cli.connection import Connection, TimeLimit
from ringback_cli.exits import Exit
from ringback_cli.hints import hint_for


def test_results(shop: Any, tmp_path: Path) -> None:
    file = tmp_path / "payload.json"
    file.write_text('\ufeff{"from": "a file", "ä": 1}', encoding="utf-8")
    cases: list[tuple[list[str], Any]] = [
        (["server", "echo"], ["cli", None]),
        (["server", "echo", '{"a": [1, 2.5, "x"]}', "--source", "12"], [12, {"a": [1, 2.5, "x"]}]),
        (["server", "echo", "--source", "12", "--string-id", "--", "-5"], ["12", -5]),
        (["server", "echo", f"@{file}", "--as-player", "99"], [99, {"from": "a file", "ä": 1}]),
        (["server", "reply", "[]"], None),
        (["server", "reply", '["one"]'], "one"),
        (["server", "reply", "[null]"], None),
        (["server", "reply", "[1, [2], null]"], [1, [2], None]),
        (
            ["server", "odd"],
            {
                "b": {"base64": "/wA="},
                "f": [{"float": "NaN"}, {"float": "-Infinity"}],
                "m": {"map": [[7, "int"], ["7", "str"]]},
            },
        ),
        (["client", "where", "7", "3"], {"at": 3}),
        (["client", "where", "7", "--string-id"], {"base64": "aGVyZQ=="}),
    ]
    commands = [shop.start("trigger", *arguments) for arguments, _ in cases]
    for command, (arguments, expected) in zip(commands, cases, strict=True):
        code, output, errors = command.end()
        assert (code, errors) == (0, ""), arguments
        assert json.loads(output) == expected
        assert output.count("\n") == 1


def test_progress_goes_to_standard_error(shop_of_own: Any) -> None:
    shop, server, player = shop_of_own

    def load(source: Any, payload: Any, cb: Any) -> None:
        for number in range(3):
            cb.progress({"done": number, "\x07": b"x"})
        cb("ready")

    server.register_server_callback("load", load)
    player.register_client_callback("load", lambda payload, cb: load(7, payload, cb))
    lines = [f'{{"done": {number}, "\\u0007": {{"base64": "eA=="}}}}' for number in range(3)]
    for where in (["server", "load"], ["server", "load", "--as-player", "9"], ["client", "load", "7"]):
        code, output, errors = shop.run("trigger", *where, "--progress")
        assert (code, output) == (0, '"ready"\n') and errors.splitlines() == lines
        assert shop.run("trigger", *where) == (0, '"ready"\n', "")


def test_a_call_may_be_tried_again(shop_of_own: Any) -> None:
    """Its handler's side remembers it then."""
    shop, server, player = shop_of_own
    server.register_server_callback("once", lambda source, payload: "done")
    player.register_client_callback("once", lambda payload: "done")
    for where, handles in (
        (["server", "once"], server),
        (["server", "once", "--as-player", "9"], server),
        (["client", "once", "7"], player),
        (["all", "once"], player),
    ):
        for option in ([], ["--retry"]):
            before = handles._endpoint.load().remembered
            code, _, errors = shop.run("trigger", *where, *option)
            assert (code, errors) == (0, "")
            assert handles._endpoint.load().remembered - before == len(option)


def test_standard_input(shop: Any) -> None:
    assert shop.run("trigger", "server", "echo", "-", stdin=b'"\xc3\xa4"') == (0, '["cli", "ä"]\n', "")


def test_errors_have_codes_of_their_own(shop: Any) -> None:
    too_deep, too_large = "[" * 65 + "]" * 65, json.dumps("x" * 100_000)
    cases: list[tuple[list[str], Exit, str]] = [
        (["server", "nothing"], Exit.UNKNOWN_CALLBACK, "UNKNOWN_CALLBACK: "),
        (["server", "echo", too_deep], Exit.INVALID_PAYLOAD, "INVALID_PAYLOAD: "),
        (["server", "echo", "1180591620717411303424"], Exit.INVALID_PAYLOAD, "INVALID_PAYLOAD: "),
        (["server", "fail"], Exit.HANDLER_ERROR, "HANDLER_ERROR: "),
        (["server", "refuse"], Exit.APPLICATION_ERROR, "OUT_OF_STOCK: none\\nleft \\x1b[31m"),
        (["server", "never", "--timeout", "5"], Exit.TIMEOUT, "TIMEOUT: "),
        (["server", "echo", "--as-player", "7"], Exit.REFUSED, "ID_TAKEN: "),
        (["all", "seven"], Exit.SOME_FAILED, "SOME_FAILED: 1 of 3 calls failed"),
    ]
    commands = [shop.start("trigger", *arguments) for arguments, _, _ in cases]
    more = {
        Exit.APPLICATION_ERROR: ['data: {"left": 0, "name": "\\u001b]0;x\\u0007\\u202e\\u009b"}'],
        Exit.TIMEOUT: ["executed: maybe", "hint: --timeout SECONDS allows more time"],
        Exit.UNKNOWN_CALLBACK: ["hint: `ringback callbacks` prints what is registered"],
    }
    for command, (arguments, expected, start) in zip(commands, cases, strict=True):
        code, output, errors = command.end()
        first, *others = errors.splitlines()
        assert (code, others) == (expected, more.get(expected, [])), (arguments, errors)
        assert first.startswith(start)
        assert "secret" not in errors
        if expected is not Exit.SOME_FAILED:
            assert output == ""
    large = "[" + ",".join([too_large] * 11) + "]"
    code, output, errors = shop.run("trigger", "server", "echo", "-", stdin=large.encode())
    assert (code, output, errors.count("\n")) == (Exit.TOO_LARGE, "", 1)


ID_OF_ANOTHER_TYPE = "is connected: an int and a str are two IDs"


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (["server", "ecko"], Exit.UNKNOWN_CALLBACK, "did you mean 'echo'?"),
        (["client", "wear", "7"], Exit.UNKNOWN_CALLBACK, "did you mean 'where'?"),
        (["all", "wheree"], Exit.SOME_FAILED, "did you mean 'where'?"),
        (
            ["server", "where"],
            Exit.UNKNOWN_CALLBACK,
            "players have registered 'where': use `ringback trigger client`",
        ),
        (
            ["client", "echo", "7"],
            Exit.UNKNOWN_CALLBACK,
            "the server has registered 'echo': use `ringback trigger server`",
        ),
        (
            ["client", "where", "other"],
            Exit.UNKNOWN_CALLBACK,
            "other players have registered 'where', player 'other' has not",
        ),
        (
            ["server", "ecko", "--as-player", "9"],  # a player cannot ask the broker
            Exit.UNKNOWN_CALLBACK,
            "`ringback callbacks` prints what is registered",
        ),
        (["client", "where", "8"], Exit.UNKNOWN_PLAYER, "`ringback players` prints who is connected"),
        (
            ["client", "where", "007"],
            Exit.UNKNOWN_PLAYER,
            f"player 7 {ID_OF_ANOTHER_TYPE}; 7 without --string-id is the int",
        ),
    ],
)
def test_a_hint_says_what_to_do(shop: Any, arguments: list[str], code: Exit, hint: str) -> None:
    ended, _, errors = shop.run("trigger", *arguments)
    assert (ended, errors.splitlines()[1:]) == (code, [f"hint: {hint}"])
    ended, _, errors = shop.run("trigger", *arguments, "--json")
    assert (ended, json.loads(errors)["error"]["hint"]) == (code, hint)


def test_a_hint_names_the_player_with_a_str(shop_of_own: Any) -> None:
    shop, _, _ = shop_of_own
    with Player(shop.broker.players, "12"):
        for arguments in (["trigger", "client", "where", "12"], ["kick", "12"]):
            code, _, errors = shop.run(*arguments)
            assert code == Exit.UNKNOWN_PLAYER
            assert errors.endswith(f"\nhint: player '12' {ID_OF_ANOTHER_TYPE}; --string-id names the str\n")
    code, _, errors = shop.run("kick", "12")
    assert code == Exit.UNKNOWN_PLAYER and errors.endswith(
        "\nhint: `ringback players` prints who is connected\n"
    )


@dataclass
class Order:
    """A payload that a handler converts."""

    item: str


def test_hints_about_the_terms_of_a_callback(shop_of_own: Any) -> None:
    shop, server, _ = shop_of_own

    def buy(source: Any, payload: Order) -> str:
        return payload.item

    server.register_server_callback("buy", buy)
    server.register_server_callback("guarded", lambda source, payload: 1, allow=[7])
    assert shop.run("trigger", "server", "buy", '{"item": "rope"}')[:2] == (0, '"rope"\n')
    for arguments, code, hint in (
        (["buy", "{}"], Exit.INVALID_PAYLOAD, "`ringback callbacks --schema KEY` prints what it takes"),
        (
            ["guarded"],
            Exit.FORBIDDEN,
            "`ringback explain callback KEY` and the broker's access list say who may call",
        ),
    ):
        ended, _, errors = shop.run("trigger", "server", *arguments)
        assert (ended, errors.splitlines()[-1]) == (code, f"hint: {hint}"), errors


@pytest.mark.parametrize("fate", [signal.SIGSTOP, signal.SIGKILL])
def test_there_is_no_hint_if_the_broker_does_not_answer(broker: Any, fate: signal.Signals) -> None:
    connection = Connection(TimeLimit(None, PATIENCE_S), broker.backend)
    with Operator(broker.backend) as operator:
        errors = (UnknownCallback("none"), UnknownPlayer("none"))
        for error in errors:
            assert hint_for(error, connection, operator, "k", 7)
        broker.process.popen.send_signal(fate)
        for error in errors:
            assert hint_for(error, connection, operator, "k", 7) == ""


def test_errors_are_whole_in_json(shop: Any) -> None:
    error: dict[str, Any] = {
        "code": "OUT_OF_STOCK",
        "message": "none\nleft \x1b[31m",
        "executed": "yes",
        "data": {"left": 0, "name": "\x1b]0;x\x07\u202e\x9b"},
    }
    code, output, errors = shop.run("trigger", "server", "refuse", "--json")
    assert (code, output) == (Exit.APPLICATION_ERROR, "")
    assert json.loads(errors) == {"error": error} and errors[:-1].isprintable()
    guest = Player(shop.broker.players, "guest")

    @guest.register_client_callback("refuse")
    def refuse(payload: Any) -> None:
        raise CallbackError(error["message"], code="OUT_OF_STOCK", data=error["data"])

    with guest:
        code, output, errors = shop.run("trigger", "all", "refuse", "--json")
    assert code == Exit.SOME_FAILED
    assert json.loads(errors) == {"error": {"code": "SOME_FAILED", "message": "4 of 4 calls failed"}}
    assert json.loads(output)[-1] == {"player": "guest", "error": error} and output[:-1].isprintable()
    code, _, errors = shop.run("players", "--nothing", "--json")
    assert code == Exit.USAGE and json.loads(errors)["error"]["code"] == "USAGE"
    code, _, errors = shop.run("trigger", "server", "nothing", "--", "--json")
    assert code == Exit.USAGE and errors.startswith("USAGE: ")


def test_a_traceback_escapes_what_others_sent(shop: Any) -> None:
    environment = {**shop.environment, "RINGBACK_TRACEBACK": "1"}
    command = type(shop.start("--version"))("trigger", "server", "refuse", environment=environment)
    code, _, errors = command.end()
    assert code == Exit.APPLICATION_ERROR and errors.startswith("Traceback")
    assert all(line.isprintable() for line in errors.splitlines())


def test_all_prints_an_outcome_for_each_player(shop: Any) -> None:
    code, output, errors = shop.run("trigger", "all", "where", "[1]", "--timeout", "60")
    assert (code, errors) == (Exit.SOME_FAILED, "SOME_FAILED: 1 of 3 calls failed\n")
    outcomes = json.loads(output)
    assert outcomes[:2] == [
        {"player": 7, "result": {"at": [1]}},
        {"player": "7", "result": {"base64": "aGVyZQ=="}},
    ]
    assert outcomes[2]["player"] == "other"
    assert set(outcomes[2]["error"]) == {"code", "message", "executed", "data"}
    assert outcomes[2]["error"]["executed"] == "no"


def test_ctrl_c_cancels_the_call(shop_of_own: Any) -> None:
    shop, _, _ = shop_of_own
    command = shop.start("trigger", "server", "never", "--timeout", "inf")
    assert shop.arrived.wait(30)
    command.popen.send_signal(signal.SIGINT)
    assert command.end() == (Exit.INTERRUPTED, "", "")
    assert shop.cancelled.wait(30)


@pytest.mark.parametrize(
    ("lost", "target", "expected", "hint"),
    [
        ("server", ["server", "never"], Exit.SERVER_LOST, "`ringback events` says why it left"),
        ("player", ["client", "never", "7"], Exit.PLAYER_LEFT, "`ringback events` says why it left"),
        (
            "broker",
            ["server", "never"],
            Exit.CONNECTION_LOST,
            "`ringback ping` says whether a broker answers",
        ),
    ],
)
def test_a_loss_during_a_call(
    shop_of_own: Any, lost: str, target: list[str], expected: Exit, hint: str
) -> None:
    shop, server, player = shop_of_own
    command = shop.start("trigger", *target, "--timeout", "30")
    assert shop.arrived.wait(30)
    assert isinstance(server, Server) and isinstance(player, Player)
    if lost == "server":
        server.close()
    elif lost == "player":
        player.close()
    else:
        shop.broker.process.kill()
    code, output, errors = command.end()
    assert (code, output) == (expected, "")
    first, *others = errors.splitlines()
    assert first.startswith(f"{expected.name}: ")
    assert others == ["executed: maybe", f"hint: {hint}"]


def test_without_a_server_and_without_players(broker: Any, command: Any) -> None:
    environment = {"RINGBACK_PLAYERS": broker.players, "RINGBACK_BACKEND": broker.backend}
    operator = command("trigger", "server", "k", environment=environment)
    player = command("trigger", "server", "k", "--as-player", "x", environment=environment)
    for process in (operator, player):
        code, output, errors = process.end()
        assert (code, output) == (Exit.NO_SERVER, "")
        assert errors.splitlines() == [
            "NO_SERVER: no server is connected",
            "hint: start the server; `ringback events` says when one joined or left",
        ]
    everybody = command("trigger", "all", "k", environment=environment)  # the player "x" has left
    assert everybody.end()[:2] == (0, "[]\n")


@pytest.mark.parametrize("way", ["nobody", "silent"])
def test_no_broker(way: str, command: Any) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if way == "silent":
            listener.listen()  # the system accepts the connection, and nobody sends anything
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        cases = [
            ["ping", "--backend", address],
            ["players", "--backend", address],
            ["trigger", "server", "k", "--backend", address],
            ["trigger", "all", "k", "--backend", address],
            ["trigger", "server", "k", "--as-player", "1", "--players", address],
        ]
        begun_at = time.monotonic()
        processes = [command(*arguments, "--timeout", "1") for arguments in cases]
        for process in processes:
            code, output, errors = process.end()
            assert (code, output, errors.count("\n")) == (Exit.NO_BROKER, "", 1), errors
            assert errors.startswith(f"NO_BROKER: no broker answered at {address}")
        # Without --timeout it would be 5 s. Starting five processes at once also takes some time.
        assert time.monotonic() - begun_at < 20
