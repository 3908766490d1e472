"""`ringback tap` as a process, at a real broker with a server and players."""

from __future__ import annotations

import json
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.harness import PATIENCE_S, BrokerProcess, eventually
from support.terminals import Terminal

from ringback import CallbackError, Operator, Player, Server
from ringback_cli.exits import Exit


class Stage:
    """A broker process, and a server and two players in this process that call each other."""

    def __init__(self) -> None:
        self.broker = BrokerProcess()
        self.server = Server(self.broker.backend).start()
        self.seven, self.anna = (Player(self.broker.players, player_id).start() for player_id in (7, "anna"))
        self.server.register_server_callback("shop:items", lambda source, payload: {"items": payload})
        self.server.register_server_callback("chat:say", self.refuse)
        self.anna.register_client_callback("local:where", lambda payload: [1, 2])
        self.where = {"RINGBACK_BACKEND": self.broker.backend}

    @staticmethod
    def refuse(source: Any, payload: Any) -> None:
        raise CallbackError("too\nloud", code="MUTED")

    def close(self) -> None:
        for endpoint in (self.seven, self.anna, self.server):
            endpoint.close()
        self.broker.process.kill()

    def call(self) -> None:
        """Make three calls. One of them fails."""
        self.seven.trigger_server_callback("shop:items", {"n": 1, "b": b"\x00"}).result()
        with pytest.raises(CallbackError):
            self.anna.trigger_server_callback("chat:say", "hi").result()
        self.server.trigger_client_callback("local:where", "anna").result()


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


def wait_until_watched(stage: Stage) -> None:
    """Make calls until the server has reported one, which shows that the watch has begun."""
    with Operator(stage.broker.backend) as operator:

        def seen() -> bool:
            stage.seven.trigger_server_callback("shop:items", "probe").result()
            stage.server.trigger_client_callback("local:where", "anna", "probe").result()
            return bool(operator.query("calls").result()[0])

        eventually(seen, "the server reports calls")


def test_all_calls(stage: Stage, command: Any) -> None:
    tap = command("tap", environment=stage.where)
    wait_until_watched(stage)
    stage.call()
    lines: list[str] = []
    while not {"shop:items", "MUTED"} <= set(" ".join(lines).split()):
        lines.append(tap.popen.stdout.readline().decode())
        assert lines[-1]
    way = r"(player (7|'anna') -> server|server -> player 'anna')"
    form = rf"\d\d:\d\d:\d\d\.\d{{3}}  {way}  \S+  (OK|MUTED)  \d+\.\d{{3}} ms\n"
    assert all(re.fullmatch(form, line) for line in lines), lines
    assert "payload" not in "".join(lines) and "items" not in "".join(lines).replace("shop:items", "")
    tap.popen.send_signal(signal.SIGINT)
    code, _, errors = tap.end()
    assert (code, errors) == (Exit.INTERRUPTED, "")


def test_calls_of_one_player_with_payloads(stage: Stage, command: Any) -> None:
    arguments = ("--player", "7", "--key", "shop:*", "--payloads", "--json", "--count", "2")
    tap = command("tap", *arguments, environment=stage.where)
    wait_until_watched(stage)
    stage.call()
    found = [json.loads(tap.popen.stdout.readline()) for _ in range(2)]
    code, _, errors = tap.end()
    assert (code, errors) == (Exit.OK, "")
    for call in found:
        assert (call["side"], call["player"], call["key"], call["outcome"]) == (
            "server",
            7,
            "shop:items",
            "OK",
        )
        assert call["ms"] > 0 and abs(call["unix_s"] - time.time()) < 60
        assert call["reply"] == [{"items": call["payload"]}]
    with Operator(stage.broker.backend) as operator:
        rows = operator.query("calls").result()[0]
        assert {(row[3], row[4]) for row in rows} == {(7, "shop:items")}


def test_a_line_with_payloads(stage: Stage, command: Any) -> None:
    tap = command("tap", "--key", "chat:*", "--payloads", "--count", "1", environment=stage.where)
    with Operator(stage.broker.backend) as operator:

        def seen() -> bool:
            with pytest.raises(CallbackError):
                stage.anna.trigger_server_callback("chat:say", "hi").result()
            return bool(operator.query("calls").result()[0])

        eventually(seen, "the server reports calls")
    code, output, errors = tap.end()
    assert (code, errors) == (Exit.OK, "")
    assert re.search(
        r"player 'anna' -> server  chat:say  MUTED  \S+ ms  \"hi\" -> \"too\\nloud\"$", output.strip()
    )


