"""Sessions: how one begins, how one server follows another, and the one place where a session ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ringback.errors import Code, RejectCode
from ringback.protocol import control
from ringback.protocol.control import encode
from ringback.protocol.frames import Role
from ringback.protocol.limits import IDS_A_FRAME, MAX_REASON_CHARS
from ringback.protocol.player_ids import PlayerID
from ringback_broker.admission.hello import Admitted, Refusal
from ringback_broker.operations.events import PeerEvent
from ringback_broker.operations.operations import Operations
from ringback_broker.peers.connection import Connection, Sent, Side
from ringback_broker.peers.session import Bundle, Duty, Registered, Reported, Session
from ringback_broker.settings.schema import BrokerSettings
from ringback_broker.switchboard.endings import Ending
from ringback_broker.switchboard.far_reports import FarReports
from ringback_broker.switchboard.far_standbys import FarStandbys
from ringback_broker.switchboard.presence import Presence
from ringback_broker.switchboard.sending import Sending
from ringback_broker.switchboard.state import State
from ringback_broker.switchboard.wire import Wire

_SERVER_UP = encode(control.ServerUp())
_SERVER_DOWN = encode(control.ServerDown())


class Realm(Protocol):
    """The other nodes of a realm, as sessions here concern them."""

    name: str
    presence: Presence
    far_reports: FarReports
    far_standbys: FarStandbys
    now: float

    def settle(self, now: float) -> None:
        """Take note that a server has begun or ended."""

    def operator_left(self) -> None:
        """Take note that an operator of this node has left."""

    def node_ended(self, node: Session, why: str, now: float) -> None:
        """Take note that the session of a node has ended."""


class Sessions:
    """Begins and ends sessions, and tells the others.

    Args:
        software: the name and version of the broker, for WELCOME.
        broker_id: a random number that names this life of the broker, for WELCOME; None: it says none.
        nonce: returns 16 bytes that nobody can guess, for tickets.

    Attributes:
        realm: what has to know of sessions here; None: this broker is alone.
        hands_over: in a realm: the server that acts, if it is to retire once the seat is another one's.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        software: str,
        broker_id: int | None,
        nonce: Callable[[], bytes],
        wire: Wire,
        state: State,
        sending: Sending,
        operations: Operations,
    ) -> None:
        self._lease_ms = int(settings.lease * 1000)
        self._software = software
        self._broker_id = broker_id
        self._nonce = nonce
        self._wire = wire
        self._roster = state.roster
        self._counters = state.counters
        self._registered_keys = state.registered_keys
        self._strangers = state.strangers
        self._connections_by_ip = state.connections_by_ip
        self._admission = state.admission
        self._rate_limit = state.rate_limit
        self._windows = state.windows
        self._endings = state.endings
        self._sending = sending
        self._operations = operations
        self.realm: Realm | None = None
        self.hands_over: Session | None = None

    # -- the beginning

    def welcome(self, routing_id: bytes, connection: Connection, admitted: Admitted, now: float) -> None:
        """Begin a session, and tell the others."""
        session = self._add(routing_id, connection, admitted, now)
        self._say_welcome(session)
        self._operations.greet(session)
        if session in self._endings.gone:
            self._endings.mark(session, "its connection is gone")
        if session.ended:  # it was never there for the others
            return
        self._counters.sessions_begun += 1
        self._strangers.forget(session.side, connection)
        waits = "; it stands by" if session.duty is Duty.STANDBY else ""
        self._operations.log(PeerEvent("joined", f"{admitted.hello.sdk}{waits}", session))
        self._announce(session)

    def _say_welcome(self, session: Session) -> None:
        """Send a WELCOME. A server that acts now first learns who is connected."""
        if session.duty is Duty.ACTING:
            known = [player.player_id for player in self._roster.players.values()]
            if self.realm is not None:
                known += self.realm.presence.player_ids()
            for frame in _joined(known):
                self._sending.notify(session, frame)
        welcome = control.Welcome(
            link=session.link,
            player_id=session.player_id,
            server=self._roster.is_served,
            lease_ms=self._lease_ms,
            broker=self._software,
            bundles=session.bundle is not None or None,
            report_ms=self._operations.report_ms() if session.reported.asked else None,
            ticket=session.ticket or None,
            own_link=session.own_link or None,
            standby=session.duty is Duty.STANDBY or None,
            retiring=session.duty is Duty.RETIRING or None,
            node=self._node_name() if session.link else None,
            broker_id=self._broker_id,
        )
        self._sending.notify(session, encode(welcome))

    def _node_name(self) -> str:
        return "" if self.realm is None else self.realm.name

    def _add(self, routing_id: bytes, connection: Connection, admitted: Admitted, now: float) -> Session:
        hello, roster = admitted.hello, self._roster
        if hello.role is Role.PLAYER:
            player_id = roster.free_player_id() if hello.player_id is None else hello.player_id
            session = roster.add_player(routing_id, connection, player_id, hello.heartbeat_ms, now)
            session.knows_links = bool(hello.server_links)
            self._rate_limit.begin(session, now)
        else:
            if hello.role is Role.SERVER:
                session = roster.add_server(routing_id, connection, bool(hello.server_links), now)
            else:
                session = roster.add_operator(routing_id, connection, now)
            session.bundle = Bundle(self._wire.send_backend) if hello.bundles else None
            session.reported = Reported(asked=self._operations.wants_reports())
        session.rights = admitted.rights
        if hello.ticket is not None and hello.role is not Role.OPERATOR:  # operators have no place to take
            session.ticket = admitted.ticket or self._nonce()
        self._windows.begin(session)
        keys = self._registered_keys.replace(hello.role, (), hello.keys, hello.schemas)
        session.registered = Registered(keys, hello.terms if hello.role is Role.SERVER else None)
        return session

    def _announce(self, session: Session) -> None:
        """Tell the others that a peer is there."""
        session.presence.announced = True
        realm = self.realm
        if session.duty is Duty.ACTING:
            self._tell_callers(_SERVER_UP)
            if realm is not None:
                realm.presence.server_up(session)
        elif session.player_id is not None:
            if realm is not None:
                realm.presence.arriving(session, realm.now)
                realm.presence.joined(session)
            if self._roster.server is not None:
                self._sending.notify(self._roster.server, encode(control.Joined((session.player_id,))))

    def _tell_callers(self, frame: bytes) -> None:
        """Send a frame to all players and operators."""
        for other in self._roster.sessions():
            if other.duty is None:
                self._sending.notify(other, frame)

    # -- one server follows another

    def hand_over(self) -> Code | None:
        """Have the first server that stands by act in place of the one that does. Return why that cannot be.

        What was on its way to the older one arrives there first. Players notice nothing.
        """
        older, next_one = self._roster.server, self.next_server()
        waits = next_one is not None or (self.realm is not None and self.realm.far_standbys.exist)
        if self._admission.draining:
            return Code.DRAINING
        if older is None or not older.own_link or not waits:
            return Code.NO_SERVER
        if self.realm is None:
            self.retire_for(next_one)
        else:
            self.hands_over = older
            self.realm.settle(self.realm.now)
        return None

    def retire_for(self, next_one: Session | None) -> None:
        """Have the server that acts retire, and the next one act. None: one at another node will act."""
        older, self.hands_over = self._roster.server, None
        assert older is not None
        self._counters.hand_overs += 1
        self._operations.log(PeerEvent("retiring", "it hands over to the next server", older))
        self._roster.retire(older)
        self._say_welcome(older)
        if next_one is not None:
            self._act(next_one, "the server before hands over")

    def next_server(self) -> Session | None:
        """Return the server that stands by for the longest time, as far as it is known to be there."""
        waiting = (server for server in self._roster.standbys() if server not in self._endings.gone)
        return next(waiting, None)

    def _act(self, session: Session, why: str) -> None:
        """Have a server that stands by act from now on."""
        self._roster.act(session)
        self._operations.log(PeerEvent("acting", why, session))
        self._say_welcome(session)
        if self.realm is not None:
            self.realm.presence.server_up(session)
        if session in self._endings.gone:
            self._endings.mark(session, "its connection is gone")

    def promote(self, heir: Session | None = None) -> None:
        """If no server acts any more, have the next one act that stands by.

        Args:
            heir: the one that shall act; None: the one that has stood by for the longest time.
        """
        if self._roster.server is not None or self._admission.draining or not self._roster.may_act:
            return
        next_one = heir or self.next_server()
        if next_one is not None:
            self._counters.takeovers += 1
            self._act(next_one, "the server before has left")
            self._tell_callers(_SERVER_UP)

    # -- the end

    def end_marked(self, promote: bool = True) -> None:
        """End the sessions that are marked. This is the end of a step.

        Telling the others may mark some of them too. They end here as well, each in its turn.

        Args:
            promote: whether a server that stands by acts if no other one does.
        """
        marked = self._endings.marked
        while marked:
            self._end(marked.popleft())
            if promote and not marked:
                if self.realm is None:
                    self.promote()
                else:
                    self.realm.settle(self.realm.now)

    def _end(self, ending: Ending) -> None:
        session, reason, refusal, finished = ending
        if refusal is not None and not session.node:
            self._sending.send_bundle(session, session.last_seen)  # REJECT comes after what was sent before
            self._counters.count_end(refusal.code)
            if refusal.code is RejectCode.RATE_LIMITED:
                self._connections_by_ip.shut_out(session.connection.ip, session.last_seen)
        self._sending.forget(session)
        self._operations.forget(session)
        if session.node:
            self._operations.log(PeerEvent("left", reason, session))
            assert self.realm is not None
            self.realm.node_ended(session, reason, self.realm.now)
            return
        self._registered_keys.replace(session.role, session.registered.keys, ())
        if self.realm is not None:
            self.realm.far_reports.endpoint_left(session, self.realm.now)
        if session.presence.announced:
            self._counters.sessions_ended += 1
            code = "" if refusal is None else refusal.code.name
            self._operations.log(PeerEvent("left", reason, session, code=code))
            self._announce_end(session, finished)
        else:  # it was gone before the WELCOME, as happens in a crowd
            self._counters.joins_delayed += 1
            self._operations.log(PeerEvent("delayed", "a connection closed before WELCOME", session))
        if refusal is not None and not refusal.silent:
            self._strangers.refuse(session.side, session.connection, session.routing_id)
            self._reject(session.side, session.routing_id, refusal)

    def _announce_end(self, session: Session, finished: bool) -> None:
        """Tell the others that a peer is there no more."""
        if session.player_id is not None:
            left = encode(control.Left((session.player_id,)))
            for other in self._roster.trusted():
                if other.duty is not Duty.STANDBY:
                    self._sending.notify(other, left)
            if self.realm is not None:
                self.realm.presence.left(session)
        elif session.duty is Duty.ACTING:
            self._announce_loss(session)
        elif session.duty is Duty.RETIRING and finished:
            if self.realm is not None:
                self.realm.presence.server_down(session, in_order=True)
        elif session.duty is Duty.RETIRING:
            # Nobody knows who waits for a reply of it. Calls to the server that acts end too.
            self._announce_loss(session)
            if self._roster.server is not None:
                self._tell_callers(_SERVER_UP)
        elif self.realm is not None:
            self.realm.operator_left()

    def _announce_loss(self, server: Session) -> None:
        """Tell all others that a server will reply no more."""
        self.tell_loss(server.own_link)
        if self.realm is not None:
            self.realm.presence.server_down(server)

    def tell_loss(self, own_link: int) -> None:
        """Tell all players and operators here that a server will reply no more."""
        with_link = encode(control.ServerDown(own_link)) if own_link else _SERVER_DOWN
        for other in self._roster.sessions():
            if other.duty is None:
                self._sending.notify(other, with_link if other.knows_links else _SERVER_DOWN)

    def turn_away(self, side: Side, routing_id: bytes, connection: Connection, refusal: Refusal) -> None:
        """Tell a peer why it is refused, and have its connection closed soon."""
        self._strangers.refuse(side, connection, routing_id)
        if refusal.silent:
            return
        self._counters.count_refusal(refusal.code)
        self._reject(side, routing_id, refusal)
        event = "delayed" if refusal.code is RejectCode.HEARTBEAT_TOO_SHORT else "refused"
        reason = refusal.reason[:MAX_REASON_CHARS]
        self._operations.log(PeerEvent(event, reason, ip=connection.ip, code=refusal.code.name))

    def _reject(self, side: Side, routing_id: bytes, refusal: Refusal) -> None:
        """Send a REJECT."""
        reason = refusal.reason[:MAX_REASON_CHARS]
        frame = encode(control.Reject(refusal.code, reason, heartbeat_ms=refusal.heartbeat_ms))
        if side is Side.PLAYERS:
            sent = self._wire.send_player(routing_id, frame)
        else:
            sent = self._wire.send_backend(routing_id, b"", frame)
        delayed = refusal.code is RejectCode.HEARTBEAT_TOO_SHORT
        self._counters.dropped += sent is not Sent.YES and not delayed  # who is delayed comes again anyway


def _joined(player_ids: list[PlayerID | None]) -> list[bytes]:
    """Return the JOINED frames that name these players."""
    known = [player_id for player_id in player_ids if player_id is not None]
    chunks = [known[i : i + IDS_A_FRAME] for i in range(0, len(known), IDS_A_FRAME)]
    return [encode(control.Joined(tuple(chunk))) for chunk in chunks]
