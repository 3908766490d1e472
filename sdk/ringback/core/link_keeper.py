"""The link keeper: how an endpoint's link is welcomed, refused and lost, and when another one is opened."""

from __future__ import annotations

import math
from collections.abc import Callable

from ringback.core.description import Description
from ringback.core.link_opener import LinkOpener
from ringback.core.link_state import Due, LinkState
from ringback.core.outbox import Outbox
from ringback.core.shell import EndpointEvent, Shell
from ringback.core.start_errors import refused_by_all, unreachable
from ringback.errors import (
    ConnectionLost,
    Draining,
    LinkError,
    NoServer,
    RejectCode,
    refused,
)
from ringback.protocol import control
from ringback.protocol.control import encode
from ringback.protocol.frames import Role, SessionState
from ringback.protocol.limits import MAX_HEARTBEAT_S

_PASSING = frozenset({RejectCode.DRAINING, RejectCode.RATE_LIMITED, RejectCode.SERVER_TAKEN})
"""Refusals that pass: a start tries again as long as it has time. The server that is in the way may have been
killed a moment ago."""

_ELSEWHERE = frozenset({RejectCode.DRAINING, RejectCode.FULL})
"""Refusals that say nothing about the endpoint: the next address may let it in."""

_FOR_GOOD = frozenset({RejectCode.REPLACED, RejectCode.KICKED})
"""After these an endpoint does not come back by itself: it would end its successor, or was sent away."""

_UNTIL_A_START = "this endpoint does not connect again until you start it"


