"""Whom an endpoint exchanges calls with: one `Peer` for each route.

A route is an address and the 8 header bytes of a frame. An answer goes back on the route that its
call came on, and counts only when it comes on the route that the call went out on.
"""

from __future__ import annotations

from ringback.core.calls import Execution, PendingCall
from ringback.protocol.limits import Limits
from ringback.protocol.names import PlayerID

ALLOWANCE_S = 1.0
"""How long it takes an unused rate limit to fill up."""

FIRST_RESEND_S = 0.05
LONGEST_RESEND_S = 1.0
"""An answer that found its caller's queue full is sent again after the first delay, which doubles each
time up to the longest."""


class Peer:
    """One route, with what is in flight on it.

    Attributes:
        address, header: the route. A local peer (this endpoint itself) has no header.
        source: the player ID that handlers of its calls are given; None on players.
        outgoing: encoded envelopes that wait to be sent, `outgoing_bytes` in all.
        calls: calls to it that wait for an answer, by id.
        executions: its calls that are being handled, by id; they came in `execution_bytes`.
        returned: answers that found its queue at the broker full, to be sent again at `resend_at`.
    """

    __slots__ = (
        "_allowance",
        "_allowance_at",
        "address",
        "calls",
        "execution_bytes",
        "executions",
        "header",
        "outgoing",
        "outgoing_bytes",
        "resend_at",
        "resend_delay_s",
        "returned",
        "source",
    )

    def __init__(self, address: bytes, header: bytes, source: PlayerID | None) -> None:
        self.address = address
        self.header = header
        self.source = source
        self.outgoing: list[bytes] = []
        self.outgoing_bytes = 0
        self.calls: dict[int, PendingCall] = {}
        self.executions: dict[int, Execution] = {}
        self.execution_bytes = 0
        self.returned: list[bytes] = []
        self.resend_at = 0.0
        self.resend_delay_s = 0.0
        self._allowance = 0.0
        self._allowance_at: float | None = None

    @property
    def local(self) -> bool:
        """Whether this is the endpoint itself, called by a name that it gave."""
        return not self.header and bool(self.address)

    @property
    def key(self) -> bytes:
        """The route as one value. No two routes share one: msgpack tells where an address ends."""
        return self.address + self.header

    def disposable(self, now: float) -> bool:
        """Whether nothing would be lost with it, a rate limit's memory included."""
        return self.idle and (self._allowance_at is None or now - self._allowance_at > ALLOWANCE_S)

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight on it."""
        return not (self.calls or self.executions or self.outgoing or self.returned)

    def wait_to_resend(self, now: float) -> float:
        """Gives when what came back is sent again: together, and after a longer wait each time."""
        if not self.returned:
            quiet = now - self.resend_at > 2 * LONGEST_RESEND_S
            longer = FIRST_RESEND_S if quiet else min(LONGEST_RESEND_S, 2 * self.resend_delay_s)
            self.resend_delay_s = max(FIRST_RESEND_S, longer)
            self.resend_at = now + self.resend_delay_s
        return self.resend_at

    def take_allowance(self, limits: Limits, now: float) -> float:
        """Counts a call against the rate limit (a token bucket of one second); gives 0.0 when it may
        run, else after how many seconds it might."""
        rate = limits.max_calls_per_s
        if rate is None:
            return 0.0
        burst = max(rate * ALLOWANCE_S, 1.0)
        if self._allowance_at is None:
            self._allowance = burst
        else:
            self._allowance = min(burst, self._allowance + (now - self._allowance_at) * rate)
        self._allowance_at = now
        if self._allowance < 1.0:
            return (1.0 - self._allowance) / rate
        self._allowance -= 1.0
        return 0.0