def test_calls_in_the_log(stage: Stage, command: Any) -> None:
    code, output, errors = command("tap", "--player", "7", "--log", "60", environment=stage.where).end()
    assert (code, json.loads(output), errors) == (Exit.OK, {"logged_s": 60.0}, "")
    wait_until_watched(stage)
    stage.broker.process.wait_for(r"ringback.broker called player 7 -> server shop:items OK \d+\.\d{3} ms")
    code, _, _ = command("tap", "--player", "7", "--log", "0", environment=stage.where).end()
    assert code == Exit.OK
    stage.broker.process.wait_for(re.escape("no longer watch the calls to and from player 7"))


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--log", "-1"], "--log: the seconds must be from 0 to 86400, not -1"),
        (["--log", "9", "--json"], "--log: it prints nothing"),
        (["--count", "0"], "--count"),
        (["--player", "0"], "--player"),
        (["--key", ""], "a pattern must have 1 to 256 UTF-8 bytes"),
    ],
)
def test_wrong_use(command: Any, arguments: list[str], part: str) -> None:
    code, output, errors = command("tap", *arguments).end()
    assert (code, output) == (Exit.USAGE, "") and part in errors and errors.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("tap",), "watching calls at {}; Ctrl-C ends it"),
        (
            ("tap", "--player", "7", "--key", "shop:*"),
            "watching calls from and to player 7 of keys like 'shop:*' at {}; Ctrl-C ends it",
        ),
        (("events", "--follow", "--player", "9"), "waiting for new events of player 9 at {}; Ctrl-C ends it"),
    ],
)
def test_a_terminal_says_what_is_watched(
    broker: BrokerProcess, arguments: tuple[str, ...], hint: str
) -> None:
    words = (sys.executable, "-m", "ringback_cli", *arguments, "--backend", broker.backend)
    with Terminal(*words, size=(24, 200)) as terminal:
        line = hint.format(broker.backend)
        terminal.wait_until(lambda: line in terminal.shown, "the terminal says what is watched")
        terminal.send("\x03")
        assert terminal.end() == Exit.INTERRUPTED


@pytest.mark.parametrize("arguments", [("tap", "--json"), ("events", "--follow", "--json", "--player", "9")])
def test_json_has_no_hint(broker: BrokerProcess, arguments: tuple[str, ...]) -> None:
    words = (sys.executable, "-m", "ringback_cli", *arguments, "--backend", broker.backend)
    with Terminal(*words, "--timeout", "2") as terminal:
        assert terminal.end() == Exit.OK
        assert terminal.shown == ""


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        (("tap",), "saw 0 calls"),
        (("tap", "--player", "7", "--key", "no:*"), "saw 0 calls from and to player 7 of keys like 'no:*'"),
        (("events", "--follow", "--player", "9"), "saw 0 new events of player 9"),
    ],
)
def test_the_time_ends_also_if_nothing_comes(
    broker: BrokerProcess, command: Any, arguments: tuple[str, ...], seen: str
) -> None:
    begun_at = time.monotonic()
    code, output, errors = command(*arguments, "--backend", broker.backend, "--timeout", "1.5").end()
    assert 1.5 <= time.monotonic() - begun_at < 1.5 + PATIENCE_S / 2
    assert (code, output, errors) == (Exit.OK, "", f"the time is over: {seen}\n")


def test_the_time_ends_also_if_much_comes(stage: Stage, command: Any) -> None:
    """More calls end than the server reports, so some are left out, and the last line says so."""
    over = threading.Event()

    def call_on() -> None:
        while not over.is_set():
            group = [stage.seven.trigger_server_callback("shop:items", n) for n in range(500)]
            for call in group:
                call.result()

    caller = threading.Thread(target=call_on)
    caller.start()
    try:
        begun_at = time.monotonic()
        code, output, errors = command("tap", "--timeout", "4", environment=stage.where).end()
        took_s = time.monotonic() - begun_at
    finally:
        over.set()
        caller.join()
    assert code == Exit.OK and 4 <= took_s < 4 + PATIENCE_S / 2
    found = re.fullmatch(r"the time is over: saw (\d+) calls(, and the broker left \d+ out)?\n", errors)
    assert found is not None and int(found[1]) == output.count("\n") > 0


def test_colours_on_a_terminal(stage: Stage) -> None:
    words = (sys.executable, "-m", "ringback_cli", "tap", "--count", "1", "--backend", stage.broker.backend)
    with Terminal(*words, size=(24, 200)) as terminal:
        terminal.wait_until(lambda: "watching calls" in terminal.shown, "the terminal says what is watched")
        wait_until_watched(stage)
        stage.call()
        assert terminal.end() == Exit.OK
    assert re.search(r"\x1b\[36m(shop:items|local:where|chat:say)\x1b\[0m", terminal.shown)
