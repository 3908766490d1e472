"""Peers that do not read, and one that floods. Nobody else must notice, and the broker must not grow."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from support.harness import PATIENCE_S, BrokerProcess, eventually
from support.rawpeers import Stage

from ringback import Player
from ringback.protocol import control
from ringback.protocol.control import decode, encode
from ringback.protocol.envelopes import CALL
from ringback.protocol.frames import FrameType, Role, header
from ringback_broker.net.router_socket import HEARTBEAT_MS

Measure = Callable[..., None]

BULK = bytes(64 * 1024)
SLOW_S = 1.0
PLAYER_GROWTH_MIB = 32
"""The most that the broker may grow. A player's window is 8 MiB, and the broker holds a little more. The
system's buffers do not count."""

SERVER_GROWTH_MIB = 160
"""The most that the broker may grow. The server's window is 64 MiB, and frames that bounce off it wait in the
players' queues for a moment."""


@pytest.fixture
def stage() -> Iterator[Stage]:
    options = ("--slow", str(SLOW_S), "--player-frames", "5000")
    with BrokerProcess(options=options) as broker, Stage(broker) as stage:
        yield stage


def memory_mib(stage: Stage) -> float:
    status = Path(f"/proc/{stage.broker.process.popen.pid}/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) / 1024


class Outcomes:
    """The number of calls that ended in each way."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def __call__(self, error: Any) -> None:
        with self._lock:
            self.counts[error.code_name, error.executed] += 1

    @property
    def total(self) -> int:
        return sum(self.counts.values())


def test_a_player_that_does_not_read(stage: Stage, measure: Measure) -> None:
    with stage.canary() as canary, stage.peer(Role.PLAYER, RCVHWM=1) as deaf:
        deaf.join(Role.PLAYER, "deaf")
        eventually(lambda: "deaf" in stage.server.players, "it has joined")
        before_mib, since = memory_mib(stage), time.monotonic()
        outcomes, made = Outcomes(), 0
        while "deaf" in stage.server.players:
            for _ in range(20):
                made += 1
                stage.server.trigger_client_callback("k", "deaf", BULK, on_error=outcomes, timeout=None)
            canary.sing_on(1)
            assert time.monotonic() < since + PATIENCE_S
        measure("a player that does not read: ended after", time.monotonic() - since)
        eventually(lambda: outcomes.total == made, "every call has ended")
        assert stage.counters()["sessions_too_slow"] == 1
        assert outcomes.counts.keys() <= {
            ("OVERLOADED", "no"),
            ("PLAYER_LEFT", "maybe"),
            ("PLAYER_LEFT", "no"),
            ("UNKNOWN_PLAYER", "no"),
        }
        assert outcomes.counts["OVERLOADED", "no"] and outcomes.counts["PLAYER_LEFT", "maybe"]
        grown_mib = memory_mib(stage) - before_mib
        measure("a player that does not read: the broker's memory grew by", grown_mib, "MiB")
        assert grown_mib < PLAYER_GROWTH_MIB
        canary.sing_on()


def test_a_server_that_does_not_read(measure: Measure) -> None:
    with BrokerProcess(options=("--slow", str(SLOW_S))) as broker, Stage(broker) as stage:
        stage.server.close()
        # Two callers: one may have only as many bytes in flight as the server's window has.
        with (
            stage.peer(Role.SERVER, RCVHWM=1) as deaf,
            Player(broker.players, "first") as first,
            Player(broker.players, "second") as second,
        ):
            deaf.join(Role.SERVER)
            before_mib, since = memory_mib(stage), time.monotonic()
            outcomes, made = Outcomes(), 0
            while not outcomes.counts["SERVER_LOST", "maybe"]:
                for _ in range(20):
                    for player in (first, second):
                        made += 1
                        player.trigger_server_callback("k", BULK, on_error=outcomes, timeout=None)
                # After a round trip, the broker has taken what the players sent, and there is room for more.
                stage.operator.ping().result()
                assert time.monotonic() < since + PATIENCE_S
            took_s = time.monotonic() - since
            measure("a server that does not read: ended after", took_s)
            eventually(lambda: outcomes.total == made, "every call has ended")
            # On a busy machine, heartbeats may end the session first: the server does not read them either.
            assert stage.counters()["sessions_too_slow"] == 1 or took_s > 2 * HEARTBEAT_MS / 1000
            assert outcomes.counts["OVERLOADED", "no"]
            grown_mib = memory_mib(stage) - before_mib
            measure("a server that does not read: the broker's memory grew by", grown_mib, "MiB")
            assert grown_mib < SERVER_GROWTH_MIB
        stage.server.start()
        assert stage.player.trigger_server_callback("echo", 1).result() == 1


def test_a_player_that_floods(stage: Stage, measure: Measure) -> None:
    call = header(FrameType.DATA) + msgpack.packb([[CALL, 1, "echo", None, None]])
    with stage.canary() as canary, stage.peer(Role.PLAYER) as peer:
        peer.join(Role.PLAYER, "flood")
        since, codes, kinds = time.monotonic(), Counter[int](), Counter[int]()
        reject = None
        while reject is None:
            for _ in range(50):
                peer.send(call)
            while peer.socket.poll(0):
                [frame] = peer.receive()
                kinds[frame[1]] += 1
                if frame[1] == FrameType.BOUNCE:
                    codes[int.from_bytes(frame[2:4], "big")] += 1
                elif frame[1] == FrameType.PING:
                    peer.send(encode(control.Pong(frame[8:])))
                elif frame[1] == FrameType.REJECT:
                    reject = decode(frame)
            assert time.monotonic() < since + PATIENCE_S
        measure("a player that floods: ended after", time.monotonic() - since)
        assert isinstance(reject, control.Reject) and reject.code.name == "RATE_LIMITED"
        assert set(codes) == {6}  # RATE_LIMITED
        assert kinds[FrameType.DATA] > 0  # the calls within its rate got replies
        canary.sing_on()
        counters = stage.counters()
        assert counters["sessions_too_fast"] == 1
        assert counters["bounced_rate_limited"] >= codes[6]
