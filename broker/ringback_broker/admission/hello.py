"""Admission: what a connection without a session has sent, and whether its peer may join."""

from __future__ import annotations

from dataclasses import dataclass

from ringback.errors import ProtocolError, RejectCode
from ringback.protocol.control import Hello, decode
from ringback.protocol.frames import HEADER_BYTES, SUPPORTED_VERSIONS, VERSION, FrameType, Role
from ringback.protocol.player_ids import encode_player_id
from ringback_broker.peers.connection import Side
from ringback_broker.peers.identity import Identity
from ringback_broker.peers.roster import Roster
from ringback_broker.peers.session import Session
from ringback_broker.settings.schema import BrokerSettings

PARTS = {Side.PLAYERS: 1, Side.BACKEND: 2}
"""How many parts a message has on each side."""

_OTHER_TYPES = frozenset(FrameType) - {FrameType.HELLO}


_WHOSE = {
    Side.PLAYERS: "this is the players' address; servers and operators connect to the backend's",
    Side.BACKEND: "this is the backend's address; players connect to the players'",
}
_WRONG_PARTS = {side: f"{whose} (parts in the message: {{}})" for side, whose in _WHOSE.items()}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a peer is refused.

    Attributes:
        silent: whether it is better told nothing.
        heartbeat_ms: how often it may send heartbeats, if that is the reason.
    """

    code: RejectCode
    reason: str
    silent: bool = False
    heartbeat_ms: int | None = None


def read_hello(side: Side, parts: list[bytes]) -> Hello | Refusal:
    """Reads the first message of a connection."""
    if len(parts) != PARTS[side]:
        return Refusal(RejectCode.PROTOCOL_ERROR, _WRONG_PARTS[side].format(len(parts)))
    data = parts[-1]
    version, number = data[:2] if len(data) >= HEADER_BYTES else (VERSION, 0)
    if number == FrameType.HELLO and version != VERSION:
        supported = ", ".join(map(str, SUPPORTED_VERSIONS))
        return Refusal(
            RejectCode.UNSUPPORTED_VERSION, f"version {version} is not spoken here, only {supported}"
        )
    if number in _OTHER_TYPES and version == VERSION:
        # A peer whose session the broker has ended did not know that yet. It needs no answer to a BYE.
        silent = number == FrameType.BYE
        return Refusal(RejectCode.NO_SESSION, "the first frame is a HELLO", silent)
    if side is Side.BACKEND and parts[0]:
        return Refusal(RejectCode.PROTOCOL_ERROR, "a HELLO has no address")
    try:
        hello = decode(data)
    except ProtocolError as error:
        return Refusal(RejectCode.PROTOCOL_ERROR, str(error))
    assert isinstance(hello, Hello)  # all other types were refused above
    if (hello.role is Role.PLAYER) != (side is Side.PLAYERS):
        return Refusal(
            RejectCode.PROTOCOL_ERROR, f"{_WHOSE[side]}, not for one that says it is a {hello.role}"
        )
    return hello


def may_join(
    hello: Hello, identity: Identity | None, roster: Roster, config: BrokerSettings
) -> Session | Refusal | None:
    """Tells why a peer may not join those who are there; None if it may, or whose place it takes."""
    if hello.role is Role.SERVER:
        if roster.server is not None:
            return Refusal(RejectCode.SERVER_TAKEN, "another server is connected")
        return None
    if hello.role is Role.OPERATOR:
        if roster.operators() >= config.max_operators:
            return Refusal(RejectCode.FULL, f"there are {config.max_operators} operators already")
        return None
    player_id = hello.player_id
    there = None if player_id is None else roster.players.get(encode_player_id(player_id))
    if there is not None and not _same(identity, there.identity):
        return Refusal(RejectCode.ID_TAKEN, f"another player with the ID {player_id!r} is connected")
    if len(roster.players) - (there is not None) >= config.max_players:
        return Refusal(RejectCode.FULL, f"there are {config.max_players} players already")
    if roster.quick >= config.crowd and roster.is_quick(hello.heartbeat_ms):
        asked_s = config.crowd_heartbeat
        reason = f"there are many players: send heartbeats each {asked_s:g} s, not more often"
        return Refusal(RejectCode.HEARTBEAT_TOO_SHORT, reason, heartbeat_ms=round(1000 * asked_s))
    return there


def _same(one: Identity | None, other: Identity | None) -> bool:
    """Tells whether two who want the same ID are the same: by the same key, or by tokens of one signer."""
    if one is None or other is None or one.by_token is not other.by_token:
        return False
    return one.name == other.name if one.by_token else one.public == other.public
