"""The realm: this broker as a node of it. Several brokers act as one switchboard.

`ownership` says whether this node may act at all, `seat` which node has the server that acts, `presence` who
is told of whom. `other_nodes` has the nodes that are linked to this one.
"""

from __future__ import annotations

from collections.abc import Callable

from ringback.errors import RejectCode
from ringback_broker.cluster.claims import Claims
from ringback_broker.cluster.cluster import Cluster
from ringback_broker.cluster.elsewhere import Elsewhere
from ringback_broker.cluster.ids import IDs
from ringback_broker.cluster.lookup import Lookup
from ringback_broker.cluster.messages import Ask, encode
from ringback_broker.cluster.owners import Owner
from ringback_broker.cluster.ownership import Ownership, Standing
from ringback_broker.cluster.record_steps import RecordSteps
from ringback_broker.cluster.records import Absent, Record
from ringback_broker.cluster.seat import SEAT, Holder, Seat
from ringback_broker.operations.operations import Operations
from ringback_broker.operations.snapshot import RealmView
from ringback_broker.peers.session import Session
from ringback_broker.switchboard.asking import Answering, Asking
from ringback_broker.switchboard.far_reports import FarReports
from ringback_broker.switchboard.far_servers import FarServers
from ringback_broker.switchboard.far_standbys import FarStandbys
from ringback_broker.switchboard.indexes import Indexes
from ringback_broker.switchboard.kicks import Kicks
from ringback_broker.switchboard.node_frames import NodeFrames
from ringback_broker.switchboard.node_messages import NodeMessages
from ringback_broker.switchboard.node_rows import NodeRows
from ringback_broker.switchboard.operator_calls import OperatorCalls
from ringback_broker.switchboard.other_nodes import OtherNodes
from ringback_broker.switchboard.presence import Presence
from ringback_broker.switchboard.sending import Sending
from ringback_broker.switchboard.sessions import Sessions
from ringback_broker.switchboard.state import State

LOST = "this broker has lost its realm; connect to another one, or wait until it is back"
"""What peers are told. REJECT has no code of its own for this: older endpoints would not know it. With
`DRAINING` they dial the next address."""


