"""The link keeper: how an endpoint's link is opened, welcomed, refused and lost, and opened again."""

from __future__ import annotations

from collections.abc import Callable

from ringback.core.link_state import Due, LinkState
from ringback.core.outbox import Outbox
from ringback.core.shell import EndpointEvent, Shell
from ringback.errors import (
    BrokerUnreachable,
    ConnectionLost,
    Draining,
    LinkError,
    RejectCode,
    refused,
)
from ringback.protocol import control
from ringback.protocol.control import encode
from ringback.protocol.frames import Role, SessionState
from ringback.protocol.limits import MAX_HEARTBEAT_S
from ringback.protocol.player_ids import PlayerID

_PASSING = frozenset({RejectCode.DRAINING, RejectCode.RATE_LIMITED})
"""Refusals that pass: a start tries again as long as it has time."""

_FOR_GOOD = frozenset({RejectCode.REPLACED, RejectCode.KICKED})
"""After these an endpoint does not come back by itself: it would end its successor, or was sent away."""


class LinkKeeper:
    """Opens the link of one endpoint, and another one when it is lost.

    Attributes:
        link_state: the states and times of the present link.
        player_id: the ID of a player: the one that it named, or the one that the broker gave it.
        heartbeat_ms: the interval of heartbeats, in milliseconds.
        start_by: when a start is given up, on the monotonic clock, in seconds; None if none is under way.
    """

    def __init__(
        self,
        role: Role,
        shell: Shell,
        outbox: Outbox,
        *,
        broker: str,
        player_id: PlayerID | None,
        heartbeat_ms: int,
        needs_token: bool,
        random: Callable[[], float],
        hello: Callable[[str | None], control.Hello],
        drop_peers: Callable[[str, bool], None],
    ) -> None:
        """Make a keeper that has not started.

        Args:
            broker: the address of the broker, for messages.
            random: return a number from 0 to 1, to spread attempts.
            hello: return the HELLO of a new link, with a token.
            drop_peers: end what is in flight, for a reason; also calls to the endpoint itself if True.
        """
        self.link_state = LinkState(role, random)
        self.player_id = player_id
        self.heartbeat_ms = heartbeat_ms
        self._shell = shell
        self._outbox = outbox
        self._broker = broker
        self._named_itself = player_id is not None
        self._needs_token = needs_token
        self._tokens_asked = 0
        self._hello = hello
        self._drop_peers = drop_peers
        self.start_by: float | None = None
        self._last_problem = ""
        self._last_refusal: LinkError | None = None
        self._announced = False

    def not_ready(self) -> ConnectionLost | Draining:
        """Return the error of a call that is made while the link takes no calls."""
        if self.link_state.state is SessionState.DRAINING:
            return Draining("the broker is stopping")
        return ConnectionLost(f"there is no link to the broker at {self._broker} now", executed="no")

    # -- it is opened

    def start(self, now: float, timeout_s: float) -> None:
        """Open the first link; it is tried again until the timeout is over."""
        self.start_by = now + timeout_s
        self._last_problem, self._last_refusal = "", None
        self.link_state.start(now)

    def _open(self, now: float) -> None:
        if self._needs_token:
            self._tokens_asked += 1
            self.link_state.waits()
            self._shell.fetch_token(self._tokens_asked)
        else:
            self._connect(now, None)

    def take_token(self, number: int, token: str, error: Exception | None, now: float) -> None:
        """Connect with a token, or try again later if there is none."""
        if number != self._tokens_asked or self.link_state.closed:
            return
        self._tokens_asked += 1  # ignore a second token for the same request
        if error is not None:
            self.link_state.opened(now)
            self.lost(now, f"no token: {type(error).__name__}: {error}")
        else:
            self._connect(now, token)

    def _connect(self, now: float, token: str | None) -> None:
        hello = self._hello(token)
        try:
            self._shell.open_link(self.heartbeat_ms)
        except OSError as error:
            self.link_state.opened(now)
            self.lost(now, str(error))
            return
        self.link_state.opened(now)
        self._shell.send(b"", encode(hello))

    def welcomed(self, welcome: control.Welcome, now: float) -> None:
        """Take note that the broker has welcomed this endpoint, and tell those who wait for it."""
        self.link_state.welcomed(welcome.lease_ms / 1000, now)
        if self._last_problem and self.start_by is None:
            self._shell.warn(f"the link to the broker at {self._broker} is back")
        self._last_problem = ""
        self._announced = True
        self.player_id = welcome.player_id
        if self.start_by is not None:
            self._started(None)
        self._shell.event(EndpointEvent.CONNECTED, self._broker)

    # -- it ends

    def lost(self, now: float, why: str, refusal: LinkError | None = None, for_good: bool = False) -> None:
        """Close the link, and open another one a little later, unless it is lost for good."""
        if self.link_state.state is None:
            return
        self._shell.close_link()
        self.link_state.lost(now)
        if for_good:
            self.link_state.waits()
        self._drop_peers(f"the link to the broker was lost: {why}", False)
        if self.start_by is None and why != self._last_problem:
            then = "this endpoint does not come back by itself" if for_good else "trying again"
            self._shell.warn(f"no link to the broker at {self._broker}: {why}; {then}")
        self._last_problem = why
        self._last_refusal = refusal
        if self._announced:
            self._announced = False
            self._shell.event(EndpointEvent.DISCONNECTED, why)

    def rejected(self, reject: control.Reject, now: float) -> None:
        """Take note that the broker refused this endpoint, or ended its session."""
        again = reject.code in _PASSING
        if reject.code is RejectCode.ID_TAKEN and not self._named_itself:
            self.player_id = None  # the broker chose the ID; another one will do
            again = True
        if reject.code is RejectCode.HEARTBEAT_TOO_SHORT and reject.heartbeat_ms:
            again = self.heartbeat_ms < reject.heartbeat_ms <= 1000 * MAX_HEARTBEAT_S
            if again:  # keep the new interval: the old one would be refused again
                self.heartbeat_ms = reject.heartbeat_ms
        if reject.code is RejectCode.UNAUTHORIZED and not self._named_itself:
            self.player_id = None  # an ID that the broker gave once may no longer be allowed
        error = refused(reject.code, f"the broker at {self._broker} refuses: {reject.reason}")
        if self.start_by is not None and not again:
            self._start_failed(error)
        else:
            for_good = reject.code in _FOR_GOOD
            self.lost(now, f"{reject.code.name}: {reject.reason}", error, for_good)

    def close(self) -> None:
        """Close the link for good, and end what is in flight."""
        self._end("the endpoint was closed")
        self._announced = False
        if self.start_by is not None:
            self._started(ConnectionLost("the endpoint was closed", executed="no"))

    def _start_failed(self, error: LinkError) -> None:
        self._end("the endpoint could not be started")
        self._started(error)

    def _end(self, why: str) -> None:
        if self.link_state.state is not None:
            self._shell.close_link()
        self.link_state.close()
        self._drop_peers(why, True)

    def _started(self, error: Exception | None) -> None:
        self.start_by = None
        self._shell.started(error)

    # -- time

    def tick(self, now: float) -> None:
        """Do what is due: give up a start or a silent broker, open a link, send a PING."""
        if self.start_by is not None and now >= self.start_by:
            detail = f" ({self._last_problem})" if self._last_problem else ""
            unreachable = BrokerUnreachable(
                f"no broker answered at {self._broker} in time{detail};"
                " start one with `ringback broker`, or give its address"
            )
            self._start_failed(self._last_refusal or unreachable)
        due = self.link_state.due(now)
        if due is Due.OPEN:
            self._open(now)
        elif due is Due.GIVE_UP:
            self.lost(now, "the broker is silent")
        elif due is Due.PING:
            self.link_state.sent(now)
            self._outbox.add_control(encode(control.Ping()))
