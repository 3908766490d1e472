"""`ringback callbacks` as a process, at a real broker."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest
from support.harness import BrokerProcess, eventually

from ringback import CallbackError, ClientCallback, Operator, Player, Server, ServerCallback
from ringback_cli.exits import Exit


def table(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines()]


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


def test_callbacks_show_how_calls_went(command: Any) -> None:
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

        eventually(lambda: listed()["echo server"]["calls"] == 20, "the server has reported")
        found = listed()
        echo = found["echo server"]
        assert (echo["errors"], echo["in_flight"]) == (0, 0) and echo["rate"] > 0.3
        assert 0 < echo["p50_ms"] <= echo["p99_ms"] < 10_000
        assert (found["(others) server"]["calls"], found["(others) server"]["errors"]) == (1, 1)
        inverted = found["invert player"]  # reported by a command that has ended
        assert (inverted["calls"], inverted["errors"], inverted["p50_ms"]) == (1, 1, None)
        code, output, _ = command("explain", "callback", "echo", environment=where).end()
        assert code == Exit.OK and "20 calls have ended, 0 of them failed; 0 are in flight" in output
        assert re.search(r"in the last minute \S+ calls a second ended; 50 % took at most \S+ ms", output)
        _, output, _ = command("explain", "player", "7", environment=where).end()
        assert (
            "22 of its calls have ended, 2 of them failed; 0 are in flight; its round-trip time is" in output
        )


@dataclass
class Move:
    x: int
    y: int = 0


def test_what_a_callback_takes(command: Any) -> None:
    with BrokerProcess() as broker, Server(broker.backend) as server, Player(broker.players, 7) as player:
        where = {"RINGBACK_BACKEND": broker.backend}
        move = ServerCallback("board:move", Move, None)
        server.register(move, lambda source, payload: None)
        server.register_server_callback("plain", lambda source, payload: None)
        player.register(ClientCallback("board:show", list[Move], None), lambda payload: None)
        with Operator(broker.backend) as operator:
            eventually(lambda: len(operator.query("callbacks").results[0]) == 3, "all callbacks")
        code, output, errors = command("callbacks", "--schema", "board:move", environment=where).end()
        assert (code, errors) == (Exit.OK, "")
        assert json.loads(output) == json.loads(move.types.schema or "")
        _, output, _ = command("callbacks", "--schema", "board:show", environment=where).end()
        assert json.loads(output)["type"] == "array"
        assert command("callbacks", "--schema", "plain", environment=where).end()[:2] == (Exit.OK, "null\n")
        code, _, errors = command("callbacks", "--schema", "board:mov", environment=where).end()
        assert code == Exit.UNKNOWN_CALLBACK
        assert "nobody has registered 'board:mov': did you mean 'board:move'" in errors
        _, output, _ = command("explain", "callback", "board:move", environment=where).end()
        assert "the server's takes {x: integer, y: integer (optional)}" in output
        _, output, _ = command("explain", "callback", "board:show", environment=where).end()
        assert "the player's takes [{x: integer, y: integer (optional)}, ...]" in output
        _, output, _ = command("callbacks", "--json", environment=where).end()
        assert {row["key"]: row["schema"] for row in json.loads(output)} == {
            "board:move": True,
            "board:show": True,
            "plain": False,
        }
