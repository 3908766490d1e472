"""The link keeper: how an endpoint's link is opened, welcomed, refused and lost, and opened again."""

from __future__ import annotations

import math
from collections.abc import Callable

from ringback.core.address_round import AddressRound
from ringback.core.link_state import WELCOME_WITHIN_S, Due, LinkState
from ringback.core.outbox import Outbox
from ringback.core.shell import EndpointEvent, Shell
from ringback.core.start_errors import refused_by_all, unreachable
from ringback.errors import (
    ConnectionLost,
    Draining,
    LinkError,
    NoServer,
    RejectCode,
    reason_of,
    refused,
)
from ringback.protocol import control
from ringback.protocol.control import encode
from ringback.protocol.frames import Role, SessionState
from ringback.protocol.limits import MAX_HEARTBEAT_S
from ringback.protocol.player_ids import PlayerID

_PASSING = frozenset({RejectCode.DRAINING, RejectCode.RATE_LIMITED, RejectCode.SERVER_TAKEN})
"""Refusals that pass: a start tries again as long as it has time. The server that is in the way may have been
killed a moment ago."""

RESOLVED_WITHIN_S = 10.0
"""A lookup of the broker's name is reported if it takes longer, and asked for again."""

_ELSEWHERE = frozenset({RejectCode.DRAINING, RejectCode.FULL})
"""Refusals that say nothing about the endpoint: the next address may let it in."""

_STILL_LOOKING = "its name is not resolved yet; check DNS"

_STILL_FETCHING = "the function for tokens has not returned"

_FOR_GOOD = frozenset({RejectCode.REPLACED, RejectCode.KICKED})
"""After these an endpoint does not come back by itself: it would end its successor, or was sent away."""


