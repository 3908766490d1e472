"""HELLO: the first message of a connection, and whether its peer may join.

Every refusal of a HELLO is decided here. `access_list` says whose public key it is, and `tokens` whether its
token is good.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from secrets import compare_digest
from typing import assert_never

from ringback.errors import ProtocolError, RejectCode
from ringback.protocol.control import Hello, decode
from ringback.protocol.frames import HEADER_BYTES, SUPPORTED_VERSIONS, VERSION, FrameType, Role
from ringback.protocol.player_ids import encode_player_id
from ringback_broker.admission.access_list import AccessList, Denied
from ringback_broker.admission.connections_by_ip import ConnectionsByIP
from ringback_broker.peers.connection import Connection, Side
from ringback_broker.peers.identity import Identity
from ringback_broker.peers.roster import Roster
from ringback_broker.peers.session import Rights, Session
from ringback_broker.settings.schema import BrokerSettings

MAX_OTHER_SERVERS = 8
"""How many servers may stand by or retire, beside the one that acts."""

PARTS = {Side.PLAYERS: 1, Side.BACKEND: 2}
"""How many parts a message has on each side."""

_OTHER_TYPES = frozenset(FrameType) - {FrameType.HELLO}

_FOR_WHOM = {
    Side.PLAYERS: "this is the players' address; servers and operators connect to the backend's address",
    Side.BACKEND: "this is the backend's address; players connect to the players' address",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a peer is refused.

    Attributes:
        reason: for people.
        silent: whether the peer is told nothing.
        heartbeat_ms: how often the peer may send heartbeats, if that is the reason.
    """

    code: RejectCode
    reason: str
    silent: bool = False
    heartbeat_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Admitted:
    """A peer that may join.

    Attributes:
        hello: what it said; with the player ID that its identity gives it.
        replaced: the session of the same player that ends for it.
        ticket: what it gets, if that was chosen before.
    """

    hello: Hello
    rights: Rights
    replaced: Session | None
    ticket: bytes = b""


def read_hello(side: Side, parts: list[bytes]) -> Hello | Refusal:
    """Read the first message of a connection."""
    if len(parts) != PARTS[side]:
        # A message may have any number of parts, and not all of them are kept.
        found = "more" if len(parts) > PARTS[side] else "fewer"
        reason = f"{_FOR_WHOM[side]} (parts of a message here: {PARTS[side]}; this one has {found})"
        return Refusal(RejectCode.PROTOCOL_ERROR, reason)
    data = parts[-1]
    version, number = data[:2] if len(data) >= HEADER_BYTES else (VERSION, 0)
    if number == FrameType.HELLO and version != VERSION:
        supported = ", ".join(map(str, SUPPORTED_VERSIONS))
        reason = f"this broker does not speak version {version}, only {supported}"
        return Refusal(RejectCode.UNSUPPORTED_VERSION, reason)
    if number in _OTHER_TYPES and version == VERSION:
        # The broker has ended its session, and the peer did not know that yet. A BYE needs no reply.
        silent = number == FrameType.BYE
        return Refusal(RejectCode.NO_SESSION, "the first frame must be a HELLO", silent)
    if side is Side.BACKEND and parts[0]:
        return Refusal(RejectCode.PROTOCOL_ERROR, "a HELLO must have an empty ID part")
    try:
        hello = decode(data)
    except ProtocolError as error:
        return Refusal(RejectCode.PROTOCOL_ERROR, str(error))
    assert isinstance(hello, Hello)  # all other types were refused above
    if (hello.role is Role.PLAYER) != (side is Side.PLAYERS):
        return Refusal(RejectCode.PROTOCOL_ERROR, f"{_FOR_WHOM[side]}; the HELLO says {hello.role}")
    return hello


