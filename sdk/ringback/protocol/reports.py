"""REPORT and WATCH: what a trusted endpoint tells the broker of calls.

How many there were, how they ended and how long they took; and those that somebody watches, one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar, NamedTuple

from ringback.errors import Code, ProtocolError
from ringback.protocol.envelopes import MAX_CODE_CHARS
from ringback.protocol.fields import checked, choice_of, field_of, number_of, read_map
from ringback.protocol.frames import FrameType, Role
from ringback.protocol.names import check_key
from ringback.protocol.player_ids import PlayerID, check_player_id

LATENCY_BOUNDS_S = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Upper bounds of the classes that latencies are counted in; one more class has what is above."""

CLASSES = len(LATENCY_BOUNDS_S) + 1

APPLICATION = "APPLICATION"
"""What errors with codes of an application are counted as: there may be any number of those."""

FAILURES = frozenset({APPLICATION, *(code.name for code in Code)})

MAX_CALLBACKS = 500
"""Callbacks that are counted apart."""

OTHERS = ""
"""The key that all further ones are counted under."""

OTHERS_NAME = "(others)"
"""How people are told of it."""

MAX_WATCH_S = 86_400
"""The longest time that calls are watched for."""

MAX_WATCHED_BYTES = 4096
"""A payload that takes more is not shown."""


class CallbackFigures(NamedTuple):
    """Of one callback, since the report before.

    Attributes:
        key: empty for all that are not counted apart.
        side: who handles it.
        in_flight: calls that wait for an answer now.
        took_s: the latencies of those answered with results, added up.
        answered: these, counted by class of latency.
        failed: the others, by the name of the code.
    """

    key: str
    side: Role
    in_flight: int
    took_s: float
    answered: tuple[int, ...]
    failed: dict[str, int]


class PlayerFigures(NamedTuple):
    """Of one player, since the report before: its calls both ways that ended, and how many failed."""

    player_id: PlayerID
    calls: int
    errors: int


class WatchedCall(NamedTuple):
    """One call that somebody watches, as it ended.

    Attributes:
        age_s: how long before the report.
        side: who handles it.
        player_id: who called or was called; the named source of an operator's call.
        outcome: "OK", or the name of the error's code.
        took_s: how long it took.
        payload: the encoded payload; None if no watch wants to see it, or if it is too long.
        reply: the encoded array of results, or the encoded message of the error; None like `payload`.
    """

    age_s: float
    side: Role
    player_id: PlayerID
    key: str
    outcome: str
    took_s: float
    payload: bytes | None
    reply: bytes | None


class CallFilter(NamedTuple):
    """Which calls are watched.

    Attributes:
        player_id: those from or to this player; None: any.
        pattern: those of keys like this, with *, ? and [...] as in a shell; None: any.
        payloads: whether to show what they carry.
    """

    player_id: PlayerID | None
    pattern: str | None
    payloads: bool

    def matches(self, player_id: PlayerID, key: str) -> bool:
        """Tells whether a call is one of these. 7 and "7" are two players."""
        wanted = self.player_id
        if wanted is not None and (type(wanted), wanted) != (type(player_id), player_id):
            return False
        return self.pattern is None or fnmatchcase(key, self.pattern)


@dataclass(frozen=True, slots=True)
class Report:
    """What a trusted endpoint has counted since its report before, and calls that somebody watches.

    `lost` is how many of those there was no room for.
    """

    type: ClassVar[FrameType] = FrameType.REPORT
    callbacks: tuple[CallbackFigures, ...] = ()
    players: tuple[PlayerFigures, ...] = ()
    calls: tuple[WatchedCall, ...] = ()
    lost: int | None = None


@dataclass(frozen=True, slots=True)
class Watch:
    """Which calls are watched from now on: any of these. `watches` replaces those of the frame before."""

    type: ClassVar[FrameType] = FrameType.WATCH
    watches: tuple[CallFilter, ...]
    report_ms: int