class Realm:
    """This broker as a node of its realm.

    It tells its parts what happens: to its own record, to other nodes, and to sessions here. The loop calls
    `begin_step` before anything else in each step; what the records tell by themselves goes to `changed` and
    `contact`.

    Args:
        answer: answers a question about this node, if its asker has the right to it.
        reply: sends an ANSWER to an operator.

    Attributes:
        name: of this node.
        ownership: whether this node may act.
        other_nodes: those that live, and those that are linked to this one.
        claims: the player IDs that this node claims and owns.
        indexes: the index of this node and those of others.
        ids: the IDs that it gives itself.
        lookup: finds the node that has a player.
        seat: which node has the server that acts.
        presence: who is told of whom.
        asking: asks other nodes.
        kicks: has other nodes kick players.
        far_reports: takes reports of players of other nodes.
        far_standbys: the servers that stand by at other nodes.
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
        self.name = name = cluster.node
        self._cluster = cluster
        self._roster = roster = state.roster
        self._endings = state.endings
        self._sending = sending
        self._sessions = sessions
        self.now = 0.0
        records = RecordSteps(cluster.records, sessions.end_marked)
        self.ownership = Ownership(
            name, cluster.lease_s, records, nonce, self._joined, self._lost, lambda: rows.describe().fields()
        )
        self.claims = Claims(name, self._boot, records, self._ask, self._name_taken)
        self.seat = Seat(name, self._boot, records, self._seat_moved)
        self.indexes = Indexes(name, roster, self.claims, self._is_member, sending)
        self.ids = IDs(records)
        self.lookup = Lookup(records, self._is_linked)
        names, elsewhere = self.claims.names, Elsewhere()
        self._operator_calls = OperatorCalls(state, sending, elsewhere, self.lookup, names)
        self.presence = Presence(
            state,
            sending,
            names,
            self.seat,
            elsewhere,
            self._operator_calls,
            FarServers(state, sending, sessions.tell_loss),
            sessions.end_marked,
        )
        self.asking = Asking(name, roster, sending, answer, reply, lambda: self.other_nodes.neighbours.alive)
        self.kicks = Kicks(roster, self.lookup, names, self.asking, answer, reply)
        self.far_reports = FarReports(sending, operations, self._node_of)
        self.far_standbys = FarStandbys(roster, sending)
        messages = NodeMessages(
            sending,
            self.claims,
            self.indexes,
            self.seat,
            self.presence,
            self.asking,
            self.far_reports,
            self.far_standbys,
            self.settle,
            sessions.end_marked,
        )
        self.other_nodes = OtherNodes(
            cluster,
            records,
            self.ownership,
            state,
            sending,
            NodeFrames(state, sending, elsewhere, self._operator_calls, messages.take),
            self._node_begun,
            self._hint,
            sessions.end_marked,
        )
        rows.name, rows.boot, rows.others = name, self._boot, self.other_nodes.neighbours.alive
        rows.renewed_at = lambda: self.ownership.renewed_at
        self.of_link = self.indexes.of_link
        self.from_operator, self.operator_left = self._operator_calls.take, self._operator_calls.operator_left
        roster.may_act = False
        roster.offset_links(int.from_bytes(nonce()[:4]))
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
        self.far_standbys.tell_change()

    # -- how this node stands

    def _boot(self) -> bytes:
        return self.ownership.boot

    def _is_member(self) -> bool:
        return self.ownership.standing is Standing.MEMBER

    @property
    def is_ready(self) -> bool:
        """Whether peers may join here."""
        return self._is_member() and bool(self.indexes.own)

    @property
    def is_refused(self) -> bool:
        """Whether another process that is alive has the name of this node."""
        return self.ownership.standing is Standing.REFUSED

    @property
    def meets_rival(self) -> bool:
        """Whether another process has had the name of this node, and may be alive or dead."""
        return self.ownership.meets_rival

    def view(self) -> RealmView:
        """Return how this node stands in its realm."""
        return RealmView(self.seat.is_mine, len(self.other_nodes.neighbours.alive), len(self._roster.nodes))

    def lives_elsewhere(self, holder: Holder | None) -> bool:
        """Return whether another node that lives has the seat, as far as this node has heard."""
        return holder is not None and self.other_nodes.neighbours.lives(holder.node, holder.boot)

    # -- time

    def begin_step(self, now: float) -> None:
        """End everything if the lease is over. This comes before anything else in a step."""
        self.now = now
        if now >= self.ownership.acts_until:
            self.ownership.check(now)

    def tick(self, now: float) -> None:
        """Do what falls due."""
        self.ownership.tick(now)
        if not self._is_member():
            return
        self.other_nodes.neighbours.tick(now)
        self.other_nodes.pairs.tick(now)
        self.claims.tick(now)
        self.indexes.tick(now)
        self.lookup.tick(now)
        self.seat.tick(now)
        self.other_nodes.end_stuck(now)
        self.asking.tick(now)
        if not self.presence.follows(now):
            assert self.seat.holder is not None
            self.other_nodes.pairs.renew(self.seat.holder.node, "its server is not known here", now)
        self.settle(now)
        self._sessions.end_marked()

    def leave(self) -> None:
        """Leave the realm: all sessions have ended."""
        self.ownership.leave()

    # -- what the records tell

    def changed(self, key: str, now_is: Record | Absent, now: float) -> None:
        """Take note of a change of a record that is watched."""
        if key == SEAT:
            self._hint(now)
        else:
            self.other_nodes.neighbours.changed(key, now_is, now)
        self._sessions.end_marked()

    def contact(self, is_there: bool, now: float) -> None:
        """Take note that the records can be reached, or not any more."""
        if is_there:
            self._hint(now)
            self._sessions.end_marked()

    def _hint(self, now: float) -> None:
        if self._is_member():
            self.seat.hint(now)

    def _joined(self, now: float) -> None:
        self.other_nodes.begin(now)
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
        self.other_nodes.pairs.clear("this node has lost its realm", now)
        self.presence.clear()
        self._cluster.frames.listen(self.ownership.boot)
        self._sessions.end_marked()

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

    # -- nodes that are linked

    def _node_begun(self, node: Session) -> None:
        """Tell a node what it has to know of this one."""
        self.indexes.tell(node)
        self.far_standbys.tell(node)
        self.presence.node_came(node)

    def node_ended(self, node: Session, why: str, now: float) -> None:
        """Take note that the session of a node has ended: what was on its way there and back is lost."""
        self.indexes.node_ended(node)
        self.far_standbys.node_ended(node)
        self.asking.node_ended(node, now)
        self.far_reports.node_ended(node)
        self.presence.node_went(node)
        if self.other_nodes.pairs.is_open(node.node):
            self.other_nodes.pairs.renew(node.node, why, now)

    def _is_linked(self, name: str, boot: bytes) -> bool:
        """Return whether a boot of a node is linked to this one, or is this one."""
        linked = self._roster.linked_node(name, boot)
        return linked is not None or self.claims.names.is_own(Owner(name, boot))

    def _ask(self, name: str, boot: bytes, key: str, revision: int, identity: bytes) -> bool:
        """Ask a node to give a name up. Return whether it could be asked."""
        node = self._roster.linked_node(name, boot)
        if node is None:
            return False
        self._sending.notify(node, encode(Ask(key, revision, identity)))
        return True

    # -- where frames go

    def of_player(self, encoded_id: bytes) -> Session | None:
        """Return the node that has a player, as far as a server has to know."""
        away = self.presence.elsewhere.by_id.get(encoded_id)
        return None if away is None else away.node

    def _node_of(self, encoded_id: bytes) -> Session | None:
        """Return the other node that has a player, as far as a server or an operator here has to know."""
        return self.of_player(encoded_id) or self._operator_calls.node_of(encoded_id)
