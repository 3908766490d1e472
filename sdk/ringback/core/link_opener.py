"""The link opener: how a link is opened. It needs a broker, one of its IPs, and perhaps a token."""

from __future__ import annotations

from collections.abc import Callable

from ringback.core.address_round import AddressRound
from ringback.core.description import Description
from ringback.core.link_state import WELCOME_WITHIN_S, LinkState
from ringback.core.shell import Shell
from ringback.errors import reason_of
from ringback.protocol.control import encode

RESOLVED_WITHIN_S = 10.0
"""A lookup of the broker's name is reported if it takes longer, and asked for again."""

_STILL_LOOKING = "its name is not resolved yet; check DNS"

_STILL_FETCHING = "the function for tokens has not returned"


class LinkOpener:
    """Opens the links of one endpoint.

    Attributes:
        round: the addresses that are tried in turn.
        found: whether there was an address to try, since the endpoint was started.
    """

    def __init__(
        self,
        shell: Shell,
        link_state: LinkState,
        description: Description,
        *,
        brokers: tuple[str, ...],
        needs_token: bool,
        random: Callable[[], float],
        failed: Callable[[float, str], None],
    ) -> None:
        """Make an opener that has not begun.

        Args:
            failed: take note that a link could not be opened, with the reason.
        """
        self.round = AddressRound(brokers, random)
        self.found = False
        self._shell = shell
        self._link_state = link_state
        self._description = description
        self._needs_token = needs_token
        self._failed = failed
        self._token: str | None = None
        self._has_token = False
        self._asked = 0
        self._looking = False
        self._fetching = False

    @property
    def waits_for(self) -> str:
        """What there has to be before a link can be opened, in words; empty if nothing is missing."""
        return _STILL_LOOKING if self._looking else _STILL_FETCHING if self._fetching else ""

    def begin(self) -> None:
        """Begin anew, at the present broker: the endpoint is started."""
        self._looking = self._fetching = self.found = False
        self.round.end()
        self.round.stay()

    def open(self, now: float) -> None:
        """Try the next IP of this broker, or ask for those of the next broker, which may begin a round."""
        if self.round.more_ips:
            self._connect(now)
        elif self._looking:
            self._looking = False
            self._fail(now, _STILL_LOOKING)
        else:
            if self.round.next_broker():
                self._has_token = False
            self._asked += 1
            self._looking = True
            within_s = RESOLVED_WITHIN_S
            if self.round.more_brokers:
                within_s = self.round.lookup_s(now, self._link_state.welcome_by(now))
            self._link_state.waits(now + within_s)
            self._shell.find_broker(self.round.broker, self._asked)

    def take_addresses(self, number: int, addresses: tuple[str, ...], problem: str, now: float) -> None:
        """Take the addresses that `shell.find_broker` asked for, and try them in turn.

        Args:
            problem: why there are none. The opener goes on without this broker then.
        """
        if number != self._asked or not self._looking or self._link_state.closed:
            return
        self._looking = False
        self.found = bool(addresses) or (self.round.several and self.found)
        self.round.begin(addresses)
        if not addresses:
            self._fail(now, problem)
        elif self._needs_token and not self._has_token:
            self._link_state.waits()
            self._fetching = True
            self._shell.fetch_token(self._asked)
        else:
            self._connect(now)

    def take_token(self, number: int, token: str, error: BaseException | None, now: float) -> None:
        """Take the token that `shell.fetch_token` asked for, and connect.

        Args:
            error: why there is none; it is tried again later then.
        """
        if number != self._asked or self._looking or self._link_state.closed:
            return
        self._asked += 1  # ignore a second token for the same request
        self._fetching = False
        if error is not None:
            self.round.end()  # no other address would help
            self._fail(now, f"no token: {type(error).__name__}: {reason_of(error)}")
        else:
            self._token, self._has_token = token, True
            self._connect(now)

    def _connect(self, now: float) -> None:
        hello = self._description.hello(self._token)
        within_s = self.round.next(now, self._link_state.welcome_by(now))
        if not self.round.more:
            within_s = WELCOME_WITHIN_S
        try:
            self._shell.open_link(self.round.address, self._description.heartbeat_ms)
        except OSError as error:
            self._fail(now, str(error))
            return
        self._link_state.opened(now, within_s)
        self._shell.send(b"", encode(hello))

    def _fail(self, now: float, why: str) -> None:
        self._link_state.opened(now)
        self._failed(now, why)