def way(side: str, player_id: PlayerID) -> str:
    """Tells people who called whom."""
    return f"player {player_id!r} -> server" if side == Role.SERVER else f"server -> player {player_id!r}"


def quantile_s(answered: Sequence[int], share: float) -> float | None:
    """Gives the latency that so large a share of calls did not exceed, about: even within a class.

    None where there are no calls. What is above all bounds counts as the last bound.
    """
    wanted = share * sum(answered)
    if not wanted:
        return None
    lower, seen = 0.0, 0
    for upper, count in zip(LATENCY_BOUNDS_S, answered, strict=False):
        if seen + count >= wanted:
            return lower + (upper - lower) * (wanted - seen) / count
        seen += count
        lower = upper
    return lower


def read_report(body: bytes) -> Report:
    fields = read_map(body)
    return Report(
        tuple(_callback_figures(row) for row in field_of(fields, "callbacks", list, ())),
        tuple(_player_figures(row) for row in field_of(fields, "players", list, ())),
        tuple(_traced(row) for row in field_of(fields, "calls", list, ())),
        number_of(fields, "lost", None, bits=32),
    )


def _callback_figures(row: Any) -> CallbackFigures:
    key, side, in_flight, took_s, answered, failed = _row(
        row, "callbacks", (str, str, int, float, list, dict)
    )
    if key:
        checked(check_key, key)
    if len(answered) != CLASSES or not all(map(_is_count, (in_flight, *answered, *failed.values()))):
        raise ProtocolError(f"callbacks: counts are ints of 0 to 2**53, with {CLASSES} classes of latency")
    if not set(failed) <= FAILURES:
        raise ProtocolError("callbacks: failed is counted by names of codes")
    if not 0.0 <= took_s < math.inf:
        raise ProtocolError(f"callbacks: took_s is seconds from 0, not {took_s}")
    return CallbackFigures(key, choice_of(Role, side, "side"), in_flight, took_s, tuple(answered), failed)


def _player_figures(row: Any) -> PlayerFigures:
    player_id, calls, errors = _row(row, "players", (object, int, int))
    if not (_is_count(calls) and _is_count(errors)):
        raise ProtocolError("players: counts are ints of 0 to 2**53")
    return PlayerFigures(checked(check_player_id, player_id), calls, errors)


def _traced(row: Any) -> WatchedCall:
    age_s, side, player_id, key, outcome, took_s, request, answer = _row(
        row, "calls", (float, str, object, str, str, float, object, object)
    )
    for payload in (request, answer):
        if payload is not None and not (type(payload) is bytes and len(payload) <= MAX_WATCHED_BYTES):
            raise ProtocolError(f"calls: a payload is at most {MAX_WATCHED_BYTES} bytes, or nil")
    if not (0.0 <= age_s < math.inf and 0.0 <= took_s < math.inf):
        raise ProtocolError("calls: times are seconds from 0")
    if not 0 < len(outcome) <= MAX_CODE_CHARS:
        raise ProtocolError(f"calls: an outcome has 1 to {MAX_CODE_CHARS} characters")
    checked(check_key, key)
    checked(check_player_id, player_id)
    return WatchedCall(age_s, choice_of(Role, side, "side"), player_id, key, outcome, took_s, request, answer)


def _row(row: Any, what: str, kinds: tuple[type, ...]) -> list[Any]:
    sound = type(row) is list and len(row) == len(kinds)
    if not sound or not all(kind in (object, type(item)) for item, kind in zip(row, kinds, strict=True)):
        raise ProtocolError(f"{what}: a row of other items than it has")
    items: list[Any] = row
    return items


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 2**53


def read_watch(body: bytes) -> Watch:
    fields = read_map(body)
    watches = []
    for row in field_of(fields, "watches", list):
        player_id, pattern, payloads = _row(row, "watches", (object, object, bool))
        if player_id is not None:
            checked(check_player_id, player_id)
        if pattern is not None:
            checked(check_key, pattern)
        watches.append(CallFilter(player_id, pattern, payloads))
    return Watch(tuple(watches), number_of(fields, "report_ms", bits=32))
