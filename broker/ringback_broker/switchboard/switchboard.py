"""The switchboard: what the loop calls. Each method hands its work to the part that does it.

Pure: time and connections are arguments, effects are calls on a `Wire`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from functools import partial

from ringback.errors import RejectCode
from ringback.protocol import control
from ringback.protocol.control import encode
from ringback.protocol.frames import Role
from ringback_broker.admission.access_list import AccessList
from ringback_broker.admission.connections_by_ip import ConnectionsByIP
from ringback_broker.admission.hello import Admission
from ringback_broker.admission.strangers import Strangers
from ringback_broker.cluster.cluster import Cluster
from ringback_broker.operations.counters import BrokerCounters
from ringback_broker.operations.operations import Operations
from ringback_broker.operations.registered_keys import RegisteredKeys
from ringback_broker.operations.snapshot import Lags, Snapshot
from ringback_broker.peers.connection import Connection, Side
from ringback_broker.peers.roster import Roster
from ringback_broker.peers.session import Session
from ringback_broker.settings.schema import BrokerSettings
from ringback_broker.switchboard.arrivals import Arrivals
from ringback_broker.switchboard.control_frames import ControlFrames
from ringback_broker.switchboard.endings import Endings
from ringback_broker.switchboard.joins import Joins
from ringback_broker.switchboard.leases import Leases
from ringback_broker.switchboard.node_rows import NodeRows
from ringback_broker.switchboard.rate_limit import RateLimit
from ringback_broker.switchboard.realm import Realm
from ringback_broker.switchboard.routing import Routing
from ringback_broker.switchboard.sending import Sending
from ringback_broker.switchboard.sessions import Sessions
from ringback_broker.switchboard.state import State
from ringback_broker.switchboard.window import Windows
from ringback_broker.switchboard.wire import Wire

_random_nonce = partial(secrets.token_bytes, 16)


class Switchboard:
    """Decides where each frame goes, and keeps the sessions.

    Args:
        software: the name and version of the broker, for peers.
        nonce: returns 16 bytes that nobody can guess.
        max_connections: how many players and strangers may be connected at one time.
        access: the access list; None: anybody may join as anybody.
        unix_time: returns the wall clock's time, in seconds, for tokens and events.
        cluster: the realm that the broker joins; None: it is alone.
        broker_id: a random number of 64 bits that names this life of the broker, for peers; None: they are
            told none.

    Attributes:
        realm: the broker as a node of its realm; None: it is alone.
        roster: all sessions. The loop looks the sender of a message up in it.
        counters: what was counted.
        state: what its parts share.
        sending: what waits to be sent.
        refused: by side, routing IDs whose messages the loop throws away unread.
        from_player, from_backend: take a frame of a welcomed peer.
        from_stranger: takes a message of a peer without a session.
        accepted, disconnected, deny: take note of what happened to a connection.
        flush: sends what waits for room in a queue, and returns whether anything still waits.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        wire: Wire,
        software: str = "ringback",
        nonce: Callable[[], bytes] = _random_nonce,
        max_connections: int | None = None,
        access: AccessList | None = None,
        unix_time: Callable[[], float] = lambda: 0.0,
        cluster: Cluster | None = None,
        broker_id: int | None = None,
    ) -> None:
        roster, by_ip = Roster(settings.crowd_heartbeat), ConnectionsByIP(settings)
        self.state = state = State(
            roster,
            BrokerCounters(),
            RegisteredKeys(),
            Strangers(settings),
            by_ip,
            Admission(settings, roster, by_ip, access, unix_time),
            RateLimit(settings),
            Windows(settings, nonce),
            Endings(roster),
        )
        self.roster, self.counters, self.refused = roster, state.counters, state.strangers.refused
        self.sending = Sending(wire, state)
        self._node_rows = NodeRows(software, state, unix_time)
        self._operations = Operations(
            settings,
            wire,
            roster,
            state.counters,
            state.registered_keys,
            notify=self.sending.notify,
            refuse=state.endings.refuse,
            hand_over=lambda: self._sessions.hand_over(),
            unix_time=unix_time,
            nodes=self._node_rows.rows,
        )
        self._sessions = Sessions(
            settings, software, broker_id, nonce, wire, state, self.sending, self._operations
        )
        self._control_frames = ControlFrames(state, self.sending, self._sessions, self._operations)
        self._routing = Routing(
            wire, state, self.sending, self._sessions, self._control_frames, self._operations
        )
        self._leases = Leases(settings, wire, state)
        # Each peer that joins is a stranger first. Connections that never join have room of their own.
        limit = 2 * settings.max_players if max_connections is None else max_connections
        self._arrivals = Arrivals(limit, wire, state, self._sessions, self._operations)
        # The methods themselves, so that no call stands between the loop and a frame.
        self.from_player, self.from_backend = self._routing.from_player, self._routing.from_backend
        self.from_stranger, self.deny = self._arrivals.from_stranger, self._arrivals.deny
        self.accepted, self.disconnected = self._arrivals.accepted, self._arrivals.disconnected
        self.flush = self.sending.flush
        self.realm: Realm | None = None
        if cluster is not None:
            self._join(cluster, nonce)

    def _join(self, cluster: Cluster, nonce: Callable[[], bytes]) -> None:
        """Make this broker a node of a realm."""
        sessions, arrivals = self._sessions, self._arrivals
        frames = self._control_frames
        realm = Realm(
            *(cluster, nonce, self.state, self.sending, sessions, self._operations, self._node_rows),
            *(frames.answer, frames.reply),
        )
        frames.asking, frames.kicks, frames.far_reports = realm.asking, realm.kicks, realm.far_reports
        self.realm = sessions.realm = self._routing.nodes = realm
        arrivals.joins = Joins(realm, nonce, self.state, sessions, arrivals.admit, sessions.turn_away)

    @property
    def access(self) -> AccessList | None:
        """The access list that holds now."""
        return self.state.admission.access

    @property
    def draining(self) -> bool:
        """Whether nobody may join any more."""
        return self.state.admission.draining

    def reconfigure(self, settings: BrokerSettings, max_connections: int) -> None:
        """Apply other settings. Those that need a restart stay as they are."""
        self._arrivals.max_connections = max_connections
        state = self.state
        state.admission.reconfigure(settings)
        state.strangers.reconfigure(settings)
        state.connections_by_ip.reconfigure(settings)
        state.rate_limit.reconfigure(settings)
        state.windows.reconfigure(settings)
        self._routing.reconfigure()

    def malformed(self, session: Session, parts: int) -> None:
        """Take note of a message with a wrong number of parts, none of which was kept."""
        self._control_frames.malformed(session, parts)
        self._sessions.end_marked()

    def send_bundles(self, now: float) -> None:
        """Send the frames that wait for the end of the loop's step. Nothing waits longer than that."""
        if self.sending.bundled:  # most steps have none
            self.sending.send_bundles(now)
            self._sessions.end_marked()

    def tick(self, now: float) -> None:
        """Do what falls due: end watches and sessions, close connections of strangers."""
        self._operations.tick(now)
        self._node_rows.tick(now)
        self._arrivals.close_overdue(now)
        self.state.endings.tick()
        self._leases.tick(now)
        self._sessions.end_marked()
        if self.realm is not None:
            self.realm.tick(now)

    def use(self, access: AccessList) -> None:
        """Apply another access list, and end the sessions that it would not let in."""
        for session, reason in self.state.admission.use(access):
            self.state.endings.refuse(session, RejectCode.REVOKED, reason)
        self._sessions.end_marked()

    def drain(self, grace_s: float) -> None:
        """Let nobody in any more, and ask everybody to finish and leave."""
        self.state.admission.draining = True
        notice = encode(control.DrainingNotice(int(grace_s * 1000)))
        for session in self.roster.sessions():
            self.sending.notify(session, notice)
        self._sessions.end_marked()
        if self.realm is not None:
            self.realm.ownership.renew_soon()

    def connections(self) -> Iterator[tuple[Side, Connection, object, bool]]:
        """Yield all open connections by side.

        Each comes with a mark that is another one after each of its messages, and with whether it is fresh:
        no message but HELLO has come over it.
        """
        for session in self.roster.sessions():
            seen = session.last_seen
            yield session.side, session.connection, (session.number, seen), seen == session.since
        for side, connection, refused in self.state.strangers.connections():
            yield side, connection, refused, not refused

    def close_unfinished(self, side: Side, connection: Connection, size: int) -> None:
        """Close a connection over which too much of a message without an end came."""
        self._arrivals.close_unfinished(side, connection, size)

    def snapshot(self, now: float, lags: Lags) -> Snapshot:
        """Return what others may see of the broker."""
        roster, full = self.roster, dict.fromkeys(Side, 0)
        for session in roster.sessions():
            full[session.side] += session.exhausted
        return Snapshot(
            at=now,
            draining=self.draining,
            in_realm=self.realm is None or self.realm.is_ready,
            realm=None if self.realm is None else self.realm.view(),
            sessions={
                Role.PLAYER.value: len(roster.players),
                Role.SERVER.value: int(roster.server is not None),
                Role.OPERATOR.value: roster.operators(),
            },
            standbys=len(roster.standbys()),
            retiring=len(roster.others) - len(roster.standbys()),
            strangers=len(self.state.strangers),
            waiting_frames=sum(len(session.backlog) for session in self.sending.backlogged),
            full_windows={side.value: count for side, count in full.items()},
            counters=dict(self.counters.rows()),
            lags=lags.read(),
            callbacks=self._operations.totals(),
        )
