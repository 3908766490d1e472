"""A call that is tried again: its tries so far, whether there is another one, and what came of them all."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ringback.core.encoded_call import EncodedCall, budget_ms
from ringback.core.pending_call import PendingCall
from ringback.core.retry import Retry
from ringback.errors import EXECUTED, CallbackError, Code, Executed, call_error
from ringback.protocol.envelopes import build_call
from ringback.protocol.repeats import NOT_KNOWN, REPEAT_KEY, add_token, pack_repeat

_PASSING = frozenset(
    {Code.NO_SERVER, Code.CONNECTION_LOST, Code.DRAINING, Code.OVERLOADED, Code.RATE_LIMITED}
)
"""Errors with `executed="no"` that may pass."""

_UNSURE = frozenset({Code.CONNECTION_LOST, Code.SERVER_LOST, Code.PLAYER_LEFT})
"""Errors with `executed="maybe"` after which the handler's side may know what became of the call."""


class Tries(NamedTuple):
    """What the tries of one call need beside the call itself.

    Attributes:
        retry: how often and when.
        token: the bytes that tell the handler's side that all tries are one call.
        next_id: return a new ID of a call.
        waits: whether a try waits for room.
        bounded: whether the number of calls that wait may forbid it; see `WaitingRoom.add`.
    """

    retry: Retry
    token: bytes
    next_id: Callable[[], int]
    waits: bool = False
    bounded: bool = True


class RetriedCall:
    """A call with its tries.

    Attributes:
        call: the call that the program has.
        encoded: what each try carries.
        current: the try under way; None between tries.
        tried_at: when the latest try was made.
        due_at: when the next try is due, between tries.
        sent: how many tries there were.
        header: that of the calls when the first try was made that may still be under way. An operator has
            another one on each link: to the broker, it is then somebody else. A try on an earlier link may
            wait in a node that is stopped, and arrive last. So the handler's side must go on remembering a
            call with tries on several links.
    """

    __slots__ = (
        "_error",
        "_failed",
        "call",
        "current",
        "due_at",
        "encoded",
        "header",
        "sent",
        "tried_at",
        "tries",
    )

    def __init__(self, call: PendingCall, encoded: EncodedCall, tries: Tries) -> None:
        self.call = call
        self.encoded = encoded
        self.tries = tries
        self.current: Try | None = None
        self.tried_at = call.began
        self.due_at = 0.0
        self.sent = 0
        self.header = b""
        self._failed = 0  # how many tries failed, or could not be made
        self._error: CallbackError | None = None

    @property
    def may_have_run(self) -> bool:
        """Whether the handler may have run."""
        return self._error is not None and self._error.executed == "maybe"

    def envelope(self, call_id: int, now: float) -> bytes:
        """Return the CALL of a try: the call itself with its token, or a repeat if it may have run."""
        encoded, token, key = self.encoded, self.tries.token, self.call.key
        budget = budget_ms(self.call.deadline, now)
        if not self.may_have_run:
            return build_call(call_id, key, encoded.payload, budget, add_token(encoded.context, token))
        age_ms = math.ceil(1000 * (now - self.call.began))
        payload = pack_repeat(key, token, age_ms, encoded.payload)
        return build_call(call_id, REPEAT_KEY, payload, budget, encoded.context)

    def delay_s(self, error: CallbackError, random: Callable[[], float]) -> float | None:
        """Return when to try again after an error, in seconds; None for never."""
        retry, code = self.tries.retry, error.code
        if error.executed == "no":
            # A player that was there a moment ago may come back.
            again = code in _PASSING or (code is Code.UNKNOWN_PLAYER and self.may_have_run)
        else:
            again = error.executed == "maybe" and code in _UNSURE and error.data != NOT_KNOWN
        if not again or self.sent >= retry.attempts:
            return None
        delay_s: float = min(retry.longest_delay, retry.first_delay * 2 ** min(self._failed, 30))
        delay_s *= 0.5 + 0.5 * random()
        if code is Code.RATE_LIMITED:
            delay_s = max(delay_s, _retry_after_s(error.data) * (1 + 0.1 * random()))
        return delay_s

    def failed(self, error: CallbackError) -> None:
        """Take note that a try failed, or could not be made."""
        self._failed += 1
        best = self._error
        if best is None or EXECUTED.index(error.executed) >= EXECUTED.index(best.executed):
            self._error = error

    def outcome(self, error: CallbackError) -> CallbackError:
        """Return the error of the call after the error of the last try.

        It is the one that says most about whether the handler ran, so `executed` is true of all tries
        together.
        """
        best = self._error
        assert best is not None
        if error.code in (Code.TIMEOUT, Code.CANCELLED):  # these say why there is no other try
            return _copy(error, best.executed, self.sent)
        return best if best.executed == "yes" else _copy(best, best.executed, self.sent)


class Try(PendingCall):
    """One try: a pending call of its own, whose outcome goes to the call that the program has.

    Attributes:
        retried: the call with its tries.
    """

    __slots__ = ("_ended", "retried")

    def __init__(
        self, call_id: int, retried: RetriedCall, now: float, ended: Callable[[Try, Any, Any], None]
    ) -> None:
        super().__init__(call_id, retried.call.key, retried.call.deadline, None, None, now)
        self.retried = retried
        self._ended = ended
        progress = retried.call._progress_taker
        if progress is not None:
            self._progress = progress

    def settle(self, results: tuple[Any, ...], error: CallbackError | None) -> None:
        super().settle(results, error)
        self._ended(self, results, error)


def _retry_after_s(data: Any) -> float:
    """Return how long the handler's side asks to wait, in seconds. It may say anything."""
    value: Any = data.get("retry_after", 0) if type(data) is dict else 0
    return value if type(value) in (int, float) and 0 <= value < math.inf else 0.0


def _copy(error: CallbackError, executed: Executed, sent: int) -> CallbackError:
    message = f"{error.message} (tried {sent} times)" if sent > 1 else error.message
    return call_error(error.code, message, executed, error.data)
