"""Peers that break the rules of ZeroMQ's own layer. Nobody else must notice."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from support.harness import BrokerProcess, Process, eventually
from support.rawpeers import RawPeer, Stage

from ringback.protocol import control
from ringback.protocol.control import encode
from ringback.protocol.frames import FrameType, Role, header
from ringback.protocol.limits import MAX_FRAME_BYTES

CLAIMS = 50

FIRST_ID = """
import zmq
router, dealer = zmq.Context.instance().socket(zmq.ROUTER), zmq.Context.instance().socket(zmq.DEALER)
dealer.connect(f"tcp://127.0.0.1:{router.bind_to_random_port('tcp://127.0.0.1')}")
dealer.send(b"")
print("first", router.recv().hex())
zmq.Context.instance().destroy(0)
"""
"""Prints the first routing ID that the first ROUTER of a process gives to a peer without a routing ID."""


@pytest.fixture
def stage(broker: BrokerProcess) -> Iterator[Stage]:
    with Stage(broker) as stage:
        yield stage


def test_a_frame_that_is_too_large_ends_only_its_sender(stage: Stage) -> None:
    with stage.canary() as canary, stage.peer(Role.PLAYER) as peer:
        peer.join(Role.PLAYER, "giant")
        eventually(lambda: "giant" in stage.server.players, "it has joined")
        peer.send(header(FrameType.DATA) + bytes(MAX_FRAME_BYTES))
        peer.wait_for_close()
        canary.sing_on()
        eventually(lambda: stage.server.players == ["canary"], "it has left")


def test_routing_ids_that_libzmq_would_choose(stage: Stage) -> None:
    """libzmq numbers the peers without a routing ID, and aborts if another peer has claimed a number (libzmq
    issue 4633). An attacker who knows the first number of an ordinary process must not know the broker's."""
    with Process("-c", FIRST_ID) as process:
        first = process.wait_for("first 00([0-9a-f]{8})").group(1)
    begin = struct.unpack("!I", bytes.fromhex(first))[0]
    numbers = [*range(begin - 2, begin + CLAIMS), *range(CLAIMS)]
    players = stage.broker.players
    hello = encode(control.Hello(Role.PLAYER))
    with stage.canary() as canary, ExitStack() as stack:
        for number in numbers:
            claimed = b"\0" + struct.pack("!I", number)
            claims = stack.enter_context(RawPeer(stage.context, players, routing_id=claimed))
            claims.send(hello)
            assert isinstance(claims.told(), control.Welcome)
        for _ in numbers:
            nameless = stack.enter_context(RawPeer(stage.context, players, routing_id=b""))
            nameless.send(hello)
            assert isinstance(nameless.told(), control.Welcome)
        canary.sing_on()
    assert stage.broker.process.popen.poll() is None
