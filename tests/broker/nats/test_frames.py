"""Messages between nodes over a real NATS server: order, bounds, losses, and boots."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from itertools import count

import pytest
from support.harness import PATIENCE_S
from support.nats_servers import NatsServer, administer, make_realm, settle
from support.nodes import Node, wait_for

from ringback_broker.nats import frames as frames_module
from ringback_broker.nats.client import Client
from ringback_broker.nats.frames import ROOM_BYTES
from ringback_broker.nats.inlet import BURST
from ringback_broker.nats.login import Login
from ringback_broker.peers.connection import Sent

A, B = b"\1" * 8, b"\2" * 8


@pytest.fixture
def pair(nats: NatsServer) -> Iterator[tuple[Node, Node]]:
    """Return two nodes that are in contact with their realm."""
    with Node(nats.address, "a", boot=A) as a, Node(nats.address, "b", boot=B) as b:
        wait_for([a, b], lambda: a.in_contact and b.in_contact, "contact")
        yield a, b


def test_a_message_arrives_as_it_was_sent(pair: tuple[Node, Node]) -> None:
    a, b = pair
    for parts in ((), (b"",), (b"one", b"", b"\xff" * 300), (b"x",) * 50):
        assert a.frames.send("b", B, parts) is Sent.YES
        wait_for([a, b], lambda: b.messages, "the message")
        assert b.messages.pop() == ("a", A, parts)
    assert b.frames.send("a", A, (b"back",)) is Sent.YES
    wait_for([a, b], lambda: a.messages, "the message")
    assert a.messages == [("b", B, (b"back",))]


def test_messages_come_in_order(pair: tuple[Node, Node]) -> None:
    a, b = pair
    for number in range(5000):
        assert a.frames.send("b", B, (number.to_bytes(4, "big"), b"x" * 100)) is Sent.YES
    wait_for([a, b], lambda: len(b.messages) == 5000, "all messages")
    assert [int.from_bytes(parts[0], "big") for _, _, parts in b.messages] == list(range(5000))
    assert a.interruptions == b.interruptions == 0


def test_a_boot_gets_the_messages_to_it_alone(pair: tuple[Node, Node]) -> None:
    a, b = pair
    a.frames.send("b", A, (b"to another boot",))
    a.frames.send("b", B, (b"first",))
    wait_for([a, b], lambda: b.messages, "a message")
    # What waits for the loop while a new boot begins is not for that.
    a.frames.send("b", B, (b"waits",))
    a.ask(a.records.read, "seat")
    assert select.select([b.link], [], [], PATIENCE_S)[0]
    b.link._turns.run()
    assert len(b.link._inlet)
    again = b"\3" * 8
    b.frames.listen(again)
    # What takes effect before a record that is put later.
    b.ask(b.records.put, "node.b", b"new", 0)
    a.frames.send("b", B, (b"to the old boot",))
    a.frames.send("b", again, (b"second",))
    wait_for([a, b], lambda: len(b.messages) == 2, "a message")
    b.frames.send("a", A, (b"from the new boot",))
    wait_for([a, b], lambda: a.messages, "a message")
    assert [parts for _, _, parts in b.messages] == [(b"first",), (b"second",)]
    assert a.messages == [("b", again, (b"from the new boot",))]
    assert b.link._client is not None
    subjects = [found.subject for found in b.link._client._subs.values() if ".n." in found.subject]
    assert subjects == [f"ringback.main.n.b.{again.hex()}"]


def test_a_node_that_is_not_there(pair: tuple[Node, Node]) -> None:
    """NATS says so, if the sender wants to know."""
    a, b = pair
    assert a.frames.send("nobody", B, (b"hello",)) is Sent.YES
    assert a.frames.send("b", B, (b"hello",), 6) is Sent.YES
    assert a.frames.send("nobody", B, (b"hello",), 7) is Sent.YES
    assert a.frames.send("b", A, (b"to another boot",), 8) is Sent.YES
    wait_for([a, b], lambda: len(a.nobodies) == 2 and b.messages, "what NATS says")
    assert a.nobodies == [("nobody", B, 7), ("b", A, 8)]
    b.close()
    epochs = count(9)

    def is_told() -> bool:  # NATS takes note of the end of a connection in its own time
        a.frames.send("b", B, (b"late",), next(epochs))
        return len(a.nobodies) > 2

    wait_for([a], is_told, "what NATS says")
    assert a.nobodies[2][:2] == ("b", B) and a.interruptions == 0


def test_a_message_that_is_too_large(pair: tuple[Node, Node]) -> None:
    a, b = pair
    assert a.frames.max_bytes == 2 * 1024 * 1024 - ROOM_BYTES
    assert a.frames.send("b", B, (b"x" * (a.frames.max_bytes + ROOM_BYTES),)) is Sent.GONE
    largest = (b"x" * 1000, b"y" * (a.frames.max_bytes - 1000))
    assert a.frames.send("b", B, largest) is Sent.YES
    wait_for([a, b], lambda: b.messages, "the message")
    assert b.messages == [("a", A, largest)]
    assert a.contacts == [True]


def test_without_a_connection_nothing_is_sent(nats: NatsServer, pair: tuple[Node, Node]) -> None:
    a, b = pair
    nats.kill()
    wait_for([a, b], lambda: a.interruptions and b.interruptions, "the loss")
    assert a.frames.send("b", B, (b"lost",)) is Sent.GONE
    nats.start()
    wait_for([a, b], lambda: a.in_contact and b.in_contact, "contact")
    assert a.frames.send("b", B, (b"new",)) is Sent.YES
    wait_for([a, b], lambda: b.messages, "the message")
    assert b.messages == [("a", A, (b"new",))]


def test_nothing_of_a_lost_connection_is_sent_on_the_next(nats: NatsServer, pair: tuple[Node, Node]) -> None:
    """What the loop sends before it learns that the connection was lost is dropped too."""
    a, b = pair
    nats.pause()
    for number in range(200):  # more than the kernel and nats-py hold
        assert a.frames.send("b", B, (b"stale", b"x" * 100_000, str(number).encode())) is Sent.YES
    nats.kill()
    nats.start()
    # Node a has not taken anything yet: for it, the connection is there.
    wait_for([b], lambda: b.contacts == [True, False, True], "contact of b")
    assert a.contacts == [True] and a.frames.send("b", B, (b"stale",)) is Sent.YES
    wait_for([a, b], lambda: a.contacts == [True, False, True], "contact of a")
    assert a.frames.send("b", B, (b"new",)) is Sent.YES
    wait_for([a, b], lambda: b.messages, "the message")
    assert b.messages == [("a", A, (b"new",))]
    assert a.interruptions == b.interruptions == 1


def test_what_waits_to_be_sent_is_bounded(
    nats: NatsServer, pair: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair
    monkeypatch.setattr(frames_module, "MAX_WAITING_BYTES", 20_000_000)
    nats.pause()
    frame, sent = b"x" * 1_000_000, []
    for _ in range(40):
        sent.append(a.frames.send("b", B, (frame,)))
    assert sent[0] is Sent.YES and sent[-1] is Sent.FULL
    nats.resume()
    count = sent.count(Sent.YES)
    wait_for([a, b], lambda: len(b.messages) == count or a.interruptions, "what was sent")
    assert a.frames.send("b", B, (b"room again",)) is Sent.YES


def test_what_a_busy_loop_does_not_take_waits_at_nats(pair: tuple[Node, Node]) -> None:
    a, b = pair
    for number in range(100):
        a.frames.send("b", B, (str(number).encode(), b"x" * 100_000))
    a.ask(a.records.read, "seat")  # node b takes nothing meanwhile
    assert b.messages == []
    wait_for([a, b], lambda: len(b.messages) == 100, "all messages")
    assert [int(parts[0]) for _, _, parts in b.messages] == list(range(100))
    assert b.interruptions == 0 and b.contacts == [True]


def test_a_step_takes_a_bounded_number_of_messages(pair: tuple[Node, Node]) -> None:
    """Meanwhile, nothing more is read. The loop is told that there is more to do."""
    a, b = pair
    for _ in range(10 * BURST):
        a.frames.send("b", B, (b"x",))
    a.ask(a.records.read, "seat")
    taken = 0
    while len(b.messages) < 10 * BURST:
        select.select([b.link], [], [], max(0.0, min(b.link.due - time.monotonic(), 0.05)))
        waiting = len(b.link._inlet)
        b.link.take(time.monotonic())
        assert len(b.messages) - taken <= BURST
        if waiting >= BURST:
            assert len(b.link._inlet) == waiting - BURST
        if len(b.link._inlet):
            assert b.link.due <= time.monotonic()
        taken = len(b.messages)


def test_a_slow_consumer_reconnects() -> None:
    """NATS drops the connection of a node that reads too slowly."""
    with NatsServer('write_deadline: "1s"\nmax_pending: 2MB', max_payload="1MB") as server:
        make_realm(server.address)
        login = Login((server.address,))
        with (
            Node(server.address, "a", login=login, boot=A) as a,
            Node(server.address, "b", login=login, boot=B) as b,
        ):
            wait_for([a, b], lambda: a.in_contact and b.in_contact, "contact")
            b.link._client._transport._io_reader._transport.pause_reading()  # type: ignore[union-attr]
            for _ in range(60):
                a.frames.send("b", B, (b"x" * 500_000,))
            wait_for([a, b], lambda: b.interruptions, "the loss")
            wait_for([a, b], lambda: b.contacts == [True, False, True], "contact again")
            a.frames.send("b", B, (b"new",))
            wait_for([a, b], lambda: b.messages and b.messages[-1][2] == (b"new",), "a message")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x01",
        b"\x90",
        b"\x92\x01\xc4\x00",
        b"\x92\xa1a\xa1b",
        b"\x81\x01\x02",
        b"\x93\xa1a\xc4\x00\x05",
    ],
)
def test_messages_that_no_node_sends_are_dropped(
    nats: NatsServer, pair: tuple[Node, Node], payload: bytes
) -> None:
    a, b = pair

    async def publish(client: Client) -> None:
        await client.publish(f"ringback.main.n.b.{B.hex()}", payload)
        await settle(client)

    administer(nats.address, publish)
    a.frames.send("b", B, (b"sound",))
    wait_for([a, b], lambda: b.messages, "a message")
    assert b.messages == [("a", A, (b"sound",))] and b.interruptions == 0
