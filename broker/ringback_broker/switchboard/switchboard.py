"""The switchboard: where a frame goes, and the life of a session.

Pure: time and connections are arguments, effects are calls on a `Wire`. It never looks into a body.
The `from_*` methods are the hot path and written flat: one slice and one look-up decide whether a
frame is sound data for a peer that is there; what else it may be is decided off that path.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from ringback.errors import Code, ProtocolError, RejectCode
from ringback.protocol import control
from ringback.protocol.bounces import bounce
from ringback.protocol.bundles import BUNDLE, bundle, unbundle
from ringback.protocol.control import decode, encode
from ringback.protocol.frames import BROKER_ACCEPTS, HEADER_BYTES, FrameType, Role, header
from ringback.protocol.limits import BATCH_BYTES, BUNDLE_FRAMES, IDS_A_FRAME, MAX_REASON_CHARS
from ringback.protocol.player_ids import PlayerID
from ringback_broker.admission.access_list import AccessList, Denied
from ringback_broker.admission.hello import PARTS, Refusal, may_join, read_hello
from ringback_broker.admission.strangers import Strangers
from ringback_broker.operations.counters import BrokerCounters
from ringback_broker.operations.events import PeerEvent
from ringback_broker.operations.operations import Operations
from ringback_broker.operations.registered_keys import RegisteredKeys
from ringback_broker.operations.snapshot import Lags, Snapshot
from ringback_broker.peers.connection import LARGE_BYTES, Connection, Frame, Sent, Side
from ringback_broker.peers.identity import Identity
from ringback_broker.peers.roster import Roster
from ringback_broker.peers.session import Session
from ringback_broker.settings.schema import BrokerSettings
from ringback_broker.switchboard.flow import Flow
from ringback_broker.switchboard.wire import Wire

MAX_BACKLOG = {Role.PLAYER: 64, Role.SERVER: 50_000, Role.OPERATOR: 50_000}
"""Control frames and bounces that may wait for a peer whose queue is full; one more ends its session."""

HEARTBEATS_MISSED = 1.75
"""A player over whose connection nothing came for so many of its heartbeats is given up."""

STALLED_S = 1.0
"""A broker that did not tick for so long was stopped itself, or the whole machine was: that nothing came in
that time says nothing of its peers, so they get as much time again."""

_DATA_START = header(FrameType.DATA)[:4]
_RELAY_START = header(FrameType.RELAY)[:4]
_PONG = header(FrameType.PONG)
_SERVER_UP = encode(control.ServerUp())
_SERVER_DOWN = encode(control.ServerDown())

_random_nonce = partial(secrets.token_bytes, 16)


class _Ending(NamedTuple):
    """A session that ends at the end of this step, and why: for the log, and for its peer if it is told."""

    session: Session
    why: str
    refusal: Refusal | None


class Switchboard:
    """Sessions, presence and routing.

    Args:
        nonce: gives bytes that nobody can guess.
        max_connections: of players and of those who have not said yet who they are, at one time.
        access: who may join; None: anybody.
        unix_time: gives the time by the wall clock, in seconds, for tokens and events.

    Attributes:
        roster: who is connected; the loop looks a sender up in it.
        counters: what was counted.
        draining: whether nobody is let in any more.
        refused: by side, routing IDs whose messages the loop throws away unread.
    """

    def __init__(
        self,
        config: BrokerSettings,
        wire: Wire,
        software: str = "ringback",
        nonce: Callable[[], bytes] = _random_nonce,
        max_connections: int | None = None,
        access: AccessList | None = None,
        unix_time: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.roster = Roster(config.crowd_heartbeat)
        self.counters = BrokerCounters()
        self.draining = False
        self._config = config
        self._wire = wire
        # Each who joins is a stranger first. What else than players connects has room of its own.
        self._max_connections = 2 * config.max_players if max_connections is None else max_connections
        self._software = software
        self._directory = RegisteredKeys()
        self._operations = Operations(
            config,
            wire,
            self.roster,
            self.counters,
            self._directory,
            notify=self._notify,
            refuse=self._refuse,
            unix_time=unix_time,
        )
        self._report = self._operations.log
        self.access = access
        self._unix_time = unix_time
        self._nonce = nonce
        self._doorman = Strangers(config)
        self.refused = self._doorman.refused
        self._take_rates()
        self._players = self.roster.players
        self._links = self.roster.links
        self._ticked_at, self._looks_at = float("inf"), 0.0
        self._backlogged: dict[Session, None] = {}
        self._bundled: list[Session] = []
        self._gone: dict[Session, bool] = {}
        self._ending: deque[_Ending] = deque()

    def reconfigure(self, config: BrokerSettings, max_connections: int) -> None:
        """Has other settings hold; those that were not made to be changed are as before."""
        self._config = config
        self._max_connections = max_connections
        self._doorman.reconfigure(config)
        self._take_rates()

    def _take_rates(self) -> None:
        self._flow = Flow(self._config, self._nonce)
        self._frame_s, self._byte_s = self._flow.frame_s, self._flow.byte_s
        self._player_frame_bytes = self._flow.frame_bytes[Side.PLAYERS]
        self._backend_frame_bytes = self._flow.frame_bytes[Side.BACKEND]

    # -- frames of welcomed peers: the hot path

    def from_player(self, session: Session, frame: Frame, now: float) -> None:
        """Takes a frame of a player."""
        session.last_seen = now
        size = len(frame)
        cost_s = self._frame_s + size * self._byte_s
        session.credit_s -= cost_s
        if session.credit_s < 0.0 and not self._flow.refill(session, cost_s, now):
            self._limit(session, frame)
            self._end_marked()
            return
        target = self._links.get(frame[:HEADER_BYTES])
        if target is not None:
            # Nothing overtakes a control frame that waits.
            if target.backlog or target.exhausted:
                sent = Sent.FULL
            elif target.bundles and size <= LARGE_BYTES:
                if not target.bundle:
                    self._bundled.append(target)
                target.bundle.append((session, frame))
                target.bundle_bytes += size
                if target.bundle_bytes < BATCH_BYTES and len(target.bundle) < BUNDLE_FRAMES:
                    return
                self._send_bundle(target, now)
                self._end_marked()
                return
            else:
                sent = self._send(target, session.address, frame)
            if sent is Sent.YES:
                counters = self.counters
                counters.frames_up += 1
                counters.bytes_up += size
                target.spent += size + self._backend_frame_bytes
                if target.spent < target.probe_at:
                    return
                self._probe(target, now)
            else:
                self._undelivered(session, b"", frame, target, sent)
        elif frame[:4] == _DATA_START and len(frame) >= HEADER_BYTES:
            self._bounce(session, b"", frame, Code.NO_SERVER)
        else:
            self._control(session, frame, now)
        self._end_marked()

    def from_backend(self, session: Session, address: bytes, frame: Frame, now: float) -> None:
        """Takes a frame of the server or an operator."""
        session.last_seen = now
        if address and frame[:HEADER_BYTES] == session.data_header:
            target = self._players.get(address)
            if target is None:
                self._bounce(session, address, frame, Code.UNKNOWN_PLAYER)
                self._end_marked()
                return
            if target.backlog or target.exhausted:
                sent = Sent.FULL
            else:
                sent = self._wire.send_player(target.routing_id, frame)
            if sent is Sent.YES:
                size = len(frame)
                counters = self.counters
                counters.frames_down += 1
                counters.bytes_down += size
                target.spent += size + self._player_frame_bytes
                if target.spent < target.probe_at:
                    return
                self._probe(target, now)
            else:
                self._undelivered(session, address, frame, target, sent)
        elif address:
            self._relay(session, address, frame, now)
        elif frame[:HEADER_BYTES] == BUNDLE:
            self._take_bundle(session, frame, now)
        else:
            self._control(session, frame, now)
        self._end_marked()

    def send_bundles(self, now: float) -> None:
        """Sends what the loop's step has gathered in bundles. Nothing waits longer than that."""
        while self._bundled:
            self._send_bundle(self._bundled.pop(), now)
        self._end_marked()

    # -- frames of welcomed peers: the rest

    def _send_bundle(self, target: Session, now: float) -> None:
        kept, size = target.bundle, target.bundle_bytes
        if not kept:
            return
        target.bundle, target.bundle_bytes = [], 0
        if len(kept) == 1:
            session, frame = kept[0]
            sent = self._wire.send_backend(target.routing_id, session.address, frame)
        else:
            frames = bundle((session.address, bytes(frame)) for session, frame in kept)
            sent = self._wire.send_backend(target.routing_id, b"", frames)
        if sent is Sent.YES:
            self.counters.frames_up += len(kept)
            self.counters.bytes_up += size
            target.spent += size + len(kept) * self._backend_frame_bytes
            if target.spent >= target.probe_at:
                self._probe(target, now)
            return
        for session, frame in kept:
            self._undelivered(session, b"", frame, target, sent)

    def _take_bundle(self, session: Session, frame: Frame, now: float) -> None:
        try:
            parts = unbundle(bytes(frame))
        except ProtocolError as error:
            self._violation(session, str(error))
            return
        for address, carried in zip(parts[::2], parts[1::2], strict=True):
            if session.ended:
                return
            if not address:
                self._violation(session, "a BUNDLE carries DATA and RELAY frames, each with its address")
                return
            self.from_backend(session, address, carried, now)

    def _relay(self, session: Session, address: bytes, frame: Frame, now: float) -> None:
        """Carries between an operator and the server; the address is the source that was named."""
        link = frame[4:HEADER_BYTES]
        named = self._links.get(_DATA_START + link)
        if frame[:4] != _RELAY_START or len(frame) < HEADER_BYTES:
            self._violation(session, "a frame with an address is DATA of one's own link, or a RELAY")
            return
        if session.role is Role.OPERATOR:
            target, sound = self.roster.server, named is session
        else:
            target, sound = named, named is not session
        if not sound:
            self._violation(session, "a RELAY has the link of the operator that it is of")
        elif not session.may_relay:
            name = "" if session.identity is None else session.identity.name
            why = f"the operator {name!r} may not name sources"
            self._report(PeerEvent("refused", why, session, session.connection.remote, "FORBIDDEN"))
            self._bounce(session, address, frame, Code.FORBIDDEN)
        elif target is None:
            self._bounce(session, address, frame, Code.NO_SERVER)
        else:
            full = target.backlog or target.exhausted
            sent = Sent.FULL if full else self._send(target, address, frame)
            if sent is Sent.YES:
                self.counters.frames_relayed += 1
                self._spend(target, frame, now)
            else:
                self._undelivered(session, address, frame, target, sent)

    def _undelivered(
        self, session: Session, address: bytes, frame: Frame, target: Session, sent: Sent
    ) -> None:
        if sent is Sent.FULL:
            self._bounce(session, address, frame, Code.OVERLOADED)
            return
        absent = Code.UNKNOWN_PLAYER if target.role is Role.PLAYER else Code.NO_SERVER
        self._bounce(session, address, frame, absent)
        self._vanished(target)

    def _vanished(self, session: Session) -> None:
        """A send has found nobody. What it sent before may still be queued here; the event that its
        connection closed comes after that. A session whose event was missed ends two ticks later."""
        if not session.ended:
            self._gone.setdefault(session, False)

    def _bounce(self, session: Session, address: bytes, frame: Frame, code: Code) -> None:
        """Sends a frame back to its sender, with the reason why it could not be delivered.

        It is never lost while the session lasts: a call without a time limit would never end.
        """
        if session.ended:
            return
        if self.draining and code in (Code.NO_SERVER, Code.UNKNOWN_PLAYER):
            code = Code.DRAINING
        self.counters.count_bounce(code)
        if self._flow.overrun(session, session.last_seen):
            if code is Code.RATE_LIMITED:
                self._too_fast(session)
            else:
                self._too_slow(session, "what bounces off")
            return
        if self._tell(session, address, bounce(code, bytes(frame))) is Sent.GONE:
            self.counters.dropped += 1
            return
        self._spend(session, frame, session.last_seen)

    def _spend(self, session: Session, frame: Frame, now: float) -> None:
        session.spent += len(frame) + self._flow.frame_bytes[session.side]
        if session.spent >= session.probe_at:
            self._probe(session, now)

    def _probe(self, session: Session, now: float) -> None:
        """Asks a peer how far it has read what it was sent."""
        self._notify(session, encode(control.Ping(self._flow.probe(session, now))))

    def _limit(self, session: Session, frame: Frame) -> None:
        """Takes a frame that is over a player's rate. One of control is only dropped, but for an answer to a
        PING of the broker: without that a player that reads would look like one that does not."""
        if self._flow.too_fast(session):
            self._too_fast(session)
        elif frame[:4] == _DATA_START and len(frame) >= HEADER_BYTES:
            self._bounce(session, b"", frame, Code.RATE_LIMITED)
        elif frame[:HEADER_BYTES] == _PONG:
            self._control(session, frame, session.last_seen)
        else:
            self.counters.dropped += 1

    def _control(self, session: Session, frame: Frame, now: float) -> None:
        data = bytes(frame)
        if len(data) >= HEADER_BYTES and data[1] not in BROKER_ACCEPTS[session.role]:
            self._violation(session, f"a {session.role} does not send frames of type {data[1]}")
            return
        try:
            said = decode(data)
        except ProtocolError as error:
            self._violation(session, str(error))
            return
        match said:
            case control.Ping():
                self._notify(session, encode(control.Pong(said.body)))
            case control.Pong():
                self.counters.violations += not self._flow.confirm(session, said.body, now)
            case control.Bye():
                self._mark(session, "it said BYE")
                self._doorman.refuse(session.side, session.connection, session.routing_id)
            case control.Keys():
                session.keys = self._directory.replace(session.role, session.keys, said.keys)
                session.terms = said.terms if session.role is Role.SERVER else None
            case control.Report():
                self._operations.take(session, said, now)
            case _:
                assert isinstance(said, control.Query | control.Order)  # BROKER_ACCEPTS has no other
                window = self._flow.windows[Side.PLAYERS]
                answer = self._operations.answer(session, said, window, now)
                self._end_marked()  # a session that an operator ends has ended before the answer says so
                self._answer(session, answer, now)

    def _answer(self, session: Session, said: control.Answer, now: float) -> None:
        reply = encode(said)
        self._notify(session, reply)
        self._spend(session, reply, now)
        if self._flow.overrun(session, now):
            self._too_slow(session, "the answers to its questions")

    def malformed(self, session: Session, parts: int) -> None:
        """Takes note of a message with a wrong number of parts, of which none was kept."""
        self.counters.malformed += 1
        self._refuse(session, RejectCode.PROTOCOL_ERROR, f"a message of {parts} parts")
        self._end_marked()

    def _violation(self, session: Session, why: str) -> None:
        self.counters.violations += 1
        self._refuse(session, RejectCode.PROTOCOL_ERROR, why)

    # -- connections, and what comes over those without a session

    def accepted(self, side: Side, connection: Connection, now: float) -> None:
        """A connection was accepted. Events of one descriptor come in order."""
        session = self.roster.at(side, connection)
        if session is not None:  # nobody told so, but a descriptor serves one connection at a time
            self._mark(session, "its connection closed")
            self._end_marked()
        self._doorman.settled(side, connection)
        full = side is Side.PLAYERS and (
            self._doorman.count(side) + len(self.roster.players) >= self._max_connections
        )
        why = self._doorman.comes(side, connection, now) or ("there are too many connections" if full else "")
        if why:
            self.counters.connections_refused += 1
            self._report(PeerEvent("refused", why, ip=connection.remote))
            self._wire.close_connection(side, connection)
            return
        self._doorman.arrived(side, connection, now)

    def disconnected(self, side: Side, connection: Connection, failure: str = "") -> None:
        """A connection is closed; `failure` says what is known of why there was no handshake."""
        if self._doorman.admits(side, connection) and not self._doorman.was_denied(side, connection):
            self._failed(side, connection, failure or "it left, or does not speak ZeroMQ")
        self._doorman.settled(side, connection)
        self._doorman.goes(side, connection)
        session = self.roster.at(side, connection)
        if session is not None:
            self._mark(session, "its connection closed")
            self._end_marked()

    def deny(self, side: Side, remote: str, public: str) -> None:
        """Takes note of a connection that is refused for its key."""
        self.counters.handshakes_refused += 1
        self._doorman.denied(side, remote)
        why = f"key {public} is not for the {side.value}"
        self._report(PeerEvent("refused", why, ip=remote, code=RejectCode.UNAUTHORIZED.name))

    def _failed(self, side: Side, connection: Connection, why: str) -> None:
        """Takes note of a connection that ends before its peer has said who it is."""
        self.counters.handshakes_failed += 1
        remote = self._doorman.remote(side, connection) or "somebody"
        self._report(PeerEvent("refused", f"no HELLO: {why}", ip=remote))

    def from_stranger(
        self, side: Side, routing_id: bytes, parts: list[bytes], connection: Connection, now: float
    ) -> None:
        """Takes a message from a peer without a session: a HELLO, or something to refuse.

        All that is known of connections up to this message must have been told before.
        """
        if not self._doorman.admits(side, connection):
            # Refused before, or closed: maybe its descriptor serves somebody else by now.
            self.counters.stranger_messages += 1
            return
        hello = read_hello(side, parts)
        if isinstance(hello, Refusal):
            self.counters.stranger_messages += 1
            self.counters.malformed += len(parts) != PARTS[side]
            self._turn_away(side, routing_id, connection, hello)
            return
        identity: Identity | None = None
        refusal: Session | Refusal | None
        if self.draining:
            refusal = Refusal(RejectCode.DRAINING, "the broker is stopping")
        elif side is Side.PLAYERS and self._doorman.is_shut_out(connection.remote, now):
            reason = "a player at this address has sent too much; try again in some seconds"
            refusal = Refusal(RejectCode.RATE_LIMITED, reason)
        else:
            try:
                identity = self._identity(hello, connection)
            except Denied as denied:
                refusal = Refusal(denied.code, denied.reason)
            else:
                if identity is not None and identity.ids and hello.player_id is None:
                    hello = replace(hello, player_id=identity.ids[0])
                refusal = may_join(hello, identity, self.roster, self._config)
        if isinstance(refusal, Refusal):
            self._turn_away(side, routing_id, connection, refusal)
            return
        if refusal is not None:
            self._refuse(refusal, RejectCode.REPLACED, f"the same player came again from {connection.remote}")
            self._end_marked()  # LEFT of the old session comes before JOINED of the new one
        self._welcome(side, routing_id, hello, identity, connection, now)
        self._end_marked()

    def _identity(self, hello: control.Hello, connection: Connection) -> Identity | None:
        if self.access is None:
            return None
        return self.access.identify(hello, connection.key, self._unix_time())

    def _turn_away(self, side: Side, routing_id: bytes, connection: Connection, refusal: Refusal) -> None:
        """Tells a peer why it is not let in, or not any more, and has its connection closed soon."""
        self._doorman.refuse(side, connection, routing_id)
        if refusal.silent:
            return
        self.counters.count_refusal(refusal.code)
        reason = refusal.reason[:MAX_REASON_CHARS]
        frame = encode(control.Reject(refusal.code, reason, heartbeat_ms=refusal.heartbeat_ms))
        if self._send_to(side, routing_id, b"", frame) is not Sent.YES:
            self.counters.dropped += 1
        self._report(PeerEvent("refused", reason, ip=connection.remote, code=refusal.code.name))

    # -- the life of a session

    def _welcome(
        self,
        side: Side,
        routing_id: bytes,
        hello: control.Hello,
        identity: Identity | None,
        connection: Connection,
        now: float,
    ) -> None:
        roster = self.roster
        if hello.role is Role.PLAYER:
            player_id = roster.free_player_id() if hello.player_id is None else hello.player_id
            session = roster.add_player(routing_id, connection, player_id, hello.heartbeat_ms, now)
        else:
            session = roster.add_trusted(hello.role, routing_id, connection, now)
        session.identity = identity
        if identity is not None and self.access is not None:
            session.may_relay = self.access.may_relay(identity)
            session.may_order = self.access.may_order(identity)
            if identity.expires_at is not None:  # a wall clock that jumps later has no effect
                session.ends_at = now + identity.expires_at - self._unix_time()
        session.bundles = session.side is Side.BACKEND and bool(hello.bundles)
        session.reports = session.side is Side.BACKEND and self._operations.wants_reports()
        self._flow.begin(session, now)
        session.keys = self._directory.replace(hello.role, (), hello.keys)
        session.terms = hello.terms if hello.role is Role.SERVER else None
        self.counters.sessions_begun += 1
        if hello.role is Role.SERVER:
            present = [player.player_id for player in roster.players.values() if player.player_id is not None]
            for frame in _joined(present):
                self._notify(session, frame)
        welcome = control.Welcome(
            link=session.link,
            player_id=session.player_id,
            server=roster.server is not None,
            lease_ms=int(self._config.lease * 1000),
            broker=self._software,
            bundles=session.side is Side.BACKEND or None,
            report_ms=self._operations.report_ms() if session.reports else None,
        )
        self._notify(session, encode(welcome))
        self._operations.greet(session)
        if session in self._gone:  # already, with nothing said
            self._mark(session, "its connection is gone")
        if session.ended:
            return
        self._doorman.settled(side, connection)
        self._report(PeerEvent("joined", hello.sdk, session))
        self._announce(session)

    def _announce(self, session: Session) -> None:
        """Tells the others that somebody is there; `_farewell` tells the contrary."""
        session.announced = True
        if session.role is Role.SERVER:
            for other in self.roster.sessions():
                if other is not session:
                    self._notify(other, _SERVER_UP)
        elif session.player_id is not None and self.roster.server is not None:
            self._notify(self.roster.server, encode(control.Joined((session.player_id,))))

    def _refuse(self, session: Session, code: RejectCode, why: str) -> None:
        """Marks a session to end, and has its peer told why; its connection is closed a little later."""
        self._mark(session, f"{code.name}: {why}", Refusal(code, why))

    def _mark(self, session: Session, why: str, refusal: Refusal | None = None) -> None:
        """Marks a session to end at the end of this step. From now on no frame finds it.

        This sends nothing, so it can be called in the middle of anything. The first reason counts.
        """
        if session.ended:
            return
        session.ended = True
        self.roster.remove(session)
        session.backlog.clear()
        self._backlogged.pop(session, None)
        self._gone.pop(session, None)
        self._ending.append(_Ending(session, why, refusal))

    def _end_marked(self) -> None:
        """Ends the sessions that are marked: the end of a step, and the one place where sessions end.

        A step is a frame, an event of a connection, or what falls due at one moment. Telling the others may
        mark some of them too: they end here as well, each in its turn.
        """
        while self._ending:
            session, why, refusal = self._ending.popleft()
            if refusal is None:
                session.bundle.clear()  # nobody is there to read it
                self._farewell(session, why)
                continue
            self._send_bundle(session, session.last_seen)
            self.counters.count_end(refusal.code)
            self._farewell(session, why)
            self._turn_away(session.side, session.routing_id, session.connection, refusal)

    def _farewell(self, session: Session, why: str) -> None:
        self._directory.replace(session.role, session.keys, ())
        self._operations.forget(session)
        self.counters.sessions_ended += 1
        self._report(PeerEvent("left", why, session))
        if not session.announced:
            return
        if session.player_id is not None:
            left = encode(control.Left((session.player_id,)))
            for other in self.roster.trusted():
                self._notify(other, left)
        elif session.role is Role.SERVER:
            for other in self.roster.sessions():
                self._notify(other, _SERVER_DOWN)

    def tick(self, now: float) -> None:
        """Does what is due: leases, and connections without a session."""
        self._operations.tick(now)
        for side, connection, silent in self._doorman.overdue(now):
            if silent:
                self._failed(side, connection, f"it said nothing for {self._config.hello:g} s")
            self._wire.close_connection(side, connection)
        for session, ticked in list(self._gone.items()):
            if ticked:
                self._mark(session, "its connection is gone")
            else:
                self._gone[session] = True
        if now - self._ticked_at > STALLED_S:
            self._looks_at = now + STALLED_S
        self._ticked_at = now
        may_look = now >= self._looks_at
        oldest = now - self._config.lease
        for session in self.roster.sessions():
            quiet = session.look_at > now and session.last_seen >= oldest and session.ends_at > now
            if quiet and not session.exhausted:
                continue
            if session.exhausted and self._flow.stuck(session, now):
                self._too_slow(session, f"{session.spent - session.confirmed} bytes that wait for it")
            elif session.ends_at <= now:
                self._refuse(session, RejectCode.TOKEN_EXPIRED, "its token is over")
            elif session.last_seen < oldest:
                why = f"nothing came for {self._config.lease:g} s"
                self._refuse(session, RejectCode.LEASE_EXPIRED, why)
            elif may_look and session.heartbeat_ms and now >= session.look_at:
                self._look_at(session, now, HEARTBEATS_MISSED * session.heartbeat_ms / 1000)
        self._end_marked()

    def _look_at(self, session: Session, now: float, limit_s: float) -> None:
        """Ends a session if not even a heartbeat has come for too long; else finds out when that might be."""
        if now - session.last_seen < limit_s:
            session.look_at = session.last_seen + limit_s
            return
        silence_ms = self._wire.silence_ms(session.connection)
        if silence_ms is None:
            session.look_at = float("inf")  # nobody can tell, now or later
        elif silence_ms < limit_s * 1000:
            session.look_at = now + limit_s - silence_ms / 1000
        else:
            self._refuse(session, RejectCode.LEASE_EXPIRED, f"silent for {silence_ms} ms")

    def use(self, access: AccessList) -> None:
        """Has another list of keys hold, and ends the sessions that it would not let in."""
        before, self.access = self.access, access
        for session in self.roster.sessions():
            identity = session.identity
            if identity is None or before is None:
                continue
            session.may_relay = access.may_relay(identity)
            session.may_order = access.may_order(identity)
            if not access.still(identity, session.role, session.player_id, before):
                self._refuse(session, RejectCode.REVOKED, f"the key {identity.name!r} does not hold any more")
        self._end_marked()

    def drain(self, grace_s: float) -> None:
        """Lets nobody in any more, and asks everybody to finish and leave."""
        self.draining = True
        notice = encode(control.DrainingNotice(int(grace_s * 1000)))
        for session in self.roster.sessions():
            self._notify(session, notice)
        self._end_marked()

    def snapshot(self, now: float, lags: Lags) -> Snapshot:
        """Gives what others may see of it."""
        roster, full = self.roster, dict.fromkeys(Side, 0)
        for session in roster.sessions():
            full[session.side] += session.exhausted
        return Snapshot(
            at=now,
            draining=self.draining,
            sessions={
                Role.PLAYER.value: len(roster.players),
                Role.SERVER.value: int(roster.server is not None),
                Role.OPERATOR.value: roster.operators(),
            },
            strangers=len(self._doorman),
            waiting_frames=sum(len(session.backlog) for session in self._backlogged),
            full_windows={side.value: count for side, count in full.items()},
            counters=dict(self.counters.rows()),
            lags=lags.read(),
            callbacks=self._operations.totals(),
        )

    # -- sending

    def _notify(self, session: Session, frame: bytes) -> None:
        """Sends a control frame."""
        self._tell(session, b"", frame)

    def _tell(self, session: Session, address: bytes, frame: bytes) -> Sent:
        """Sends a control frame or a bounce. These are never lost: they wait, or the session ends."""
        if session.bundle:  # nothing overtakes what came before it
            self._send_bundle(session, session.last_seen)
        if session.ended:
            return Sent.GONE
        backlog = session.backlog
        if not backlog:
            sent = self._send_to(session.side, session.routing_id, address, frame)
            if sent is Sent.GONE:
                self._vanished(session)
            if sent is not Sent.FULL:
                return sent
        if len(backlog) >= MAX_BACKLOG[session.role]:
            self._too_slow(session, f"{len(backlog)} control frames and bounces that wait for it")
        else:
            backlog.append((address, frame))
            self._backlogged[session] = None
        return Sent.FULL

    def _too_fast(self, session: Session) -> None:
        self._doorman.shut_out(session.connection.remote, session.last_seen)
        self._refuse(session, RejectCode.RATE_LIMITED, "it goes on sending more than is allowed a second")

    def _too_slow(self, session: Session, what: str) -> None:
        self._refuse(session, RejectCode.TOO_SLOW, f"it does not read {what}")

    def flush(self) -> bool:
        """Sends control frames and bounces that found a queue full; tells whether any still wait."""
        for session in list(self._backlogged):
            backlog = session.backlog
            while backlog:
                # While frames wait here none wait in a bundle.
                sent = self._send_to(session.side, session.routing_id, *backlog[0])
                if sent is Sent.FULL:
                    break
                if sent is Sent.GONE:
                    self._vanished(session)
                    backlog.clear()
                else:
                    backlog.popleft()
            if not backlog:
                self._backlogged.pop(session, None)
        return bool(self._backlogged)

    def _send(self, session: Session, address: bytes, frame: Frame) -> Sent:
        """Sends data that does not go into a bundle."""
        if session.bundle:  # nothing overtakes what came before it
            self._send_bundle(session, session.last_seen)
            if session.backlog:  # nor a PING that waits behind that
                return Sent.FULL
        return self._send_to(session.side, session.routing_id, address, frame)

    def _send_to(self, side: Side, routing_id: bytes, address: bytes, frame: Frame) -> Sent:
        if side is Side.PLAYERS:
            return self._wire.send_player(routing_id, frame)
        return self._wire.send_backend(routing_id, address, frame)


def _joined(player_ids: list[PlayerID]) -> list[bytes]:
    """Gives the JOINED frames that name these players."""
    chunks = [player_ids[i : i + IDS_A_FRAME] for i in range(0, len(player_ids), IDS_A_FRAME)]
    return [encode(control.Joined(tuple(chunk))) for chunk in chunks]