class Admission:
    """Decides who may join.

    Attributes:
        access: the access list; None: anybody may join as anybody.
        draining: whether nobody may join any more.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        roster: Roster,
        connections_by_ip: ConnectionsByIP,
        access: AccessList | None,
        unix_time: Callable[[], float],
    ) -> None:
        self.access = access
        self.draining = False
        self._settings = settings
        self._roster = roster
        self._connections_by_ip = connections_by_ip
        self._unix_time = unix_time

    def reconfigure(self, settings: BrokerSettings) -> None:
        """Apply other settings to peers that join from now on."""
        self._settings = settings

    def decide(self, hello: Hello, connection: Connection, now: float) -> Admitted | Refusal:
        """Decide whether the peer that said HELLO may join now."""
        if self.draining:
            return Refusal(RejectCode.DRAINING, "the broker is stopping")
        if hello.role is Role.PLAYER and self._connections_by_ip.is_shut_out(connection.ip, now):
            reason = "a player from this IP sent too much; try again in a few seconds"
            return Refusal(RejectCode.RATE_LIMITED, reason)
        try:
            rights = self._rights(hello, connection, now)
        except Denied as denied:
            return Refusal(denied.code, denied.reason)
        identity = rights.identity
        if identity is not None and identity.ids and hello.player_id is None:
            hello = replace(hello, player_id=identity.ids[0])
        match hello.role:
            case Role.PLAYER:
                place = self._place_for_player(hello, identity)
            case Role.SERVER:
                place = self._place_for_server(hello)
            case Role.OPERATOR:
                place = self._place_for_operator()
            case _ as never:
                assert_never(never)
        return place if isinstance(place, Refusal) else Admitted(hello, rights, place)

    def _rights(self, hello: Hello, connection: Connection, now: float) -> Rights:
        """Return who a peer is and what it may do.

        Raises:
            Denied: it may not join as what it says.
        """
        if self.access is None:
            return Rights()
        unix_s = self._unix_time()
        identity = self.access.identify(hello, connection.public_key, unix_s)
        rights = Rights(identity, self.access.may_relay(identity), self.access.may_order(identity))
        if identity.expires_at is not None:  # a wall clock that jumps later has no effect
            rights.ends_at = now + identity.expires_at - unix_s
        return rights

    def _place_for_server(self, hello: Hello) -> Session | Refusal | None:
        """Return the session whose place the server takes, None if there is none, or why it may not join."""
        acting, others = self._roster.server, self._roster.others
        if acting is None:
            if self._roster.may_act:
                return None
        elif _shows_ticket(hello, acting):
            return acting
        elif not hello.standby:
            return Refusal(RejectCode.SERVER_TAKEN, "another server is connected")
        for present in others:
            if _shows_ticket(hello, present):
                return present
        if len(others) >= MAX_OTHER_SERVERS:
            reason = f"the limit of {MAX_OTHER_SERVERS} servers that stand by or retire is reached"
            return Refusal(RejectCode.FULL, reason)
        return None

    def _place_for_operator(self) -> Refusal | None:
        limit = self._settings.max_operators
        if self._roster.operators() < limit:
            return None
        return Refusal(RejectCode.FULL, f"the limit of {limit} operators is reached")

    def _place_for_player(self, hello: Hello, identity: Identity | None) -> Session | Refusal | None:
        """Return the session whose place the player takes, None if there is none, or why it may not join."""
        roster, settings, player_id = self._roster, self._settings, hello.player_id
        present = None if player_id is None else roster.players.get(encode_player_id(player_id))
        if present is not None and not (
            _is_same(identity, present.rights.identity) or _shows_ticket(hello, present)
        ):
            return Refusal(RejectCode.ID_TAKEN, f"another player with the ID {player_id!r} is connected")
        if len(roster.players) - (present is not None) >= settings.max_players:
            return Refusal(RejectCode.FULL, f"the limit of {settings.max_players} players is reached")
        if roster.frequent_heartbeats >= settings.crowd and roster.is_frequent(hello.heartbeat_ms):
            interval_s = settings.crowd_heartbeat
            reason = f"there are many players: send one heartbeat every {interval_s:g} s at most"
            return Refusal(RejectCode.HEARTBEAT_TOO_SHORT, reason, heartbeat_ms=round(1000 * interval_s))
        return present

    def use(self, access: AccessList) -> list[tuple[Session, str]]:
        """Apply another access list. Return the sessions that it would not let in, each with the reason.

        Sessions that began without an access list go on.
        """
        before, self.access = self.access, access
        revoked: list[tuple[Session, str]] = []
        if before is None:
            return revoked
        for session in self._roster.sessions():
            rights = session.rights
            if rights.identity is None:
                continue
            rights.may_relay = access.may_relay(rights.identity)
            rights.may_order = access.may_order(rights.identity)
            if not access.still_admits(rights.identity, session.role, session.player_id, before):
                revoked.append((session, f"the access list no longer admits {rights.identity.name!r}"))
        return revoked


def _shows_ticket(hello: Hello, present: Session) -> bool:
    """Return whether a HELLO comes from the endpoint that has this session: its ticket says so."""
    return bool(hello.ticket) and compare_digest(hello.ticket or b"", present.ticket)


def _is_same(one: Identity | None, other: Identity | None) -> bool:
    """Return whether two peers that want the same ID are the same player.

    They are if they have the same public key, or tokens of one signing key.
    """
    if one is None or other is None or one.by_token is not other.by_token:
        return False
    return one.name == other.name if one.by_token else one.public_key == other.public_key
