"""Endings: sessions that are marked to end."""

from __future__ import annotations

from ringback.errors import RejectCode
from ringback_broker.peers.connection import Connection
from ringback_broker.peers.roster import Roster
from ringback_broker.switchboard.endings import Endings


def test_a_session_ends_once_and_for_the_first_reason() -> None:
    roster = Roster(crowd_heartbeat_s=5.0)
    endings = Endings(roster)
    session = roster.add_operator(b"O", Connection(5, "there"), 0.0)
    endings.too_slow(session, "anything")
    endings.refuse(session, RejectCode.KICKED, "cheats")
    [ending] = endings.marked
    assert ending.session is session and session.ended and not len(roster)
    assert ending.refusal is not None and ending.refusal.code is RejectCode.TOO_SLOW
    assert ending.reason == "TOO_SLOW: the peer does not read anything"


def test_a_session_that_ends_does_not_end_again_when_its_peer_is_gone() -> None:
    roster = Roster(crowd_heartbeat_s=5.0)
    endings = Endings(roster)
    session = roster.add_operator(b"O", Connection(5, "there"), 0.0)
    endings.not_found(session)
    assert session in endings.gone
    endings.mark(session, "it said BYE")
    endings.not_found(session)
    assert not endings.gone
    endings.tick()
    endings.tick()
    assert [ending.reason for ending in endings.marked] == ["it said BYE"]
