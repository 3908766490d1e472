"""REPORT and WATCH: what a trusted endpoint tells the broker about calls.

A REPORT says how many calls there were, how they ended and how long they took. It also has the watched calls,
one by one. A WATCH says which calls those are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple, TypeVar

from ringback.errors import MAX_CODE_CHARS, Code, ProtocolError
from ringback.protocol.fields import checked, choice_of, field_of, number_of, read_map
from ringback.protocol.frames import FrameType, Role
from ringback.protocol.latencies import FINE_CLASSES
from ringback.protocol.names import check_key, check_pattern
from ringback.protocol.player_ids import PlayerID, check_player_id, is_same_id

T = TypeVar("T")

LATENCY_BOUNDS_S = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""The upper bounds of the classes that latencies are counted in. One more class counts those above."""

CLASSES = len(LATENCY_BOUNDS_S) + 1

APPLICATION = "APPLICATION"
"""How errors with codes of the application are counted: together, as there may be any number of codes."""

FAILURES = frozenset({APPLICATION, *(code.name for code in Code)})

MAX_CALLBACKS = 500
"""How many callbacks are counted one by one."""

OTHERS = ""
"""The key that all other callbacks are counted under."""

OTHERS_NAME = "(others)"
"""What people see in the place of that key."""

MAX_WATCH_S = 86_400
"""The longest time that a watch can last."""

MAX_WATCHED_BYTES = 4096
"""A payload, or a reply, that takes more is not shown."""


class CallbackFigures(NamedTuple):
    """The figures of one callback, since the report before.

    Attributes:
        key: the key of the callback; `OTHERS` for all callbacks that are not counted one by one.
        side: the role of the endpoint that handles the calls.
        in_flight: how many calls are in flight now.
        took_s: the sum of the latencies of calls that ended with results. The latency of a server's handler
            is the time from its beginning to its reply, that of a call to a player the time there and back.
        succeeded: how many calls ended with results, by class of latency.
        failed: how many calls ended with an error, by the name of the code.
    """

    key: str
    side: Role
    in_flight: int
    took_s: float
    succeeded: tuple[int, ...]
    failed: dict[str, int]


class LatencyCounts(NamedTuple):
    """The calls of one callback with results, since the report before, by fine class of latency.

    Attributes:
        key, side: as in `CallbackFigures`.
        classes: the numbers of the classes that have calls, in ascending order.
        counts: how many calls each of them has.
    """

    key: str
    side: Role
    classes: tuple[int, ...]
    counts: tuple[int, ...]


class PlayerFigures(NamedTuple):
    """The figures of one player, since the report before: calls that ended, both ways, and errors."""

    player_id: PlayerID
    calls: int
    errors: int


class PlayerInFlight(NamedTuple):
    """How many calls from and to one player are in flight now. It has changed since the report before."""

    player_id: PlayerID
    in_flight: int


