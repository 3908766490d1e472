"""What the demo finds to differ from the promises."""

from __future__ import annotations

from collections import Counter

import pytest
from cluster_demo.judging import Group, NoPromises, Promise, judge, judge_time, read_promises
from cluster_demo.realm import FAULTS
from support.harness import ROOT

PROMISE = Promise("a node", "those of others go on", "its players go on at other nodes", 5.0)


def group(*, failed: int = 0, took_s: float | None = 1.0) -> Group:
    """Return two players, of which calls failed and work again after a while; None: one has none that do."""
    working = {7: 0.5} if took_s is None else {7: 0.5, 8: took_s}
    return Group("two players", {7, 8}, "a", Counter(PLAYER_LEFT=failed), working)


def test_the_document_promises_something_for_each_fault() -> None:
    promises = read_promises((ROOT / "docs" / "scale.md").read_text(), FAULTS)
    assert list(promises) == list(FAULTS)
    assert all(0 < promise.within_s <= 15 for promise in promises.values())
    assert promises["a node"].happens == "its players go on at other nodes"


@pytest.mark.parametrize("text", ["", "| a node | x | y | 5 s |\n\n<!-- make cluster-demo -->\n"])
def test_a_document_without_promises(text: str) -> None:
    with pytest.raises(NoPromises, match="no row after <!-- make cluster-demo --> says: a node"):
        read_promises(text, ["a node"])


def test_what_is_as_promised() -> None:
    assert judge(PROMISE, [group()], [group(failed=3, took_s=4.9), group(took_s=9.0)]) == []
    assert judge_time(PROMISE, "a player joins", 5.0) == []


def test_calls_that_fail_and_should_go_on() -> None:
    [found] = judge(PROMISE, [group(), group(failed=1)], [])
    wanted = "1 calls failed (1 PLAYER_LEFT); all work again after 1.0 s, and these calls should go on"
    assert found == f"two players: {wanted}"


def test_calls_that_do_not_end_and_should_go_on() -> None:
    [found] = judge(PROMISE, [group(took_s=None)], [])
    assert found == "two players: some have no call with a result, and these calls should go on"


def test_what_works_too_late_or_not_at_all() -> None:
    [found] = judge(PROMISE, [], [group(failed=1, took_s=5.1)])
    assert found == "two players: all work again after 5.1 s, and should within 5 s"
    [found] = judge(PROMISE, [], [group(failed=2, took_s=None)])
    wanted = "2 calls failed (2 PLAYER_LEFT); some still fail, and all should work within 5 s"
    assert found == f"two players: {wanted}"
    assert judge_time(PROMISE, "it joins", 5.1) == ["it joins: after 5.1 s, and should within 5 s"]
    assert judge_time(PROMISE, "it joins", None) == ["it joins: not at all, and should within 5 s"]
