"""Who may call a callback: what `allow` of a registration means."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from enum import Enum
from typing import Any, Final

from ringback.protocol.player_ids import PlayerID, check_player_id


class Callers(Enum):
    """Callers that `allow` may name as a group."""

    OPERATORS = "operators"


OPERATORS: Final = Callers.OPERATORS
"""As `allow`: operators, and the server itself, but no player."""

Predicate = Callable[[Any], bool]
Allow = AbstractSet[PlayerID] | list[Any] | tuple[PlayerID, ...] | Predicate | Callers
Rule = frozenset[PlayerID] | Predicate | Callers


def make_rule(allow: Any) -> Rule | None:
    """Gives what an `allow` means; a set or list is copied. None is for everybody.

    Raises:
        TypeError: it is nothing that `allow` may be; or a function that does not take (source), or is a
            coroutine function; or an ID in it is neither an int nor a str.
        ValueError: an ID in it is out of range.
    """
    if allow is None or isinstance(allow, Callers):
        return allow
    if isinstance(allow, (AbstractSet, list, tuple)):
        return frozenset([check_player_id(player_id) for player_id in allow])
    if not callable(allow):
        raise TypeError(
            "allow is None, OPERATORS, a set, list or tuple of player IDs, or a function of (source),"
            f" not {type(allow).__name__}"
        )
    predicate: Predicate = allow
    _check_predicate(predicate)
    return predicate


def _check_predicate(function: Any) -> None:
    name = getattr(function, "__qualname__", repr(function))
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object with an async __call__
    ):
        raise TypeError(f"the allow {name} is a coroutine function: it has to say at once who may call")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some builtins have none to see
        return
    try:
        signature.bind(None)
    except TypeError:
        raise TypeError(f"the allow {name}{signature} does not take (source)") from None


def in_words(rule: Rule) -> str:
    """Tells whom a rule lets call."""
    if isinstance(rule, Callers):
        return "operators alone"
    if isinstance(rule, frozenset):
        return f"{len(rule)} caller{'s' if len(rule) != 1 else ''} that it names"
    return "whom a function of it allows"


def permits(rule: Rule, source: PlayerID | None, of_operator: bool) -> bool:
    """Tells whether a rule lets a caller call. A predicate is asked, and what it raises is let through.

    Args:
        source: the player that calls, or whom an operator names.

    Raises:
        TypeError: a predicate gave something other than a bool.
    """
    if rule is OPERATORS:
        return of_operator
    if isinstance(rule, frozenset):
        return source in rule
    answer: Any = rule(source)
    # What is true by accident, as the object of a forgotten await is, lets nobody in.
    if type(answer) is not bool:
        raise TypeError(f"allow gives True or False, not {type(answer).__name__}")
    return answer
