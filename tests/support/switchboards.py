"""A switchboard without sockets: a wire that records frames, and peers that join with one call."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from ringback.errors import Code, RejectCode
from ringback.protocol import control
from ringback.protocol.control import ControlFrame, decode, encode
from ringback.protocol.frames import HEADER, HEADER_BYTES, FrameType, Role, header
from ringback.protocol.player_ids import PlayerID, decode_player_id, encode_player_id
from ringback.protocol.reports import (
    CLASSES,
    CallbackFigures,
    FailedCall,
    LatencyCounts,
    PlayerFigures,
    PlayerInFlight,
    WatchedCall,
)
from ringback_broker.admission.access_list import AccessList
from ringback_broker.admission.hello import MAX_OTHER_SERVERS
from ringback_broker.cluster.cluster import Cluster
from ringback_broker.operations.events import PeerEvent
from ringback_broker.peers.connection import Connection, Sent, Side
from ringback_broker.peers.session import Duty, Session
from ringback_broker.settings.schema import BrokerSettings
from ringback_broker.switchboard.switchboard import Switchboard


@dataclass
class FakeWire:
    """A wire that records frames. The test sets which queues are full and which connections are gone."""

    inbox: dict[tuple[Side, bytes], list[tuple[bytes, bytes]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    full: set[bytes] = field(default_factory=set)
    gone: set[bytes] = field(default_factory=set)
    room: dict[bytes, int] = field(default_factory=dict)
    """How many more frames the queue of a peer takes."""

    silences: dict[Connection, int] = field(default_factory=dict)
    """How long a connection has been silent, in ms, if that is known."""

    looked_at: list[Connection] = field(default_factory=list)
    closed: list[tuple[Side, Connection]] = field(default_factory=list)
    reports: list[tuple[str, str, str]] = field(default_factory=list)
    sends: int = 0
    drains: list[float | None] = field(default_factory=list)
    calls: list[WatchedCall] = field(default_factory=list)

    def drain(self, grace_s: float | None) -> None:
        self.drains.append(grace_s)

    def send_player(self, routing_id: bytes, frame: bytes) -> Sent:
        return self._send(Side.PLAYERS, routing_id, b"", frame)

    def send_backend(self, routing_id: bytes, id_part: bytes, frame: bytes) -> Sent:
        return self._send(Side.BACKEND, routing_id, id_part, frame)

    def _send(self, side: Side, routing_id: bytes, id_part: bytes, frame: bytes) -> Sent:
        self.sends += 1
        if routing_id in self.gone:
            return Sent.GONE
        if routing_id in self.full or self.room.get(routing_id) == 0:
            return Sent.FULL
        if routing_id in self.room:
            self.room[routing_id] -= 1
        self.inbox[side, routing_id].append((id_part, frame))
        return Sent.YES

    def close_connection(self, side: Side, connection: Connection) -> None:
        self.closed.append((side, connection))

    def silence_ms(self, connection: Connection) -> int | None:
        self.looked_at.append(connection)
        return self.silences.get(connection)

    def round_trip_ms(self, connection: Connection) -> float | None:
        return 0.25

    def log_call(self, call: WatchedCall) -> None:
        self.calls.append(call)

    def log_event(self, event: PeerEvent) -> None:
        self.reports.append((event.event, event.session.name if event.session else "", event.detail))


@dataclass(eq=False)
class Peer:
    """The far end of a connection. What it is told is a list of (id_part, frame)."""

    desk: Desk
    side: Side
    routing_id: bytes
    connection: Connection
    link: int = 0
    player_id: PlayerID | None = None

    @property
    def session(self) -> Session | None:
        return self.desk.switchboard.roster.by_routing_id[self.side].get(self.routing_id)

    def send(self, *parts: bytes) -> None:
        self.desk.deliver(self, list(parts))

    def say(self, frame: ControlFrame) -> None:
        """Send a control frame."""
        self.send(*([encode(frame)] if self.side is Side.PLAYERS else [b"", encode(frame)]))

    def take(self) -> list[tuple[bytes, bytes]]:
        """Return the frames that came since the last time."""
        return self.desk.wire.inbox.pop((self.side, self.routing_id), [])

    def told(self) -> list[ControlFrame]:
        """Return the control frames that came since the last time. Fail if something else came."""
        frames = []
        for id_part, frame in self.take():
            assert id_part == b""
            frames.append(decode(frame))
        return frames

    def rejected(self) -> control.Reject:
        """Return the REJECT that came. Fail if something else came."""
        [frame] = self.told()
        assert isinstance(frame, control.Reject)
        return frame

    def bounced(self) -> tuple[bytes, Code, bytes]:
        """Return ID part, code and bounced frame of the BOUNCE that came. Fail if something else came."""
        [(id_part, frame)] = self.take()
        version, number, code, link = HEADER.unpack_from(frame)
        assert (version, number, link) == (1, FrameType.BOUNCE, 0)
        return id_part, Code(code), frame[HEADER_BYTES:]

    def leave(self) -> None:
        """Close the connection."""
        self.desk.switchboard.disconnected(self.side, self.connection)
        self.desk.after()


class Desk:
    """A switchboard, its wire, and a clock that a test moves.

    `deliver` finds the session of a sender as the receiver does.

    Attributes:
        after: is called after each message that was delivered.
    """

    def __init__(
        self, *, access: AccessList | None = None, cluster: Cluster | None = None, **settings: Any
    ) -> None:
        self.wire = FakeWire()
        self.settings = BrokerSettings(**{"lease": 30.0, **settings})
        self.unix_s = 1.8e9
        self.switchboard = Switchboard(
            self.settings,
            self.wire,
            "test",
            access=access,
            unix_time=lambda: self.unix_s,
            cluster=cluster,
        )
        self.after: Callable[[], None] = lambda: None
        self.now = 1000.0
        self._descriptors = count(10)

    @property
    def counters(self) -> Any:
        return self.switchboard.counters

    def connect(
        self,
        side: Side = Side.PLAYERS,
        descriptor: int | None = None,
        public_key: str = "",
        ip: str | None = None,
    ) -> Peer:
        """Accept a connection that has said nothing yet."""
        number = next(self._descriptors)
        ip = f"10.0.0.{number}" if ip is None else ip
        connection = Connection(number if descriptor is None else descriptor, ip, public_key)
        self.switchboard.accepted(side, connection, self.now)
        return Peer(self, side, b"R%d" % number, connection)

    def deliver(self, peer: Peer, parts: list[bytes]) -> None:
        switchboard = self.switchboard
        session = peer.session
        if session is None:
            switchboard.from_stranger(peer.side, peer.routing_id, parts, peer.connection, self.now)
        elif len(parts) != (1 if peer.side is Side.PLAYERS else 2):
            switchboard.malformed(session, len(parts))
        elif peer.side is Side.PLAYERS:
            switchboard.from_player(session, parts[0], self.now)
        else:
            switchboard.from_backend(session, parts[0], parts[1], self.now)
        self.after()

    def two_ticks(self) -> None:
        """Tick twice. Then sessions whose connection was found gone have ended."""
        for _ in range(2):
            self.switchboard.tick(self.now)

    def join(
        self,
        role: Role,
        player_id: PlayerID | None = None,
        keys: tuple[str, ...] = (),
        heartbeat_ms: int | None = None,
    ) -> Peer:
        """Connect a peer, and have it join."""
        peer = self.connect(Side.PLAYERS if role is Role.PLAYER else Side.BACKEND)
        peer.say(control.Hello(role, player_id, keys, "test-sdk/1", heartbeat_ms))
        *others, welcome = peer.told()
        assert isinstance(welcome, control.Welcome)
        assert all(isinstance(other, control.Joined) for other in others)
        peer.link, peer.player_id = welcome.link, welcome.player_id
        return peer

    def player(
        self,
        player_id: PlayerID | None = None,
        keys: tuple[str, ...] = (),
        heartbeat_ms: int | None = None,
    ) -> Peer:
        return self.join(Role.PLAYER, player_id, keys, heartbeat_ms)

    def server(self, keys: tuple[str, ...] = ()) -> Peer:
        return self.join(Role.SERVER, None, keys)

    def operator(self) -> Peer:
        return self.join(Role.OPERATOR)


def check_tables(desk: Any) -> None:
    """Check that every session is in all its tables, and that nothing else is in them.

    Args:
        desk: a `Desk`, or another object with `switchboard` and `counters`.
    """
    switchboard = desk.switchboard
    roster = switchboard.roster
    sessions, nodes = set(roster.sessions()), set(roster.nodes.values())
    by_routing_id = {s for table in roster.by_routing_id.values() for s in table.values()}
    assert by_routing_id == set(roster._by_connection.values()) == sessions
    assert len(sessions) == len(roster) == len(roster._by_connection)
    assert not any(session.ended for session in sessions)
    assert all(session.presence.announced for session in sessions)
    for where, session in roster.players.items():
        assert (session.side, session.role) == (Side.PLAYERS, Role.PLAYER)
        assert session.encoded_id == where and decode_player_id(where) == session.player_id
    for head, session in roster.links.items():
        assert session.side is Side.BACKEND and head in session.data_headers
    for name, node in roster.nodes.items():
        assert node.node == name and not node.ended
    servers = {session for session in sessions if session.role is Role.SERVER}
    acting = set() if roster.server is None else {roster.server}
    assert servers == acting | set(roster.others)
    assert acting == {session for session in servers if session.duty is Duty.ACTING}
    assert {session for session in sessions if session.duty is not None} == servers
    assert len(roster.others) <= MAX_OTHER_SERVERS
    # One that a send did not find is not asked to act. Its session ends two ticks later.
    there = [server for server in roster.standbys() if server not in switchboard.state.endings.gone]
    idle = switchboard.draining or not roster.may_act
    assert not there or roster.server is not None or idle, "nobody acts"
    routed = {session for session in sessions if session.data_headers}
    assert (
        routed
        == set(roster.links.values()) - nodes
        == {s for s in sessions - set(roster.standbys()) if not s.encoded_id}
    )
    operators = [session for session in sessions if session.role is Role.OPERATOR]
    assert roster.operators() == len(operators)
    assert {session for session in sessions | nodes if session.backlog} == set(switchboard.sending.backlogged)
    strangers = {
        (side, descriptor)
        for side, connections in switchboard.state.strangers._strangers.items()
        for descriptor in connections
    }
    assert not strangers & set(roster._by_connection)
    in_flight = switchboard._operations._reports.in_flight._counts
    assert {endpoint for endpoint, _ in in_flight} <= sessions | nodes
    assert {encoded_id for counts in in_flight.values() for encoded_id in counts} <= set(roster.players)
    if switchboard.realm is not None:
        told = switchboard.realm.far_reports._told
        assert set(told) <= sessions and {node for of in told.values() for node in of} <= nodes
    listed = Counter((key, session.role) for session in sessions for key in session.registered.keys)
    assert switchboard.state.registered_keys._counts == listed
    counters = desk.counters
    assert counters.sessions_begun - counters.sessions_ended == len(sessions)
    assert not switchboard.state.endings.marked


SOUND: tuple[control.ControlFrame, ...] = (
    control.Hello(Role.PLAYER, 7, ("a",)),
    control.Hello(Role.SERVER),
    control.Hello(Role.SERVER, ticket=b"", standby=True, server_links=True),
    control.Hello(Role.OPERATOR),
    control.Welcome(0, 1, True, 1, "x"),
    control.Reject(RejectCode.FULL, "x"),
    control.Bye(),
    control.Ping(b"x"),
    control.Pong(b"x"),
    control.Joined((1, "x")),
    control.Left((1, "x")),
    control.ServerUp(),
    control.ServerDown(),
    control.ServerDown(2**31),
    control.DrainingNotice(1),
    control.Keys(("a", "b")),
    control.Keys(()),
    control.Keys(("a", "b"), {"a": "for nobody"}, {"b": "{}"}),
    control.Query(1, control.Subject.PLAYERS),
    control.Query(1, control.Subject.CALLBACKS, 2**64 - 1),
    control.Query(1, control.Subject.COUNTERS),
    control.Query(1, control.Subject.EVENTS),
    control.Query(1, control.Subject.CALLS),
    control.Query(1, control.Subject.SCHEMAS),
    control.Query(1, control.Subject.FAILURES),
    control.Query(1, control.Subject.LATENCIES),
    control.Query(1, control.Subject.NODES, node="b"),
    control.Query(1, control.Subject.PLAYERS, player_id="x"),
    control.Order(1, control.What.KICK, 1),
    control.Order(1, control.What.WATCH, 1, key="a*", log=True, for_ms=2000),
    control.Order(1, control.What.HAND_OVER),
    control.Order(1, control.What.DRAIN, node="b"),
    control.Report(
        (CallbackFigures("a", Role.SERVER, 1, 0.5, (1,) * CLASSES, {"TIMEOUT": 1}),),
        (PlayerFigures(1, 2, 1),),
        (WatchedCall(0.5, Role.SERVER, 1, "a", "OK", 0.1, None, b"\x90"),),
        3,
        (LatencyCounts("a", Role.SERVER, (3, 500), (1, 16)),),
        (PlayerInFlight(1, 3), PlayerInFlight("x", 0)),
        (FailedCall(0.5, Role.SERVER, 1, "a", "TIMEOUT", 0.1),),
        3,
    ),
    control.Watch((), 1000),
    control.Answer(1, ()),
)
"""Valid control frames of all types. Not every peer may send each of them."""


def data(link: int = 0, body: bytes = b"\x90") -> bytes:
    return header(FrameType.DATA, link) + body


def relay(link: int, body: bytes = b"\x90") -> bytes:
    return header(FrameType.RELAY, link) + body


def encoded_id(player_id: PlayerID) -> bytes:
    return encode_player_id(player_id)


def frames_and_pings(peer: Peer) -> tuple[int, list[bytes]]:
    """Return how many data frames came, and the bodies of the PINGs among them."""
    taken = [frame for _, frame in peer.take()]
    pings = [decode(frame) for frame in taken if frame[1] == FrameType.PING]
    return len(taken) - len(pings), [ping.body for ping in pings if isinstance(ping, control.Ping)]
