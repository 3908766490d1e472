"""What the broker knows of a peer."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from ringback.protocol.frames import Role
from ringback.protocol.player_ids import PlayerID
from ringback_broker.peers.connection import Connection, Frame, Side
from ringback_broker.peers.identity import Identity


@dataclass(slots=True, eq=False)
class Session:
    """One welcomed peer.

    Attributes:
        address: the player's ID as it stands in the address part; empty on the trusted side.
        identity: who it has shown to be; None where nobody has to.
        ends_at: when its token is over.
        may_relay: of an operator: whether it may call the server in the name of a source.
        may_order: of an operator: whether it may kick players and drain the broker.
        data_header: the only header that a DATA frame of this trusted peer may have; empty for players.
        terms: of a server: who may call some of its keys and how often, in words.
        heartbeat_ms: how often its connection carries a heartbeat; None or 0 if it did not say so.
        look_at: when to look whether its connection still carries heartbeats, if it names any.
        backlog: control frames and bounces (address, frame) that found the queue full; while there are
            any, data is bounced, so that nothing overtakes them.
        credit_s, credit_at, excess_s: of a player's rate: see `ringback_broker.switchboard.flow`.
        spent, confirmed, read_at: bytes sent to it, those of them that it has read for certain, and when
            that was last heard.
        probe_at, probes: the next PING goes out when so much is spent; those not answered yet, each as
            (spent, body, time).
        sends_much: whether its latest frame was a large one.
        bundles: whether it takes many frames in one message.
        reports: whether it is asked to report what it counts of calls.
        calls, errors: of a player: its calls both ways that have ended, as trusted endpoints report them, and
            those of them that failed.
        bundle, bundle_bytes: frames of players, each with its sender, that wait for the end of the step to
            leave in one message.
        exhausted: so much is not confirmed that nothing but control frames goes out.
        announced: others were told of it, so they have to be told of its end.
        ended: nothing is sent to it any more.
    """

    side: Side
    role: Role
    routing_id: bytes
    connection: Connection
    number: int
    since: float
    last_seen: float
    player_id: PlayerID | None = None
    address: bytes = b""
    identity: Identity | None = None
    ends_at: float = float("inf")
    may_relay: bool = True
    may_order: bool = True
    link: int = 0
    data_header: bytes = b""
    keys: tuple[str, ...] = ()
    terms: dict[str, str] | None = None
    heartbeat_ms: int | None = None
    look_at: float = float("inf")
    backlog: deque[tuple[bytes, bytes]] = field(default_factory=deque)
    credit_s: float = 0.0
    credit_at: float = 0.0
    excess_s: float = 0.0
    spent: int = 0
    confirmed: int = 0
    read_at: float = 0.0
    probe_at: int = 0
    probes: deque[tuple[int, bytes, float]] = field(default_factory=deque)
    sends_much: bool = False
    bundles: bool = False
    reports: bool = False
    calls: int = 0
    errors: int = 0
    bundle: list[tuple[Session, Frame]] = field(default_factory=list)
    bundle_bytes: int = 0
    exhausted: bool = False
    announced: bool = False
    ended: bool = False

    @property
    def name(self) -> str:
        """For logs: who this is."""
        if self.role is Role.PLAYER:
            return f"player {self.player_id!r}"
        return "server" if self.role is Role.SERVER else f"operator {self.link}"
