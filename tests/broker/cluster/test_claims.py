"""Claims: the records decide whose a name is, whatever gets lost."""

from __future__ import annotations

from typing import Any

import pytest
from support.realms import FakeRecords

from ringback_broker.cluster import held_names, name_turns
from ringback_broker.cluster.claims import MAX_ATTEMPTS, Claim, Claims, Verdict
from ringback_broker.cluster.held_names import REWRITE_S
from ringback_broker.cluster.name_turns import CLAIM_WITHIN_S
from ringback_broker.cluster.owners import hash_of, player_key, player_of
from ringback_broker.cluster.ownership import encode_node

KEY = "p.Bw"


class Claimer:
    """The claims of one node, with a clock."""

    def __init__(self, name: str, records: FakeRecords) -> None:
        self.name = name
        self.now = 1000.0
        self.records = records
        self.verdicts: list[Verdict] = []
        self.asked: list[tuple[str, str, int, bytes]] = []
        self.can_ask = True
        self.lost: list[str] = []
        self.of = Claims(name, lambda: b"boot " + name.encode(), records, self._ask, self._lose)
        records.write(f"node.{name}", encode_node(b"boot " + name.encode(), {}))

    def _ask(self, node: str, boot: bytes, key: str, revision: int, identity: bytes) -> bool:
        self.asked.append((node, key, revision, identity))
        return self.can_ask

    def _lose(self, key: str, now: float) -> None:
        self.lost.append(key)

    def claim(self, settle: bool = True, **how: Any) -> Claim:
        fields = {"ticket": b"", "shown": b"", "identity": b"", **how}
        claim = self.of.claim(
            KEY, decided=lambda verdict, now: self.verdicts.append(verdict), now=self.now, **fields
        )
        if settle:
            self.records.settle(self.now)
        return claim

    def tick(self, seconds: float = 0.25) -> None:
        self.now += seconds
        self.of.tick(self.now)
        self.records.settle(self.now)

    def release(self) -> None:
        self.of.names.release(KEY, self.of.names.by_key[KEY], self.now)
        self.records.settle(self.now)


def two() -> tuple[Claimer, Claimer]:
    records = FakeRecords()
    return Claimer("a", records), Claimer("b", records)


def test_the_first_one_has_the_name_and_the_second_asks_for_it() -> None:
    a, b = two()
    a.claim()
    b.claim(identity=b"me")
    assert a.verdicts == [Verdict.GRANTED] and b.verdicts == []
    revision = a.of.names.by_key[KEY].revision
    assert b.asked == [("a", KEY, revision, b"me")]
    b.of.answered("a", KEY, revision, False, b.now)
    assert b.verdicts == [Verdict.TAKEN] and len(b.of.turns) == 0


def test_an_owner_that_gives_up_lets_the_other_one_have_it() -> None:
    a, b = two()
    a.claim()
    b.claim()
    revision = a.of.names.by_key[KEY].revision
    a.of.names.give_up(KEY)
    b.of.answered("a", KEY, revision + 1, True, b.now)  # the answer to another question
    b.of.answered("a", KEY, revision, True, b.now)
    b.records.settle(b.now)
    assert b.verdicts == [Verdict.GRANTED] and KEY not in a.of.names.by_key
    b.of.answered("a", KEY, revision, True, b.now)  # it comes again


def test_one_that_only_wants_what_is_free_does_not_ask() -> None:
    a, b = two()
    a.claim(ticket=hash_of(b"t"))
    b.claim(only_free=True, shown=hash_of(b"t"))
    assert b.verdicts == [Verdict.TAKEN] and b.asked == []


def test_whoever_shows_the_ticket_does_not_ask() -> None:
    a, b = two()
    a.claim(ticket=hash_of(b"t"))
    b.claim(shown=hash_of(b"t"))
    assert b.verdicts == [Verdict.GRANTED] and b.asked == []
    b.release()
    a.claim(shown=hash_of(b"other"))  # its own record is not there any more: it claims anew
    assert a.verdicts == [Verdict.GRANTED, Verdict.GRANTED]


