"""The link to a real NATS server: contact, its loss, watched records, and reconnects."""

from __future__ import annotations

import socket
import time

import pytest
from support.nats_servers import NatsCluster, NatsServer, administer, delete_bucket, make_realm
from support.nodes import Node, raise_it, wait_for
from support.promises import Promise

from ringback_broker.cluster.records import Absent, Record
from ringback_broker.nats.link import NatsLink
from ringback_broker.nats.login import Login
from ringback_broker.nats.names import RealmNames


def test_contact_comes_after_all_watched_records(nats: NatsServer, node: Node) -> None:
    seat = node.ask(node.records.put, "seat", b"a", 0)
    gone = node.ask(node.records.put, "node.gone", b"g", 0)
    other = node.ask(node.records.put, "node.b", b"b", 0)
    assert isinstance(gone, Record)
    node.ask(node.records.delete, "node.gone", gone.revision)
    node.ask(node.records.put, "p.x", b"nobody watches this", 0)
    with Node(nats.address, "b") as late:
        late.wait(lambda: late.contacts, "contact")
        assert late.contacts == [True]
        assert late.changes.count(("seat", seat)) == 1  # type: ignore[arg-type]
        assert late.state("node.b") == other
        assert late.state("node.gone") == Absent()
        assert late.state("p.x") is None


def test_changes_of_watched_records_come_in_order(nats: NatsServer, node: Node) -> None:
    with Node(nats.address, "b") as other:
        other.wait(lambda: other.in_contact, "contact")
        revision = 0
        for number in range(200):
            made = node.ask(node.records.put, "node.a", str(number).encode(), revision)
            assert isinstance(made, Record)
            revision = made.revision
        other.wait(lambda: other.state("node.a") == made, "the last change")
        told = [
            int(state.value) for key, state in other.changes if key == "node.a" and isinstance(state, Record)
        ]
        assert told == sorted(told) and told[-1] == 199
        assert node.ask(node.records.delete, "node.a", revision) == Absent()
        other.wait(lambda: other.state("node.a") == Absent(), "the deletion")


