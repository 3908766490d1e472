"""How many calls from and to each player are in flight, as trusted endpoints report it."""

from __future__ import annotations

from collections.abc import Iterable

from ringback.protocol.player_ids import encode_player_id
from ringback.protocol.reports import PlayerInFlight
from ringback_broker.peers.roster import Roster
from ringback_broker.peers.session import Session


class InFlight:
    """The latest count of each endpoint for each player that is connected here. Zeros are not kept.

    An endpoint is its session and 0, or, if it is connected to another node, the session of that node and the
    number that the endpoint has there.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._counts: dict[tuple[Session, int], dict[bytes, int]] = {}

    def take(self, session: Session, rows: Iterable[PlayerInFlight], number: int = 0) -> None:
        """Keep what an endpoint reports."""
        counts = self._counts.setdefault((session, number), {})
        for player_id, in_flight in rows:
            encoded_id = encode_player_id(player_id)
            if in_flight and encoded_id in self._roster.players:
                counts[encoded_id] = in_flight
            else:
                counts.pop(encoded_id, None)
        if not counts:
            del self._counts[session, number]

    def forget(self, session: Session) -> None:
        """Forget what a peer or node that is gone has reported, and what was reported of it."""
        for endpoint in [endpoint for endpoint in self._counts if endpoint[0] is session]:
            del self._counts[endpoint]
        if session.player_id is not None:
            for counts in self._counts.values():
                counts.pop(session.encoded_id, None)

    def forget_far(self, node: Session, number: int) -> None:
        """Forget what an endpoint has reported that was connected to another node."""
        self._counts.pop((node, number), None)

    def of(self, player: Session) -> int:
        """Return how many calls from and to a player are in flight."""
        return sum(counts.get(player.encoded_id, 0) for counts in self._counts.values())
