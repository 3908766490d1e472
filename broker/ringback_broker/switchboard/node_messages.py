"""Messages of other nodes: what they tell this one, and which part of the switchboard it is for."""

from __future__ import annotations

from collections.abc import Callable

from ringback_broker.cluster.claims import Claims
from ringback_broker.cluster.messages import (
    Answer,
    Answered,
    Ask,
    FarReport,
    Gone,
    Here,
    Index,
    Knows,
    Listed,
    Message,
    Question,
    Seated,
    Standbys,
    Taken,
    Unanswered,
    Up,
    encode,
)
from ringback_broker.cluster.seat import Seat
from ringback_broker.peers.session import Session
from ringback_broker.switchboard.asking import Asking
from ringback_broker.switchboard.far_reports import FarReports
from ringback_broker.switchboard.far_standbys import FarStandbys
from ringback_broker.switchboard.indexes import Indexes
from ringback_broker.switchboard.presence import Presence
from ringback_broker.switchboard.sending import Sending


class NodeMessages:
    """Takes what other nodes say themselves, beside the frames of endpoints.

    Args:
        settle: is called when the seat may be given a server.
        end_marked: ends the sessions that are marked.
    """

    def __init__(
        self,
        sending: Sending,
        claims: Claims,
        indexes: Indexes,
        seat: Seat,
        presence: Presence,
        asking: Asking,
        far_reports: FarReports,
        far_standbys: FarStandbys,
        settle: Callable[[float], None],
        end_marked: Callable[[], None],
    ) -> None:
        self._sending = sending
        self._claims = claims
        self._indexes = indexes
        self._seat = seat
        self._presence = presence
        self._asking = asking
        self._far_reports = far_reports
        self._far_standbys = far_standbys
        self._settle = settle
        self._end_marked = end_marked

    def take(self, node: Session, message: Message, now: float) -> None:
        """Take a message of a node.

        Raises:
            ProtocolError: no node sends this.
        """
        match message:
            case Index(index):
                self._indexes.told(node, index)
            case Knows(version):
                _knows(node, version)
            case Standbys(count):
                self._far_standbys.told(node, count)
            case Question():
                self._asking.take(node, message, now)
            case Answered():
                self._asking.answered(node, message, now)
            case FarReport():
                self._far_reports.take(node, message)
            case Ask():
                self._asked_for_name(node, message, now)
            case Answer(key, revision, gives_up):
                self._claims.answered(node.node, key, revision, gives_up, now)
            case Taken(encoded_id, revision):
                self._presence.taken(encoded_id, revision)
            case Unanswered(encoded_id, link):
                self._presence.far_servers.unanswered(encoded_id, link)
            case Seated(term):
                self._presence.seated(node, term)
                self._seat.hint(now)
            case Here(term, players):
                for encoded_id, revision in players:
                    self._presence.here(node, term, encoded_id, revision)
            case Gone(encoded_id):
                self._presence.gone(node, encoded_id)
            case Listed(term):
                self._presence.listed(node, term)
                self._settle(now)
            case Up(term, own_link):
                self._presence.up(node, term, own_link)
            case _:
                self._presence.far_servers.down(node, message, now)

    def _asked_for_name(self, node: Session, ask: Ask, now: float) -> None:
        """Tell a node whether it may have a name. First ends what is under way for that name."""

        def answer(then: float) -> None:
            gives_up = self._presence.gives_up(ask)
            self._end_marked()
            if not node.ended:
                self._sending.notify(node, encode(Answer(ask.key, ask.revision, gives_up)))

        self._claims.turns.when_free(ask.key, answer, _never, now)


def _knows(node: Session, version: int) -> None:
    """Take note of what a node knows; see `Knows`."""
    node.tells_of_callees = version >= 1
    assert node.bundle is not None  # a node has one as long as it is linked
    node.bundle.takes_down = version >= 2


def _never(_now: float) -> None:
    """Do nothing: the other node has given up waiting, too."""
