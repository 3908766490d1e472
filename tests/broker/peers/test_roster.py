"""The roster: sessions by every name."""

from __future__ import annotations

from typing import Any

from ringback.errors import Code
from ringback.protocol.player_ids import encode_player_id
from ringback_broker.peers.connection import Connection
from ringback_broker.peers.roster import Roster

BOUNCES = (Code.NO_SERVER, Code.UNKNOWN_PLAYER, Code.OVERLOADED, Code.DRAINING)


def test_a_session_is_in_all_tables_or_none() -> None:
    roster = Roster(crowd_heartbeat_s=5.0)
    connection = Connection(5, "there")
    for session in (
        roster.add_player(b"P", connection, 7, 1000, 0.0),
        roster.add_server(b"S", connection, True, 0.0),
        roster.add_operator(b"O", Connection(6, "there"), 0.0),
        roster.add_server(b"T", Connection(7, "there"), True, 0.0),
    ):
        assert session in roster.sessions()
        assert roster.by_routing_id[session.side][session.routing_id] is session
        assert roster.at(session.side, session.connection) is session
    assert (len(roster), roster.operators(), len(roster.trusted()), roster.frequent_heartbeats) == (
        4,
        1,
        3,
        1,
    )
    assert [session.number for session in roster.sessions()] == [1, 2, 3, 4]
    assert [session.name for session in roster.sessions()] == [
        *("player 7", "server", "operator 1", "standby server"),
    ]
    for session in roster.sessions():
        roster.remove(session)
        assert session not in roster.sessions()
        assert roster.at(session.side, session.connection) is None
        assert session.routing_id not in roster.by_routing_id[session.side]
    assert (len(roster), roster.operators(), roster.server, roster.frequent_heartbeats) == (0, 0, None, 0)
    assert not roster.links and not roster.others


def test_free_ids_are_found_at_once_however_many_are_taken() -> None:
    class Counting(dict[bytes, Any]):
        looked_up = 0

        def __contains__(self, key: object) -> bool:
            Counting.looked_up += 1
            return super().__contains__(key)

    roster = Roster(crowd_heartbeat_s=5.0)
    roster.players = Counting({encode_player_id(number): None for number in range(1, 1001)})
    assert [roster.free_player_id() for _ in range(1000)] == list(range(1001, 2001))
    assert Counting.looked_up == 2000
