"""What a person may do about a call that failed: the line `hint:` below the error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from ringback_cli.connection import Connection, TimeLimit
from ringback_cli.exits import failure_of
from ringback_cli.realm_rows import find
from ringback_cli.rows import registered_like, with_nodes

if TYPE_CHECKING:
    from ringback import CallbackError, Operator, PlayerID

ASKING_S = 2.0
"""How long the broker may be asked about a call that has failed, in seconds. `--timeout` may allow less."""

_AGAIN = "call again later, or let --retry do so"
_WHY_IT_LEFT = "`ringback events` says why it left"

ADVICE = {
    "UNKNOWN_CALLBACK": "`ringback callbacks` prints what is registered",
    "UNKNOWN_PLAYER": "`ringback players` prints who is connected",
    "NO_SERVER": "start the server; `ringback events` says when one joined or left",
    "RATE_LIMITED": _AGAIN,
    "OVERLOADED": _AGAIN,
    "DRAINING": _AGAIN,
    "FORBIDDEN": "`ringback explain callback KEY` and the broker's access list say who may call",
    "TIMEOUT": "--timeout SECONDS allows more time",
    "PLAYER_LEFT": _WHY_IT_LEFT,
    "SERVER_LOST": _WHY_IT_LEFT,
    "CONNECTION_LOST": "`ringback ping` says whether a broker answers",
}
"""What to do about the error of a call, by its code. The other errors say it themselves."""


@contextmanager
def gives_hints(
    connection: Connection,
    operator: Operator | None,
    key: str | None = None,
    player_id: PlayerID | None = None,
) -> Iterator[None]:
    """Add a hint to the error of a call in this block.

    Args:
        operator: who asks the broker what is registered and connected; None: nobody can.
        key: of the callback; None: an order about the player.
        player_id: the player that is called; None: the server.

    Raises:
        Failure: the call failed.
    """
    from ringback import CallbackError

    try:
        yield
    except CallbackError as error:
        failure = failure_of(error)
        failure.hint = hint_for(error, connection, operator, key, player_id)
        raise failure from error


def hint_for(
    error: CallbackError,
    connection: Connection,
    operator: Operator | None,
    key: str | None,
    player_id: PlayerID | None = None,
) -> str:
    """Return what to do about the error of a call; "" if the error says it, or the broker does not answer.

    Args: as of `gives_hints`.
    """
    from ringback import Code, InvalidPayload, RingbackError, UnknownCallback, UnknownPlayer

    if not isinstance(error.code, Code) or (key is None and not isinstance(error, UnknownPlayer)):
        return ""
    if isinstance(error, InvalidPayload) and error.executed == "no" and error.data is not None:
        return "`ringback callbacks --schema KEY` prints what it takes"  # it does not fit the contract
    found = ""
    if operator is not None:
        left_s = connection.left_s()
        limit = TimeLimit(ASKING_S if left_s is None else min(ASKING_S, left_s))
        quick = replace(connection, time_limit=limit)
        try:
            if isinstance(error, UnknownCallback) and key is not None:
                found = _registered_instead(operator, quick, key, player_id)
            elif isinstance(error, UnknownPlayer) and player_id is not None:
                found = connected_instead(operator, quick, player_id)
        except RingbackError:
            return ""
    return found or ADVICE.get(error.code_name, "")


def _registered_instead(
    operator: Operator, connection: Connection, key: str, player_id: PlayerID | None
) -> str:
    """Return what is registered instead of a key that nobody has registered on the side that was called."""
    side = "server" if player_id is None else "player"
    rows = with_nodes("callbacks", find(operator, "callbacks", connection))
    sides = {row["side"] for row in rows if row["key"] == key and row["endpoints"]}
    if player_id is not None and side in sides:
        return f"other players have registered {key!r}, player {player_id!r} has not"
    if sides:
        has, command = ("players have", "client") if player_id is None else ("the server has", "server")
        return f"{has} registered {key!r}: use `ringback trigger {command}`"
    return registered_like(key, [row for row in rows if row["side"] == side])


def connected_instead(
    operator: Operator, connection: Connection, player_id: PlayerID, node: str | None = None
) -> str:
    """Return that the player is connected whose ID looks the same, 7 or "7"; "" if it is not.

    Raises:
        CallbackError: the broker did not answer.
    """
    from ringback.protocol.player_ids import is_same_id

    other = _other_type(player_id)
    if other is None:
        return ""
    rows = find(operator, "players", connection, node, player_id=other).plain_rows()
    if not any(is_same_id(row[0], other) for row in rows):
        return ""
    way = "--string-id names the str" if isinstance(other, str) else f"{other} without --string-id is the int"
    return f"player {other!r} is connected: an int and a str are two IDs; {way}"


def _other_type(player_id: PlayerID) -> PlayerID | None:
    """Return the ID of the other type that looks the same; None if there is none."""
    from ringback.protocol.player_ids import check_player_id

    if isinstance(player_id, int):
        return str(player_id)
    try:
        return check_player_id(int(player_id)) if player_id.isdecimal() else None
    except ValueError:  # 0, or too large
        return None