def test_nobody_can_be_asked() -> None:
    a, b = two()
    a.claim()
    b.can_ask = False
    b.claim()
    assert b.verdicts == [Verdict.LATER]


def test_a_dead_owner_is_not_asked() -> None:
    a, b = two()
    a.claim()
    del a.records.there["node.a"]
    b.claim()
    assert b.verdicts == [Verdict.GRANTED] and b.asked == []
    a.records.write("node.a", encode_node(b"another boot", {}))
    a.of.clear(a.now)
    b.release()
    a.claim()
    b.claim()
    assert b.verdicts[-1] is Verdict.GRANTED


def test_an_owner_that_cannot_be_read_is_dead() -> None:
    a, _ = two()
    for value in (b"\xc1", b"\x93\x01\x02\x03", b"\x91\xa1a"):
        a.records.write(KEY, value)
        a.claim()
        assert a.verdicts[-1] is Verdict.GRANTED
        a.release()


def test_another_process_of_the_same_name_has_it() -> None:
    a, _ = two()
    twin = Claimer("a", a.records)
    twin.of.names._boot = lambda: b"twin"
    a.records.write("node.a", encode_node(b"twin", {}))
    twin.claim()
    a.claim()
    assert a.verdicts == [Verdict.TAKEN] and a.asked == []


def test_nobody_answers_in_time() -> None:
    a, _ = two()
    a.records.lose = True
    a.claim()
    assert a.verdicts == [Verdict.LATER]
    a.records.lose = False
    a.tick()
    assert KEY not in a.records.there and len(a.of.turns) == 0


def test_what_was_written_without_an_answer_is_deleted_again() -> None:
    a, _ = two()
    a.records.forget = True
    a.claim()
    assert a.verdicts == [Verdict.LATER] and KEY in a.records.there
    a.tick()  # nobody answers this either
    a.records.forget = False
    a.tick()
    a.tick()
    assert KEY not in a.records.there and len(a.of.turns) == 0


def test_what_was_written_without_an_answer_is_claimed_again() -> None:
    a, _ = two()
    a.records.forget = True
    a.claim()
    a.records.forget = False
    a.claim()
    assert a.verdicts == [Verdict.LATER, Verdict.GRANTED]
    a.tick()
    assert KEY in a.of.names.by_key and KEY in a.records.there


@pytest.mark.parametrize("steps", [1, 2])
def test_nobody_answers_what_is_asked_later(steps: int) -> None:
    a, b = two()
    a.claim()
    b.claim(settle=False)
    for _ in range(steps):
        b.records.step(b.now)
    b.records.lose = True
    b.records.settle(b.now)
    assert b.verdicts == [Verdict.LATER] and len(b.of.turns) == 0


def test_it_is_given_up_when_others_are_faster_all_the_time() -> None:
    a, _ = two()
    a.claim(settle=False)
    for _ in range(2 * MAX_ATTEMPTS):
        if a.records.asked and a.records.asked[0][0] == "put":
            a.records.write(KEY, b"\x93\xa1z\xc4\x01z\xc4\x00")
        if a.records.asked:
            a.records.step(a.now)
        while a.records.asked and a.records.asked[0][0] == "read":
            a.records.step(a.now)
    a.records.settle(a.now)
    assert a.verdicts == [Verdict.LATER]


def test_a_claim_ends_in_time_and_what_comes_of_it_is_let_go() -> None:
    a, _ = two()
    a.claim(settle=False)
    a.now += CLAIM_WITHIN_S
    a.of.tick(a.now)
    assert a.verdicts == [Verdict.LATER]
    a.records.settle(a.now)
    assert a.verdicts == [Verdict.LATER] and KEY not in a.of.names.by_key and KEY not in a.records.there
    assert len(a.of.turns) == 0


def test_an_owner_that_never_answers() -> None:
    a, b = two()
    a.claim()
    b.claim()
    b.tick(CLAIM_WITHIN_S)
    assert b.verdicts == [Verdict.LATER] and len(b.of.turns) == 0


