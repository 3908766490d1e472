"""The realm: how this broker and other ones act as one switchboard.

Each other node that is linked to this one has a session here, as a trusted peer. `ownership` says whether
this node may act at all, `seat` which node has the server that acts, `presence` who is told of whom.
"""

from __future__ import annotations

from collections.abc import Callable

from ringback.errors import ProtocolError, RejectCode
from ringback_broker.cluster.claims import Claims
from ringback_broker.cluster.cluster import Cluster
from ringback_broker.cluster.elsewhere import Elsewhere
from ringback_broker.cluster.ids import IDs
from ringback_broker.cluster.lookup import Lookup
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
from ringback_broker.cluster.neighbours import Neighbours
from ringback_broker.cluster.owners import Owner
from ringback_broker.cluster.ownership import Ownership, Standing
from ringback_broker.cluster.pairs import Pair, Pairs
from ringback_broker.cluster.record_steps import RecordSteps
from ringback_broker.cluster.records import Absent, Record
from ringback_broker.cluster.seat import SEAT, Holder, Seat
from ringback_broker.operations.operations import Operations
from ringback_broker.operations.snapshot import RealmView
from ringback_broker.peers.connection import Frame, Sent
from ringback_broker.peers.session import Bundle, Session
from ringback_broker.switchboard.asking import Answering, Asking
from ringback_broker.switchboard.far_reports import FarReports
from ringback_broker.switchboard.far_servers import FarServers
from ringback_broker.switchboard.indexes import Indexes
from ringback_broker.switchboard.kicks import Kicks
from ringback_broker.switchboard.node_frames import NodeFrames
from ringback_broker.switchboard.node_rows import NodeRows
from ringback_broker.switchboard.operator_calls import OperatorCalls
from ringback_broker.switchboard.presence import Presence
from ringback_broker.switchboard.sending import Sending
from ringback_broker.switchboard.sessions import Sessions
from ringback_broker.switchboard.state import State

LOST = "this broker has lost its realm; connect to another one, or wait until it is back"
"""What peers are told. REJECT has no code of its own for this: older endpoints would not know it. With
`DRAINING` they dial the next address."""


VERSION = 2
"""What this node knows: see `Knows`."""


