"""Broker, server and players as separate processes: the functions, and what happens when one dies."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from support.harness import BrokerProcess, Process

ACTOR = str(Path(__file__).parents[1] / "support" / "actor.py")
LONG_S = 25.0
"""A timeout that no call may reach."""


class Actor(Process):
    """An endpoint in a process of its own."""

    def __init__(self, face: str, role: str, address: str, player_id: Any = None) -> None:
        arguments = () if player_id is None else (json.dumps(player_id),)
        super().__init__(ACTOR, face, role, address, *arguments, stdin=subprocess.PIPE)
        self._numbers = count(1)

    def told(self, *items: Any) -> list[Any]:
        """Wait for a line that begins with these items. Return the whole line."""
        line = self.wait_for("^" + re.escape(json.dumps(items)[:-1]) + r"[,\]]")
        told: list[Any] = json.loads(line.string)
        return told

    def begin(self, function: str, *arguments: Any, **keywords: Any) -> int:
        """Make the process trigger a call. Return the number under which it reports the outcome."""
        number = next(self._numbers)
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps([number, function, arguments, keywords]) + "\n")
        self.popen.stdin.flush()
        return number

    def ask(self, function: str, *arguments: Any, **keywords: Any) -> list[Any]:
        """Make the process trigger a call. Return the outcome."""
        return self.told(self.begin(function, *arguments, **keywords))[1:]


Start = Callable[..., Actor]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start actors, and end them with the test."""
    with ExitStack() as stack:

        def started(*arguments: Any) -> Actor:
            actor = stack.enter_context(Actor(*arguments))
            actor.told("ready")
            return actor

        yield started


@pytest.fixture(params=["blocking", "asyncio"])
def face_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_every_function(face_name: str, any_broker: BrokerProcess, start: Start) -> None:
    server = start(face_name, "Server", any_broker.backend)
    player = start(face_name, "Player", any_broker.players, 7)
    start(face_name, "Player", any_broker.players, "ann")
    operator = start(face_name, "Operator", any_broker.backend)
    server.told("joined", "ann")
    assert player.ask("trigger_server_callback", "echo", {"a": 1})[:2] == ["results", [[7, {"a": 1}]]]
    assert server.ask("trigger_client_callback", "echo", 7, [1])[:2] == ["results", [[1]]]
    assert server.ask("trigger_client_callback", "echo", "ann", "x")[:2] == ["results", ["x"]]
    assert server.ask("trigger_callback", "echo", 99, 5)[:2] == ["results", [[99, 5]]]
    assert operator.ask("trigger_callback", "echo", "script", 5)[:2] == ["results", [["script", 5]]]
    assert operator.ask("trigger_client_callback", "echo", 7, 6)[:2] == ["results", [6]]
    for trusted in (server, operator):
        group = trusted.ask("trigger_all_client_callbacks", "echo", "p", players=[7])
        assert group == ["all", [[7, "p"]]]
        group = trusted.ask("trigger_all_client_callbacks", "echo", "p", players=["ann"])
        assert group == ["all", [["ann", "p"]]]


def test_a_call_that_nobody_can_handle_fails_at_once(
    face_name: str, broker: BrokerProcess, start: Start
) -> None:
    player = start(face_name, "Player", broker.players, 7)

    def quickest(actor: Actor, function: str, *arguments: Any) -> tuple[str, str, float]:
        """Return the time of the fastest of several tries: the machine may be busy."""
        tries = [actor.ask(function, *arguments, timeout=LONG_S) for _ in range(10)]
        assert len({(code, executed) for code, executed, _ in tries}) == 1
        return tries[0][0], tries[0][1], min(took_s for _, _, took_s in tries)

    code, executed, took_s = quickest(player, "trigger_server_callback", "echo")
    assert (code, executed) == ("NO_SERVER", "no") and took_s < 0.05
    server = start(face_name, "Server", broker.backend)
    code, executed, took_s = quickest(player, "trigger_server_callback", "nothing")
    assert (code, executed) == ("UNKNOWN_CALLBACK", "no") and took_s < 0.05
    code, executed, took_s = quickest(server, "trigger_client_callback", "nothing", 7)
    assert (code, executed) == ("UNKNOWN_CALLBACK", "no") and took_s < 0.05
    code, executed, took_s = quickest(server, "trigger_client_callback", "echo", 8)
    assert (code, executed) == ("UNKNOWN_PLAYER", "no") and took_s < 0.05


