"""Answering operators' queries: what the broker knows, as rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, assert_never

from ringback.protocol.control import Answer, Query, Subject
from ringback.protocol.frames import Role
from ringback.protocol.limits import BATCH_BYTES, IDS_A_FRAME
from ringback.protocol.player_ids import encode_player_id
from ringback.protocol.significant import rounded_ms
from ringback_broker.operations.counters import BrokerCounters
from ringback_broker.operations.events import EventLog
from ringback_broker.operations.failures import PAGE as FAILURES_PAGE
from ringback_broker.operations.registered_keys import RegisteredKeys
from ringback_broker.operations.reports import Reports
from ringback_broker.operations.watches import PAGE
from ringback_broker.peers.connection import Connection
from ringback_broker.peers.roster import Roster
from ringback_broker.peers.session import Session

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers queries.

    Args:
        round_trip_ms: returns how long a packet takes there and back over a connection.
        nodes: returns the rows of the nodes of the realm at a time.
    """

    roster: Roster
    registered: RegisteredKeys
    counters: BrokerCounters
    events: EventLog
    reports: Reports
    round_trip_ms: Callable[[Connection], float | None]
    nodes: Callable[[float], list[Row]]

    def answer(self, query: Query, window: int, now: float) -> Answer:
        """Return the page of rows that a query asks for.

        Args:
            window: how many bytes may be on their way to a player.
        """
        rows: list[Row]
        following: int | None = None
        match query.subject:
            case Subject.PLAYERS if query.player_id is not None:
                found = self.roster.players.get(encode_player_id(query.player_id))
                rows = [] if found is None else [self._player(found, window, now)]
            case Subject.PLAYERS:
                # Ordered by session number, which only grows: players that join or leave between two pages
                # shift no row.
                players = self.roster.players.values()
                later = (session for session in players if session.number > query.after)
                page = list(islice(later, IDS_A_FRAME + 1))
                rows = [self._player(session, window, now) for session in page[:IDS_A_FRAME]]
                following = page[IDS_A_FRAME - 1].number if len(page) > IDS_A_FRAME else None
            case Subject.CALLBACKS:
                rows, following = _page(self._callbacks(now), query.after)
            case Subject.COUNTERS:
                standbys = len(self.roster.standbys())
                retiring = len(self.roster.others) - standbys
                now_there = [("servers_standing_by", standbys), ("servers_retiring", retiring)]
                rows = [*self.counters.rows(), *now_there]
            case Subject.EVENTS:
                rows = self.events.after(query.after, IDS_A_FRAME)
                following = rows[-1][0] if len(rows) == IDS_A_FRAME else None
            case Subject.SCHEMAS:
                rows, following = self._schemas(query.after)
            case Subject.CALLS:
                rows = self.reports.watches.rows(query.after)
                following = rows[-1][0] if len(rows) == PAGE else None
            case Subject.FAILURES:
                rows = self.reports.failures.rows(query.after)
                following = rows[-1][0] if len(rows) == FAILURES_PAGE else None
            case Subject.LATENCIES:
                rows = self._latencies(now)
            case Subject.NODES:
                rows, following = _page(self.nodes(now), query.after)
            case _ as never:
                assert_never(never)
        return Answer(query.id, tuple(rows), following)

    def _player(self, session: Session, window: int, now: float) -> Row:
        identity = None if session.rights.identity is None else session.rights.identity.name
        connected_s, heard_s = round(now - session.since, 3), round(now - session.last_seen, 3)
        used = round(100 * (session.spent - session.window.confirmed) / window, 1)
        return (
            *(
                session.player_id,
                connected_s,
                len(session.registered.keys),
                session.connection.ip,
                identity,
                heard_s,
            ),
            *(used, session.reported.calls, session.reported.errors, self.round_trip_ms(session.connection)),
            self.reports.in_flight.of(session),
        )

    def _callbacks(self, now: float) -> list[Row]:
        registered = {(key, role): count for key, role, count in self.registered.rows()}
        totals, recent = self.reports.figures.totals(), self.reports.figures.recent(now)
        server = self.roster.server
        terms = (server.registered.terms if server else None) or {}
        rows: list[Row] = []
        for key, side in sorted({*registered, *totals}):
            total, late = totals.get((key, side)), recent.get((key, side))
            p50_ms, p99_ms = (rounded_ms(late.p50_s), rounded_ms(late.p99_s)) if late else (None, None)
            rows.append(
                (
                    *(key, side.value, registered.get((key, side), 0)),
                    *((total.in_flight, total.calls, total.errors) if total else (0, 0, 0)),
                    *(round(late.rate, 3) if late else 0.0, p50_ms, p99_ms),
                    *(total.failed if total else {}, terms.get(key) if side is Role.SERVER else None),
                    self.registered.has_schema(key, side),
                    self.reports.failures.count((key, side)),
                )
            )
        return rows

    def _latencies(self, now: float) -> list[Row]:
        rows: list[Row] = []
        for side, fine in sorted(self.reports.figures.latencies(now).items()):
            classes = sorted(fine)
            rows.append((side.value, classes, [fine[number] for number in classes]))
        return rows

    def _schemas(self, after: int) -> tuple[list[Row], int | None]:
        """Return a page of schemas, and the `after` of the next page. A page has at least one row."""
        listed = self.registered.schemas()
        rows: list[Row] = []
        size = 0
        for key, side, schema in listed[after : after + IDS_A_FRAME]:
            size += len(schema.encode())
            if rows and size > BATCH_BYTES:
                break
            rows.append((key, side.value, schema))
        end = after + len(rows)
        return rows, end if len(listed) > end else None


def _page(listed: list[Row], after: int) -> tuple[list[Row], int | None]:
    """Return a page of rows that have no numbers, and the `after` of the next page."""
    end = after + IDS_A_FRAME
    return listed[after:end], end if len(listed) > end else None
