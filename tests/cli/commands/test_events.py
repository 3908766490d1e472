"""`ringback events` as a process, at a real broker."""

from __future__ import annotations

import json
import signal
from typing import Any

from support.harness import BrokerProcess

from ringback import Player
from ringback_cli.exits import Exit


def test_events(command: Any) -> None:
    with BrokerProcess() as broker:
        where = {"RINGBACK_BACKEND": broker.backend}
        with Player(broker.players, 7), Player(broker.players, "7"):
            following = command("events", "--player", "7", "--follow", environment=where)
            assert b"joined  player  7  127.0.0.1" in following.popen.stdout.readline()
            code, output, errors = command("events", environment=where).end()
            assert (code, errors) == (Exit.OK, "")
            head, *rows = output.splitlines()
            assert head.split()[:4] == ["time", "(UTC)", "event", "role"]
            assert [row.split()[2:5] for row in rows if " player " in row] == [
                ["joined", "player", "7"],
                ["joined", "player", '"7"'],
            ]
        assert b"left  player  7  127.0.0.1  it said BYE" in following.popen.stdout.readline()
        following.popen.send_signal(signal.SIGINT)
        assert following.end()[0] == Exit.INTERRUPTED
        arguments = ("events", "--json", "--last", "1", "--player", "7", "--string-id")
        code, output, _ = command(*arguments, environment=where).end()
        found = json.loads(output)
        assert (found["event"], found["player"], found["reason"]) == ("left", "7", "it said BYE")
