"""A real broker and peers that break the rules, while a canary calls all the time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import msgpack
import pytest
import zmq
from support.harness import PATIENCE_S, BrokerProcess, eventually
from support.rawpeers import RawPeer, Stage

from ringback import CallbackError, Code, Overloaded, PlayerLeft, RejectCode
from ringback.protocol import control
from ringback.protocol.bounces import bounce
from ringback.protocol.control import encode
from ringback.protocol.envelopes import CALL, RESULT
from ringback.protocol.frames import HEADER, HEADER_BYTES, FrameType, Role
from ringback.protocol.limits import MAX_FRAME_BYTES
from ringback.protocol.player_ids import encode_player_id

HELLO = encode(control.Hello(Role.PLAYER))
OPERATOR_HELLO = encode(control.Hello(Role.OPERATOR))
CANARY = encode_player_id("canary")


def frame(number: int, link: int = 0, version: int = 1, code: int = 0, body: bytes = b"\x90") -> bytes:
    return HEADER.pack(version, number, code, link) + body


def call(call_id: int, key: str, payload: Any, link: int = 0) -> bytes:
    return frame(FrameType.DATA, link, body=msgpack.packb([[CALL, call_id, key, payload, 15000]]))


def result(call_id: int, value: Any, link: int = 0) -> bytes:
    return frame(FrameType.DATA, link, body=msgpack.packb([[RESULT, call_id, [value]]]))


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with BrokerProcess() as broker, Stage(broker) as stage:
        yield stage


PARTS = [(b"a",) * count for count in (2, 3, 50, 200)]

STRANGERS: list[tuple[Role, tuple[bytes, ...], RejectCode]] = [
    *((Role.PLAYER, parts, RejectCode.PROTOCOL_ERROR) for parts in PARTS),
    *((Role.OPERATOR, parts, RejectCode.PROTOCOL_ERROR) for parts in PARTS),
    (Role.PLAYER, (b"",), RejectCode.PROTOCOL_ERROR),
    (Role.PLAYER, (b"", b""), RejectCode.PROTOCOL_ERROR),
    (Role.PLAYER, (b"", HELLO), RejectCode.PROTOCOL_ERROR),
    (Role.PLAYER, (HELLO, b""), RejectCode.PROTOCOL_ERROR),
    (Role.PLAYER, (HELLO[:7],), RejectCode.PROTOCOL_ERROR),
    (Role.PLAYER, (HELLO[:8],), RejectCode.PROTOCOL_ERROR),
    (Role.PLAYER, (HELLO + b"x",), RejectCode.PROTOCOL_ERROR),
    (Role.PLAYER, (OPERATOR_HELLO,), RejectCode.PROTOCOL_ERROR),
    (Role.PLAYER, (encode(control.Hello(Role.SERVER)),), RejectCode.PROTOCOL_ERROR),
    (Role.PLAYER, (b"\x02" + HELLO[1:],), RejectCode.UNSUPPORTED_VERSION),
    (Role.PLAYER, (b"\x00" + HELLO[1:],), RejectCode.UNSUPPORTED_VERSION),
    (Role.PLAYER, (frame(FrameType.HELLO, version=9, body=b"whatever"),), RejectCode.UNSUPPORTED_VERSION),
    (Role.PLAYER, (frame(FrameType.PING, version=9),), RejectCode.PROTOCOL_ERROR),
    (Role.PLAYER, (frame(0),), RejectCode.PROTOCOL_ERROR),
    (Role.PLAYER, (frame(22),), RejectCode.PROTOCOL_ERROR),
    (Role.PLAYER, (frame(255),), RejectCode.PROTOCOL_ERROR),
    (Role.PLAYER, (b"x" * MAX_FRAME_BYTES,), RejectCode.PROTOCOL_ERROR),
    *(
        (Role.PLAYER, (frame(number),), RejectCode.NO_SESSION)
        for number in FrameType
        if number not in (FrameType.HELLO, FrameType.BYE)
    ),
    (Role.OPERATOR, (b"",), RejectCode.PROTOCOL_ERROR),
    (Role.OPERATOR, (OPERATOR_HELLO,), RejectCode.PROTOCOL_ERROR),
    (Role.OPERATOR, (b"", b""), RejectCode.PROTOCOL_ERROR),
    (Role.OPERATOR, (CANARY, OPERATOR_HELLO), RejectCode.PROTOCOL_ERROR),
    (Role.OPERATOR, (b"", HELLO), RejectCode.PROTOCOL_ERROR),
    (Role.OPERATOR, (b"", OPERATOR_HELLO, b""), RejectCode.PROTOCOL_ERROR),
    (Role.OPERATOR, (b"", b"\x02" + OPERATOR_HELLO[1:]), RejectCode.UNSUPPORTED_VERSION),
    (Role.OPERATOR, (CANARY, frame(FrameType.DATA, 1)), RejectCode.NO_SESSION),
    (Role.OPERATOR, (CANARY, frame(FrameType.RELAY, 1)), RejectCode.NO_SESSION),
    (Role.OPERATOR, (b"", frame(FrameType.QUERY)), RejectCode.NO_SESSION),
]


def is_malformed(role: Role, parts: tuple[bytes, ...]) -> bool:
    return len(parts) != (1 if role is Role.PLAYER else 2)


def expect_reject(peer: RawPeer, code: RejectCode) -> None:
    rejected = peer.told()
    assert isinstance(rejected, control.Reject)
    assert (rejected.code, rejected.versions) == (code, (1,)), rejected


@pytest.mark.parametrize("role", [Role.PLAYER, Role.OPERATOR])
def test_frames_right_after_a_hello_are_taken(stage: Stage, role: Role) -> None:
    """A peer need not wait for its WELCOME. Its frames are taken in order, and a wrong message ends its
    session."""
    start = () if role is Role.PLAYER else (b"",)
    with stage.peer(role) as peer:
        peer.send(*start, encode(control.Hello(role)))
        for number in range(100):
            peer.send(*start, encode(control.Ping(b"%d" % number)))
        peer.send(*start, b"", b"")
        assert isinstance(peer.told(), control.Welcome)
        for number in range(100):
            assert peer.told() == control.Pong(b"%d" % number)
        expect_reject(peer, RejectCode.PROTOCOL_ERROR)


def test_before_hello(stage: Stage) -> None:
    """The broker refuses each message with the code of the protocol, counts it and closes the connection. It
    also closes connections that send nothing, or only BYE."""
    before = stage.counters()
    with stage.canary() as canary, ExitStack() as stack:
        silent = stack.enter_context(stage.peer(Role.PLAYER))
        silent_too = stack.enter_context(stage.peer(Role.OPERATOR))
        byes = stack.enter_context(stage.peer(Role.PLAYER))
        byes.send(encode(control.Bye()))
        peers = []
        for role, parts, code in STRANGERS:
            peer = stack.enter_context(stage.peer(role))
            peer.send(*parts)
            peers.append((peer, code))
        for peer, code in peers:
            expect_reject(peer, code)
        peer.send(b"", OPERATOR_HELLO)  # too late
        for peer in (*(peer for peer, _ in peers), silent, silent_too, byes):
            peer.wait_for_close()
            assert not peer.socket.poll(0)
        canary.sing_on()
    after = stage.counters()
    assert after["stranger_messages"] - before["stranger_messages"] == len(STRANGERS) + 2
    assert after["sessions_refused"] - before["sessions_refused"] == len(STRANGERS)
    wrong = sum(is_malformed(role, parts) for role, parts, _ in STRANGERS)
    assert after["malformed"] - before["malformed"] == wrong
    assert after["sessions_begun"] == before["sessions_begun"]
    assert after["violations"] == before["violations"]


VIOLATIONS: list[tuple[Role, tuple[bytes, ...]]] = [
    *((Role.PLAYER, parts) for parts in PARTS),
    *((Role.OPERATOR, parts) for parts in PARTS[1:]),
    (Role.PLAYER, (b"",)),
    (Role.PLAYER, (b"", b"")),
    (Role.PLAYER, (CANARY, frame(FrameType.DATA))),
    (Role.PLAYER, (b"\x01\x10\x00\x00\x00\x00\x00",)),
    (Role.PLAYER, (frame(FrameType.DATA, version=2),)),
    (Role.PLAYER, (frame(FrameType.DATA, code=1),)),
    (Role.PLAYER, (HELLO,)),
    (Role.PLAYER, (b"\x02" + HELLO[1:],)),
    (Role.PLAYER, (frame(0),)),
    (Role.PLAYER, (frame(99),)),
    (Role.PLAYER, (frame(FrameType.RELAY),)),
    (Role.PLAYER, (encode(control.Query(1, control.Subject.PLAYERS)),)),
    (Role.PLAYER, (encode(control.Joined((7,))),)),
    (Role.PLAYER, (encode(control.Welcome(0, 7, True, 1, "")),)),
    (Role.PLAYER, (encode(control.ServerDown()),)),
    (Role.PLAYER, (bounce(Code.NO_SERVER, frame(FrameType.DATA)),)),
    (Role.PLAYER, (frame(FrameType.KEYS, body=b"\xc1"),)),
    (Role.PLAYER, (frame(FrameType.PING, body=bytes(65)),)),
    (Role.OPERATOR, (b"",)),
    (Role.OPERATOR, (b"", b"")),
    (Role.OPERATOR, (b"", OPERATOR_HELLO)),
    (Role.OPERATOR, (b"", frame(FrameType.DATA, 2**32 - 1))),
    (Role.OPERATOR, (CANARY, frame(FrameType.DATA, 0))),
    (Role.OPERATOR, (CANARY, frame(FrameType.DATA, 2**32 - 1))),
    (Role.OPERATOR, (CANARY, frame(FrameType.RELAY, 2**32 - 1))),
    (Role.OPERATOR, (CANARY, encode(control.Bye()))),
    (Role.OPERATOR, (b"", encode(control.ServerUp()))),
]


def test_after_hello(stage: Stage) -> None:
    """Each message ends the session with PROTOCOL_ERROR. The broker counts it and closes the connection."""
    before = stage.counters()
    with stage.canary() as canary, ExitStack() as stack:
        peers = []
        for role, parts in VIOLATIONS:
            peer = stack.enter_context(stage.peer(role))
            peer.join(role)
            peer.send(*parts)
            peers.append(peer)
        for peer in peers:
            while not isinstance(rejected := peer.told(), control.Reject):
                assert isinstance(rejected, control.Left)  # operators are told about the others
            assert rejected.code is RejectCode.PROTOCOL_ERROR
        for peer in peers:
            peer.wait_for_close()
        canary.sing_on()
    after = stage.counters()
    wrong = sum(is_malformed(role, parts) for role, parts in VIOLATIONS)
    assert after["malformed"] - before["malformed"] == wrong
    assert after["violations"] - before["violations"] == len(VIOLATIONS) - wrong
    for name in ("sessions_begun", "sessions_ended"):
        assert after[name] - before[name] == len(VIOLATIONS)
    assert after["sessions_refused"] == before["sessions_refused"]
    eventually(lambda: stage.server.players == ["canary"], "the server knows that all have left")


def test_what_is_odd_but_allowed(stage: Stage) -> None:
    """Data without a body, data for a link that does not exist, and garbage in bodies end no session."""
    before = stage.counters()
    invalid = stage.server.counters.invalid
    with stage.canary(), stage.peer(Role.PLAYER) as peer:
        peer.join(Role.PLAYER, 41)
        for link in (999, 2**32 - 1):
            peer.send(frame(FrameType.DATA, link))
            assert peer.receive() == [bounce(Code.NO_SERVER, frame(FrameType.DATA, link))]
        peer.send(frame(FrameType.DATA, body=b""))
        peer.send(frame(FrameType.DATA, body=b"\xc1" * 1000))
        peer.send(call(1, "echo", "still here"))
        assert peer.receive() == [result(1, "still here")]
        peer.send(encode(control.Ping(b"x")))
        assert peer.told() == control.Pong(b"x")
    assert stage.counters()["bounced_no_server"] - before["bounced_no_server"] == 2
    assert stage.server.counters.invalid - invalid == 1  # an empty body has no envelopes, which is allowed


GARBAGE = [
    b"",
    b"\x00" * 64,
    b"\xff" * 512,
    b"GET / HTTP/1.1\r\nHost: ringback\r\n\r\n",
    b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03",
    b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x01NULL" + bytes(48) + b"\x04\xff" + b"\xff" * 100,
    b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x01CURVE" + bytes(48),
    b"\x01\x00\x7f" * 30,
]


def test_bytes_that_are_not_zeromq(stage: Stage) -> None:
    """The broker closes each such connection; the peer does nothing."""
    with stage.canary() as canary, ExitStack() as stack:
        connections = []
        for address in (stage.broker.players, stage.broker.backend):
            host, port = address.removeprefix("tcp://").split(":")
            for garbage in GARBAGE:
                connection = stack.enter_context(socket.create_connection((host, int(port)), PATIENCE_S))
                connection.sendall(garbage)
                connections.append(connection)
        for connection in connections:
            try:
                while connection.recv(4096):  # TimeoutError: it was not closed
                    pass
            except ConnectionResetError:
                pass
        canary.sing_on()


def test_no_player_can_speak_as_another(stage: Stage) -> None:
    """The source is the ID that the broker knows, whatever a player sends."""
    stage.sources.clear()
    with stage.canary(), stage.peer(Role.PLAYER) as mallory, stage.peer(Role.PLAYER) as liar:
        mallory.join(Role.PLAYER, "mallory")
        mallory.send(call(1, "echo", {"source": "canary", "player_id": "canary"}))
        assert mallory.receive() == [result(1, {"source": "canary", "player_id": "canary"})]
        liar.join(Role.PLAYER, "liar")
        liar.send(CANARY, call(2, "echo", None))
        expect_reject(liar, RejectCode.PROTOCOL_ERROR)
        mallory.send(call(3, "echo", None))
        mallory.receive()
    assert stage.sources == ["mallory", "mallory"]


def test_a_reply_of_somebody_else_does_not_count(stage: Stage) -> None:
    """A player that was not called replies with the right call ID. The server ignores and counts it."""
    strays = stage.server.counters.stray_replies
    with stage.canary(), stage.peer(Role.PLAYER) as called, stage.peer(Role.PLAYER) as forger:
        called.join(Role.PLAYER, "called", ("where",))
        forger.join(Role.PLAYER, "forger")
        asked = stage.server.trigger_client_callback("where", "called")
        [question] = called.receive()
        [[_, call_id, key, *_]] = msgpack.unpackb(question[HEADER_BYTES:])
        assert key == "where"
        forger.send(question[:HEADER_BYTES] + result(call_id, "forged")[HEADER_BYTES:])
        eventually(lambda: stage.server.counters.stray_replies > strays, "the server counts the stray reply")
        assert not asked.done()
        reply = question[:HEADER_BYTES] + result(call_id, "here")[HEADER_BYTES:]
        called.send(reply)
        assert asked.result() == "here"
        called.send(reply)
        eventually(
            lambda: stage.server.counters.stray_replies == strays + 2,
            "the server counts the second reply as a stray one",
        )


def test_a_player_that_never_reads_stops_nobody(stage: Stage) -> None:
    """Few frames wait for it. Further calls to it fail at once, and the waiting ones when it leaves."""
    full = threading.Event()
    errors: list[CallbackError] = []

    def failed(error: CallbackError) -> None:
        errors.append(error)
        full.set()

    with stage.canary() as canary:
        calls = []
        with stage.peer(Role.PLAYER, RCVHWM=1, RCVBUF=65536) as sloth:
            sloth.join(Role.PLAYER, "sloth")
            while not full.is_set():
                assert len(calls) < 5000, "more and more waits for the player"
                for _ in range(20):
                    call = stage.server.trigger_client_callback(
                        "x", "sloth", bytes(60_000), on_error=failed, timeout=None
                    )
                    calls.append(call)
                canary.sing_on(2)
            assert isinstance(errors[0], Overloaded) and errors[0].executed == "no"
            assert "queue at the broker is full" in str(errors[0])
        for call in calls:
            with pytest.raises((Overloaded, PlayerLeft)):
                call.result()
        # The callbacks run after the calls have ended, in threads of their own.
        eventually(
            lambda: canary.sing_on(1) is None and len(errors) == len(calls),
            "each call has reported its error",
        )
        assert any(isinstance(error, PlayerLeft) for error in errors)
    assert stage.counters()["bounced_overloaded"] > 0


def test_connections_that_come_and_go(stage: Stage) -> None:
    """Hundreds of peers leave at once, some in the middle of a message, and the broker keeps nothing of
    them."""
    with stage.canary():
        for number in range(200):
            with stage.peer(Role.PLAYER) as peer:
                peer.socket.setsockopt(zmq.LINGER, 0)
                if number % 2:
                    peer.wait_for(zmq.EVENT_HANDSHAKE_SUCCEEDED)
                if number % 3:
                    peer.send(HELLO)
                if number % 5 == 0:
                    peer.socket.send(HELLO, zmq.SNDMORE)

    def only_the_canary() -> bool:
        rows, _ = stage.operator.query("players").result()
        return [row[0] for row in rows] == ["canary"]

    eventually(only_the_canary, "all others have left")
    eventually(lambda: stage.server.players == ["canary"], "the server knows that all others have left")
