"""`ringback kick` as a process, and orders that the broker refuses."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from support.harness import PATIENCE_S, BrokerProcess
from support.keyring import KeyRing

from ringback import Forbidden, Operator, Player, PlayerLeft, Server, UnknownPlayer
from ringback.credentials import write_key_pair
from ringback_cli.exits import Exit

PLAYERS_HINT = "hint: `ringback players` prints who is connected\n"


def test_a_player_is_kicked(command: Any) -> None:
    with BrokerProcess() as broker, Server(broker.backend) as server:
        where = {"RINGBACK_BACKEND": broker.backend}
        reasons: list[str] = []
        left, arrived, released = threading.Event(), threading.Event(), threading.Event()
        player = Player(broker.players, 7)

        @player.register_client_callback("never")
        def never(payload: Any) -> None:
            arrived.set()
            released.wait(PATIENCE_S)

        @player.on_disconnected
        def disconnected(reason: str) -> None:
            reasons.append(reason)
            left.set()

        with player:
            call = server.trigger_client_callback("never", 7, timeout=PATIENCE_S)
            assert arrived.wait(PATIENCE_S)
            done = command("kick", "7", "--reason", "it cheats", environment=where).end()
            assert done == (Exit.OK, '{"kicked": 7}\n', "")
            with pytest.raises(PlayerLeft):
                call.result()
            assert left.wait(PATIENCE_S) and reasons == ["KICKED: it cheats"]
            released.set()
            broker.process.wait_for(r"ordered: kick player 7 \(it cheats\), by operator \d+ at 127\.0\.0\.1")
            code, _, errors = command("kick", "7", environment=where).end()
            assert (code, errors) == (
                Exit.UNKNOWN_PLAYER,
                "UNKNOWN_PLAYER: no such player is connected\n" + PLAYERS_HINT,
            )
        with Player(broker.players, "7"):
            assert command("kick", "7", "--string-id", environment=where).end()[0] == Exit.OK
        with Player(broker.players, 7), Operator(broker.backend) as operator:  # a new program may join
            assert operator.kick(7).result() is None
            with pytest.raises(UnknownPlayer):
                operator.kick(7).result()


def test_an_operator_without_the_right_to_orders(tmp_path: Path, command: Any) -> None:
    ring = KeyRing(tmp_path)
    anna, pair = ring.add("anna", "player", 7), ring.add("watch", "operator")
    path = write_key_pair(pair, tmp_path)
    allow = ["keys", "allow", str(path.with_suffix(".pub")), "--no-orders"]
    assert command(*allow, "--access", str(tmp_path / "access.toml")).end()[0] == Exit.OK
    with BrokerProcess(options=ring.options) as broker, Player(broker.players, key_file=anna) as player:
        arguments = ("--backend", broker.backend, "--key-file", str(path))
        for order in (["kick", "7"], ["drain"], ["tap"], ["tap", "--log", "9"]):
            code, _, errors = command(*order, *arguments).end()
            assert code == Exit.FORBIDDEN
            assert errors == "FORBIDDEN: the broker's access list does not let this operator give orders\n"
        broker.process.wait_for("refused .*the operator 'watch' may not give orders")
        assert player.connected
        with Operator(broker.backend, key_file=pair) as operator, pytest.raises(Forbidden):
            operator.drain().result()
        code, output, _ = command("players", "--json", *arguments).end()
        assert code == Exit.OK and json.loads(output)[0]["player"] == 7


def test_bad_orders() -> None:
    with BrokerProcess() as broker, Operator(broker.backend) as operator:
        with pytest.raises(ValueError, match="a player ID must be from 1 to"):
            operator.kick(0)
        with pytest.raises(TypeError, match="reason must be a str, not int"):
            operator.kick(1, 5)  # type: ignore[arg-type]
        for grace in (0, -1, 1e9):
            with pytest.raises(ValueError, match="seconds"):
                operator.drain(grace)
        with pytest.raises(TypeError):
            operator.drain("soon")  # type: ignore[arg-type]
        with pytest.raises(UnknownPlayer):
            operator.kick(1, "\ud800" * 1000).result()
