"""What requests of the dashboard ask for, read from parameters of a URL and from objects in JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ringback.errors import CallbackError, LinkError, Refused
from ringback.protocol.control import COLUMNS, Subject
from ringback.protocol.json_values import parse_json
from ringback.protocol.limits import MAX_GRACE_S, MAX_REASON_CHARS
from ringback.protocol.names import check_key, check_node_name, check_pattern
from ringback.protocol.player_ids import PlayerID, check_player_id
from ringback.protocol.reports import CallFilter

LIMIT = 50
MAX_LIMIT = 500
"""Rows in one response: if a request does not say how many, and at most."""

TIMEOUT_S = 15.0
MAX_TIMEOUT_S = 60.0

SORTABLE = {
    subject: ("node", *(name for name in COLUMNS[subject] if name not in ("failed", "terms", "schema")))
    for subject in (Subject.PLAYERS, Subject.CALLBACKS)
}
"""The columns by which rows can be sorted."""

T = TypeVar("T")


class BadRequest(Exception):
    """A request that is refused.

    Args:
        status: the HTTP status.
        message: what is wrong, and what is allowed.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class PageRequest:
    """The rows that a request asks for.

    Attributes:
        match: the text that the ID or key must contain, in any case; empty: all rows.
        sort: the column; empty: in the order of the broker.
        descending: whether the largest comes first. Rows without a value are last either way.
        offset: how many rows come before the page.
        limit: how many rows the page has at most.
    """

    match: str
    sort: str
    descending: bool
    offset: int
    limit: int

    @classmethod
    def read(cls, subject: Subject, given: Mapping[str, str]) -> PageRequest:
        """Read it from the parameters of a URL.

        Raises:
            BadRequest: a parameter is wrong.
        """
        check_names(given, ("match", "sort", "order", "offset", "limit"))
        sort, order = given.get("sort", ""), given.get("order", "ascending")
        if sort and sort not in SORTABLE[subject]:
            names = ", ".join(SORTABLE[subject])
            raise BadRequest(400, f"sort must be one of {names}; not {sort!r:.80}")
        if order not in ("ascending", "descending"):
            raise BadRequest(400, f"order must be ascending or descending, not {order!r:.80}")
        offset = _number(given, "offset", 0, 0, 2**53)
        limit = _number(given, "limit", LIMIT, 1, MAX_LIMIT)
        return cls(given.get("match", "").casefold(), sort, order == "descending", offset, limit)


@dataclass(frozen=True, slots=True)
class CallbackRequest:
    """The callback that a request is about: its key, and the role of the endpoint that handles it."""

    key: str
    side: str

    @classmethod
    def read(cls, given: Mapping[str, str]) -> CallbackRequest:
        """Read it from the parameters of a URL. The key is empty for the callbacks that are counted together.

        Raises:
            BadRequest: a parameter is wrong.
        """
        check_names(given, ("key", "side"))
        side = given.get("side", "")
        if side not in ("server", "player"):
            raise BadRequest(400, 'side must be "server" or "player"')
        return cls(given.get("key", ""), side)


def read_player_id(given: Mapping[str, str]) -> PlayerID:
    """Return the player ID in the parameters of a URL: in JSON, because 7 and "7" are two players.

    Raises:
        BadRequest: a parameter is wrong.
    """
    check_names(given, ("id",))
    try:
        found = parse_json(given.get("id", ""))
    except (ValueError, RecursionError):
        raise BadRequest(400, 'id must be a player ID in JSON: 7, or "anna" in quotes') from None
    return checked(check_player_id, found)


@dataclass(frozen=True, slots=True)
class TriggerRequest:
    """The call that a request asks for.

    Attributes:
        side: "server" or "player": whose callback it is.
        player_id: the player, or the source that the server's handler is given.
    """

    side: str
    key: str
    player_id: PlayerID
    payload: Any
    timeout_s: float

    @classmethod
    def read(cls, fields: dict[str, Any]) -> TriggerRequest:
        """Read it from the body of a request.

        Raises:
            BadRequest: a field is wrong.
        """
        if fields.get("side") not in ("server", "player"):
            raise BadRequest(400, 'the body must be an object whose side is "server" or "player"')
        whom = "player_id" if fields["side"] == "player" else "source"
        check_names(fields, ("side", "key", whom, "payload", "timeout"))
        key, player_id = checked(check_key, fields.get("key")), checked(check_player_id, fields.get(whom))
        return cls(fields["side"], key, player_id, fields.get("payload"), _timeout_s(fields))