@pytest.mark.parametrize("steps", range(4))
def test_a_claim_that_was_abandoned_leaves_nothing(steps: int) -> None:
    a, b = two()
    b.claim()
    claim = a.claim(settle=False)
    for _ in range(steps):
        a.records.step(a.now)
    a.of.abandon(claim, a.now)
    a.of.abandon(claim, a.now)
    a.records.settle(a.now)
    a.tick()
    assert a.verdicts == [] and len(a.of.turns) == 0 and KEY not in a.of.names.by_key


def test_a_name_in_use_stays_when_a_later_claim_of_it_is_abandoned() -> None:
    a, _ = two()
    a.claim()
    held = a.of.names.by_key[KEY]
    again = a.claim(settle=False)
    a.of.abandon(again, a.now)
    a.records.settle(a.now)
    assert a.of.names.by_key[KEY] is held and held.revision == a.records.there[KEY].revision
    a.release()
    assert KEY not in a.records.there


def test_a_release_after_a_later_claim_does_nothing() -> None:
    a, _ = two()
    a.claim()
    before = a.of.names.by_key[KEY]
    a.claim()
    a.of.names.release(KEY, before, a.now)
    a.records.settle(a.now)
    assert KEY in a.records.there


def test_work_for_one_name_takes_turns() -> None:
    a, _ = two()
    a.claim()
    held = a.of.names.by_key[KEY]
    a.claim(settle=False)
    a.of.names.release(KEY, held, a.now)
    turns: list[str] = []
    a.of.turns.when_free(KEY, lambda now: turns.append("begun"), lambda now: turns.append("refused"), a.now)
    assert turns == [] and len(a.of.turns) == 3
    a.records.settle(a.now)
    assert turns == ["begun"] and len(a.of.turns) == 0 and KEY in a.records.there


def test_a_turn_that_comes_too_late_is_refused() -> None:
    a, _ = two()
    a.claim()
    a.claim(settle=False)
    turns: list[str] = []
    a.of.turns.when_free(KEY, lambda now: turns.append("begun"), lambda now: turns.append("refused"), a.now)
    a.of.names.release(KEY, a.of.names.by_key[KEY], a.now)
    a.now += CLAIM_WITHIN_S
    a.of.tick(a.now)
    assert turns == ["refused"] and KEY not in a.of.names.by_key
    a.records.settle(a.now)
    a.tick()
    assert KEY not in a.records.there and len(a.of.turns) == 0


def test_too_many_claims_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_turns, "MAX_CLAIMS", 1)
    a, _ = two()
    a.claim(settle=False)
    turns: list[str] = []
    a.of.turns.when_free(
        "p.other", lambda now: turns.append("begun"), lambda now: turns.append("refused"), a.now
    )
    assert turns == ["refused"]
    a.records.settle(a.now)
    held = a.of.names.by_key[KEY]
    monkeypatch.setattr(name_turns, "MAX_CLAIMS", 0)
    a.of.names.release(KEY, held, a.now)
    assert KEY not in a.of.names.by_key
    a.of.names._drop_later(KEY, held)  # once more
    a.tick()
    assert KEY not in a.records.there


def test_too_many_doubts_are_left_to_those_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_names, "MAX_DOUBTED", 0)
    a, _ = two()
    a.records.forget = True
    a.claim()
    a.records.forget = False
    a.tick()
    assert KEY in a.records.there


def test_a_delete_without_an_answer_is_looked_at() -> None:
    a, _ = two()
    a.claim()
    a.records.lose = True
    a.release()
    a.records.lose = False
    a.tick()
    assert KEY not in a.records.there


def test_a_name_in_doubt_that_is_busy_is_looked_at_later() -> None:
    a, _ = two()
    a.claim()
    a.of.names.doubt(KEY)
    a.claim(settle=False)
    a.of.tick(a.now)
    assert len(a.records.asked) == 1
    a.records.settle(a.now)
    a.tick()
    assert KEY in a.of.names.by_key


