"""Bytes that are not valid ZeroMQ, too many or too few of them, and too many connections."""

from __future__ import annotations

import random
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from fuzz.zmtp import COMMAND, LONG, MORE, SIGNATURE, command, frame, greeting, properties
from security.yard import OddBroker, Vault, Yard, closed_by_broker, dial, refusals, rejected
from support.harness import PATIENCE_S, eventually, send_until_closed
from support.rawpeers import Stage

from ringback import BrokerUnreachable, RejectCode
from ringback.protocol import control
from ringback.protocol.control import encode
from ringback.protocol.frames import FrameType, Role, header
from ringback.protocol.limits import MAX_FRAME_BYTES

PLAYER, OPERATOR = Role.PLAYER, Role.OPERATOR

CURVE = greeting(b"CURVE")
READY = command(b"READY", properties((b"Socket-Type", b"DEALER"), (b"Identity", b"mallory")))
HELLO = encode(control.Hello(PLAYER, "canary"))
GIANT = 2**62

BYTES: dict[str, bytes] = {
    "nothing": b"",
    "half a greeting": CURVE[:32],
    "a greeting, and no more": CURVE,
    "random bytes": random.Random(1).randbytes(65536),
    "zeros": bytes(65536),
    "HTTP": b"GET / HTTP/1.1\r\nHost: ringback\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "no encryption": greeting() + READY + frame(HELLO),
    "PLAIN": greeting(b"PLAIN") + command(b"HELLO", b"\x05admin\x05admin") + frame(HELLO),
    "ZMTP 2.0, which has no keys": SIGNATURE + b"\x01\x05" + frame(b"mallory") + frame(HELLO),
    "ZMTP 1.0, which has no keys": b"\x08\x00mallory" + bytes((len(HELLO) + 1, 0)) + HELLO,
    "READY in the place of a key": CURVE + READY + frame(HELLO),
    "a message in the place of a key": CURVE + frame(HELLO),
    "an empty HELLO": CURVE + command(b"HELLO"),
    "a HELLO of zeros": CURVE + command(b"HELLO", b"\x01\x00" + bytes(192)),
    "a HELLO, and INITIATE without waiting": CURVE
    + command(b"HELLO", b"\x01\x00" + bytes(192))
    + command(b"INITIATE", bytes(300)),
    "a header that announces a giant": CURVE + frame(b"", LONG, GIANT),
    "a header that announces a giant command": CURVE + frame(b"\x05HELLO", LONG | COMMAND, GIANT),
    "a header that announces the largest": CURVE + frame(b"\x05HELLO", LONG | COMMAND, MAX_FRAME_BYTES),
    "parts without an end": CURVE + frame(b"x" * 1000, MORE) * 300,
}


def test_bytes_that_show_no_key(yard: Yard) -> None:
    """The broker closes and counts each connection within the five seconds of a handshake or of HELLO.

    All connections come at once, on both sides. One sends a byte a second. One has a key, and then sends
    nothing.
    """
    begun = yard.counters()["sessions_begun"]
    sides = yard.broker.players, yard.broker.backend
    count = len(sides) * len(BYTES) + 2
    began = time.monotonic()
    with yard.attack("refused SOURCE no HELLO", handshakes_failed=count) as source, ExitStack() as stack:
        silent = stack.enter_context(yard.peer(PLAYER, keys=yard.ann, source=source))
        slow = stack.enter_context(dial(yard.broker.players, source))
        open_ones = []
        for address in sides:
            for said in BYTES.values():
                peer = stack.enter_context(dial(address, source))
                with suppress(OSError):  # closed in the middle of it
                    peer.sendall(said)
                open_ones.append(peer)
        pieces = iter(CURVE)
        while not select.select([slow], [], [], 1.0)[0] or slow.recv(100):
            with suppress(OSError):
                slow.sendall(bytes((next(pieces),)))
        for peer in open_ones:
            assert HELLO not in closed_by_broker(peer)
        silent.wait_for_close()
        assert not silent.socket.poll(0)
        assert time.monotonic() - began < 2 * PATIENCE_S
    assert yard.counters()["sessions_begun"] == begun
    yard.works(PLAYER, yard.ann, 7)


def test_a_message_of_many_parts_by_a_player_with_a_key(yard: Yard) -> None:
    log = "left player 7 SOURCE .PROTOCOL_ERROR: a message of 64 parts"
    with yard.attack(log, malformed=1) as source, yard.peer(PLAYER, keys=yard.ann, source=source) as peer:
        peer.join(PLAYER, 7)
        peer.send(*[b"x" * 1000] * 5000)
        assert rejected(peer) == (RejectCode.PROTOCOL_ERROR, "a message of 64 parts")
        peer.wait_for_close()


def test_a_frame_that_is_too_large_by_a_player_with_a_key(yard: Yard) -> None:
    with (
        yard.attack("left player 7 .*its connection closed") as source,
        yard.peer(PLAYER, keys=yard.ann, source=source) as peer,
    ):
        peer.join(PLAYER, 7)
        peer.send(header(FrameType.DATA) + bytes(MAX_FRAME_BYTES))
        peer.wait_for_close()


# -- frames after the handshake, written by hand, so without encryption


