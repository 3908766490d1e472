"""The states and times of an endpoint's link: greeting, ready, draining, waiting to try again."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from ringback.protocol.frames import ENDPOINT_TRANSITIONS, Role, SessionState

WELCOME_WITHIN_S = 5.0
"""A link is given up if no WELCOME came within this time."""

FIRST_DELAY_S = 0.05
LONGEST_DELAY_S = 1.0
"""The delay between rounds of attempts doubles up to the longest. A random factor of 0.5 to 1 spreads it."""

MAX_SILENCES = 4
"""How often the time for a WELCOME doubles after a handshake that was answered.

A broker that answers a handshake and then is silent has more to do than it can. Whoever gives up and comes
again makes it more, and if all do, nobody ever gets in.
"""

PROVEN_S = 5.0
"""A link that stood for this long worked: after it the delays begin anew."""


_UP = (SessionState.READY, SessionState.DRAINING, SessionState.STANDBY, SessionState.RETIRING)


class Due(Enum):
    """What is to be done now."""

    NOTHING = auto()
    OPEN = auto()
    PING = auto()
    GIVE_UP = auto()


class LinkState:
    """States and times of one endpoint's link. All times are on the monotonic clock, in seconds.

    Attributes:
        state: the state of the session, as in the protocol; None while there is no link.
        closed: whether the endpoint was closed, so that no link is opened any more.
        start_by: when a start is given up; None if none is under way.
    """

    def __init__(self, role: Role, random: Callable[[], float]) -> None:
        self.state: SessionState | None = None
        self.closed = False
        self.start_by: float | None = None
        self._table = ENDPOINT_TRANSITIONS[role]
        self._random = random
        self._attempts = 0
        self._silences = 0
        self._answered = False
        self._open_at: float | None = None
        self._welcomed_at: float | None = None
        self._opened_at = 0.0
        self._welcome_by = 0.0
        self._lease_s = 30.0
        self._last_sent = 0.0
        self._last_received = 0.0

    @property
    def up(self) -> bool:
        """Whether the broker has welcomed this link, and it stands."""
        return self.state in _UP

    @property
    def may_be_welcome(self) -> bool:
        """Whether the broker may have welcomed this link, although nothing of that has come."""
        return self.state is SessionState.GREETING and self._answered

    def start(self, now: float, timeout_s: float) -> None:
        """Begin anew: a link is to be opened at once. The start is given up after the timeout."""
        self.closed = False
        self.start_by = now + timeout_s
        self._attempts = self._silences = 0
        self._welcomed_at = None
        self._open_at = now

    def waits(self, until: float | None = None) -> None:
        """Open no link until `opened` is called, or until this time."""
        self._open_at = until

    def welcome_by(self, now: float) -> float:
        """Return when a link that is opened now has to be welcome."""
        by = now + WELCOME_WITHIN_S
        return by if self.start_by is None else min(by, self.start_by)

    def opened(self, now: float, within_s: float = WELCOME_WITHIN_S) -> None:
        """Take note that a new link was opened and HELLO was sent. It is given up if nothing answers."""
        self.state = SessionState.GREETING
        self._open_at = None
        self._answered = False
        self._opened_at = now
        self._welcome_by = now + within_s

    def answered(self) -> None:
        """Take note that the other end answered the handshake, so that the link gets the whole time.

        It gets more if earlier ones were given up all the same.
        """
        self._answered = True
        whole_s = WELCOME_WITHIN_S * 2**self._silences
        self._welcome_by = max(self._welcome_by, self._opened_at + whole_s)

    def gave_up(self) -> None:
        """Take note that the other end was silent for too long."""
        if self.may_be_welcome:
            self._silences = min(self._silences + 1, MAX_SILENCES)

    def accept(self, frame_type: int, now: float) -> bool:
        """Move to the state that follows a frame. Return False if the frame is not expected now."""
        if self.state is None:
            return False
        following = self._table.get((self.state, frame_type))  # type: ignore[arg-type]
        if following is None:
            return False
        self.state = following
        self._last_received = now
        return True

    def welcomed(self, lease_s: float, now: float) -> None:
        """Take note that the broker has welcomed this link, for a lease of this length."""
        self._welcomed_at = now
        self._lease_s = max(lease_s, 0.1)
        self._last_sent = now

    def stand_by(self) -> None:
        """Take note that the WELCOME said that another server acts."""
        self.state = SessionState.STANDBY

    def sent(self, now: float) -> None:
        """Take note that a frame was sent, which renews the lease."""
        self._last_sent = now

    def lost(self, now: float) -> None:
        """Take note that the link is lost. Another one is due after a delay."""
        self.state = None
        if self._welcomed_at is not None and now - self._welcomed_at >= PROVEN_S:
            self._attempts = self._silences = 0
        self._welcomed_at = None
        if not self.closed:
            delay = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(self._attempts, 10))
            self._attempts += 1
            self._open_at = now + delay * (0.5 + 0.5 * self._random())

    def opens_in(self, now: float) -> float:
        """Return how many seconds are left until the next link is opened."""
        return 0.0 if self._open_at is None else max(0.0, self._open_at - now)

    def failed(self, now: float) -> None:
        """Take note that one of several addresses failed. The next one is due at once."""
        self.state = None
        self._open_at = now

    def close(self) -> None:
        """Open no link any more."""
        self.closed = True
        self.state = None
        self._open_at = None

    def due_at(self) -> float | None:
        """Return when `due` has something next; None for never."""
        if self.state is None:
            return self._open_at
        if self.state is SessionState.GREETING:
            return self._welcome_by
        return min(self._last_sent + self._lease_s / 2, self._last_received + self._lease_s)

    def due(self, now: float) -> Due:
        """Return what is to be done now."""
        at = self.due_at()
        if at is None or now < at:
            return Due.NOTHING
        if self.state is None:
            return Due.OPEN
        if self.state is SessionState.GREETING or now >= self._last_received + self._lease_s:
            return Due.GIVE_UP
        return Due.PING
