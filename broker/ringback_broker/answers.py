"""Answers to what operators ask the broker."""

from __future__ import annotations

from itertools import islice
from typing import Any, assert_never

from ringback.protocol.control import Answer, Query, Subject
from ringback.protocol.limits import IDS_A_FRAME
from ringback_broker.counters import Counters
from ringback_broker.directory import Directory
from ringback_broker.events import Events
from ringback_broker.roster import Roster
from ringback_broker.session import Session


def answer(
    query: Query,
    roster: Roster,
    directory: Directory,
    counters: Counters,
    events: Events,
    window: int,
    now: float,
) -> Answer:
    """Gives the page of rows that a query asks for.

    Args:
        window: bytes that may be on the way to a player.
    """
    rows: list[tuple[Any, ...]]
    following: int | None = None
    match query.subject:
        case Subject.PLAYERS:
            # By session number, which only grows: who comes or goes between two pages shifts no row.
            later = (session for session in roster.players.values() if session.number > query.after)
            page = list(islice(later, IDS_A_FRAME + 1))
            rows = [_player(session, window, now) for session in page[:IDS_A_FRAME]]
            following = page[IDS_A_FRAME - 1].number if len(page) > IDS_A_FRAME else None
        case Subject.CALLBACKS:
            listed = directory.rows()
            end = query.after + IDS_A_FRAME
            rows = list(listed[query.after : end])
            following = end if len(listed) > end else None
        case Subject.COUNTERS:
            rows = list(counters.rows())
        case Subject.EVENTS:
            rows = events.after(query.after, IDS_A_FRAME)
            following = rows[-1][0] if len(rows) == IDS_A_FRAME else None
        case _ as never:
            assert_never(never)
    return Answer(query.id, tuple(rows), following)


def _player(session: Session, window: int, now: float) -> tuple[Any, ...]:
    key = None if session.identity is None else session.identity.name
    used = round(100 * (session.spent - session.confirmed) / window, 1)
    heard_s = round(now - session.last_seen, 3)
    remote = session.connection.remote
    return session.player_id, round(now - session.since, 3), len(session.keys), remote, key, heard_s, used
