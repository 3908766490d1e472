"""The switchboard with any input: all frame types in all states, garbage, and peers that act at random."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule
from support.switchboards import SOUND, Desk, Peer, check_tables, data, encoded_id, relay

from ringback.errors import RejectCode
from ringback.protocol import control
from ringback.protocol.control import decode, encode
from ringback.protocol.frames import BROKER_ACCEPTS, HEADER, HEADER_BYTES, FrameType, Role
from ringback_broker.peers.connection import Side
from ringback_broker.peers.session import Duty

player_ids = st.one_of(st.integers(1, 4), st.sampled_from(["1", "x", "\N{SNOWMAN}"]), st.just(2**63 - 1))
id_parts = st.one_of(player_ids.map(encoded_id), st.just(b""), st.binary(max_size=70))
links = st.one_of(st.integers(0, 3), st.integers(0, 2**32 - 1))
headers = st.builds(
    HEADER.pack,
    st.one_of(st.just(1), st.integers(0, 255)),
    st.one_of(st.sampled_from(sorted(FrameType)), st.integers(0, 255)),
    st.one_of(st.just(0), st.integers(0, 2**16 - 1)),
    links,
)
frames = st.one_of(
    st.sampled_from([encode(frame) for frame in (control.Hello(Role.PLAYER), *SOUND)]),
    st.builds(data, links, st.binary(max_size=20)),
    st.builds(relay, links, st.binary(max_size=20)),
    st.builds(lambda head, body: head + body, headers, st.binary(max_size=40)),
    st.binary(max_size=20),
)
messages = st.one_of(
    st.tuples(frames),
    st.tuples(id_parts, frames),
    st.tuples(st.just(b""), frames),
    st.lists(st.one_of(frames, id_parts), min_size=1, max_size=5).map(tuple),
)


def state(desk: Desk, name: str) -> Peer:
    match name:
        case "player":
            return desk.player(7, ("a",))
        case "server":
            return desk.server(("a",))
        case "operator":
            return desk.operator()
        case "refused player":
            peer = desk.connect()
            peer.send(b"")
        case "refused operator":
            peer = desk.connect(Side.BACKEND)
            peer.send(b"", b"")
        case "left player":
            peer = desk.player()
            peer.say(control.Bye())
        case "closed player":
            peer = desk.connect()
            peer.leave()
        case "silent player":
            return desk.connect()
        case _:
            return desk.connect(Side.BACKEND)
    peer.take()
    return peer


STATES = {
    "player": Role.PLAYER,
    "server": Role.SERVER,
    "operator": Role.OPERATOR,
    "silent player": None,
    "silent trusted": None,
    "refused player": None,
    "refused operator": None,
    "left player": None,
    "closed player": None,
}
bodies = st.one_of(
    st.just(b""),
    st.binary(max_size=40),
    st.sampled_from([encode(frame)[HEADER_BYTES:] for frame in SOUND]),
)


@settings(max_examples=40, deadline=None)
@given(body=bodies, version=st.sampled_from([1, 1, 1, 0, 2]), where=id_parts, link=links)
def test_every_frame_type_in_every_state(body: bytes, version: int, where: bytes, link: int) -> None:
    for name, role in STATES.items():
        for number in (*range(20), 127, 128, 255):
            desk = Desk()
            peer = state(desk, name)
            others = [desk.player(8)] + ([desk.operator()] if role is not Role.OPERATOR else [])
            for other in [*others, peer]:
                other.take()
            frame = HEADER.pack(version, number, 0, link) + body
            peer.send(*([frame] if peer.side is Side.PLAYERS else [where, frame]))
            check_tables(desk)
            if role is not None and (version != 1 or number not in BROKER_ACCEPTS[role]):
                assert peer.session is None
                assert peer.rejected().code is RejectCode.PROTOCOL_ERROR
            elif role is None and peer.session is not None:
                assert number == FrameType.HELLO and name.startswith("silent")
            elif role is None and not name.startswith("silent"):
                assert not peer.take()
            for other in others:
                assert other.session is not None


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(STATES)), st.lists(messages, min_size=1, max_size=6))
def test_garbage_harms_nobody_else(name: str, sent: list[tuple[bytes, ...]]) -> None:
    desk = Desk()
    peer = state(desk, name)
    if desk.switchboard.roster.server is None and name == "player":
        desk.server()
    canary, operator = desk.player("canary"), desk.operator()
    for parts in sent:
        peer.send(*parts)
        check_tables(desk)
    canary.take()
    operator.take()
    operator.send(encoded_id("canary"), data(operator.link, b"call"))
    assert canary.take() == [(b"", data(operator.link, b"call"))]
    canary.send(data(operator.link, b"answer"))
    assert operator.take() == [(encoded_id("canary"), data(operator.link, b"answer"))]


_SIDES = {Role.PLAYER: Side.PLAYERS, Role.SERVER: Side.BACKEND, Role.OPERATOR: Side.BACKEND}


class Lives(RuleBasedStateMachine):
    """Peers join, talk, stop reading, break rules and leave, in any order.

    Each data frame has a body of its own, which shows which peer may get it.
    """

    peers = Bundle("peers")

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(max_players=4, max_operators=2)
        self.all: list[Peer] = []
        self.servers: set[Peer] = set()
        self.present: dict[Peer, set[Any]] = {}
        """The players that each server must believe to be connected."""
        self.server_up: dict[Peer, bool] = {}
        self.standbys: set[Peer] = set()
        self.sent = 0

    def _connect(self, side: Side, descriptor: int | None = None) -> Peer:
        peer = self.desk.connect(side, descriptor)
        self.all.append(peer)
        return peer

    def _hello(self, peer: Peer, role: Role, player_id: Any) -> Peer:
        peer.say(control.Hello(role, player_id if role is Role.PLAYER else None, ("k",)))
        return peer

    @rule(target=peers, side=st.sampled_from(Side))
    def connect(self, side: Side) -> Peer:
        return self._connect(side)

    @rule(peer=peers, role=st.sampled_from(Role), player_id=st.none() | player_ids)
    def hello(self, peer: Peer, role: Role, player_id: Any) -> None:
        self._hello(peer, role, player_id)

    @rule(target=peers, role=st.sampled_from(Role), player_id=st.none() | player_ids)
    def join(self, role: Role, player_id: Any) -> Peer:
        return self._hello(self._connect(_SIDES[role]), role, player_id)

    @rule(target=peers, role=st.sampled_from(Role), player_id=st.none() | player_ids)
    def join_too(self, role: Role, player_id: Any) -> Peer:
        return self.join(role, player_id)  # so that there are more who have joined than who have not

    @rule(target=peers, old=consumes(peers), role=st.sampled_from(Role))
    def join_on_a_descriptor_used_before(self, old: Peer, role: Role) -> Peer:
        served = {p.connection.descriptor for p in self.all if p is not old and p.session}
        if old.side is not _SIDES[role] or old.connection.descriptor in served:
            return self.join(role, None)
        return self._hello(self._connect(old.side, old.connection.descriptor), role, None)

    @rule(target=peers, role=st.sampled_from(Role), stalled=st.booleans())
    def join_and_vanish(self, role: Role, stalled: bool) -> Peer:
        peer = self._connect(_SIDES[role])
        (self.desk.wire.full if stalled else self.desk.wire.gone).add(peer.routing_id)
        return self._hello(peer, role, None)

    def _link(self, peer: Peer, other: Peer, honest: bool) -> int:
        """Return the link number of the operator among the two, or an unknown one if it should be wrong."""
        if not honest:
            return self.sent % 5
        sessions = [p.session for p in (peer, other) if p.session and p.side is Side.BACKEND]
        return max((session.link for session in sessions), default=0)

    def _id(self, peer: Peer) -> Any:
        return "nobody" if peer.session is None else peer.session.player_id or "nobody"

    @rule(peer=peers, other=peers, honest=st.integers(0, 4))
    def call(self, peer: Peer, other: Peer, honest: int) -> None:
        self.sent += 1
        body = b"%d" % self.sent
        session, to = peer.session, encoded_id(self._id(other))
        if session is not None and session.side is Side.BACKEND:
            other = peer
        frame = data(self._link(peer, other, bool(honest)), body)
        roster = self.desk.switchboard.roster
        self._settle()
        if peer.side is Side.PLAYERS:
            receiver = roster.links.get(frame[:HEADER_BYTES])
            came_as = b"" if session is None else session.encoded_id
            peer.send(frame)
        else:
            receiver = roster.players.get(to)
            came_as = b""
            peer.send(to, frame)
        self._only(body, peer, receiver and receiver.routing_id, came_as, frame, to)

    @rule(peer=peers, other=peers, source=player_ids, honest=st.integers(0, 4))
    def call_as_a_source(self, peer: Peer, other: Peer, source: Any, honest: int) -> None:
        self.sent += 1
        body = b"%d" % self.sent
        link = self._link(peer, other, bool(honest))
        frame = relay(link, body)
        session, roster = peer.session, self.desk.switchboard.roster
        self._settle()
        if session is not None and session.role is Role.OPERATOR and session.link == link:
            receiver = roster.server
        elif session is not None and session.role is Role.SERVER:
            receiver = roster.links.get(data(link)[:HEADER_BYTES])
        else:
            receiver = None
        if peer.side is Side.PLAYERS:
            peer.send(frame)
        else:
            peer.send(encoded_id(source), frame)
        id_part = encoded_id(source)
        self._only(body, peer, receiver and receiver.routing_id, id_part, frame, id_part)

    def _only(
        self, body: bytes, sender: Peer, receiver: bytes | None, came_as: bytes, frame: bytes, to: bytes
    ) -> None:
        """Check that a body came only to its receiver, with the ID that the broker knows, or back to its
        sender."""
        for (_, routing_id), messages in self.desk.wire.inbox.items():
            for where, got in messages:
                if got[1] in (FrameType.DATA, FrameType.RELAY) and got[HEADER_BYTES:] == body:
                    assert routing_id == receiver
                    assert (where, got) == (came_as, frame)
                elif got[1] == FrameType.BOUNCE and got[2 * HEADER_BYTES :] == body:
                    assert routing_id == sender.routing_id
                    assert got[HEADER_BYTES:] == frame
                    assert where == (b"" if sender.side is Side.PLAYERS else to)
        self._settle()

    @rule(peer=consumes(peers), parts=messages)
    def anything(self, peer: Peer, parts: tuple[bytes, ...]) -> None:
        peer.send(*parts)

    @rule(peer=peers)
    def ping(self, peer: Peer) -> None:
        peer.say(control.Ping(b"x"))

    @rule(peer=consumes(peers))
    def bye(self, peer: Peer) -> None:
        peer.say(control.Bye())

    @rule(peer=consumes(peers))
    def close(self, peer: Peer) -> None:
        peer.leave()

    @rule(peer=peers, another=peers)
    def vanish(self, peer: Peer, another: Peer) -> None:
        self.desk.wire.gone.update((peer.routing_id, another.routing_id))

    @rule(peer=peers, another=peers)
    def stall(self, peer: Peer, another: Peer) -> None:
        self.desk.wire.full.update((peer.routing_id, another.routing_id))

    @rule(peer=peers, frames=st.integers(0, 3))
    def read_some(self, peer: Peer, frames: int) -> None:
        self.desk.wire.full.discard(peer.routing_id)
        self.desk.wire.room[peer.routing_id] = frames

    @rule(peer=peers)
    def read_all(self, peer: Peer) -> None:
        self.desk.wire.full.discard(peer.routing_id)
        self.desk.wire.room.pop(peer.routing_id, None)

    @rule(seconds=st.sampled_from([0.0, 1.0, 10.0, 31.0]))
    def tick(self, seconds: float) -> None:
        self.desk.now += seconds
        self.desk.switchboard.tick(self.desk.now)

    @rule()
    def flush(self) -> None:
        waiting = self.desk.switchboard.flush()
        assert waiting == any(session.backlog for session in self.desk.switchboard.roster.sessions())

    @precondition(lambda self: len(self.all) > 8 and not self.desk.switchboard.draining)
    @rule()
    def drain(self) -> None:
        self.desk.switchboard.drain(1.0)

    @invariant()
    def tables_agree(self) -> None:
        check_tables(self.desk)

    @invariant()
    def presence_is_told_once(self) -> None:
        self._settle()

    def _settle(self) -> None:
        """Read what all peers got. JOINED and LEFT alternate, and so do SERVER_UP and SERVER_DOWN.

        When nothing waits, a server knows exactly which players are connected.
        """
        roster = self.desk.switchboard.roster
        for peer in self.all:
            for _, frame in peer.take():
                if frame[1] not in (FrameType.DATA, FrameType.RELAY, FrameType.BOUNCE):
                    self._told(peer, decode(frame))
            session, gone = peer.session, self.desk.wire.gone
            if session is None or session.backlog or peer not in self.server_up or peer.routing_id in gone:
                continue
            if session.duty is Duty.STANDBY:  # it learns who is there when it acts
                assert not self.present[peer]
            elif session.duty is Duty.ACTING:
                assert self.present[peer] == {player.player_id for player in roster.players.values()}
            elif session.duty is None:
                assert self.server_up[peer] == (roster.server is not None)

    def _told(self, peer: Peer, frame: control.ControlFrame) -> None:
        present = self.present.setdefault(peer, set())
        match frame:
            case control.Joined(player_ids):
                assert not present & set(player_ids)
                present.update(player_ids)
            case control.Left(player_ids):
                if peer in self.servers:
                    assert present >= set(player_ids)
                present.difference_update(player_ids)
            case control.Welcome():
                assert peer not in self.server_up or peer in self.standbys or frame.retiring
                self.standbys.discard(peer)
                if frame.standby:
                    self.standbys.add(peer)
                self.server_up[peer] = frame.server
                if frame.link == 0 and peer.side is Side.BACKEND:
                    self.servers.add(peer)
            case control.ServerUp():
                assert self.server_up[peer] is False
                self.server_up[peer] = True
            case control.ServerDown():
                assert self.server_up[peer] is True
                self.server_up[peer] = False
            case _:
                pass

    def teardown(self) -> None:
        desk = self.desk
        for peer in self.all:
            peer.leave()
        check_tables(desk)
        switchboard = desk.switchboard
        assert not len(switchboard.roster) and not len(switchboard.state.strangers)
        assert not switchboard.sending.backlogged and not switchboard.state.registered_keys.rows()
        assert not switchboard.roster._by_connection
        assert desk.counters.sessions_begun == desk.counters.sessions_ended


TestLives = Lives.TestCase
TestLives.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
