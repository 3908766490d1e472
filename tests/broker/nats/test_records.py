"""Records over a real NATS server: compare-and-set, markers of deleted records, unknown outcomes."""

from __future__ import annotations

import time

import pytest
from support.nats_servers import NatsCluster, NatsServer, make_realm
from support.nodes import Node, wait_for
from support.promises import Promise

from ringback_broker.cluster.records import RECORD_WITHIN_S, Absent, Conflict, Outcome, Record, Unknown
from ringback_broker.nats import records as records_module


def test_a_record_is_created_once(nats: NatsServer, node: Node) -> None:
    first = node.ask(node.records.put, "p.x", b"one", 0)
    assert isinstance(first, Record) and first.value == b"one" and first.revision > 0
    assert node.ask(node.records.put, "p.x", b"two", 0) == Conflict()
    assert node.ask(node.records.read, "p.x") == first


def test_a_record_is_written_if_it_has_the_revision(node: Node) -> None:
    first = node.ask(node.records.put, "p.x", b"one", 0)
    assert isinstance(first, Record)
    second = node.ask(node.records.put, "p.x", b"two", first.revision)
    assert isinstance(second, Record) and second.revision > first.revision
    assert node.ask(node.records.put, "p.x", b"three", first.revision) == Conflict()
    assert node.ask(node.records.delete, "p.x", first.revision) == Conflict()
    assert node.ask(node.records.read, "p.x") == second


def test_a_deleted_record_is_absent_and_can_be_created_again(node: Node) -> None:
    for value in (b"one", b"two", b""):
        made = node.ask(node.records.put, "p.x", value, 0)
        assert isinstance(made, Record) and made.value == value
        assert node.ask(node.records.read, "p.x") == made
        assert node.ask(node.records.delete, "p.x", made.revision) == Absent()
        assert node.ask(node.records.read, "p.x") == Absent()
        assert node.ask(node.records.put, "p.x", b"late", made.revision) == Conflict()


def test_what_was_never_there(node: Node) -> None:
    assert node.ask(node.records.read, "p.x") == Absent()
    assert node.ask(node.records.put, "p.x", b"one", 7) == Conflict()
    assert node.ask(node.records.delete, "p.x", 7) == Conflict()
    assert node.ask(node.records.read, "p.x") == Absent()


def create_at_once(nodes: list[Node], key: str) -> Record:
    """Let nodes create a record at one moment. Return it: one of them must have written it."""
    outcomes: list[Outcome] = []
    for node in nodes:
        node.records.put(key, b"mine", 0, lambda outcome, _now: outcomes.append(outcome))
    wait_for(nodes, lambda: len(outcomes) == len(nodes), "outcomes")
    [won] = [outcome for outcome in outcomes if isinstance(outcome, Record)]
    assert outcomes.count(Conflict()) == len(nodes) - 1
    return won


def test_of_many_that_create_a_record_one_does(nats: NatsServer) -> None:
    nodes = [Node(nats.address, name) for name in ("a", "b", "c")]
    try:
        wait_for(nodes, lambda: all(node.in_contact for node in nodes), "contact")
        for round_ in range(20):
            won = create_at_once(nodes, f"p.{round_}")
            # The same with the marker of a deleted record in the way.
            assert nodes[0].ask(nodes[0].records.delete, f"p.{round_}", won.revision) == Absent()
            assert create_at_once(nodes, f"p.{round_}").revision > won.revision
    finally:
        for node in nodes:
            node.close()


def test_without_contact_every_outcome_is_unknown_and_comes_later(nats: NatsServer) -> None:
    nats.kill()
    with Node(nats.address) as node:
        for method, arguments in (
            (node.records.put, ("p.x", b"one", 0)),
            (node.records.delete, ("p.x", 1)),
            (node.records.read, ("p.x",)),
        ):
            outcomes: list[Outcome] = []
            method(*arguments, lambda outcome, _now, outcomes=outcomes: outcomes.append(outcome))
            assert outcomes == []
            node.wait(lambda outcomes=outcomes: outcomes, "an outcome")
            assert outcomes == [Unknown()]


def test_a_server_that_is_stopped_makes_outcomes_unknown_in_time(
    nats: NatsServer, node: Node, promise: Promise
) -> None:
    nats.pause()
    outcomes: list[tuple[Outcome, float]] = []
    asked_at = time.monotonic()
    for key in ("p.x", "p.y"):
        node.records.put(key, b"one", 0, lambda outcome, now: outcomes.append((outcome, now)))
    node.wait(lambda: len(outcomes) == 2, "outcomes")
    assert [outcome for outcome, _ in outcomes] == [Unknown(), Unknown()]
    promise("an outcome is unknown", outcomes[-1][1] - asked_at, RECORD_WITHIN_S)
    # It may have happened: the server had the bytes, and goes on with them.
    nats.resume()
    node.wait(lambda: node.contacts[-2:] == [False, True] or node.contacts == [True], "contact")
    found = node.ask(node.records.read, "p.x")
    assert found == Absent() or (isinstance(found, Record) and found.value == b"one")


def test_more_than_the_bound_is_unknown_at_once(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_module, "MAX_WAITING", 10)
    outcomes: list[Outcome] = []
    for number in range(15):
        node.records.put(f"p.{number}", b"v", 0, lambda outcome, _now: outcomes.append(outcome))
    node.wait(lambda: len(outcomes) == 15, "outcomes")
    assert outcomes.count(Unknown()) == 5
    # What has its outcome makes room again.
    assert isinstance(node.ask(node.records.put, "p.later", b"v", 0), Record)


def test_a_crowd_of_records(node: Node) -> None:
    outcomes: list[Outcome] = []
    for number in range(3000):
        node.records.put(f"p.{number}", b"v" * 60, 0, lambda outcome, _now: outcomes.append(outcome))
    node.wait(lambda: len(outcomes) == 3000, "outcomes")
    assert {type(outcome) for outcome in outcomes} == {Record}


def test_records_of_a_cluster_outlive_its_leader() -> None:
    """While the others elect a leader, outcomes are unknown. What was written is there afterwards."""
    with NatsCluster() as cluster:
        make_realm(cluster.addresses.split(",")[0], replicas=3)
        with Node(cluster.addresses) as node:
            node.wait(lambda: node.in_contact, "contact")
            made = node.ask(node.records.put, "p.x", b"one", 0)
            assert isinstance(made, Record)
            cluster.leader().kill()
            outcome: Outcome = Unknown()
            deadline = time.monotonic() + 40
            while outcome == Unknown() and time.monotonic() < deadline:
                outcome = node.ask(node.records.put, "p.x", b"two", made.revision)
            if outcome == Conflict():  # an earlier try has happened behind our back
                outcome = node.ask(node.records.read, "p.x")
            assert isinstance(outcome, Record) and outcome.value == b"two"
            node.wait(lambda: node.in_contact, "contact")
