"""Messages without an end at a real broker: its memory stays bounded, and nobody else notices."""

from __future__ import annotations

import re
import secrets
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.harness import PATIENCE_S, BrokerProcess, eventually, send_until_closed
from support.rawpeers import Stage

from ringback.protocol import control
from ringback.protocol.control import encode
from ringback.protocol.frames import Role

MIB = 2**20
MAX_GROWTH = 128 * MIB
"""How much the memory of the broker may grow: 16 MiB until it asks the kernel, the same again, the 66 MiB
that parts without content may take, and what comes over the loopback meanwhile."""

SENT = 400 * MIB


class Sender:
    """A DEALER of our own, which can leave a message without an end."""

    def __init__(self, address: str) -> None:
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        self.socket = socket.create_connection((host, int(port)), PATIENCE_S)
        SENDERS.append(self)
        greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
        routing_id = b"T" + secrets.token_bytes(15)
        properties = ((b"Socket-Type", b"DEALER"), (b"Identity", routing_id))
        ready = b"\x05READY" + b"".join(
            bytes([len(name)]) + name + struct.pack(">I", len(value)) + value for name, value in properties
        )
        self.socket.sendall(greeting + bytes([4, len(ready)]) + ready)
        self._receive(64)  # the greeting of the broker, then its READY: no message may come before that
        self._receive(self._receive(2)[1])

    def _receive(self, size: int) -> bytes:
        return self.socket.recv(size, socket.MSG_WAITALL)

    def part(self, content: bytes, more: bool) -> None:
        self.socket.sendall(part(content, more))

    def hello(self, role: Role) -> None:
        if role is not Role.PLAYER:
            self.part(b"", more=True)
        self.part(encode(control.Hello(role)), more=False)

    def flood(self, parts: bytes, most: int) -> bool:
        """Send the same parts until so much is sent. Return whether the connection was closed before."""
        return send_until_closed(self.socket, parts, most)

    def wait_for_close(self) -> None:
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionError:
            pass


def part(content: bytes, more: bool) -> bytes:
    size = len(content)
    return (bytes([more, size]) if size < 256 else bytes([2 + more]) + struct.pack(">Q", size)) + content


SENDERS: list[Sender] = []


@pytest.fixture(autouse=True)
def close_all() -> Iterator[None]:
    yield
    while SENDERS:
        SENDERS.pop().socket.close()


FLOODS = {
    "large parts": part(bytes(MIB), more=True),
    "small parts": part(bytes(100), more=True) * 5000,
    "empty parts": part(b"", more=True) * 50_000,
}


def memory(broker: BrokerProcess, field: str) -> int:
    """Return a figure of the memory of a broker, in bytes."""
    status = Path(f"/proc/{broker.process.popen.pid}/status").read_text()
    match = re.search(rf"{field}:\s+(\d+) kB", status)
    assert match is not None
    return 1024 * int(match[1])


@pytest.fixture
def stage() -> Iterator[Stage]:
    with BrokerProcess(options=("--hello", "60")) as broker, Stage(broker) as stage:
        yield stage


@pytest.mark.parametrize(
    ("role", "kind"),
    [
        (None, "large parts"),
        (None, "empty parts"),
        (Role.PLAYER, "large parts"),
        (Role.PLAYER, "small parts"),
        (Role.PLAYER, "empty parts"),
        (Role.SERVER, "small parts"),
        (Role.OPERATOR, "empty parts"),
    ],
)
def test_a_message_without_an_end(stage: Stage, role: Role | None, kind: str) -> None:
    broker = stage.broker
    if role is Role.SERVER:
        stage.server.close()
    before = memory(broker, "VmRSS")
    address = broker.players if role in (None, Role.PLAYER) else broker.backend
    sender = Sender(address)
    if role is not None:
        joined = stage.counters()["sessions_begun"]
        sender.hello(role)
        eventually(lambda: stage.counters()["sessions_begun"] > joined, "the sender has joined")
    if role is Role.SERVER:
        assert sender.flood(FLOODS[kind], SENT)
    else:
        with stage.canary() as canary:
            assert sender.flood(FLOODS[kind], SENT), "the connection was not closed"
            canary.sing_on()
    eventually(lambda: stage.counters()["messages_unfinished"] == 1, "it is counted")
    grown = memory(broker, "VmHWM") - before
    assert grown < MAX_GROWTH
    broker.process.wait_for("a message without an end")


def test_many_connections_with_a_little_each(stage: Stage) -> None:
    senders = [Sender(stage.broker.players) for _ in range(100)]
    for sender in senders:
        sender.flood(FLOODS["small parts"], MIB)
    with stage.canary():
        # 64 MiB may stay, so these have to go. Each one sent up to a part more than a MiB.
        eventually(lambda: stage.counters()["messages_unfinished"] >= 100 - 64, "some are closed")


def test_whole_messages_are_never_taken_for_one_without_an_end(stage: Stage) -> None:
    """The broker stands still while large messages come. When it goes on, its memory grows at once."""
    broker = stage.broker
    payload = bytes(900_000)
    calls = [stage.player.trigger_server_callback("echo", payload, timeout=PATIENCE_S) for _ in range(60)]
    for call in calls:
        call.result()
    for _ in range(3):
        broker.process.signal(signal.SIGSTOP)
        calls = [stage.player.trigger_server_callback("echo", payload, timeout=PATIENCE_S) for _ in range(40)]
        time.sleep(0.05)  # not to wait for anything: the longer it stands still, the more there is to read
        broker.process.signal(signal.SIGCONT)
        assert all(call.result() == payload for call in calls)
    counters = stage.counters()
    assert counters["messages_unfinished"] == 0
    # The broker has ended no session. A heartbeat may have, if the broker stood still for seconds.
    own_ends = {name for name in counters if name.startswith("sessions_")} - {
        "sessions_begun",
        "sessions_ended",
    }
    assert own_ends and not any(counters[name] for name in own_ends)


def test_a_trickle_ends_with_the_lease() -> None:
    with BrokerProcess(options=("--lease", "1")) as broker:
        sender = Sender(broker.players)
        sender.hello(Role.PLAYER)
        broker.process.wait_for("joined player")
        over = threading.Event()

        def trickle() -> None:
            while not over.wait(0.01):
                try:
                    sender.part(b"", more=True)
                except ConnectionError:
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            broker.process.wait_for("LEASE_EXPIRED")
            sender.wait_for_close()
        finally:
            over.set()
            thread.join()


def test_a_trickle_before_hello_ends_with_its_time() -> None:
    with BrokerProcess(options=("--hello", "1")) as broker:
        sender = Sender(broker.players)
        sender.part(b"", more=True)
        broker.process.wait_for("no HELLO")
        sender.wait_for_close()
