"""The options of a trigger, and the checks of its arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Literal, TypedDict

from ringback.core.registry import check_flag
from ringback.core.retry import Retry
from ringback.errors import CallbackError
from ringback.protocol.player_ids import PlayerID, check_player_id, encode_player_id

Callback = Callable[..., object]
OnError = Callable[[CallbackError], object]
OnProgress = Callable[[Any], object]

MAX_ENCODED_IDS = 16_384
"""Player IDs that are kept in bytes. This saves 4 % of the instructions of a call to a player."""


class TriggerOptions(TypedDict, total=False):
    """The options of every trigger, as type checkers see them in `trigger`."""

    on_error: OnError | None
    timeout: float | None
    wait_for_room: bool
    on_progress: OnProgress | None
    progress: bool
    retry: bool | Retry | None


class GroupOptions(TypedDict, total=False):
    """The options of every trigger on many players, as type checkers see them in `trigger_all`."""

    players: Iterable[PlayerID] | None
    timeout: float | None
    retry: bool | Retry | None


def asks_for_progress(on_progress: OnProgress | None, progress: bool) -> OnProgress | Literal[True] | None:
    """Return whether a call asks for progress, or the function that gets it; None if it does not ask.

    Raises:
        TypeError: `on_progress` is not a function, or `progress` not a bool.
    """
    if on_progress is not None:
        if not callable(on_progress):
            raise TypeError(f"on_progress must be a function or None, not {type(on_progress).__name__}")
        return on_progress
    check_flag("progress", progress)
    return True if progress else None


def check_functions(callback: object, on_error: object) -> None:
    """Raise TypeError if one of the two is neither a function nor None."""
    for name, function in (("callback", callback), ("on_error", on_error)):
        if function is not None and not callable(function):
            raise TypeError(f"{name} must be a function or None, not {type(function).__name__}")


@lru_cache(MAX_ENCODED_IDS, typed=True)  # typed: True is equal to the ID 1, but is not an ID
def _cached_id(player_id: Any) -> bytes:
    return encode_player_id(check_player_id(player_id))


def encoded_player_id(player_id: Any) -> bytes:
    """Return a player ID in bytes.

    Raises:
        TypeError, ValueError: it is not a player ID.
    """
    try:
        return _cached_id(player_id)
    except TypeError:  # not hashable, so not an ID: raise the error that says so
        return encode_player_id(check_player_id(player_id))