class LinkKeeper:
    """Keeps the link of one endpoint: when it is lost, another one is opened.

    Attributes:
        link_state: the states and times of the present link.
        description: what the broker is told of this endpoint, with what the broker gave it.
        opener: what opens links.
        node: the name of the broker in its realm, as the latest WELCOME said; empty: it is alone; None:
            it is too old to say so, or this is no operator.
        broker_id: the number of the broker, as the latest WELCOME said; None: it is too old to say so.
        retiring: whether this is a server that hands over, so that no other link follows.
        ended: why no other link is opened until a start, in words; empty: nothing forbids it.
        ends_with_broker: whether the broker runs in the same process, so that it is no news when it stops.
        since: when the broker welcomed the present link, or the latest one, on the monotonic clock, in
            seconds.
    """

    def __init__(
        self,
        role: Role,
        shell: Shell,
        outbox: Outbox,
        *,
        brokers: tuple[str, ...],
        description: Description,
        needs_token: bool,
        random: Callable[[], float],
        drop_peers: Callable[[str, bool], None],
    ) -> None:
        """Make a keeper that has not started.

        Args:
            brokers: the address of the broker, or those of several that act as one.
            needs_token: whether each round needs a token.
            random: return a number from 0 to 1, to spread attempts.
            drop_peers: end what is in flight, for a reason; also calls to the endpoint itself if True.
        """
        self.link_state = LinkState(role, random)
        self.description = description
        self.opener = LinkOpener(
            shell,
            self.link_state,
            description,
            brokers=brokers,
            needs_token=needs_token,
            random=random,
            failed=self.lost,
        )
        self.node: str | None = None
        self.broker_id: int | None = None
        self.retiring = False
        self.ended = ""
        self.ends_with_broker = False
        self.since = -math.inf
        self._shell = shell
        self._outbox = outbox
        self._round = self.opener.round
        self._drop_peers = drop_peers
        self._named_itself = description.player_id is not None
        self._has_left = False
        self._last_problem = ""
        self._refusal: LinkError | None = None
        self._last_refusal: LinkError | None = None
        self._announced = False
        self._may_have_left_session = False

    @property
    def broker(self) -> str:
        """The address of the program's that the present link goes to, or that is or was tried last."""
        return self._round.broker

    @property
    def address(self) -> str | None:
        """The numeric address of the link that the broker welcomed; None while there is none."""
        return self._round.favourite if self.link_state.up else None

    @property
    def is_welcomed(self) -> bool:
        """Whether the broker has welcomed this endpoint over the present link."""
        return self._announced

    def not_ready(self) -> ConnectionLost | Draining | NoServer:
        """Return the error of a call that is made while the link takes no calls."""
        if self.link_state.state is SessionState.STANDBY:
            return NoServer("this server stands by: another one acts")
        if self._has_left:
            return ConnectionLost("this server has handed over and left the broker", executed="no")
        if self.ended:
            return ConnectionLost(f"{self.ended}; {_UNTIL_A_START}", executed="no")
        if self.link_state.state is SessionState.DRAINING:
            return Draining("the broker is stopping")
        broker = "a broker" if self._round.several else f"the broker at {self.broker}"
        return ConnectionLost(f"there is no link to {broker} now", executed="no")

    # -- it begins

    def start(self, now: float, timeout_s: float) -> None:
        """Have the first link opened; it is tried again until the timeout is over."""
        self._has_left = self.retiring = False
        self.ended = ""
        self._last_problem, self._refusal, self._last_refusal = "", None, None
        self.opener.begin()
        self.link_state.start(now, timeout_s)

    def welcomed(self, welcome: control.Welcome, now: float) -> None:
        """Take note that the broker has welcomed this endpoint, and tell those who wait for it."""
        self.link_state.welcomed(welcome.lease_ms / 1000, now)
        self._round.answered()
        self._round.end()
        if self._last_problem and self.link_state.start_by is None:
            text = "there is a link again, to %s" if self._round.several else "the link to %s is back"
            self._shell.warn(text, self.broker)
        self._last_problem, self._refusal = "", None
        self._announced = True
        self._may_have_left_session = False
        self.since = now
        self.description.player_id = welcome.player_id
        self.description.ticket = welcome.ticket or b""
        self.node = welcome.node
        self.broker_id = welcome.broker_id
        if self.link_state.start_by is not None:
            self._started(None)
        self._shell.event(EndpointEvent.CONNECTED, self.broker)

    # -- it ends

    def left(self, now: float) -> None:
        """Take note that the broker stops, and that this endpoint has left it."""
        self.lost(
            now, "the broker is stopping", for_good=self.ends_with_broker, warns=not self.ends_with_broker
        )

    def lost(
        self,
        now: float,
        why: str,
        refusal: LinkError | None = None,
        for_good: bool = False,
        warns: bool = True,
    ) -> None:
        """Close the link, and open another one a little later, unless it is lost for good.

        If the link was never welcomed and an address of the broker was not tried yet, that one is due now.
        """
        if self.link_state.state is None:
            return
        for_good = for_good or self.retiring
        self._close_link()
        self._refusal = refusal or self._refusal
        self._round.failed(why)
        if more := self._round.more:
            self.link_state.failed(now)
        else:
            self.link_state.lost(now)
            if for_good:
                self.ended = why
                self.link_state.waits()
        self._drop_peers(f"the link to the broker was lost: {why}", False)
        if more:
            return
        self._last_refusal, self._refusal = refused_by_all(self._round, self._refusal), None
        if self.link_state.start_by is not None and self._last_refusal is not None and self._round.all_full:
            self._start_failed(self._last_refusal)
            return
        if not self._announced:
            why = self._round.summary()
        if warns and self.link_state.start_by is None and why != self._last_problem:
            then = _UNTIL_A_START
            if not for_good:
                then = f"next attempt in {self.link_state.opens_in(now):.2g} s"
            text = "the link to %s was lost (%s); %s" if self._announced else "no link to %s (%s); %s"
            broker = "a broker" if self._round.several and not self._announced else self.broker
            self._shell.warn(text, broker, why, then)
        self._last_problem = why
        if self._announced:
            self._announced = False
            self._shell.event(EndpointEvent.DISCONNECTED, why)
        if self.retiring:
            self._has_left = True
            self._shell.left()

    def rejected(self, reject: control.Reject, now: float) -> None:
        """Take note that the broker refused this endpoint, or ended its session."""
        again = reject.code in _PASSING
        if reject.code is RejectCode.ID_TAKEN and not self._named_itself:
            self.description.player_id = None  # the broker chose the ID; another one will do
            again = True
        elif reject.code is RejectCode.ID_TAKEN and self._may_have_left_session:
            again = True  # this player itself may be the other one, until the broker notices that it is gone
        if reject.code is RejectCode.HEARTBEAT_TOO_SHORT and reject.heartbeat_ms:
            again = self.description.heartbeat_ms < reject.heartbeat_ms <= 1000 * MAX_HEARTBEAT_S
            if again:  # keep the new interval: the old one would be refused again
                self.description.heartbeat_ms = reject.heartbeat_ms
                self._round.stay()
        if reject.code is RejectCode.UNAUTHORIZED and not self._named_itself:
            self.description.player_id = None  # an ID that the broker gave once may no longer be allowed
        if reject.code is RejectCode.FULL:
            self._round.is_full()
            again = True  # unless all brokers are full; see `lost`
        if reject.code not in _ELSEWHERE:
            self._round.answered()
            self._round.end()
        error = refused(reject.code, f"the broker at {self.broker} refuses: {reject.reason}")
        if (
            reject.code is RejectCode.SERVER_TAKEN
            and self.description.standby
            and self.link_state.start_by is not None
        ):
            self._started(None)  # an older broker lets nobody stand by: each attempt asks anew
        if self.link_state.start_by is not None and not again:
            self._start_failed(error)
        else:
            for_good = reject.code in _FOR_GOOD
            self.lost(now, f"{reject.code.name}: {reject.reason}", error, for_good)

    def leave(self, now: float, why: str) -> None:
        """Close the link after BYE, and open no other one."""
        self._has_left = True
        self._shell.close_link()
        self.link_state.lost(now)
        self.link_state.waits()
        self._drop_peers(why, False)
        self._last_problem = why
        self._announced = False
        self._shell.event(EndpointEvent.DISCONNECTED, why)
        self._shell.left()

    def close(self) -> None:
        """Close the link for good, and end what is in flight."""
        self._end("the endpoint was closed")
        self._announced = False
        if self.link_state.start_by is not None:
            self._started(ConnectionLost("the endpoint was closed", executed="no"))

    def _start_failed(self, error: LinkError) -> None:
        self._end("the endpoint could not be started")
        self._started(error)

    def _end(self, why: str) -> None:
        if self.link_state.state is not None:
            self._close_link()
        self.link_state.close()
        self._drop_peers(why, True)

    def _close_link(self) -> None:
        if self.link_state.may_be_welcome:
            self._may_have_left_session = True
        self._shell.close_link()

    def _started(self, error: Exception | None) -> None:
        self.link_state.start_by = None
        self._shell.started(error)

    # -- time

    def tick(self, now: float) -> None:
        """Do what is due: give up a start or a silent broker, open a link, send a PING."""
        if self.link_state.start_by is not None and now >= self.link_state.start_by:
            self._start_failed(self._refusal or self._last_refusal or self._unreachable())
        due = self.link_state.due(now)
        if due is Due.OPEN:
            self.opener.open(now)
        elif due is Due.GIVE_UP:
            self.link_state.gave_up()
            self.lost(now, "the broker is silent")
        elif due is Due.PING:
            self.link_state.sent(now)
            self._outbox.add_control(encode(control.Ping()))

    def _unreachable(self) -> LinkError:
        return unreachable(
            self._round,
            waits_for=self.opener.waits_for,
            is_tried=self.link_state.state is not None,
            found=self.opener.found,
            last_round=self._last_problem,
        )
