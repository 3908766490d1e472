"""What a trusted endpoint counts of calls, to report it to the broker.

Calls of the server's callbacks are counted where they are handled, those of players' where they are made:
what a player says of itself counts for nothing.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Collection, Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgpack

from ringback.errors import CallbackError, Code
from ringback.protocol.envelopes import MAX_CODE_CHARS, RESULT, read_own, to_error
from ringback.protocol.frames import Role
from ringback.protocol.limits import IDS_A_FRAME
from ringback.protocol.reports import (
    APPLICATION,
    CLASSES,
    LATENCY_BOUNDS_S,
    MAX_CALLBACKS,
    MAX_WATCHED_BYTES,
    OTHERS,
    CallbackFigures,
    CallFilter,
    Report,
    WatchedCall,
)

if TYPE_CHECKING:
    from ringback.core.calls import Execution, PendingCall
    from ringback.core.peers import Peer

MAX_WATCHED_CALLS = 500
MAX_WATCHED_BYTES_A_REPORT = 256 * 1024
"""Watched calls that are kept for one report, and what their payloads may take; more are counted as lost."""


class Tally:
    """One callback: what has ended since the last report.

    Attributes:
        answered: counts a call with results, by how long it took in seconds. It only keeps the number, to be
            looked at with all others: to find the class of each as it comes takes twice as long.
        in_flight: calls that wait for an answer, as counted for the last report.
    """

    __slots__ = (
        "_answered",
        "_failed",
        "_took",
        "_took_s",
        "answered",
        "in_flight",
        "key",
        "reported",
        "side",
    )

    def __init__(self, key: str, side: Role) -> None:
        self.key = key
        self.side = side
        self.in_flight = 0
        self.reported = 0
        self._took: list[float] = []
        self.answered = self._took.append
        self._reset()

    def _reset(self) -> None:
        self._took_s = 0.0
        self._answered = [0] * CLASSES
        self._failed: dict[str, int] = {}

    def failed(self, error: CallbackError) -> None:
        """Counts a call that failed."""
        code = error.code.name if isinstance(error.code, Code) else APPLICATION
        self._failed[code] = self._failed.get(code, 0) + 1

    def fold(self) -> None:
        """Adds up how long calls took. It is done at least every ten seconds, so that not many are kept."""
        took = self._took
        took.sort()
        below = 0
        for number, bound in enumerate((*LATENCY_BOUNDS_S, math.inf)):
            within = bisect_right(took, bound, below)
            self._answered[number] += within - below
            below = within
        self._took_s += sum(took)
        took.clear()

    def take(self) -> CallbackFigures | None:
        """Gives what there is to report, and begins anew; None if nothing has changed."""
        self.fold()
        if self.in_flight == self.reported and not self._failed and not any(self._answered):
            return None
        answered = tuple(self._answered)
        figures = CallbackFigures(self.key, self.side, self.in_flight, self._took_s, answered, self._failed)
        self.reported = self.in_flight
        self._reset()
        return figures


class CallRecorder:
    """All that one endpoint counts.

    Attributes:
        handled, called: the server's callbacks here, and players' that are called from here, by key.
        watches: which calls are traced as they end.
        requests: payloads of calls from here that are watched, by the call's id, until they end.
    """

    def __init__(self) -> None:
        self.watches: tuple[CallFilter, ...] = ()
        self.requests: dict[int, Any] = {}
        self.handled: dict[str, Tally] = {}
        self.called: dict[str, Tally] = {}
        self._traced: list[tuple[float, WatchedCall]] = []
        self._traced_bytes = 0
        self._lost = 0

    def add(self, key: str, side: Role) -> Tally:
        """Gives the tally of a callback that has none yet: one of its own, or that of all others."""
        tallies = self.handled if side is Role.SERVER else self.called
        if len(tallies) >= MAX_CALLBACKS:
            key = OTHERS
        return tallies.setdefault(key, Tally(key, side))

    def all(self) -> list[Tally]:
        """Gives the tallies of all callbacks."""
        return [*self.handled.values(), *self.called.values()]

    def count(
        self,
        tally: Tally,
        peer: Peer,
        key: str,
        now: float,
        took_s: float,
        error: CallbackError | None,
        results: Any = ...,
        request: Any = ...,
    ) -> None:
        """Counts the end of a call, and shows it to who watches.

        Args:
            results, request: `...` for what is too long to be shown, or not known any more.
        """
        if error is None:
            tally.answered(took_s)
        else:
            tally.failed(error)
            peer.failed += 1
        peer.ended += 1
        if self.watches and key:
            self._trace(now, tally.side, peer, key, took_s, error, results, request)

    def count_execution(
        self, execution: Execution, now: float, error: CallbackError | None, results: Any = ...
    ) -> None:
        """Counts the end of a call that was handled here."""
        tally = execution.tally
        if tally is not None:
            took_s, request = now - execution.began, execution.payload
            self.count(tally, execution.peer, execution.key, now, took_s, error, results, request)

    def count_answer(self, execution: Execution, envelope: bytes, now: float) -> None:
        """Counts the end of a call by its encoded answer."""
        if envelope[1] != RESULT:
            self.count_execution(execution, now, to_error(read_own(envelope)))
        elif len(envelope) <= MAX_WATCHED_BYTES:
            self.count_execution(execution, now, None, read_own(envelope)[2])
        else:
            self.count_execution(execution, now, None)

    def _trace(
        self,
        now: float,
        side: Role,
        peer: Peer,
        key: str,
        took_s: float,
        error: CallbackError | None,
        results: Any,
        request: Any,
    ) -> None:
        """Keeps a call that has ended for the next report, if somebody watches it and there is room."""
        player_id = peer.player_id
        wanted = [watch.payloads for watch in self.watches if watch.matches(player_id, key)]
        if not wanted:
            return
        shown = answer = None
        if any(wanted):
            shown = _shown(request)
            answer = _shown(results if error is None else error.message)
        size = len(shown or b"") + len(answer or b"")
        if len(self._traced) >= MAX_WATCHED_CALLS or self._traced_bytes + size > MAX_WATCHED_BYTES_A_REPORT:
            self._lost += 1
            return
        outcome = "OK" if error is None else str(error.code_name)[:MAX_CODE_CHARS]
        self._traced.append((now, WatchedCall(0.0, side, player_id, key, outcome, took_s, shown, answer)))
        self._traced_bytes += size

    def watch(self, watches: tuple[CallFilter, ...]) -> None:
        """Has calls of these be reported one by one from now on."""
        self.watches = watches
        if not watches:
            self.requests.clear()

    def begin_session(self) -> None:
        """The broker knows nothing yet of what is in flight."""
        self.watch(())
        for tally in self.all():
            tally.reported = 0

    def fold(self) -> None:
        """Adds up how long calls took; see `Tally.fold`."""
        for tally in self.all():
            tally.fold()

    def count_in_flight(self, peers: Iterable[Peer]) -> None:
        """Counts what waits for an answer. To keep count at each call would cost more."""
        for tally in self.all():
            tally.in_flight = 0
        for peer in peers:
            waiting: Iterable[PendingCall | Execution] = chain(peer.calls.values(), peer.executions.values())
            for one in waiting:
                if one.tally is not None:
                    one.tally.in_flight += 1

    def take(self, peers: Collection[Peer], now: float) -> list[Report]:
        """Gives what there is to report, and begins anew."""
        self.count_in_flight(peers)
        callbacks = [figures for tally in self.all() if (figures := tally.take()) is not None]
        players = [peer.take_figures() for peer in peers if peer.ended and peer.is_player]
        calls = [call._replace(age_s=now - at) for at, call in self._traced]
        lost, self._lost = self._lost, 0
        self._traced, self._traced_bytes = [], 0
        if not (callbacks or players or calls or lost):
            return []
        pages = [tuple(players[start : start + IDS_A_FRAME]) for start in range(0, len(players), IDS_A_FRAME)]
        first = Report(tuple(callbacks), pages[0] if pages else (), tuple(calls), lost or None)
        return [first, *(Report(players=page) for page in pages[1:])]


def _shown(value: Any) -> bytes | None:
    if value is ...:
        return None
    encoded: bytes = msgpack.packb(value)
    return encoded if len(encoded) <= MAX_WATCHED_BYTES else None