class WatchedCall(NamedTuple):
    """A watched call that has ended.

    Attributes:
        age_s: how many seconds before the report it ended.
        side: the role of the endpoint that handled it.
        player_id: the player that called or was called; the source of an operator's call.
        key: the key of the callback.
        outcome: "OK", or the name of the error code.
        took_s: how many seconds the handler of the server took, or how many a call to a player took there
            and back; 0.0 if no handler ran, or nothing was sent.
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


class FailedCall(NamedTuple):
    """A call that failed. It is reported without its payload and its message, whether it is watched or not.

    Attributes:
        age_s, side, player_id, key: as in `WatchedCall`.
        code: the name of the error code.
        took_s: as in `WatchedCall`.
    """

    age_s: float
    side: Role
    player_id: PlayerID
    key: str
    code: str
    took_s: float


class CallFilter(NamedTuple):
    """Which calls a watch chooses.

    Attributes:
        player_id: calls from or to this player; None for any player.
        pattern: calls whose key matches this pattern, with *, ? and [...] as in a shell; None for any key.
        payloads: whether to show payloads and replies.
    """

    player_id: PlayerID | None
    pattern: str | None
    payloads: bool

    def matches(self, player_id: PlayerID, key: str) -> bool:
        """Return whether the filter chooses a call. 7 and "7" are two players."""
        if self.player_id is not None and not is_same_id(self.player_id, player_id):
            return False
        return self.pattern is None or fnmatchcase(key, self.pattern)


@dataclass(frozen=True, slots=True)
class Report:
    """What a trusted endpoint has counted since the report before, and the watched calls.

    `lost` and `failures_lost` say for how many watched and failed calls there was no room. `latencies` is for
    percentiles, `in_flight` has players. An endpoint that is older than one of these fields sends none.
    """

    type: ClassVar[FrameType] = FrameType.REPORT
    callbacks: tuple[CallbackFigures, ...] = ()
    players: tuple[PlayerFigures, ...] = ()
    calls: tuple[WatchedCall, ...] = ()
    lost: int | None = None
    latencies: tuple[LatencyCounts, ...] | None = None
    in_flight: tuple[PlayerInFlight, ...] | None = None
    failures: tuple[FailedCall, ...] | None = None
    failures_lost: int | None = None


@dataclass(frozen=True, slots=True)
class Watch:
    """Which calls are watched from now on: those that one of the watches chooses."""

    type: ClassVar[FrameType] = FrameType.WATCH
    watches: tuple[CallFilter, ...]
    report_ms: int


def way(side: str, player_id: PlayerID) -> str:
    """Return who called whom, for people."""
    return f"player {player_id!r} -> server" if side == Role.SERVER else f"server -> player {player_id!r}"


def duration_ms(took_s: float) -> float | None:
    """Return the duration of a watched call in milliseconds, to a microsecond; None if it has none."""
    return round(1000 * took_s, 3) if took_s else None


def read_report(body: bytes) -> Report:
    """Return the REPORT in a body.

    Raises:
        ProtocolError: a field is wrong.
    """
    fields = read_map(body)
    return Report(
        tuple(_callback_figures(row) for row in field_of(fields, "callbacks", list, ())),
        tuple(_player_figures(row) for row in field_of(fields, "players", list, ())),
        tuple(_watched_call(row) for row in field_of(fields, "calls", list, ())),
        number_of(fields, "lost", None, bits=32),
        _rows_or_none(fields, "latencies", _latency_counts),
        _rows_or_none(fields, "in_flight", _player_in_flight),
        _rows_or_none(fields, "failures", _failed_call),
        number_of(fields, "failures_lost", None, bits=32),
    )


def _rows_or_none(fields: dict[str, Any], name: str, read: Callable[[Any], T]) -> tuple[T, ...] | None:
    rows: list[Any] | None = field_of(fields, name, list, None)
    return None if rows is None else tuple(map(read, rows))


def _callback_figures(row: Any) -> CallbackFigures:
    key, side, in_flight, took_s, succeeded, failed = _row(
        row, "callbacks", (str, str, int, float, list, dict)
    )
    if key:
        checked(check_key, key)
    if len(succeeded) != CLASSES or not all(map(_is_count, (in_flight, *succeeded, *failed.values()))):
        raise ProtocolError(
            f"callbacks: counts must be ints from 0 to 2**53, in {CLASSES} classes of latency"
        )
    if not set(failed) <= FAILURES:
        raise ProtocolError("callbacks: the keys of failed must be names of error codes")
    if not 0.0 <= took_s < math.inf:
        raise ProtocolError(f"callbacks: took_s must be a number of seconds from 0, not {took_s}")
    return CallbackFigures(key, choice_of(Role, side, "side"), in_flight, took_s, tuple(succeeded), failed)


def _latency_counts(row: Any) -> LatencyCounts:
    key, side, classes, counts = _row(row, "latencies", (str, str, list, list))
    if key:
        checked(check_key, key)
    if len(classes) != len(counts) or not all(map(_is_count, (*classes, *counts))):
        raise ProtocolError("latencies: each class must have one count, an int from 0 to 2**53")
    if any(number >= FINE_CLASSES for number in classes):
        raise ProtocolError(f"latencies: the numbers of classes must be below {FINE_CLASSES}")
    if any(one >= other for one, other in pairwise(classes)):
        raise ProtocolError("latencies: the numbers of classes must be in ascending order")
    return LatencyCounts(key, choice_of(Role, side, "side"), tuple(classes), tuple(counts))


def _player_figures(row: Any) -> PlayerFigures:
    player_id, calls, errors = _row(row, "players", (object, int, int))
    if not (_is_count(calls) and _is_count(errors)):
        raise ProtocolError("players: counts must be ints from 0 to 2**53")
    if errors > calls:
        raise ProtocolError("players: no more calls may have failed than have ended")
    return PlayerFigures(checked(check_player_id, player_id), calls, errors)


def _player_in_flight(row: Any) -> PlayerInFlight:
    player_id, in_flight = _row(row, "in_flight", (object, int))
    if not _is_count(in_flight):
        raise ProtocolError("in_flight: counts must be ints from 0 to 2**53")
    return PlayerInFlight(checked(check_player_id, player_id), in_flight)


def _watched_call(row: Any) -> WatchedCall:
    age_s, side, player_id, key, outcome, took_s, payload, reply = _row(
        row, "calls", (float, str, object, str, str, float, object, object)
    )
    for shown in (payload, reply):
        if shown is not None and not (type(shown) is bytes and len(shown) <= MAX_WATCHED_BYTES):
            raise ProtocolError(f"calls: a payload must have at most {MAX_WATCHED_BYTES} bytes, or be nil")
    call = _ended_call("calls", age_s, side, player_id, key, outcome, took_s)
    return WatchedCall(*call, payload, reply)


def _failed_call(row: Any) -> FailedCall:
    return _ended_call("failures", *_row(row, "failures", (float, str, object, str, str, float)))


def _ended_call(
    what: str, age_s: float, side: str, player_id: Any, key: str, outcome: str, took_s: float
) -> FailedCall:
    """Return what watched and failed calls have in common."""
    if not (0.0 <= age_s < math.inf and 0.0 <= took_s < math.inf):
        raise ProtocolError(f"{what}: times must be numbers of seconds from 0")
    if not 0 < len(outcome) <= MAX_CODE_CHARS:
        raise ProtocolError(f"{what}: an outcome must have 1 to {MAX_CODE_CHARS} characters")
    checked(check_key, key)
    checked(check_player_id, player_id)
    return FailedCall(age_s, choice_of(Role, side, "side"), player_id, key, outcome, took_s)


def _row(row: Any, what: str, kinds: tuple[type, ...]) -> list[Any]:
    sound = type(row) is list and len(row) == len(kinds)
    if not sound or not all(kind in (object, type(item)) for item, kind in zip(row, kinds, strict=True)):
        raise ProtocolError(f"{what}: a row must have its {len(kinds)} items, each of its type")
    items: list[Any] = row
    return items


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 2**53


def read_watch(body: bytes) -> Watch:
    """Return the WATCH in a body.

    Raises:
        ProtocolError: a field is wrong.
    """
    fields = read_map(body)
    watches = []
    for row in field_of(fields, "watches", list):
        player_id, pattern, payloads = _row(row, "watches", (object, object, bool))
        if player_id is not None:
            checked(check_player_id, player_id)
        if pattern is not None:
            checked(check_pattern, pattern)
        watches.append(CallFilter(player_id, pattern, payloads))
    return Watch(tuple(watches), number_of(fields, "report_ms", bits=32))
