"""Remembered calls: the calls with a token that an endpoint knows, bounded in number, bytes and age.

The calls whose handlers run are in it, and the outcomes of those that have ended.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from ringback.core.execution import Execution
from ringback.core.peers import Peer
from ringback.errors import Executed

REMEMBER_S = 120.0
"""How long an outcome is remembered, unless its caller says earlier that it has it."""

ON_THE_WAY_S = 10.0
"""How long a repeat may have been on its way: an endpoint that began shortly before it is not sure whether it
was there for the first try. Heartbeats find a link that delays frames for longer than 2 s. The rest is for an
event loop that is blocked while a program starts."""

MAX_REMEMBERED = 100_000
MAX_REMEMBERED_BYTES = 64 * 1024 * 1024
"""How many calls are remembered, and how many bytes their outcomes may take. Over either bound, a call with a
token is refused: an endpoint that forgot one early could run its handler twice."""

PLAYER_SHARE = 16
"""A player may take one part in so many of each bound, so that it leaves room for others."""


class OnceCall:
    """A call with a token.

    Attributes:
        name: the ID part of its caller, and its token.
        execution: what runs; None once there is an outcome.
        peer: the peer that the execution belongs to, or belonged to.
        attached: whether the execution is in the table of its peer. It is not once its caller's link is lost.
        repeats: the repeats that wait for the execution, each with its peer.
        outcome: the encoded reply without its ID.
        executed: whether the handler ran, as the outcome says.
        replied_id: the ID of the CALL that the outcome was sent for last.
        forget_at: when the outcome is forgotten, on the monotonic clock, in seconds. Of a call that has no
            outcome, no deadline, and nobody that waits: when its handler is stopped.
    """

    __slots__ = (
        "attached",
        "executed",
        "execution",
        "forget_at",
        "name",
        "outcome",
        "peer",
        "repeats",
        "replied_id",
    )

    def __init__(self, name: tuple[bytes, bytes], execution: Execution, peer: Peer) -> None:
        self.name = name
        self.execution: Execution | None = execution
        self.peer = peer
        self.attached = True
        self.repeats: dict[Execution, Peer] = {}
        self.outcome = b""
        self.executed: Executed = "yes"
        self.replied_id = 0
        self.forget_at = math.inf


class RememberedCalls:
    """The calls with a token that one endpoint knows.

    Attributes:
        calls: all of them, by the ID part of the caller and the token.
        size: the bytes of all outcomes.
    """

    def __init__(self) -> None:
        self.calls: dict[tuple[bytes, bytes], OnceCall] = {}
        self.size = 0
        self._began = math.inf
        self._ended: OrderedDict[OnceCall, None] = OrderedDict()
        self._replied: dict[tuple[bytes, int], OnceCall] = {}
        self._shares: dict[bytes, tuple[int, int]] = {}

    def begin(self, now: float) -> None:
        """Take note that from now on this endpoint gets all calls for its place."""
        self._began = now

    def would_know(self, age_s: float, now: float) -> bool:
        """Return whether a call of this age would be known if it had come here."""
        return age_s + ON_THE_WAY_S < min(now - self._began, REMEMBER_S)

    # -- bounds

    def full_for(self, peer: Peer) -> bool:
        """Return whether there is no room for another call of a peer."""
        if len(self.calls) >= MAX_REMEMBERED or self.size >= MAX_REMEMBERED_BYTES:
            return True
        calls, size = self._shares.get(peer.encoded_id, (0, 0))
        share = PLAYER_SHARE if peer.is_player else 1
        return calls >= MAX_REMEMBERED // share or size >= MAX_REMEMBERED_BYTES // share

    def has_room_for(self, outcome: bytes) -> bool:
        """Return whether the bytes of an outcome find room."""
        return self.size + len(outcome) <= MAX_REMEMBERED_BYTES

    def _share(self, encoded_id: bytes, calls: int, size: int) -> None:
        """Count what is remembered of one caller."""
        had_calls, had_size = self._shares.get(encoded_id, (0, 0))
        self._shares[encoded_id] = (had_calls + calls, had_size + size)
        if self._shares[encoded_id] == (0, 0):
            del self._shares[encoded_id]

    # -- a call

    def add(self, call: OnceCall) -> None:
        """Remember a call whose handler runs."""
        self.calls[call.name] = call
        self._share(call.name[0], 1, 0)

    def keep_on(self, call: OnceCall, now: float) -> None:
        """Give a call that nobody waits for the full time from now on."""
        call.forget_at = now + REMEMBER_S

    def drop(self, call: OnceCall) -> None:
        """Forget a call that has no outcome to remember."""
        del self.calls[call.name]
        self._share(call.name[0], -1, 0)

    def end(self, call: OnceCall, outcome: bytes, executed: Executed, now: float) -> None:
        """Remember the outcome of a call."""
        call.outcome, call.executed = outcome, executed
        call.forget_at = now + REMEMBER_S
        self.size += len(outcome)
        self._share(call.name[0], 0, len(outcome))
        self._ended[call] = None

    def replied(self, call: OnceCall, call_id: int) -> None:
        """Take note that the outcome was sent for the CALL with this ID."""
        self._replied.pop((call.name[0], call.replied_id), None)
        call.replied_id = call_id
        self._replied[call.name[0], call_id] = call

    def received(self, encoded_id: bytes, call_id: int) -> None:
        """Forget a call: its caller has the outcome that was sent for the CALL with this ID.

        This does nothing if the call is not known, or still runs.
        """
        call = self._replied.get((encoded_id, call_id))
        if call is not None:
            self._forget(call)

    def sweep(self, now: float) -> float:
        """Forget old outcomes. Return when to look again."""
        while self._ended:
            call = next(iter(self._ended))
            if call.forget_at > now:
                return call.forget_at + 1.0  # at most once in a second
            self._forget(call)
        return math.inf

    def _forget(self, call: OnceCall) -> None:
        del self.calls[call.name], self._ended[call]
        self._replied.pop((call.name[0], call.replied_id), None)
        self.size -= len(call.outcome)
        self._share(call.name[0], -1, -len(call.outcome))

    def clear(self) -> None:
        """Forget everything."""
        self.calls.clear()
        self._ended.clear()
        self._replied.clear()
        self._shares.clear()
        self.size = 0
