"""`ringback drain` as a process, at a real broker."""

from __future__ import annotations

import json
import threading
from typing import Any

from support.harness import PATIENCE_S, BrokerProcess

from ringback import Player, Server
from ringback_cli.exits import Exit


def test_a_broker_is_drained(command: Any) -> None:
    with BrokerProcess(options=("--grace", "600")) as broker:
        where = {"RINGBACK_BACKEND": broker.backend}
        server, player = Server(broker.backend), Player(broker.players, 1)
        replies: list[Any] = []
        arrived = threading.Event()

        @server.register_server_callback("late")
        def late(source: Any, payload: Any, cb: Any) -> None:
            replies.append(cb)
            arrived.set()

        with server, player:
            call = player.trigger_server_callback("late", timeout=PATIENCE_S)
            assert arrived.wait(PATIENCE_S)
            code, output, errors = command("drain", "--grace", "300", environment=where).end()
            assert (code, json.loads(output), errors) == (Exit.OK, {"draining": broker.backend}, "")
            broker.process.wait_for("draining for at most 300 s")
            code, _, errors = command("drain", environment=where).end()
            assert code == Exit.REFUSED and errors.startswith("DRAINING")
            replies[0]("done")
            assert call.result() == "done"
        assert broker.process.wait() == Exit.OK