def test_a_change_whose_message_is_lost_is_told_all_the_same(
    nats: NatsServer, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NATS repeats a record at most once. So a record of which nothing was heard is read again."""
    first = node.ask(node.records.put, "node.b", b"one", 0)
    assert isinstance(first, Record)
    node.wait(lambda: node.state("node.b") == first, "the record")

    async def lose(_message: object) -> None: ...

    for subscription in node.link._client._subs.values():  # type: ignore[union-attr]
        if ".w." in subscription.subject:
            subscription._cb = lose
    second = node.ask(node.records.put, "node.b", b"two", first.revision)
    third = node.ask(node.records.put, "seat", b"mine", 0)
    node.wait(lambda: node.state("node.b") == second, "the lost change")
    node.wait(lambda: node.state("seat") == third, "the lost change")
    assert node.contacts == [True]


def test_a_server_that_restarts(nats: NatsServer, node: Node, lines: list[str]) -> None:
    node.ask(node.records.put, "node.b", b"one", 0)
    node.wait(lambda: node.state("node.b"), "the record")
    nats.kill()
    node.wait(lambda: node.contacts[-1:] == [False] and node.interruptions == 1, "the loss")
    told = len(node.changes)
    node.wait(lambda: any("no contact" in line for line in lines), "the line")
    nats.start()
    node.wait(lambda: node.in_contact, "contact")
    assert isinstance(node.state("node.b"), Record)
    assert {key for key, _ in node.changes[told:]} == {"node.b", "seat"}  # told anew
    assert node.contacts == [True, False, True]
    assert node.failures == []
    [reason] = [line for line in lines if line.startswith("no contact with the realm main")]
    assert "Connection refused; trying again until there is" in reason
    # What was asked for first after that happens.
    assert isinstance(node.ask(node.records.put, "p.x", b"one", 0), Record)


def test_a_server_that_is_stopped_is_noticed(nats: NatsServer, node: Node, promise: Promise) -> None:
    nats.pause()
    paused_at = time.monotonic()
    node.wait(lambda: node.contacts == [True, False], "the loss of contact")
    node.wait(lambda: node.interruptions == 1, "the loss of the connection")
    promise("a link notices that NATS is stopped", time.monotonic() - paused_at, 8)
    nats.resume()
    node.wait(lambda: node.in_contact, "contact")


def test_a_server_that_is_stopped_while_much_is_on_its_way(nats: NatsServer, node: Node) -> None:
    """nats-py alone would wait for the socket for ever. No task of a lost connection stays."""
    import asyncio

    nats.pause()
    frame = b"x" * 500_000
    for _ in range(60):
        node.frames.send("b", b"\2" * 8, (frame,))
    node.wait(lambda: node.interruptions == 1, "the loss of the connection")
    nats.resume()
    node.wait(lambda: node.in_contact, "contact")
    for _ in range(3):
        nats.pause()
        for _ in range(30):
            node.frames.send("b", b"\2" * 8, (frame,))
        node.wait(lambda: not node.in_contact, "the loss")
        nats.resume()
        node.wait(lambda: node.in_contact, "contact")
    names = sorted(
        task.get_coro().__qualname__  # type: ignore[union-attr]
        for task in asyncio.all_tasks(node.link._loop)
        if not task.done()
    )
    assert len(names) < 15, names


def test_without_a_server_a_node_waits(nats: NatsServer, lines: list[str]) -> None:
    nats.kill()
    with Node(nats.address) as node:
        node.wait(lambda: any("no contact" in line for line in lines), "the line")
        assert node.contacts == [] and node.failures == []
        nats.start()
        node.wait(lambda: node.in_contact, "contact")
    assert [line for line in lines if "no contact" in line] == [
        f"no contact with the realm main: {nats.address}: Connection refused; trying again until there is"
    ]
    assert any(line.startswith("in contact with the realm main as node a: NATS 2.") for line in lines)


def test_a_port_where_nobody_speaks_nats(lines: list[str]) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        Node(f"nats://127.0.0.1:{silent.getsockname()[1]}") as node,
    ):
        node.wait(lambda: any("no answer in time" in line for line in lines), "the line")
        assert node.failures == []


def test_of_several_addresses_one_suffices(nats: NatsServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        dead = f"nats://127.0.0.1:{taken.getsockname()[1]}"
        taken.close()
        for addresses in (f"{dead},{nats.address}", f"{nats.address},{dead}"):
            with Node(addresses) as node:
                node.wait(lambda node=node: node.in_contact, "contact")


def test_a_bucket_that_is_lost_and_made_again(nats: NatsServer, node: Node, lines: list[str]) -> None:
    node.ask(node.records.put, "node.b", b"one", 0)
    administer(nats.address, delete_bucket)
    node.wait(lambda: node.contacts == [True, False], "the loss")
    node.wait(lambda: any("make it with `ringback realm create main`" in line for line in lines), "the line")
    assert node.failures == [] and node.interruptions == 0
    make_realm(nats.address)
    node.wait(lambda: node.in_contact, "contact")
    assert node.state("node.b") == Absent()
    made = node.ask(node.records.put, "node.b", b"again", 0)
    node.wait(lambda: node.state("node.b") == made, "the record")


def test_closing_is_quick_and_sends_what_waits(nats: NatsServer, node: Node, promise: Promise) -> None:
    with Node(nats.address, "b", boot=b"\2" * 8) as other:
        other.wait(lambda: other.in_contact, "contact")
        for number in range(100):
            node.frames.send("b", b"\2" * 8, (str(number).encode(),))
        began_at = time.monotonic()
        node.close()
        promise("a link is closed", time.monotonic() - began_at, 3)
        other.wait(lambda: len(other.messages) == 100, "all messages")
    nats.pause()
    began_at = time.monotonic()
    other.close()
    promise("a link to a NATS that is stopped is closed", time.monotonic() - began_at, 5)


def test_a_node_goes_to_another_server_of_the_cluster() -> None:
    """Its own server is stopped, then the leader of the records is killed."""
    with NatsCluster() as cluster:
        make_realm(cluster.addresses.split(",")[0], replicas=3)
        with Node(cluster.addresses) as a, Node(cluster.addresses, "b", boot=b"\2" * 8) as b:
            nodes = [a, b]
            wait_for(nodes, lambda: a.in_contact and b.in_contact, "contact")
            own = next(server for server in cluster.servers if server.address == a.link.address)
            own.pause()
            wait_for(nodes, lambda: a.contacts.count(True) == 2 and a.in_contact, "contact elsewhere")
            assert a.link.address != own.address
            wait_for(nodes, lambda: b.in_contact, "contact of the other one")

            def passes() -> bool:
                a.frames.send("b", b"\2" * 8, (b"hello",))
                return bool(b.messages)

            wait_for(nodes, passes, "a message")
            own.resume()


def test_a_link_that_is_never_started_leaves_nothing(nats: NatsServer) -> None:
    link = NatsLink(Login((nats.address,)), RealmNames("main"), "a", "tests", lambda _: None, raise_it)
    loop = link._loop
    link.close()
    link.close()
    assert loop.is_closed() and link.fileno() == -1
