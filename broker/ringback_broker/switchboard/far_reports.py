"""Reports of players of other nodes.

An endpoint reports to its own node. Operators look for the figures of a player at the node of the player. So
each node passes on what concerns the players of others. What is reported of callbacks stays where it is:
operators add that up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from ringback.errors import ProtocolError
from ringback.protocol.control import Report, decode, encode
from ringback.protocol.player_ids import encode_player_id
from ringback.protocol.reports import PlayerFigures, PlayerInFlight
from ringback_broker.cluster.messages import FarReport
from ringback_broker.cluster.messages import encode as encode_message
from ringback_broker.operations.operations import Operations
from ringback_broker.peers.session import Session
from ringback_broker.switchboard.sending import Sending

Row = TypeVar("Row", PlayerFigures, PlayerInFlight)


class FarReports:
    """Passes reports on to other nodes, and takes theirs.

    Args:
        node_of: returns the other node that has a player, as far as this one knows.
    """

    def __init__(
        self, sending: Sending, operations: Operations, node_of: Callable[[bytes], Session | None]
    ) -> None:
        self._sending = sending
        self._operations = operations
        self._node_of = node_of
        # The endpoints here, with the nodes that they have reported to.
        self._told: dict[Session, dict[Session, None]] = {}

    # -- endpoints here

    def pass_on(self, endpoint: Session, report: Report, now: float) -> None:
        """Pass on what an endpoint reports of players of other nodes."""
        ended, in_flight = self._by_node(report.players), self._by_node(report.in_flight or ())
        for node in {**ended, **in_flight}:
            passed = Report(
                players=tuple(ended.get(node, ())), in_flight=tuple(in_flight.get(node, ())) or None
            )
            self._say(node, FarReport(endpoint.number, encode(passed)), now)
            self._told.setdefault(endpoint, {})[node] = None

    def _by_node(self, rows: Iterable[Row]) -> dict[Session, list[Row]]:
        by_node: dict[Session, list[Row]] = {}
        for row in rows:
            node = self._node_of(encode_player_id(row.player_id))
            if node is not None:
                by_node.setdefault(node, []).append(row)
        return by_node

    def endpoint_left(self, endpoint: Session, now: float) -> None:
        """Tell the nodes that an endpoint has reported to that it has left: nothing of it is in flight."""
        for node in self._told.pop(endpoint, ()):
            self._say(node, FarReport(endpoint.number, b""), now)

    def _say(self, node: Session, said: FarReport, now: float) -> None:
        frame = encode_message(said)
        self._sending.notify(node, frame)
        self._sending.spend(node, frame, now)

    # -- other nodes

    def take(self, node: Session, said: FarReport) -> None:
        """Keep what an endpoint of another node has reported of players here.

        Raises:
            ProtocolError: it is no report.
        """
        if not said.frame:
            self._operations.forget_far(node, said.number)
            return
        report = decode(said.frame)
        if not isinstance(report, Report):
            raise ProtocolError("a report is not a REPORT")
        self._operations.take_of_players(node, said.number, report)

    def node_ended(self, node: Session) -> None:
        """Take note that a node is linked no more: it knows nothing of the endpoints here."""
        for nodes in self._told.values():
            nodes.pop(node, None)