class Realm:
    """This broker as a node of its realm.

    The loop calls `begin_step` before anything else in each step; what the engine hears goes to `changed`,
    `contact`, `from_node`, `nobody` and `interrupted`.

    Args:
        answer: answers a question about this node, if its asker has the right to it.
        reply: sends an ANSWER to an operator.

    Attributes:
        name: of this node.
        claims: the player IDs that this node claims and owns.
        indexes: the index of this node and those of others.
        ids: the IDs that it gives itself.
        lookup: finds the node that has a player.
        seat: which node has the server that acts.
        presence: who is told of whom.
        far_reports: takes reports of players of other nodes.
        now: the time of this step.
        of_link: returns the node that has given the link number of a frame.
        from_operator: takes a frame of an operator to a player that is not here.
        operator_left: takes note that an operator of this node has left.
    """

    def __init__(
        self,
        cluster: Cluster,
        nonce: Callable[[], bytes],
        state: State,
        sending: Sending,
        sessions: Sessions,
        operations: Operations,
        rows: NodeRows,
        answer: Answering,
        reply: Callable[[Session, bytes, float], None],
    ) -> None:
        self.name = cluster.node
        self._cluster = cluster
        self._roster = state.roster
        self._endings = state.endings
        self._windows = state.windows
        self._counters = state.counters
        self._sending = sending
        self._sessions = sessions
        self._standbys: dict[Session, int] = {}
        self._versions: dict[Session, int] = {}
        self._standbys_here = 0
        self.now = 0.0
        name, records = cluster.node, RecordSteps(cluster.records, sessions.end_marked)
        self.ownership = Ownership(
            name, cluster.lease_s, records, nonce, self._joined, self._lost, lambda: rows.describe().fields()
        )
        self._neighbours = Neighbours(name, cluster.lease_s, records, self._came, self._went)
        rows.name, rows.boot, rows.others = name, self._boot, self._neighbours.alive
        rows.renewed_at = lambda: self.ownership.renewed_at
        self.asking = Asking(name, state.roster, sending, answer, reply, lambda: self._neighbours.alive)
        self._pairs = Pairs(cluster.frames, self._opened, self._closed, self._take)
        self.claims = Claims(name, self._boot, records, self._ask, self._name_taken)
        self.indexes = Indexes(
            name,
            state.roster,
            self.claims,
            lambda: self.ownership.standing is Standing.MEMBER,
            self._say,
        )
        self.of_link = self.indexes.of_link
        self.ids = IDs(records)
        self.lookup = Lookup(records, self._is_linked)
        self.seat = Seat(name, self._boot, records, self._seat_moved)
        self.kicks = Kicks(
            state.roster, self.lookup, self.linked, self.is_this_one, self.asking, answer, reply
        )
        elsewhere = Elsewhere()
        self._operator_calls = OperatorCalls(
            state, sending, elsewhere, self.lookup, self.linked, self.is_this_one, self._tells_of_callees
        )
        self.far_reports = FarReports(sending, operations, self._node_of)
        self.presence = Presence(
            state,
            sending,
            self.claims.names,
            self.seat,
            elsewhere,
            self._operator_calls,
            FarServers(state, sending, sessions.tell_loss),
            sessions.end_marked,
        )
        self._frames = NodeFrames(state, sending, elsewhere, self._operator_calls, self._told)
        self.from_operator, self.operator_left = self._operator_calls.take, self._operator_calls.operator_left
        self._roster.may_act = False
        self._roster.offset_links(int.from_bytes(nonce()[:4]))
        cluster.frames.listen(self.ownership.boot)

    def attend(self, settle: Callable[[float], None], refuse_waiting: Callable[[], None]) -> None:
        """Have the joins told what concerns them.

        Args:
            settle: is called when the seat or a server of this broker may have changed.
            refuse_waiting: is called when this node has lost its realm.
        """
        self._settle, self._refuse_waiting = settle, refuse_waiting

    def settle(self, now: float) -> None:
        """Take note that a server of this broker has begun or ended."""
        self._settle(now)
        standbys = len(self._roster.standbys())
        if standbys != self._standbys_here:
            self._standbys_here = standbys
            for node in list(self._roster.nodes.values()):
                self._say(node, Standbys(standbys))

    @property
    def has_standby(self) -> bool:
        """Whether a server stands by at another node."""
        return any(self._standbys.values())

    def _boot(self) -> bytes:
        return self.ownership.boot

    @property
    def is_ready(self) -> bool:
        """Whether peers may join here."""
        return self.ownership.standing is Standing.MEMBER and bool(self.indexes.own)

    def view(self) -> RealmView:
        """Return how this node stands in its realm."""
        return RealmView(self.seat.is_mine, len(self._neighbours.alive), len(self._roster.nodes))

    @property
    def is_refused(self) -> bool:
        """Whether another process that is alive has the name of this node."""
        return self.ownership.standing is Standing.REFUSED

    @property
    def meets_rival(self) -> bool:
        """Whether another process has had the name of this node, and may be alive or dead."""
        return self.ownership.meets_rival

    # -- time

    def lives_elsewhere(self, holder: Holder | None) -> bool:
        """Return whether another node that lives has the seat, as far as this node has heard."""
        return holder is not None and self._neighbours.lives(holder.node, holder.boot)

    def begin_step(self, now: float) -> None:
        """End everything if the lease is over. This comes before anything else in a step."""
        self.now = now
        if now >= self.ownership.acts_until:
            self.ownership.check(now)

    def tick(self, now: float) -> None:
        """Do what falls due."""
        self.ownership.tick(now)
        if self.ownership.standing is not Standing.MEMBER:
            return
        self._neighbours.tick(now)
        self._pairs.tick(now)
        self.claims.tick(now)
        self.indexes.tick(now)
        self.lookup.tick(now)
        self.seat.tick(now)
        for node in list(self._roster.nodes.values()):
            if node.exhausted and self._windows.is_stuck(node, now):
                self._endings.too_slow(node, f"the {self._windows.unread(node)} bytes on their way")
        self.asking.tick(now)
        if not self.presence.follows(now):
            assert self.seat.holder is not None
            self._pairs.renew(self.seat.holder.node, "its server is not known here", now)
        self.settle(now)
        self._sessions.end_marked()

    def leave(self) -> None:
        """Leave the realm: all sessions have ended."""
        self.ownership.leave()

    # -- what the engine hears

    def changed(self, key: str, now_is: Record | Absent, now: float) -> None:
        """Take note of a change of a record that is watched."""
        if key == SEAT:
            self._hint(now)
        else:
            self._neighbours.changed(key, now_is, now)
        self._sessions.end_marked()

    def contact(self, is_there: bool, now: float) -> None:
        """Take note that the records can be reached, or not any more."""
        if is_there:
            self._hint(now)
            self._sessions.end_marked()

    def from_node(self, node: str, boot: bytes, parts: tuple[bytes, ...], now: float) -> None:
        """Take a message of another node."""
        if self.ownership.standing is Standing.MEMBER:
            self._pairs.from_node(node, boot, parts, now)
            self._sessions.end_marked()

    def nobody(self, node: str, boot: bytes, epoch: int, now: float) -> None:
        """Take note that nobody was there to take a message to another node."""
        self._pairs.nobody(node, boot, epoch, now)
        self._sessions.end_marked()

    def interrupted(self, now: float) -> None:
        """Take note that messages of any node may have been lost."""
        self._pairs.renew_all("messages may have been lost", now)
        self._sessions.end_marked()

    def _hint(self, now: float) -> None:
        if self.ownership.standing is Standing.MEMBER:
            self.seat.hint(now)

    # -- membership

    def _joined(self, now: float) -> None:
        for name, neighbour in self._neighbours.alive.items():
            self._pairs.add(name, neighbour.boot, now)
        self.indexes.begin(now)
        self.seat.hint(now)

    def _lost(self, why: str, now: float) -> None:
        """End all sessions: nothing that this node owned counts any more."""
        self.indexes.forget_own()
        for session in self._roster.sessions():
            self._endings.refuse(session, RejectCode.DRAINING, f"{LOST} ({why})")
        self.claims.clear(now)
        self.lookup.clear(now)
        self._refuse_waiting()
        self.seat.clear()
        self._pairs.clear("this node has lost its realm", now)
        self.presence.clear()
        self._cluster.frames.listen(self.ownership.boot)
        self._sessions.end_marked()

    # -- other nodes

    def _came(self, name: str, boot: bytes, now: float) -> None:
        if self.ownership.standing is Standing.MEMBER:
            self._pairs.add(name, boot, now)

    def _went(self, name: str, boot: bytes, now: float) -> None:
        self._pairs.remove(name, "its lease is over, or it has left", now)
        self._hint(now)

    def _opened(self, pair: Pair, now: float) -> None:
        node = self._roster.add_node(pair.name, pair.boot, now)
        node.bundle = Bundle(lambda _, id_part, frame: self._send(pair.name, id_part, frame))
        self._windows.begin(node)
        self._say(node, Knows(VERSION))
        self.indexes.tell(node)
        if self._standbys_here:
            self._say(node, Standbys(self._standbys_here))
        self.presence.node_came(node)

    def _closed(self, pair: Pair, why: str, now: float) -> None:
        node = self._roster.nodes.get(pair.name)
        if node is not None:
            self._endings.mark(node, why)

    def node_ended(self, node: Session, why: str, now: float) -> None:
        """Take note that the session of a node has ended: what was on its way there and back is lost."""
        self.indexes.node_ended(node)
        self._standbys.pop(node, None)
        self._versions.pop(node, None)
        self.asking.node_ended(node, now)
        self.far_reports.node_ended(node)
        self.presence.node_went(node)
        if self._pairs.is_open(node.node):
            self._pairs.renew(node.node, why, now)

    def _send(self, name: str, id_part: bytes, frame: Frame) -> Sent:
        return self._pairs.send(name, id_part, bytes(frame))

    def _say(self, node: Session, message: Message) -> None:
        self._sending.notify(node, encode(message))

    def _take(self, pair: Pair, id_part: bytes, frame: bytes, now: float) -> None:
        node = self._roster.nodes.get(pair.name)
        if node is None:  # its session ends in this step
            return
        try:
            self._frames.take(node, id_part, frame, now)
        except (ProtocolError, ValueError) as error:
            self._counters.violations += 1
            self._endings.mark(node, f"it sent what no node sends: {error}")

    def linked(self, owner: Owner) -> Session | None:
        """Return another node that lives, if it is linked to this one."""
        return self._roster.linked_node(owner.node, owner.boot)

    def is_this_one(self, owner: Owner) -> bool:
        """Return whether this boot of this node is meant."""
        return owner.node == self._cluster.node and owner.boot == self.ownership.boot

    def _is_linked(self, name: str, boot: bytes) -> bool:
        owner = Owner(name, boot)
        return self.is_this_one(owner) or self.linked(owner) is not None

    def _tells_of_callees(self, node: Session) -> bool:
        """Return whether a node tells this one when players have left whom operators here have called."""
        return self._versions.get(node, 0) >= 1

    # -- where frames go

    def of_player(self, encoded_id: bytes) -> Session | None:
        """Return the node that has a player, as far as a server has to know."""
        away = self.presence.elsewhere.by_id.get(encoded_id)
        return None if away is None else away.node

    def _node_of(self, encoded_id: bytes) -> Session | None:
        """Return the other node that has a player, as far as a server or an operator here has to know."""
        return self.of_player(encoded_id) or self._operator_calls.node_of(encoded_id)

    # -- what other nodes say

    def _told(self, node: Session, message: Message, now: float) -> None:
        match message:
            case Index(index):
                self.indexes.told(node, index)
            case Knows(version):
                self._versions[node] = version
                assert node.bundle is not None  # a node has one as long as it is linked
                node.bundle.takes_down = version >= 2
            case Standbys(count):
                self._standbys[node] = count
            case Question():
                self.asking.take(node, message, now)
            case Answered():
                self.asking.answered(node, message, now)
            case FarReport():
                self.far_reports.take(node, message)
            case Ask():
                self._asked(node, message, now)
            case Answer(key, revision, gives_up):
                self.claims.answered(node.node, key, revision, gives_up, now)
            case Taken(encoded_id, revision):
                self.presence.taken(encoded_id, revision)
            case Unanswered(encoded_id, link):
                self.presence.far_servers.unanswered(encoded_id, link)
            case Seated(term):
                self.presence.seated(node, term)
                self.seat.hint(now)
            case Here(term, players):
                for encoded_id, revision in players:
                    self.presence.here(node, term, encoded_id, revision)
            case Gone(encoded_id):
                self.presence.gone(node, encoded_id)
            case Listed(term):
                self.presence.listed(node, term)
                self.settle(now)
            case Up(term, own_link):
                self.presence.up(node, term, own_link)
            case _:
                self.presence.far_servers.down(node, message, now)

    def _ask(self, name: str, boot: bytes, key: str, revision: int, identity: bytes) -> bool:
        node = self._roster.linked_node(name, boot)
        if node is None:
            return False
        self._say(node, Ask(key, revision, identity))
        return True

    def _asked(self, node: Session, ask: Ask, now: float) -> None:
        """Tell another node whether it may have a name. First ends what is under way for that name."""

        def answer(then: float) -> None:
            gives_up = self.presence.gives_up(ask)
            self._sessions.end_marked()
            if not node.ended:
                self._say(node, Answer(ask.key, ask.revision, gives_up))

        self.claims.turns.when_free(ask.key, answer, _never, now)

    def _name_taken(self, key: str, now: float) -> None:
        if key == self.indexes.key:
            self.ownership.lose("another node has its index", now)
        else:
            self.presence.key_taken(key)

    def _seat_moved(self, now: float) -> None:
        if not self.seat.is_mine:
            self.presence.leave_seat()
            self._sessions.end_marked()
        self.settle(now)


def _never(_now: float) -> None:
    """Do nothing: the other node has given up waiting, too."""