def test_a_player_killed_during_a_call(face_name: str, any_broker: BrokerProcess, start: Start) -> None:
    server = start(face_name, "Server", any_broker.backend)
    operator = start(face_name, "Operator", any_broker.backend)
    player = start(face_name, "Player", any_broker.players, 7)
    calls = [
        (actor, actor.begin("trigger_client_callback", "silent", 7, name, timeout=LONG_S))
        for actor, name in ((server, "server"), (operator, "operator"))
    ]
    player.told("silent")
    player.told("silent")
    player.kill()
    for actor, number in calls:
        _, code, executed, took_s = actor.told(number)
        assert (code, executed) == ("PLAYER_LEFT", "maybe") and took_s < LONG_S / 2
    # The ID is free at once.
    start(face_name, "Player", any_broker.players, 7)
    assert server.ask("trigger_client_callback", "echo", 7, 1)[:2] == ["results", [1]]


def test_a_stopped_player_is_found(face_name: str, any_broker: BrokerProcess, start: Start) -> None:
    server = start(face_name, "Server", any_broker.backend)
    player = start(face_name, "Player", any_broker.players, 7)
    number = server.begin("trigger_client_callback", "silent", 7, timeout=LONG_S)
    player.told("silent")
    player.signal(signal.SIGSTOP)
    _, code, executed, took_s = server.told(number)
    assert (code, executed) == ("PLAYER_LEFT", "maybe") and took_s < LONG_S / 2
    player.signal(signal.SIGCONT)
    # The player finds its link lost and connects again by itself.
    server.told("joined", 7)
    assert server.ask("trigger_client_callback", "echo", 7, 1)[:2] == ["results", [1]]


def test_a_server_killed_during_a_call(face_name: str, any_broker: BrokerProcess, start: Start) -> None:
    server = start(face_name, "Server", any_broker.backend)
    player = start(face_name, "Player", any_broker.players, 7)
    operator = start(face_name, "Operator", any_broker.backend)
    calls = [
        (player, player.begin("trigger_server_callback", "silent", 1, timeout=LONG_S)),
        (operator, operator.begin("trigger_callback", "silent", 9, 1, timeout=LONG_S)),
    ]
    server.told("silent", 1)
    server.told("silent", 1)
    server.kill()
    for actor, number in calls:
        _, code, executed, took_s = actor.told(number)
        assert (code, executed) == ("SERVER_LOST", "maybe") and took_s < LONG_S / 2
    assert player.ask("trigger_server_callback", "echo", timeout=LONG_S)[:2] == ["NO_SERVER", "no"]
    again = start(face_name, "Server", any_broker.backend)
    assert player.ask("trigger_server_callback", "echo", 2)[:2] == ["results", [[7, 2]]]
    assert again.ask("trigger_client_callback", "echo", 7, 3)[:2] == ["results", [3]]
    assert operator.ask("trigger_callback", "echo", 9, 4)[:2] == ["results", [[9, 4]]]


def test_a_broker_killed_during_calls(face_name: str, any_broker: BrokerProcess, start: Start) -> None:
    server = start(face_name, "Server", any_broker.backend)
    player = start(face_name, "Player", any_broker.players, 7)
    up = player.begin("trigger_server_callback", "silent", 1, timeout=LONG_S)
    down = server.begin("trigger_client_callback", "silent", 7, 2, timeout=LONG_S)
    server.told("silent", 1)
    player.told("silent", 2)
    any_broker.process.kill()
    for actor, number in ((player, up), (server, down)):
        _, code, executed, took_s = actor.told(number)
        assert (code, executed) == ("CONNECTION_LOST", "maybe") and took_s < LONG_S / 2
    code, executed, _ = player.ask("trigger_server_callback", "echo", timeout=LONG_S)
    assert (code, executed) == ("CONNECTION_LOST", "no")
    any_broker.start()
    player.told("connected")
    server.told("joined", 7)
    assert player.ask("trigger_server_callback", "echo", 5)[:2] == ["results", [[7, 5]]]
    assert server.ask("trigger_client_callback", "echo", 7, 6)[:2] == ["results", [6]]