@pytest.fixture(scope="module")
def plain() -> Iterator[Stage]:
    """Start a broker without keys that waits only shortly for HELLO and signs of life."""
    broker = OddBroker({"hello": 1.0, "lease": 2.0})
    with Stage(broker) as stage:  # type: ignore[arg-type]
        yield stage
    broker.process.kill()


@pytest.mark.parametrize("joined", [False, True], ids=["before HELLO", "in a session"])
@pytest.mark.parametrize(
    "said",
    [
        frame(b"", LONG, GIANT),
        frame(b"", LONG | MORE, GIANT),
        frame(b"", LONG | COMMAND, GIANT),
        frame(b"", LONG, 2**64 - 1),
        frame(b"", LONG, MAX_FRAME_BYTES),
        frame(bytes(60_000), MORE) * 500,
    ],
    ids=["giant", "giant part", "giant command", "2**64-1", "the largest, and then nothing", "endless parts"],
)
def test_a_frame_that_never_ends(said: bytes, joined: bool, plain: Stage) -> None:
    """A header without its frame, or parts without a last one.

    The broker closes the connection at the latest when HELLO is overdue or the lease is over. Until then the
    bytes are in memory, as docs/security.md says.
    """
    before = plain.counters()
    with plain.canary() as canary, dial(plain.broker.players, "127.77.9.9") as peer:
        peer.settimeout(PATIENCE_S)
        peer.sendall(greeting() + READY.replace(b"mallory", b"m%06d" % random.randrange(10**6)))
        received = b""
        while b"READY" not in received:
            received += peer.recv(1000)
        if joined:
            peer.sendall(frame(encode(control.Hello(PLAYER, 9))))
            while b"lease_ms" not in received:
                received += peer.recv(1000)
        if not send_until_closed(peer, said, len(said)):
            closed_by_broker(peer)
        canary.sing_on()
    # Parts are too much of a message, unless HELLO is overdue first.
    counters = ["sessions_ended"] if joined else ["handshakes_failed", "messages_unfinished"]

    def counted() -> int:
        now = plain.counters()
        return sum(now[name] - before[name] for name in counters)

    eventually(lambda: counted() == 1, "it is counted")
    eventually(lambda: plain.server.players == ["canary"], "the server knows it")


# -- too many


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """A broker that lets each IP have few connections."""
    settings = {"ip_connections": 30, "ip_handshakes": 60.0}
    with Yard(Vault(tmp_path_factory.mktemp("narrow")), settings) as yard:
        yield yard


@pytest.mark.parametrize("role", [PLAYER, OPERATOR])
def test_too_many_connections_of_an_ip(role: Role, narrow: Yard) -> None:
    """The broker closes connections over the limit at once.

    Other IPs can connect, and so can the same IP on the other side, and the same IP later.
    """
    yard, address = narrow, narrow.address(role)
    keys = yard.ann if role is PLAYER else yard.second
    log = "refused SOURCE more than 30 connections of one IP"
    with yard.attack(log, connections_refused=12) as source, ExitStack() as stack:
        flood = [stack.enter_context(dial(address, source)) for _ in range(41)]
        for peer in flood[30:]:
            closed_by_broker(peer)
        with yard.peer(role, keys=keys, source=source) as late:
            late.wait_for_close()
        with yard.peer(role, keys=keys) as elsewhere:
            elsewhere.join(role)
        other = OPERATOR if role is PLAYER else PLAYER
        with yard.peer(other, keys=yard.ann if other is PLAYER else yard.second, source=source) as beside:
            beside.join(other)

    def lets_in() -> bool:
        with yard.peer(role, keys=keys, source=source) as again:
            again.hello(role)
            return bool(again.socket.poll(1000))

    eventually(lets_in, "the IP may connect again")


def test_too_many_connections_at_the_sdk(narrow: Yard) -> None:
    """The SDK notices only that the connection is closed: within the handshake, or soon after it."""
    yard = narrow
    with yard.canary(), ExitStack() as stack:
        for _ in range(29):
            stack.enter_context(dial(yard.broker.players, "127.0.0.1"))
        for error in refusals(PLAYER, yard.broker.players, key_file=yard.ann, connect_timeout=0.5):
            assert isinstance(error, BrokerUnreachable)
            within = "the handshake failed; is the broker's public key right? or does it limit" in str(error)
            after = "the connection was closed; does the broker limit" in str(error)
            assert within or after, str(error)


def test_too_many_handshakes_of_an_ip(narrow: Yard) -> None:
    """The connections come one after the other. Keys that are on no list cost the broker the most."""
    yard = narrow
    log = "refused SOURCE more than 60 connections a second of one IP"
    stray = yard.vault.pair("stray", "player", 7, listed=False)
    with yard.attack(log, connections_refused=20, handshakes_refused=10) as source, ExitStack() as stack:
        some = [stack.enter_context(yard.peer(PLAYER, keys=stray, source=source)) for _ in range(15)]
        for peer in some:
            peer.wait_for_close()
        last: list[socket.socket] = []
        refused = yard.counters()["connections_refused"]
        for _ in range(3000):
            last.append(dial(yard.broker.players, source))
            if len(last) == 10:
                last.pop(0).close()
                if yard.counters()["connections_refused"] > refused + 20:
                    break
        for connection in last:
            connection.close()
        with yard.peer(PLAYER, keys=yard.ann) as elsewhere:
            elsewhere.join(PLAYER)
