"""What the broker knows of a peer."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any, Protocol

from ringback.protocol.frames import Role
from ringback.protocol.names import PlayerID
from ringback.protocol.reports import TracedCall


class Side(Enum):
    """The two listeners."""

    PLAYERS = "players"
    BACKEND = "backend"


class Sent(IntEnum):
    """How a send ended."""

    YES = 0
    FULL = 1
    """The peer's queue is full."""
    GONE = 2
    """There is no such peer."""


@dataclass(frozen=True, slots=True)
class Connection:
    """The transport below a session: its descriptor in this process, where it comes from, and the public key
    that it was made with, in Z85; empty without CURVE."""

    descriptor: int
    remote: str
    key: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a peer has shown to be.

    Attributes:
        name: of its key in the broker's list, or of the key that signed its token.
        public: the key of its connection.
        ids: the player IDs that it may take.
        expires_at: when its token ends, by the wall clock (unix time, seconds).
        by_token: whether a token said so.
    """

    name: str
    public: str
    ids: tuple[PlayerID, ...] = ()
    expires_at: float | None = None
    by_token: bool = False


LARGE_BYTES = 8192
"""Larger frames are passed on without being copied, and alone. A small one is copied faster than that."""


class LargeFrame:
    """A frame in libzmq's own memory. It is passed on as it is; the rest of it is as of bytes.

    Args:
        message: what pyzmq gives with `copy=False`.
    """

    __slots__ = ("_bytes", "message")

    def __init__(self, message: Any) -> None:
        self.message = message
        self._bytes: memoryview = message.buffer

    def __len__(self) -> int:
        return len(self._bytes)

    def __getitem__(self, part: slice) -> bytes:
        return bytes(self._bytes[part])

    def __bytes__(self) -> bytes:
        return bytes(self._bytes)


Frame = bytes | LargeFrame


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
        credit_s, credit_at, excess_s: of a player's rate: see `ringback_broker.flow`.
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


@dataclass(frozen=True, slots=True)
class Report:
    """Something that happened to a peer, for the log and the audit log.

    Attributes:
        event: `joined`, `left`, `refused` or `ordered`.
        reason: why; of one that joined, what its client is.
        session: of one that has one, or had.
        remote: the address that it comes from.
        code: the name of the code that it was refused with, if it has one.
    """

    event: str
    reason: str
    session: Session | None = None
    remote: str = ""
    code: str = ""

    @property
    def detail(self) -> str:
        """For people: the reason, with what belongs to it."""
        if self.event != "refused":
            return self.reason
        return f"{self.remote} {self.code}: {self.reason}" if self.code else f"{self.remote} {self.reason}"

    def fields(self) -> dict[str, Any]:
        """For programs: what is known, by name."""
        fields: dict[str, Any] = {"event": self.event}
        session = self.session
        if session is not None:
            fields["role"] = session.role.value
            if session.player_id is not None:
                fields["player"] = session.player_id
            if session.identity is not None:
                fields["key"] = session.identity.name
        fields["address"] = self.remote if session is None else session.connection.remote
        if self.code:
            fields["code"] = self.code
        return {**fields, "reason": self.reason}


class Wire(Protocol):
    """What the switchboard asks of the loop around it."""

    def send_player(self, routing_id: bytes, frame: Frame) -> Sent: ...

    def send_backend(self, routing_id: bytes, address: bytes, frame: Frame) -> Sent: ...

    def close_connection(self, side: Side, connection: Connection) -> None:
        """Closes a connection at once."""

    def silence_ms(self, connection: Connection) -> int | None:
        """How long nothing has come over a connection, heartbeats included; None where nobody can tell."""
        ...

    def round_trip_ms(self, connection: Connection) -> float | None:
        """How long a packet takes there and back, as the system has measured; None where nobody can tell."""
        ...

    def log_call(self, call: TracedCall) -> None:
        """Writes a call that somebody watches into the log."""

    def drain(self, grace_s: float | None) -> None:
        """Has the broker let everybody finish, and then stop; None: in the time that its settings give."""

    def report(self, report: Report) -> None:
        """Tells what happened, for the logs."""
