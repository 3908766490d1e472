"""What a trusted endpoint records of calls, to report it to the broker.

A `CallRecorder` observes calls: calls out and calls in tell it when one begins and when it ends. A server
records the calls of its own callbacks. The side that calls a player records the calls of the player's
callbacks: what a player says of itself counts for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any, TypeVar

import msgpack

from ringback.core.callback_record import CallbackRecord
from ringback.core.execution import Execution
from ringback.core.peers import Peer
from ringback.core.pending_call import PendingCall
from ringback.core.recorded_failures import RecordedFailures
from ringback.errors import MAX_CODE_CHARS, CallbackError, ProtocolError
from ringback.protocol.envelopes import MAX_MESSAGE_CHARS, slice_field
from ringback.protocol.frames import Role
from ringback.protocol.limits import IDS_A_FRAME
from ringback.protocol.player_ids import PlayerID, decode_player_id, encode_player_id
from ringback.protocol.reports import (
    MAX_CALLBACKS,
    MAX_WATCHED_BYTES,
    OTHERS,
    CallFilter,
    LatencyCounts,
    PlayerInFlight,
    Report,
    WatchedCall,
)

MAX_WATCHED_CALLS = 500
MAX_WATCHED_BYTES_A_REPORT = 256 * 1024
"""How many watched calls are kept for one report, and how many bytes their payloads and replies may take.
Those beyond are counted as lost."""

MAX_CLASSES_A_REPORT = 20_000
"""How many classes of latency one report names, so that its frame stays small. More go into another one."""

T = TypeVar("T")


class CallRecorder:
    """All that one endpoint records of calls. To record a call never raises: the call goes on.

    Args:
        contain: logs and counts an exception.

    Attributes:
        handled: the records of callbacks that run here, by key.
        called: the records of players' callbacks that are called from here, by key.
        watches: which calls are reported one by one as they end.
        payloads: the encoded payloads of pending calls, by the ID of the call, while there are watches.
    """

    def __init__(self, contain: Callable[[str, BaseException], None]) -> None:
        self._contain = contain
        self.watches: tuple[CallFilter, ...] = ()
        self.payloads: dict[int, bytes] = {}
        self.handled: dict[str, CallbackRecord] = {}
        self.called: dict[str, CallbackRecord] = {}
        self._watched: list[tuple[float, WatchedCall]] = []
        self._watched_bytes = 0
        self._lost = 0
        self._failures = RecordedFailures()
        self._in_flight: dict[bytes, int] = {}  # of players, as reported
        self._left: set[bytes] = set()  # those of them that have left since: the broker may have forgotten it

    # -- what it observes

    def call_made(self, call: PendingCall, envelope: bytes) -> None:
        """Keep the payload of a call to a player, while there are watches."""
        if len(envelope) <= MAX_WATCHED_BYTES:
            try:
                self.payloads[call.id] = slice_field(envelope, 3)
            except BaseException as fault:
                self._contain("watching a call", fault)

    def call_ended(
        self,
        call: PendingCall,
        peer: Peer,
        now: float,
        results: tuple[Any, ...],
        error: CallbackError | None,
    ) -> None:
        """Record the outcome of a call that was made here."""
        if not peer.is_player:  # a call of the server: the server records it
            return
        record = self.called.get(call.key) or self._add(call.key, Role.PLAYER)
        peer.ended += 1
        took_s = now - call.began
        if error is None:
            record.succeeded(took_s)
        else:
            if call.route is None:  # it was refused here, and never sent
                took_s = 0.0
            self._failed(record, peer, call.key, now, took_s, error)
        if self.watches:
            payload = self.payloads.pop(call.id, None)
            try:
                wanted = self._wanted(peer, call.key)
                if wanted is not None:
                    reply = _shown(results if error is None else error) if wanted else None
                    self._keep(record, peer, call.key, now, took_s, error, payload if wanted else None, reply)
            except BaseException as fault:
                self._contain("watching a call", fault)

    def execution_ended(
        self,
        execution: Execution,
        peer: Peer,
        now: float,
        envelope: bytes,
        error: CallbackError | None,
    ) -> None:
        """Record the outcome of an execution.

        Args:
            envelope: the encoded reply; empty if the caller gets none.
            error: the error in the reply; None if it has results.
        """
        record = self.handled.get(execution.key) or self._add(execution.key, Role.SERVER)
        peer.ended += 1
        took_s = now - execution.began
        if error is None:
            record.succeeded(took_s)
        else:
            if not execution.began:  # its time was over, or its caller gone, before the handler could begin
                took_s = 0.0
            self._failed(record, peer, execution.key, now, took_s, error)
        if self.watches:
            try:
                if (wanted := self._wanted(peer, execution.key)) is not None:
                    payload = reply = None
                    if wanted:
                        payload = _shown(execution.payload)
                        reply = _shown_reply(envelope, error)
                    self._keep(record, peer, execution.key, now, took_s, error, payload, reply)
            except BaseException as fault:  # the handler may have put anything into the payload
                self._contain("watching a call", fault)

    def call_refused(
        self, peer: Peer, key: str, payload: Any, registered: bool, now: float, error: CallbackError
    ) -> None:
        """Record a call whose handler does not run.

        Args:
            key: the key that was called; "" if it could not be read.
            registered: whether there is a callback with this key. Callers can name any number of others.
        """
        counted = key if registered else OTHERS
        record = self.handled.get(counted) or self._add(counted, Role.SERVER)
        peer.ended += 1
        self._failed(record, peer, key, now, 0.0, error)
        if self.watches and key:
            try:
                if (wanted := self._wanted(peer, key)) is not None:
                    shown = (_shown(payload), _shown(error)) if wanted else (None, None)
                    self._keep(record, peer, key, now, 0.0, error, *shown)
            except BaseException as fault:
                self._contain("watching a call", fault)

    def _failed(
        self, record: CallbackRecord, peer: Peer, key: str, now: float, took_s: float, error: CallbackError
    ) -> None:
        """Count a call that failed, and list it in the next report, if there is room."""
        record.failed(error)
        peer.failed += 1
        self._failures.add(record, peer, key, now, took_s, error)

    def _add(self, key: str, side: Role) -> CallbackRecord:
        """Return the record of a callback that has none yet. Over the bound it is the one for all others."""
        records = self.handled if side is Role.SERVER else self.called
        if len(records) >= MAX_CALLBACKS:
            key = OTHERS
        return records.setdefault(key, CallbackRecord(key, side))

    # -- watched calls

    def watch(self, watches: tuple[CallFilter, ...]) -> None:
        """Report the calls that match one of these filters, one by one, from now on."""
        self.watches = watches
        if not watches:
            self.payloads.clear()

    def _wanted(self, peer: Peer, key: str) -> bool | None:
        """Return whether a watch wants to see the payload of a call; None if no watch chose the call."""
        try:
            player_id = peer.player_id
        except ProtocolError:  # an ID part that is no player ID: no watch can name it
            return None
        wanted = [watch.payloads for watch in self.watches if watch.matches(player_id, key)]
        return any(wanted) if wanted else None

    def _keep(
        self,
        record: CallbackRecord,
        peer: Peer,
        key: str,
        now: float,
        took_s: float,
        error: CallbackError | None,
        payload: bytes | None,
        reply: bytes | None,
    ) -> None:
        """Keep a watched call for the next report, if there is room."""
        size = len(payload or b"") + len(reply or b"")
        if len(self._watched) >= MAX_WATCHED_CALLS or self._watched_bytes + size > MAX_WATCHED_BYTES_A_REPORT:
            self._lost += 1
            return
        outcome = "OK" if error is None else str(error.code_name)[:MAX_CODE_CHARS]
        # A call that ends in the step in which it was made may begin after the time of that step.
        took_s = max(0.0, took_s)
        call = WatchedCall(0.0, record.side, peer.player_id, key, outcome, took_s, payload, reply)
        self._watched.append((now, call))
        self._watched_bytes += size

    # -- reports

    def begin_session(self) -> None:
        """Begin anew with a broker that knows nothing yet of what is in flight, and watches nothing."""
        self.watch(())
        self._in_flight, self._left = {}, set()
        for record in self.records():
            record.begin_session()

    def records(self) -> list[CallbackRecord]:
        """Return the records of all callbacks."""
        return [*self.handled.values(), *self.called.values()]

    def fold(self) -> None:
        """Sort the latencies of all records into their classes; see `CallbackRecord.fold`."""
        for record in self.records():
            record.fold()

    def player_left(self, player_id: PlayerID) -> None:
        """Report what is in flight of a player again, whatever it is: the broker forgets it too."""
        encoded_id = encode_player_id(player_id)
        if encoded_id in self._in_flight:
            self._left.add(encoded_id)

    def count_in_flight(self, peers: Iterable[Peer]) -> dict[bytes, int]:
        """Count what is in flight, for each record. To keep count with each call would cost more.

        Return how many calls from and to each player are in flight, by the encoded ID.
        """
        of_players: dict[bytes, int] = {}
        for record in self.records():
            record.in_flight = 0
        for peer in peers:
            for execution in peer.executions.values():
                record = self.handled.get(execution.key) or self._add(execution.key, Role.SERVER)
                record.in_flight += 1
            if peer.is_player:
                for call in peer.calls.values():
                    record = self.called.get(call.key) or self._add(call.key, Role.PLAYER)
                    record.in_flight += 1
                if count := len(peer.calls) + len(peer.executions):  # a player may have two routes
                    of_players[peer.encoded_id] = of_players.get(peer.encoded_id, 0) + count
        return of_players

    def _take_in_flight(self, of_players: dict[bytes, int]) -> list[PlayerInFlight]:
        """Return for which players the number of calls in flight has changed since the last time."""
        before, self._in_flight = self._in_flight, of_players
        left, self._left = self._left, set()
        changed = []
        for encoded_id in {**before, **of_players}:
            count = of_players.get(encoded_id, 0)
            if count != before.get(encoded_id, 0) or encoded_id in left:
                try:
                    changed.append(PlayerInFlight(decode_player_id(encoded_id), count))
                except ProtocolError:  # an ID part that is no player ID
                    continue
        return changed

    def take(self, peers: Collection[Peer], now: float) -> list[Report]:
        """Return the reports of what was recorded since the last time, and begin anew."""
        in_flight = self._take_in_flight(self.count_in_flight(peers))
        records = self.records()
        latencies = [found for record in records if (found := record.take_latencies()) is not None]
        callbacks = [figures for record in records if (figures := record.take()) is not None]
        reporting = [peer for peer in peers if peer.ended and peer.is_player]
        players = [player for peer in reporting if (player := peer.take_figures()) is not None]
        failures, failures_lost = self._failures.take(now)
        # A worker may have replied after the time of this step.
        calls = tuple(call._replace(age_s=max(0.0, now - at)) for at, call in self._watched)
        lost, self._lost = self._lost, 0
        self._watched, self._watched_bytes = [], 0
        if not (callbacks or players or calls or lost or in_flight):
            return []
        pages = zip_longest(_pages(players), _latency_pages(latencies), _pages(in_flight))
        listed = [Report((), ended or (), (), None, took, begun) for ended, took, begun in pages]
        listed = listed or [Report()]
        listed[0] = replace(
            listed[0],
            callbacks=tuple(callbacks),
            calls=calls,
            lost=lost or None,
            failures=failures or None,
            failures_lost=failures_lost or None,
        )
        return listed


def _pages(rows: Sequence[T]) -> list[tuple[T, ...]]:
    """Return rows in pages, one for each report."""
    return [tuple(rows[start : start + IDS_A_FRAME]) for start in range(0, len(rows), IDS_A_FRAME)]


def _latency_pages(latencies: list[LatencyCounts]) -> list[tuple[LatencyCounts, ...]]:
    """Return latencies in pages, one for each report."""
    pages: list[tuple[LatencyCounts, ...]] = []
    page: list[LatencyCounts] = []
    room = MAX_CLASSES_A_REPORT
    for row in latencies:
        if page and (len(row.classes) > room or len(page) >= IDS_A_FRAME):
            pages.append(tuple(page))
            page, room = [], MAX_CLASSES_A_REPORT
        page.append(row)
        room -= len(row.classes)
    return [*pages, tuple(page)] if page else pages


def _shown_reply(envelope: bytes, error: CallbackError | None) -> bytes | None:
    """Return what a watch shows of a reply, encoded: the results, or the message of the error."""
    if error is not None:
        return _shown(error)
    return slice_field(envelope, 2) if len(envelope) <= MAX_WATCHED_BYTES else None


def _shown(value: Any) -> bytes | None:
    """Return what a watch shows of a payload, results or an error, encoded; None if it cannot be shown."""
    if isinstance(value, CallbackError):  # as in the reply
        value = value.message[:MAX_MESSAGE_CHARS].encode("utf-8", "replace").decode()
    try:
        encoded: bytes = msgpack.packb(value)
    except Exception:  # a handler may have put anything into the payload that it was given
        return None
    return encoded if len(encoded) <= MAX_WATCHED_BYTES else None