@dataclass(frozen=True, slots=True)
class TriggerAllRequest:
    """The calls to all players that a request asks for. `timeout_s` is for all of them together."""

    key: str
    payload: Any
    timeout_s: float

    @classmethod
    def read(cls, fields: dict[str, Any]) -> TriggerAllRequest:
        """Read it from the body of a request.

        Raises:
            BadRequest: a field is wrong.
        """
        check_names(fields, ("key", "payload", "timeout"))
        return cls(checked(check_key, fields.get("key")), fields.get("payload"), _timeout_s(fields))


@dataclass(frozen=True, slots=True)
class KickRequest:
    """The player whose session a request ends, and the reason that it is told."""

    player_id: PlayerID
    reason: str

    @classmethod
    def read(cls, fields: dict[str, Any]) -> KickRequest:
        """Read it from the body of a request.

        Raises:
            BadRequest: a field is wrong.
        """
        check_names(fields, ("player_id", "reason"))
        reason = fields.get("reason", "")
        if type(reason) is not str or len(reason) > MAX_REASON_CHARS:
            raise BadRequest(400, f"reason must be a text of at most {MAX_REASON_CHARS} characters")
        return cls(checked(check_player_id, fields.get("player_id")), reason)


@dataclass(frozen=True, slots=True)
class DrainRequest:
    """The node that a request makes drain; None: the broker itself. And how long calls in flight may take."""

    node: str | None
    grace_s: float | None

    @classmethod
    def read(cls, fields: dict[str, Any]) -> DrainRequest:
        """Read it from the body of a request.

        Raises:
            BadRequest: a field is wrong.
        """
        check_names(fields, ("node", "grace"))
        node, grace = fields.get("node"), fields.get("grace")
        if grace is not None and (type(grace) not in (int, float) or not 0 < grace <= MAX_GRACE_S):
            reason = f"grace must be above 0 and at most {MAX_GRACE_S} seconds, or null, not {grace!r:.80}"
            raise BadRequest(400, reason)
        return cls(None if node is None else checked(check_node_name, node), grace)


@dataclass(frozen=True, slots=True)
class TapRequest:
    """The calls that a request asks for.

    Attributes:
        after: the number of the last call of the response before; None: calls that end from now on.
    """

    watched: CallFilter
    errors_only: bool
    after: int | None

    @classmethod
    def read(cls, fields: dict[str, Any]) -> TapRequest:
        """Read it from the body of a request.

        Raises:
            BadRequest: a field is wrong.
        """
        check_names(fields, ("key", "player_id", "errors", "after"))
        pattern, player_id, after = fields.get("key"), fields.get("player_id"), fields.get("after")
        errors_only = fields.get("errors", False)
        if type(errors_only) is not bool:
            raise BadRequest(400, f"errors must be true or false, not {errors_only!r:.80}")
        if after is not None and (type(after) is not int or not 0 <= after <= 2**53):
            raise BadRequest(400, "after must be the after of the response before, or null")
        watched = CallFilter(
            None if player_id is None else checked(check_player_id, player_id),
            None if pattern is None else checked(check_pattern, pattern),
            False,
        )
        return cls(watched, errors_only, after)


def error_fields(error: LinkError | CallbackError) -> dict[str, Any]:
    """Return what is known of an error, by name."""
    if isinstance(error, CallbackError):
        return {
            "code": error.code_name,
            "message": error.message,
            "executed": error.executed,
            "data": error.data,
        }
    code = error.code.name if isinstance(error, Refused) else "NO_BROKER"
    message = error.message if isinstance(error, Refused) else str(error)
    return {"code": code, "message": message, "executed": "no", "data": None}


def checked(check: Callable[[Any], T], value: Any) -> T:
    """Return a value that passes a check.

    Raises:
        BadRequest: it does not.
    """
    try:
        return check(value)
    except (TypeError, ValueError) as error:
        raise BadRequest(400, str(error)) from None


def check_names(given: Iterable[str], allowed: tuple[str, ...]) -> None:
    """Refuse parameters and fields that have no meaning.

    Raises:
        BadRequest: there is such a one.
    """
    if unknown := sorted(set(given) - set(allowed)):
        raise BadRequest(400, f"{unknown[0]!r:.80} is unknown; allowed are {', '.join(allowed) or 'none'}")


def _timeout_s(fields: dict[str, Any]) -> float:
    timeout = fields.get("timeout", TIMEOUT_S)
    if type(timeout) not in (int, float) or not 0 < timeout <= MAX_TIMEOUT_S:
        reason = f"timeout must be above 0 and at most {MAX_TIMEOUT_S:g} seconds, not {timeout!r:.80}"
        raise BadRequest(400, reason)
    return float(timeout)


def _number(given: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = given.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,16}", text) or not least <= int(text) <= most:
        raise BadRequest(400, f"{name} must be a number from {least} to {most}, not {text!r:.80}")
    return int(text)
