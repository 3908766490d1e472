"""What `allow` may be, and who may call then."""

from __future__ import annotations

from typing import Any

import pytest

from ringback.core.permissions import OPERATORS, make_rule, permits


def everybody(source: Any) -> bool:
    return True


async def coroutine(source: Any) -> bool:
    return True


class AsyncCallable:
    async def __call__(self, source: Any) -> bool:
        return True


@pytest.mark.parametrize("allow", [None, OPERATORS, everybody])
def test_rules_that_need_no_change(allow: Any) -> None:
    assert make_rule(allow) is allow


@pytest.mark.parametrize(
    "allow", [{7, "ann"}, frozenset({7, "ann"}), [7, "ann", 7], (7, "ann"), {7: 0, "ann": 0}.keys()]
)
def test_ids(allow: Any) -> None:
    rule = make_rule(allow)
    assert rule == frozenset({7, "ann"})
    assert [permits(rule, source, False) for source in (7, "ann", 8, "7", "Ann", 1)] == [
        True,
        True,
        *[False] * 4,
    ]
    assert permits(rule, 7, True) and not permits(rule, 8, True)


def test_ids_are_copied() -> None:
    ids = {7}
    rule = make_rule(ids)
    ids.add(8)
    assert rule == {7}


def test_an_empty_set_allows_nobody() -> None:
    rule = make_rule(set())
    assert rule is not None and not permits(rule, 7, False) and not permits(rule, 7, True)


@pytest.mark.parametrize(
    ("player_id", "kind"),
    [(0, ValueError), ("", ValueError), (True, TypeError), (None, TypeError), (8.0, TypeError)],
)
@pytest.mark.parametrize("make", [list, tuple, set, frozenset])
def test_ids_are_checked(make: Any, player_id: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="player ID"):
        make_rule(make([7, player_id]))


@pytest.mark.parametrize("allow", ["ann", b"ann", 7, True, False, {7: True}, iter([7])])
def test_values_that_are_no_allow(allow: Any) -> None:
    with pytest.raises(TypeError, match="allow must be None, OPERATORS, a set, list or tuple of player IDs"):
        make_rule(allow)


@pytest.mark.parametrize("allow", [lambda: True, lambda source, payload: True, lambda source, *, more: True])
def test_functions_that_do_not_take_a_source(allow: Any) -> None:
    with pytest.raises(TypeError, match=r"allow must be a function of \(source\), not "):
        make_rule(allow)


@pytest.mark.parametrize("allow", [coroutine, AsyncCallable()])
def test_coroutine_functions_are_refused(allow: Any) -> None:
    with pytest.raises(TypeError, match="not the coroutine function"):
        make_rule(allow)


@pytest.mark.parametrize(
    "allow", [{7: 0}.__contains__, lambda source, more=1: source == 7, lambda *args: args == (7,)]
)
def test_functions(allow: Any) -> None:
    rule = make_rule(allow)
    assert rule is not None and permits(rule, 7, False) and not permits(rule, 8, False)
    assert permits(rule, 7, True) and not permits(rule, 8, True)


@pytest.mark.parametrize("answer", [1, 0, None, "yes", [7], 1.0])
def test_answers_that_are_no_bool(answer: Any) -> None:
    with pytest.raises(TypeError, match="allow must return True or False, not "):
        permits(lambda source: answer, 7, False)


def test_operators() -> None:
    assert permits(OPERATORS, 7, True) and not permits(OPERATORS, 7, False)