class LinkKeeper:
    """Opens the link of one endpoint, and another one when it is lost.

    Attributes:
        link_state: the states and times of the present link.
        player_id: the ID of a player: the one that it named, or the one that the broker gave it.
        heartbeat_ms: the interval of heartbeats, in milliseconds.
        ticket: what the broker gave with the latest WELCOME, to take the same place again; empty if nothing.
        node: the name of the broker in its realm, as the latest WELCOME said; empty: it is alone; None:
            it is too old to say so, or this is no operator.
        broker_id: the number of the broker, as the latest WELCOME said; None: it is too old to say so.
        retiring: whether this is a server that hands over, so that no other link follows.
        standby: whether this is a server that waits while another one acts.
        ends_with_broker: whether the broker runs in the same process, so that it is no news when it stops.
        start_by: when a start is given up, on the monotonic clock, in seconds; None if none is under way.
        since: when the broker welcomed the present link, or the latest one, on the same clock.
    """

    def __init__(
        self,
        role: Role,
        shell: Shell,
        outbox: Outbox,
        *,
        brokers: tuple[str, ...],
        player_id: PlayerID | None,
        heartbeat_ms: int,
        needs_token: bool,
        standby: bool,
        random: Callable[[], float],
        hello: Callable[[str | None], control.Hello],
        drop_peers: Callable[[str, bool], None],
    ) -> None:
        """Make a keeper that has not started.

        Args:
            brokers: the address of the broker, or those of several that act as one.
            standby: whether this is a server that waits while another one acts.
            random: return a number from 0 to 1, to spread attempts.
            hello: return the HELLO of a new link, with a token.
            drop_peers: end what is in flight, for a reason; also calls to the endpoint itself if True.
        """
        self.link_state = LinkState(role, random)
        self.player_id = player_id
        self.heartbeat_ms = heartbeat_ms
        self.ticket = b""
        self.node: str | None = None
        self.broker_id: int | None = None
        self.retiring = False
        self._shell = shell
        self._outbox = outbox
        self._named_itself = player_id is not None
        self._needs_token = needs_token
        self.standby = standby
        self.ends_with_broker = False
        self._has_left = False
        self._token: str | None = None
        self._asked = 0
        self._has_token = False
        self._round = AddressRound(brokers, random)
        self._looking = False
        self._fetching = False
        self._found = False
        self._hello = hello
        self._drop_peers = drop_peers
        self.start_by: float | None = None
        self.since = -math.inf
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
        if self.link_state.state is SessionState.DRAINING:
            return Draining("the broker is stopping")
        broker = "a broker" if self._round.several else f"the broker at {self.broker}"
        return ConnectionLost(f"there is no link to {broker} now", executed="no")

    # -- it is opened

    def start(self, now: float, timeout_s: float) -> None:
        """Open the first link; it is tried again until the timeout is over."""
        self.start_by = now + timeout_s
        self._has_left = self.retiring = False
        self._last_problem, self._refusal, self._last_refusal = "", None, None
        self._looking = self._fetching = self._found = False
        self._round.end()
        self._round.stay()
        self.link_state.start(now)

    def _open(self, now: float) -> None:
        """Try the next IP of this broker, or ask for those of the next broker, which may begin a round."""
        if self._round.more_ips:
            self._connect(now)
        elif self._looking:
            self._looking = False
            self.link_state.opened(now)
            self.lost(now, _STILL_LOOKING)
        else:
            if self._round.next_broker():
                self._has_token = False
            self._asked += 1
            self._looking = True
            within_s = RESOLVED_WITHIN_S
            if self._round.more_brokers:
                within_s = self._round.lookup_s(now, self._welcome_by(now))
            self.link_state.waits(now + within_s)
            self._shell.find_broker(self.broker, self._asked)

    def take_addresses(self, number: int, addresses: tuple[str, ...], problem: str, now: float) -> None:
        """Try these addresses of the broker in turn. Without any, go on without this broker."""
        if number != self._asked or not self._looking or self.link_state.closed:
            return
        self._looking = False
        self._found = bool(addresses) or (self._round.several and self._found)
        self._round.begin(addresses)
        if not addresses:
            self.link_state.opened(now)
            self.lost(now, problem)
        elif self._needs_token and not self._has_token:
            self.link_state.waits()
            self._fetching = True
            self._shell.fetch_token(self._asked)
        else:
            self._connect(now)

    def take_token(self, number: int, token: str, error: BaseException | None, now: float) -> None:
        """Connect with a token, or try again later if there is none."""
        if number != self._asked or self._looking or self.link_state.closed:
            return
        self._asked += 1  # ignore a second token for the same request
        self._fetching = False
        if error is not None:
            self._round.end()  # no other address would help
            self.link_state.opened(now)
            self.lost(now, f"no token: {type(error).__name__}: {reason_of(error)}")
        else:
            self._token, self._has_token = token, True
            self._connect(now)

    def _connect(self, now: float) -> None:
        hello = self._hello(self._token)
        within_s = self._round.next(now, self._welcome_by(now))
        if not self._round.more:
            within_s = WELCOME_WITHIN_S
        try:
            self._shell.open_link(self._round.address, self.heartbeat_ms)
        except OSError as error:
            self.link_state.opened(now)
            self.lost(now, str(error))
            return
        self.link_state.opened(now, within_s)
        self._shell.send(b"", encode(hello))

    def _welcome_by(self, now: float) -> float:
        by = now + WELCOME_WITHIN_S
        return by if self.start_by is None else min(by, self.start_by)

    def welcomed(self, welcome: control.Welcome, now: float) -> None:
        """Take note that the broker has welcomed this endpoint, and tell those who wait for it."""
        self.link_state.welcomed(welcome.lease_ms / 1000, now)
        self._round.answered()
        self._round.end()
        if self._last_problem and self.start_by is None:
            text = "there is a link again, to %s" if self._round.several else "the link to %s is back"
            self._shell.warn(text, self.broker)
        self._last_problem, self._refusal = "", None
        self._announced = True
        self._may_have_left_session = False
        self.since = now
        self.player_id = welcome.player_id
        self.ticket = welcome.ticket or b""
        self.node = welcome.node
        self.broker_id = welcome.broker_id
        if self.start_by is not None:
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
                self.link_state.waits()
        self._drop_peers(f"the link to the broker was lost: {why}", False)
        if more:
            return
        self._last_refusal, self._refusal = refused_by_all(self._round, self._refusal), None
        if self.start_by is not None and self._last_refusal is not None and self._round.all_full:
            self._start_failed(self._last_refusal)
            return
        if not self._announced:
            why = self._round.summary()
        if warns and self.start_by is None and why != self._last_problem:
            then = "this endpoint does not connect again until you start it"
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
            self.player_id = None  # the broker chose the ID; another one will do
            again = True
        elif reject.code is RejectCode.ID_TAKEN and self._may_have_left_session:
            again = True  # this player itself may be the other one, until the broker notices that it is gone
        if reject.code is RejectCode.HEARTBEAT_TOO_SHORT and reject.heartbeat_ms:
            again = self.heartbeat_ms < reject.heartbeat_ms <= 1000 * MAX_HEARTBEAT_S
            if again:  # keep the new interval: the old one would be refused again
                self.heartbeat_ms = reject.heartbeat_ms
                self._round.stay()
        if reject.code is RejectCode.UNAUTHORIZED and not self._named_itself:
            self.player_id = None  # an ID that the broker gave once may no longer be allowed
        if reject.code is RejectCode.FULL:
            self._round.is_full()
            again = True  # unless all brokers are full; see `lost`
        if reject.code not in _ELSEWHERE:
            self._round.answered()
            self._round.end()
        error = refused(reject.code, f"the broker at {self.broker} refuses: {reject.reason}")
        if reject.code is RejectCode.SERVER_TAKEN and self.standby and self.start_by is not None:
            self._started(None)  # an older broker lets nobody stand by: each attempt asks anew
        if self.start_by is not None and not again:
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
        if self.start_by is not None:
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
        self.start_by = None
        self._shell.started(error)

    # -- time

    def tick(self, now: float) -> None:
        """Do what is due: give up a start or a silent broker, open a link, send a PING."""
        if self.start_by is not None and now >= self.start_by:
            self._start_failed(self._refusal or self._last_refusal or self._unreachable())
        due = self.link_state.due(now)
        if due is Due.OPEN:
            self._open(now)
        elif due is Due.GIVE_UP:
            self.link_state.gave_up()
            self.lost(now, "the broker is silent")
        elif due is Due.PING:
            self.link_state.sent(now)
            self._outbox.add_control(encode(control.Ping()))

    def _unreachable(self) -> LinkError:
        return unreachable(
            self._round,
            waits_for=_STILL_LOOKING if self._looking else _STILL_FETCHING if self._fetching else "",
            is_tried=self.link_state.state is not None,
            found=self._found,
            last_round=self._last_problem,
        )