def test_old_records_are_written_anew() -> None:
    a, _ = two()
    a.claim()
    before = a.records.there[KEY]
    a.tick(REWRITE_S - 1)
    assert a.records.there[KEY] == before
    a.tick(1)
    after = a.records.there[KEY]
    assert after.revision > before.revision and after.value == before.value
    assert a.of.names.by_key[KEY].revision == after.revision
    a.records.forget = True
    a.tick(REWRITE_S)
    a.records.forget = False
    a.tick()
    assert a.of.names.by_key[KEY].revision == a.records.there[KEY].revision > after.revision
    a.claim(settle=False)
    a.of.tick(a.now + REWRITE_S)  # it is busy
    assert len(a.records.asked) == 1


def test_few_old_records_are_written_anew_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_names, "A_TICK", 1)
    a, _ = two()
    a.claim()
    a.of.claim("p.other", b"", b"", b"", lambda verdict, now: None, a.now)
    a.records.settle(a.now)
    a.of.tick(a.now + REWRITE_S)
    assert len(a.records.asked) == 1


def test_a_name_that_another_node_took_is_lost() -> None:
    a, b = two()
    a.claim(ticket=hash_of(b"t"))
    b.claim(shown=hash_of(b"t"))
    a.claim()  # for the same player: the record is not what this node believes
    assert a.lost == [KEY] and KEY not in a.of.names.by_key


def test_a_name_that_another_node_took_is_lost_when_it_is_looked_at() -> None:
    a, b = two()
    a.claim(ticket=hash_of(b"t"))
    b.claim(shown=hash_of(b"t"))
    a.of.names.doubt(KEY)
    a.tick()
    assert a.lost == [KEY] and KEY not in a.of.names.by_key


def test_a_record_that_is_gone_is_claimed_or_written_anew() -> None:
    a, _ = two()
    a.claim()
    del a.records.there[KEY]
    a.claim()
    assert a.verdicts == [Verdict.GRANTED] * 2
    del a.records.there[KEY]
    a.of.names.doubt(KEY)
    a.tick()
    assert a.of.names.by_key[KEY].revision == a.records.there[KEY].revision
    a.of.names.doubt("p.nothing")
    a.tick()
    assert len(a.of.turns) == 0


def test_nothing_counts_after_the_realm_is_lost() -> None:
    a, b = two()
    a.claim(ticket=hash_of(b"t"))
    kinds = [
        lambda: a.claim(settle=False),
        lambda: a.of.names.doubt(KEY),
        lambda: a.of.names.release(KEY, a.of.names.by_key[KEY], a.now),
    ]
    for begin in kinds:
        for steps in range(3):
            a.claim()
            begin()
            a.of.tick(a.now)
            for _ in range(min(steps, len(a.records.asked))):
                a.records.step(a.now)
            a.of.turns.when_free(KEY, lambda now: None, lambda now: None, a.now)
            a.of.clear(a.now)
            a.records.settle(a.now)
            assert len(a.of.turns) == 0 and not a.of.names.by_key
    b.claim()
    a.claim(settle=False)
    a.records.step(a.now)
    a.of.clear(a.now)
    a.records.settle(a.now)
    a.claim(settle=False)
    a.records.step(a.now)
    a.records.step(a.now)
    a.of.clear(a.now)
    a.records.settle(a.now)
    a.claim()
    a.of.claim("p.old", b"", b"", b"", lambda verdict, now: None, a.now)
    a.records.settle(a.now)
    a.of.tick(a.now + REWRITE_S)
    claim = a.claim(settle=False)
    a.of.abandon(claim, a.now)
    a.of.clear(a.now)
    a.records.settle(a.now)
    assert len(a.of.turns) == 0 and not a.of.names.by_key


def test_keys_name_player_ids() -> None:
    for encoded_id in (b"\x07", b"\xa1x", b"\xcf" + b"\xff" * 8):
        assert player_of(player_key(encoded_id)) == encoded_id
    assert player_of("index.7") == b"" == player_of("p.x")
    assert hash_of(b"") == b"" and len(hash_of(b"x")) == 16
