"""Simulated realms: whatever happens to nodes and engine, the promise holds, and each name has one owner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sim.realm import OperatorSimulation, RealmSimulation
from sim.simulation import failure_of

from ringback.core.address_round import AddressRound
from ringback.errors import Code
from ringback_broker.cluster import claims, neighbours
from ringback_broker.cluster.claims import Claims
from ringback_broker.cluster.lookup import Missing
from ringback_broker.cluster.ownership import Ownership
from ringback_broker.cluster.pairs import HEAD, Pairs
from ringback_broker.cluster.records import Absent
from ringback_broker.cluster.seat import Seat
from ringback_broker.switchboard.operator_calls import OperatorCalls
from ringback_broker.switchboard.presence import Presence

SEEDS = 300
OPERATOR_SEEDS = 50
CHUNK = 25
MOST_SEEDS = 1000
TIMEOUT_S = 900
"""A seed takes 0.06 s of processor time. A busy machine gives it less than a tenth of a processor."""

REPLAY = ".venv/bin/python tests/sim/replay.py --realm --trace --seed {}"


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_the_promise_holds_in_a_realm(first: int) -> None:
    for seed in range(first, first + CHUNK):
        if (why := failure_of(seed, RealmSimulation)) is not None:
            pytest.fail(f"seed {seed}: {why}\nreplay: {REPLAY.format(seed)}", pytrace=False)


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("first", range(0, OPERATOR_SEEDS, CHUNK))
def test_the_promise_holds_for_operators_of_a_realm(first: int) -> None:
    for seed in range(first, first + CHUNK):
        if (why := failure_of(seed, OperatorSimulation)) is not None:
            replay = REPLAY.replace("--realm", "--operators").format(seed)
            pytest.fail(f"seed {seed}: {why}\nreplay: {replay}", pytrace=False)


# -- the simulator finds faults that are planted in the code


def a_node_acts_past_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ownership, "check", lambda self, now: None)


def nodes_are_buried_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "PATIENCE_S", -4.0)


def epochs_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take each message in its turn, whatever epoch it is of."""
    take = Pairs.from_node

    def mutant(self: Pairs, name: str, boot: bytes, parts: tuple[bytes, ...], now: float) -> None:
        pair = self._pairs.get(name)
        if pair is not None and len(parts) > 1:
            parts = HEAD.pack(pair.theirs, pair.mine, pair.taken + 1), *parts[1:]
        take(self, name, boot, parts, now)

    monkeypatch.setattr(Pairs, "from_node", mutant)


def lost_messages_are_not_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    take = Pairs.from_node

    def mutant(self: Pairs, name: str, boot: bytes, parts: tuple[bytes, ...], now: float) -> None:
        pair = self._pairs.get(name)
        theirs, mine, number = HEAD.unpack(parts[0])
        if pair is not None and number > pair.taken and (theirs, mine) == (pair.theirs, pair.mine):
            pair.taken = number - 1
        take(self, name, boot, parts, now)

    monkeypatch.setattr(Pairs, "from_node", mutant)


def any_ticket_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "compare_digest", lambda one, other: True)


def owners_are_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Claims._was_found

    def mutant(self: Claims, *arguments: Any) -> None:
        *others, _, now = arguments
        found(self, *others, Absent(), now)

    monkeypatch.setattr(Claims, "_was_found", mutant)


def the_seat_is_taken_from_the_living(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Seat._was_found
    monkeypatch.setattr(Seat, "_was_found", lambda self, outcome, now: found(self, Absent(), now))


def nobody_is_told_of_a_node_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Presence, "node_went", lambda self, node: None)


def nobody_is_told_of_players_who_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Presence, "gone", lambda self, node, encoded_id: None)


def endpoints_go_back_to_the_node_that_they_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    following = AddressRound.next_broker

    def mutant(self: AddressRound) -> bool:
        self.stay()
        return following(self)

    monkeypatch.setattr(AddressRound, "next_broker", mutant)


def endpoints_miss_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    following = AddressRound.next_broker
    monkeypatch.setattr(AddressRound, "next_broker", lambda self: (following(self), following(self))[0])


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize(
    ("plant", "faults"),
    [
        (a_node_acts_past_its_lease, "_cut_node _cut_node _join_twice"),
        (nodes_are_buried_early, ""),
        (epochs_are_forgotten, "_cut_node"),
        (lost_messages_are_not_noticed, ""),
        (any_ticket_is_good, "_join_twice _reset"),
        (owners_are_taken_for_dead, "_join_twice"),
        (the_seat_is_taken_from_the_living, "_join_twice _kill"),
        (nobody_is_told_of_a_node_that_is_gone, ""),
        (nobody_is_told_of_players_who_leave, ""),
        (endpoints_go_back_to_the_node_that_they_lost, ""),
        (endpoints_miss_a_node, ""),
    ],
)
def test_a_planted_fault_is_found_in_a_realm(
    plant: Callable[[pytest.MonkeyPatch], None], faults: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some are found in one seed of a thousand only, so their seeds have many faults of those that matter."""
    if faults:
        monkeypatch.setattr(RealmSimulation, "fault_counts", (10, 15))
        monkeypatch.setattr(
            RealmSimulation, "faults", lambda self: [getattr(self, name) for name in faults.split()]
        )
        assert failure_of(0, RealmSimulation) is None
    plant(monkeypatch)
    assert any(failure_of(seed, RealmSimulation) is not None for seed in range(MOST_SEEDS))


# -- and in calls of operators


def nobody_is_told_of_callees_who_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OperatorCalls, "left", lambda self, encoded_id: [])


def nobody_is_told_of_callees_of_a_node_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OperatorCalls, "node_went", lambda self, node: None)


def what_waits_is_forgotten_when_nobody_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    found = OperatorCalls._found

    def mutant(self: OperatorCalls, encoded_id: bytes, waiting: Any, owner: Any, now: float) -> None:
        if owner is Missing.NOBODY:
            self._no_longer_wait(encoded_id)
        else:
            found(self, encoded_id, waiting, owner, now)

    monkeypatch.setattr(OperatorCalls, "_found", mutant)


def what_was_delivered_is_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look each frame up again that goes to a callee, as if its node had sent it back."""
    send = OperatorCalls._send

    def mutant(self: OperatorCalls, callee: Any, operator: Any, frame: Any, number: int, now: float) -> None:
        send(self, callee, operator, frame, number, now)
        self.take_back(operator, callee.encoded_id, bytes(frame), number, Code.UNKNOWN_PLAYER, now)

    monkeypatch.setattr(OperatorCalls, "_send", mutant)


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize(
    ("plant", "faults"),
    [
        (nobody_is_told_of_callees_who_leave, "_reset_player"),
        (nobody_is_told_of_callees_of_a_node_that_is_gone, "_block"),
        (what_waits_is_forgotten_when_nobody_is_found, ""),
        (what_was_delivered_is_looked_up_again, ""),
    ],
)
def test_a_planted_fault_is_found_in_calls_of_operators(
    plant: Callable[[pytest.MonkeyPatch], None], faults: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if faults:
        monkeypatch.setattr(OperatorSimulation, "fault_counts", (10,))
        monkeypatch.setattr(
            OperatorSimulation, "faults", lambda self: [getattr(self, name) for name in faults.split()]
        )
        assert failure_of(0, OperatorSimulation) is None
    plant(monkeypatch)
    assert any(failure_of(seed, OperatorSimulation) is not None for seed in range(MOST_SEEDS))
