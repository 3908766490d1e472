"""Permissions: who may call a callback, as the `allow` of its registration says."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextvars import copy_context
from enum import Enum
from typing import Any, Final, cast

from ringback.core.signatures import check_takes, is_coroutine_function, name_of
from ringback.protocol.player_ids import PlayerID, check_player_id


class Callers(Enum):
    """Groups of callers that `allow` can name."""

    OPERATORS = "operators"


OPERATORS: Final = Callers.OPERATORS
"""As `allow`: operators and the server itself may call, and no player."""

Predicate = Callable[[Any], bool]
IDs = AbstractSet[PlayerID] | list[int] | list[str] | list[PlayerID] | tuple[PlayerID, ...]
Allow = IDs | Predicate | Callers
Rule = frozenset[PlayerID] | Predicate | Callers


def make_rule(allow: Any) -> Rule | None:
    """Return the rule that an `allow` means; None if everybody may call. A set, list or tuple is copied.

    Raises:
        TypeError: `allow` has a wrong type; or it is a coroutine function, or a function that does not
            take (source); or an ID in it is neither an int nor a str.
        ValueError: an ID in it is out of range.
    """
    if allow is None or isinstance(allow, Callers):
        return allow
    if isinstance(allow, (AbstractSet, list, tuple)):
        return frozenset([check_player_id(player_id) for player_id in allow])
    if not callable(allow):
        raise TypeError(
            "allow must be None, OPERATORS, a set, list or tuple of player IDs, or a function of (source),"
            f" not {type(allow).__name__}"
        )
    if is_coroutine_function(allow):
        raise TypeError(f"allow must be a plain function, not the coroutine function {name_of(allow)}")
    check_takes(allow, ("source",), "allow")
    return cast(Predicate, allow)


def in_words(rule: Rule) -> str:
    """Return who may call by a rule, for people."""
    if isinstance(rule, Callers):
        return "operators only"
    if isinstance(rule, frozenset):
        return f"{len(rule)} named caller{'s' if len(rule) != 1 else ''}"
    return "callers that a function allows"


def permits(rule: Rule, source: PlayerID | None, of_operator: bool) -> bool:
    """Return whether a rule lets a caller call. What a predicate raises is passed on.

    Args:
        source: the player that calls, or the source that an operator names.
        of_operator: whether an operator calls.

    Raises:
        TypeError: a predicate did not return a bool.
    """
    if rule is OPERATORS:
        return of_operator
    if isinstance(rule, frozenset):
        return source in rule
    # In a context of its own, so that what the function sets stays there.
    permitted: object = copy_context().run(rule, source)
    # Something that is only truthy, like the coroutine of a forgotten await, lets nobody in.
    if type(permitted) is not bool:
        raise TypeError(f"allow must return True or False, not {type(permitted).__name__}")
    return permitted
