"""`ringback broker` as a process: how it stops."""

from __future__ import annotations

import signal
from typing import Any

from support.harness import BrokerProcess

from ringback import Player
from ringback_cli.exits import Exit


def test_an_address_in_use(broker: Any, command: Any) -> None:
    code, output, errors = command("broker", "--players", broker.players).end()
    assert (code, output, errors.count("\n")) == (Exit.BIND_FAILED, "", 1)
    assert errors.startswith(f"BIND_FAILED: cannot listen on {broker.players}: it is in use; stop the ")
    assert errors.endswith(" or choose another address\n")


def test_a_signal_drains(broker: BrokerProcess) -> None:
    with Player(broker.players, 1):
        broker.process.signal(signal.SIGTERM)
        assert broker.process.wait() == Exit.OK


def test_a_second_signal_forces() -> None:
    # Use a raw peer that does not leave when the broker drains.
    import zmq

    from ringback.protocol.control import Hello, encode
    from ringback.protocol.frames import Role

    with BrokerProcess(options=("--grace", "600")) as broker, zmq.Context() as context:
        peer = context.socket(zmq.DEALER)
        peer.setsockopt(zmq.LINGER, 0)
        peer.setsockopt(zmq.ROUTING_ID, b"R" + bytes(range(1, 16)))
        peer.connect(broker.players)
        peer.send(encode(Hello(Role.PLAYER, 1, (), "test")))
        assert peer.poll(30_000)
        broker.process.signal(signal.SIGTERM)
        broker.process.wait_for("draining")
        broker.process.signal(signal.SIGTERM)
        assert broker.process.wait() == Exit.FORCED
        peer.close()
