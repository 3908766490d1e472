"""Limits of a real broker, at their edge: N passes, N + 1 does not, and when it passes again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import zmq
from support.harness import BrokerProcess
from support.rawpeers import RawPeer

from ringback import Operator, Overloaded
from ringback.errors import Code, RejectCode
from ringback.protocol import control
from ringback.protocol.frames import HEADER, FrameType, Role, header

RATE = 100


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    with zmq.Context() as context:
        yield context


def bounces(peer: RawPeer, frames: int) -> Counter[Code]:
    """Send frames at once. Return how many bounced, by code: without a server, each one does."""
    for _ in range(frames):
        peer.send(header(FrameType.DATA) + b"\x90")
    codes: Counter[Code] = Counter()
    while codes.total() < frames:
        _, kind, code, _ = HEADER.unpack_from(peer.receive()[0])
        if kind == FrameType.BOUNCE:
            codes[Code(code)] += 1
    return codes


def test_so_many_frames_of_a_player_pass_at_once(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    with (
        BrokerProcess(options=("--player-frames", str(RATE))) as broker,
        RawPeer(context, broker.players) as peer,
    ):
        peer.join(Role.PLAYER)
        time.sleep(1.5)  # a rest, which must not save a second burst
        for _ in range(2):
            began_at = time.monotonic()
            codes = bounces(peer, 3 * RATE)
            took_s = time.monotonic() - began_at
            assert RATE <= codes[Code.NO_SERVER] <= RATE + RATE * took_s + 1
            assert codes[Code.RATE_LIMITED] == 3 * RATE - codes[Code.NO_SERVER]
            time.sleep(1.0)  # the whole burst is there again


@pytest.mark.parametrize("role", [Role.PLAYER, Role.OPERATOR])
def test_so_many_peers_may_be_connected(context: zmq.Context[zmq.Socket[bytes]], role: Role) -> None:
    option = "--max-players" if role is Role.PLAYER else "--max-operators"
    with BrokerProcess(options=(option, "3")) as broker, ExitStack() as stack:
        address = broker.players if role is Role.PLAYER else broker.backend

        def peer() -> RawPeer:
            return stack.enter_context(RawPeer(context, address))

        inside = [peer() for _ in range(3)]
        for one in inside:
            one.join(role)
        late = peer()
        late.hello(role)
        told = late.told()
        assert isinstance(told, control.Reject) and told.code is RejectCode.FULL
        inside[0].send(*([b""] if role is not Role.PLAYER else []), header(FrameType.BYE))
        inside[0].wait_for_close()
        peer().join(role)


def test_so_many_calls_may_be_watched() -> None:
    with BrokerProcess() as broker, Operator(broker.backend) as operator:
        for number in range(16):
            operator.watch(number + 1, for_s=60.0).result()
        with pytest.raises(Overloaded):
            operator.watch(17, for_s=60.0).result()
        operator.watch(16, for_s=60.0).result()  # one that is there already
        operator.watch(1, for_s=0.0).result()
        deadline = time.monotonic() + 10.0
        while operator.watch(17, for_s=60.0).error is not None:
            assert time.monotonic() < deadline, "the watch that was ended still counts"
