"""`ringback explain` as a process, at a real broker."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from support.harness import BrokerProcess, eventually
from support.keyring import KeyRing

from ringback import CallbackError, Player, Server, __version__
from ringback.credentials import write_key_pair
from ringback_cli.exits import Exit


def test_explain_a_player(command: Any) -> None:
    with BrokerProcess() as broker:
        where = {"RINGBACK_BACKEND": broker.backend}
        player = Player(broker.players, 7)
        player.register_client_callback("where", lambda payload: None)
        with player, Player(broker.players, 8):
            code, output, errors = command("explain", "player", "7", environment=where).end()
            assert (code, errors) == (Exit.OK, "")
            lines = output.splitlines()
            assert re.fullmatch(r"player 7 has been connected for \d+ s, from 127\.0\.0\.1", lines[0])
            assert lines[1] == "it has registered 1 callbacks"
            assert lines[-1].endswith(f"UTC joined 127.0.0.1 (ringback-python/{__version__})")
            _, output, _ = command("explain", "player", "8", environment=where).end()
            assert "it has registered 0 callbacks: calls to it end with UNKNOWN_CALLBACK" in output
            arguments = ("explain", "player", "7", "--string-id", "--json")
            code, output, _ = command(*arguments, environment=where).end()
            found = json.loads(output)
            assert code == Exit.UNKNOWN_PLAYER and (found["player"], found["works"]) == ("7", False)
            other = "player 7 is connected: an int and a str are two IDs; 7 without --string-id is the int"
            assert other in found["because"]
            for text in ("0", "9" * 64):  # no int that an ID may be looks like that
                arguments = ("explain", "player", text, "--string-id")
                code, output, errors = command(*arguments, environment=where).end()
                assert (code, errors) == (Exit.UNKNOWN_PLAYER, "")
                assert output.startswith(f"player '{text}' is not connected")
        code, output, _ = command("explain", "player", "7", environment=where).end()
        assert code == Exit.UNKNOWN_PLAYER
        assert output.splitlines()[0].startswith("player 7 is not connected")
        assert output.endswith("UTC left 127.0.0.1 (it said BYE)\n")
        code, output, _ = command("explain", "player", "9", environment=where).end()
        assert "the broker remembers no event of this player" in output


def test_a_player_that_hangs_is_seen(command: Any) -> None:
    with BrokerProcess() as broker:
        where = {"RINGBACK_BACKEND": broker.backend}
        held: list[Any] = []
        player = Player(broker.players, 7)
        player.register_client_callback("hang", lambda payload, cb: held.append(cb))
        with player, Player(broker.players, 8), Server(broker.backend) as server:
            calls = [server.trigger_client_callback("hang", 7) for _ in range(3)]

            def explained() -> str:
                return str(command("explain", "player", "7", environment=where).end()[1])

            hangs = "0 of its calls have ended, 0 of them failed; 3 are in flight; its round-trip time is "
            eventually(lambda: hangs in explained(), "its calls in flight are reported")
            rows = command("players", "--sort", "in_flight", "--json", environment=where).end()[1]
            assert [(row["player"], row["in_flight"]) for row in json.loads(rows)] == [(7, 3), (8, 0)]
            for cb in held:
                cb(1)
            assert [call.result() for call in calls] == [1, 1, 1]


def test_the_latest_failures_of_a_player_and_of_a_callback(command: Any, tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    seven, anna = ring.add("seven", "player", 7), ring.add("anna", "player", "anna")
    shop, cli = ring.add("shop", "server"), ring.add("cli", "operator")
    looker = ring.add("looker", "operator", more="orders = false")
    keys = {name: write_key_pair(pair, tmp_path) for name, pair in (("cli", cli), ("looker", looker))}

    def sold_out(source: Any, payload: Any) -> None:
        raise CallbackError("all gone", code="SOLD_OUT")

    def explain(*what: str, key: str = "cli") -> list[str]:
        where = ("--backend", broker.backend, "--key-file", str(keys[key]))
        return list(command("explain", *what, *where).end()[1].splitlines())

    when = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC "
    sold = when + r"player 7 -> server, 'shop:buy': SOLD_OUT after \d+\.\d{3} ms"
    mistyped = when + r"player 'anna' -> server, 'shop:by': UNKNOWN_CALLBACK"

    def listed(pattern: str, lines: list[str]) -> int:
        return sum(re.fullmatch(pattern, line) is not None for line in lines)

    with BrokerProcess(options=ring.options) as broker, Server(broker.backend, key_file=shop) as server:
        server.register_server_callback("shop:buy", sold_out)
        with Player(broker.players, key_file=seven) as player, Player(broker.players, key_file=anna) as other:
            for _ in range(2):
                assert player.trigger_server_callback("shop:buy").exception() is not None
            assert other.trigger_server_callback("shop:by").exception() is not None
            eventually(lambda: listed(sold, explain("player", "7")) == 2, "the failures of the player")
            assert listed(sold, explain("callback", "shop:buy")) == 2
            assert listed(mistyped, explain("callback", "shop:by")) == 1
            assert listed(sold, explain("player", "anna")) == 0
            hidden = "this operator may not give orders, and so not see which calls failed"
            assert hidden in explain("callback", "shop:buy", key="looker")
        assert listed(mistyped, explain("player", "anna")) == 1  # it has left


def test_explain_a_callback(shop: Any) -> None:
    code, output, errors = shop.run("explain", "callback", "echo")
    assert (code, errors) == (Exit.OK, "")
    assert output.splitlines()[0] == "the server has registered 'echo'"
    code, output, _ = shop.run("explain", "callback", "seven")
    assert output.splitlines()[0] == "2 players have registered 'seven'"
    code, output, _ = shop.run("explain", "callback", "ecko")
    assert code == Exit.UNKNOWN_CALLBACK
    assert output.splitlines()[:2] == [
        "nobody has registered 'ecko': its calls fail with UNKNOWN_CALLBACK or NO_SERVER",
        "did you mean 'echo'?",
    ]
    code, output, _ = shop.run("explain", "callback", "echo", "--json")
    assert json.loads(output)["works"] is True


def test_explain_without_a_server(command: Any) -> None:
    with BrokerProcess() as broker:
        where = {"RINGBACK_BACKEND": broker.backend}
        code, output, _ = command("explain", "callback", "k", environment=where).end()
        assert code == Exit.UNKNOWN_CALLBACK and "no server with callbacks is connected" in output


def test_without_arguments_it_prints_its_help(command: Any) -> None:
    code, output, errors = command("explain").end()
    assert (code, output) == (Exit.USAGE, "")
    help_code, help_text, _ = command("explain", "--help").end()
    assert (help_code, help_text) == (Exit.OK, errors)
    assert errors.startswith("Usage: ringback explain [OPTIONS] {player|callback}")
    assert max(map(len, errors.splitlines())) <= 80 and errors.isascii()
