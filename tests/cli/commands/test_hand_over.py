"""`ringback hand-over` as a process, at a real broker."""

from __future__ import annotations

import json
from typing import Any

from support.harness import BrokerProcess, eventually

from ringback import Player, Server
from ringback_cli.exits import Exit


def test_the_next_server_acts(broker: BrokerProcess, command: Any) -> None:
    where = {"RINGBACK_BACKEND": broker.backend}
    first, second = (Server(broker.backend, standby=True) for _ in range(2))
    for server, name in ((first, "first"), (second, "second")):
        server.register_server_callback("who", lambda source, payload, name=name: name)
    with Player(broker.players, 7) as player, first:
        code, output, errors = command("hand-over", environment=where).end()
        assert (code, output) == (Exit.NO_SERVER, "") and "no server stands by" in errors
        assert player.trigger_server_callback("who").result() == "first"
        with second:
            code, output, errors = command("stats", "--json", environment=where).end()
            assert json.loads(output)["counters"]["servers_standing_by"] == 1
            code, output, errors = command("hand-over", environment=where).end()
            assert (code, json.loads(output), errors) == (Exit.OK, {"handed_over": broker.backend}, "")
            assert player.trigger_server_callback("who").result() == "second"
            eventually(lambda: not first.connected, "the first server has left")

            def events() -> list[tuple[str, str]]:
                _, output, _ = command("events", "--json", environment=where).end()
                rows = [json.loads(line) for line in output.splitlines()]
                return [(row["event"], row["role"]) for row in rows if row["role"] != "player"]

            eventually(lambda: events()[-1] == ("left", "server"), "the broker knows that it has left")
            assert events() == [
                *(("joined", "server"), ("joined", "server"), ("retiring", "server"), ("acting", "server")),
                *(("ordered", "operator"), ("left", "server")),
            ]
