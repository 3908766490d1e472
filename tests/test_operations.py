"""The incident in docs/operations.md: the commands print what the page shows, when the same faults happen."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.harness import ENVIRONMENT, PATIENCE_S, BrokerProcess, Process, eventually
from support.pages import alike, commands

from ringback import CallbackError, Operator, Player

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "operations.md"

SERVER = """
import sys, ringback
server = ringback.Server(sys.argv[1])
shop = {"food": ["apple", "bread"]}
server.register_server_callback("shop:items", lambda source, payload: shop[payload["category"]])
@server.register_server_callback("shop:buy", limit="6000/min")
def buy(source, payload):
    raise ringback.CallbackError("come tomorrow", code="OUT_OF_STOCK")
server.on_connected(lambda address: print("connected", flush=True))
server.run_forever()
"""


def section() -> str:
    text = DOCUMENT.read_text()
    return text[text.index("## An incident, step by step") :]


class Incident:
    """A broker, a server process and three players.

    The commands find the broker by environment variables, as they would find it at its default ports.
    """

    def __init__(self) -> None:
        self.broker = BrokerProcess()
        self.over = threading.Event()
        self.buying = threading.Thread(target=self.buy)
        self.server = self.start_server()
        self.players = [Player(self.broker.players, player_id).start() for player_id in (7, 8, "anna")]
        for player in self.players:
            player.register_client_callback("local:coords", lambda payload: {"x": 1.0})
        with Operator(self.broker.backend) as operator:
            eventually(
                lambda: (
                    ["local:coords", "player", 3]
                    in [row[:3] for row in operator.query("callbacks").result()[0]]
                ),
                "all callbacks",
            )

    def start_server(self) -> Process:
        server = Process("-c", SERVER, self.broker.backend)
        server.wait_for("connected")
        return server

    # The page names these three methods in its comments, with spaces.

    def the_server_dies(self) -> None:
        self.server.kill()

        def fails() -> bool:
            call = self.players[0].trigger_server_callback("shop:items", {"category": "food"}, timeout=5.0)
            with pytest.raises(CallbackError) as caught:
                call.result()
            return caught.value.code_name == "NO_SERVER"

        eventually(fails, "the broker knows that the server has left")

    def the_server_is_started_again(self) -> None:
        self.server = self.start_server()

    def a_player_goes_on_buying(self) -> None:
        self.buying.start()
        with Operator(self.broker.backend) as operator:

            def reported() -> bool:
                rows = operator.query("callbacks").result()[0]
                return any(row[0] == "shop:buy" and row[5] > 10 for row in rows)

            eventually(reported, "some calls were reported")

    def buy(self) -> None:
        while not self.over.wait(0.02):
            with pytest.raises(CallbackError):
                self.players[0].trigger_server_callback("shop:buy", {"item": "lamp"}).result()

    def close(self) -> None:
        self.over.set()
        if self.buying.is_alive():
            self.buying.join()
        for player in self.players:
            player.close()
        self.server.kill()
        self.broker.process.kill()

    def run(self, line: str) -> str:
        arguments = shlex.split(line)
        assert arguments[0] == "ringback"
        where = {"RINGBACK_PLAYERS": self.broker.players, "RINGBACK_BACKEND": self.broker.backend}
        done = subprocess.run(
            [sys.executable, "-m", "ringback_cli", *arguments[1:]],
            env={**ENVIRONMENT, **where},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return done.stdout + done.stderr


@pytest.fixture
def incident() -> Iterator[Incident]:
    incident = Incident()
    yield incident
    incident.close()


def test_the_commands_print_what_the_page_shows(incident: Incident) -> None:
    happened = []
    for fault, block in re.findall(r"<!-- (.*?) -->|```console\n(.*?)```", section(), re.DOTALL):
        if fault:
            getattr(incident, fault.replace(" ", "_"))()
            happened.append(fault)
            continue
        for command, shown in commands(block):
            printed = incident.run(command)
            assert alike(printed) == alike(shown), f"{command} prints:\n{printed}"
    assert happened == ["the server dies", "the server is started again", "a player goes on buying"]
