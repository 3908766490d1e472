"""Retries: calls of this endpoint that are tried again, as long as that is safe and their time lasts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ringback._argument_names import checks_names
from ringback.core.calls_out import CallsOut
from ringback.core.encoded_call import EncodedCall, budget_ms, encoded_call
from ringback.core.endpoint_state import EndpointState
from ringback.core.pending_call import PendingCall
from ringback.core.receipts import Receipts
from ringback.core.shell import Shell
from ringback.core.waiting_room import WaitingRoom
from ringback.errors import (
    EXECUTED,
    CallbackError,
    CallTimeout,
    Cancelled,
    Code,
    Executed,
    Overloaded,
    TooLarge,
    call_error,
)
from ringback.protocol.envelopes import build_call
from ringback.protocol.frames import FrameType
from ringback.protocol.repeats import NOT_KNOWN, REPEAT_KEY, add_token, pack_repeat

_PASSING = frozenset(
    {Code.NO_SERVER, Code.CONNECTION_LOST, Code.DRAINING, Code.OVERLOADED, Code.RATE_LIMITED}
)
"""Errors with `executed="no"` that may pass."""

_UNSURE = frozenset({Code.CONNECTION_LOST, Code.SERVER_LOST, Code.PLAYER_LEFT})
"""Errors with `executed="maybe"` after which the handler's side may know what became of the call."""

MAX_DELAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Retry:
    """How a call is tried again.

    The delay before the second try is `first_delay`. It doubles with each further try, up to `longest_delay`,
    and has a random factor of 0.5 to 1. After RATE_LIMITED it is at least `retry_after`. A try that would
    come after the call's deadline is not made.

    Attributes:
        attempts: how many tries there may be in all. Time without a link to the broker does not count.
        first_delay: in seconds, at most a day.
        longest_delay: in seconds, at most a day.
    """

    attempts: int = 20
    first_delay: float = 0.05
    longest_delay: float = 1.0

    def __post_init__(self) -> None:
        if type(self.attempts) is not int or self.attempts < 1:
            raise ValueError(f"attempts must be an int above 0, not {self.attempts!r}")
        for name in ("first_delay", "longest_delay"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 < value <= MAX_DELAY_S:
                allowed = f"a number of seconds above 0 and at most {MAX_DELAY_S:g}"
                raise ValueError(f"{name} must be {allowed}, not {value!r:.40}")


Retry.__init__ = checks_names(Retry.__init__)  # type: ignore[method-assign]


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


class _Retried:
    """A call with its tries.

    Attributes:
        call: the call that the program has.
        encoded: what each try carries.
        current: the try under way; None between tries.
        tried_at: when the latest try was made.
        due_at: when the next try is due, between tries.
        sent: how many tries there were.
        failed: how many tries failed, or could not be made.
        error: the error that says most about whether the handler ran, of all tries so far.
        header: that of the calls when the first try was made that may still be under way. An operator has
            another one on each link: to the broker, it is then somebody else. A try on an earlier link may
            wait in a node that is stopped, and arrive last. So the handler's side must go on remembering a
            call with tries on several links.
    """

    __slots__ = (
        "call",
        "current",
        "due_at",
        "encoded",
        "error",
        "failed",
        "header",
        "sent",
        "tried_at",
        "tries",
    )

    def __init__(self, call: PendingCall, encoded: EncodedCall, tries: Tries) -> None:
        self.call = call
        self.encoded = encoded
        self.tries = tries
        self.current: _Try | None = None
        self.tried_at = call.began
        self.due_at = 0.0
        self.sent = 0
        self.failed = 0
        self.error: CallbackError | None = None
        self.header = b""

    @property
    def may_have_run(self) -> bool:
        """Whether the handler may have run."""
        return self.error is not None and self.error.executed == "maybe"


class _Try(PendingCall):
    """One try: a pending call of its own, whose outcome goes to the call that the program has."""

    __slots__ = ("_ended", "_retried")

    def __init__(
        self, call_id: int, retried: _Retried, now: float, ended: Callable[[_Try, Any, Any], None]
    ) -> None:
        super().__init__(call_id, retried.call.key, retried.call.deadline, None, None, now)
        self._retried = retried
        self._ended = ended
        progress = retried.call._progress_taker
        if progress is not None:
            self._progress = progress

    def settle(self, results: tuple[Any, ...], error: CallbackError | None) -> None:
        super().settle(results, error)
        self._ended(self, results, error)


class Retries:
    """The calls of one endpoint that are tried again.

    Each try is a call of its own for the counters, the limits and the figures of the broker.
    """

    def __init__(
        self,
        state: EndpointState,
        calls_out: CallsOut,
        room: WaitingRoom,
        shell: Shell,
        receipts: Receipts,
        send: Callable[[PendingCall, FrameType | None, bytes, bytes], None],
        problem: Callable[[FrameType | None], CallbackError | None],
        closed: Callable[[], bool],
        random: Callable[[], float],
    ) -> None:
        """Make it without any calls.

        Args:
            send: send a call, as `Endpoint.call` does.
            problem: return why calls of a kind cannot leave now; None if they can.
            closed: return whether the endpoint is closed.
            random: return a number from 0 to 1, to spread the tries.
        """
        self._state = state
        self._limits = state.limits
        self._calls_out = calls_out
        self._room = room
        self._shell = shell
        self._receipts = receipts
        self._send = send
        self._problem = problem
        self._closed = closed
        self._random = random
        self._calls: dict[PendingCall, _Retried] = {}
        self._between: dict[_Retried, None] = {}

    @property
    def waiting(self) -> int:
        """How many calls wait for their next try."""
        return len(self._between)

    # -- a try

    def add(
        self, call: PendingCall, kind: FrameType | None, encoded_id: bytes, envelope: bytes, tries: Tries
    ) -> None:
        """Send a call, and try it again if need be. The arguments before the last are those of
        `Endpoint.call`."""
        if tries.bounded and len(self._calls) >= self._limits.max_pending:
            text = f"{len(self._calls)} calls are tried again, and max_pending is {self._limits.max_pending}"
            self._calls_out.end(call, (), Overloaded(text))
            return
        retried = self._calls[call] = _Retried(call, encoded_call(kind, encoded_id, envelope), tries)
        self._step(retried, self._try, call.began)

    def _step(self, retried: _Retried, step: Callable[[_Retried, Any], None], argument: object) -> None:
        """Take a step of a call. A fault in it ends the call: nothing else would."""
        try:
            step(retried, argument)
        except BaseException as fault:
            self._state.contain("trying a call again", fault)
            if retried.call in self._calls:
                executed: Executed = "maybe" if retried.sent else "no"
                error = Cancelled("a fault of this endpoint ended the call", executed=executed)
                self._settle(retried, (), error)

    def _try(self, retried: _Retried, now: float) -> None:
        encoded, tries, call = retried.encoded, retried.tries, retried.call
        problem = self._problem(encoded.kind)
        if problem is not None:  # no try: it neither counts, nor uses one up
            self._failed(retried, problem)
            return
        retried.tried_at = now
        again = retried.may_have_run
        if not again:
            retried.header = self._state.header_of(encoded.kind)
        current = _Try(tries.next_id(), retried, now, self._ended)
        envelope = self._envelope(retried, current, now)
        if len(envelope) > self._limits.max_call_bytes:
            text = f"the call takes {len(envelope)} bytes encoded, with its token"
            self._failed(retried, TooLarge(f"{text}; at most {self._limits.max_call_bytes} are allowed"))
            return
        retried.current = current
        if retried.sent:
            self._state.counters.retries += 1
        retried.sent += 1
        self._receipts.send(encoded.kind, encoded.encoded_id)
        if tries.waits and not again:  # a repeat says how old the call is, and cannot wait
            self._room.add(current, encoded.kind, encoded.encoded_id, envelope, tries.bounded)
        else:
            self._send(current, encoded.kind, encoded.encoded_id, envelope)
        recorder = self._state.recorder
        if again and recorder is not None and current.id in recorder.payloads:
            recorder.payloads[current.id] = encoded.payload
        if current.route is not None:
            call.route = current.route

    def _envelope(self, retried: _Retried, current: _Try, now: float) -> bytes:
        """Return the CALL of a try: the call itself with its token, or a repeat if it may have run."""
        encoded, token, key = retried.encoded, retried.tries.token, retried.call.key
        budget = budget_ms(current.deadline, now)
        if not retried.may_have_run:
            return build_call(current.id, key, encoded.payload, budget, add_token(encoded.context, token))
        age_ms = math.ceil(1000 * (now - retried.call.began))
        payload = pack_repeat(key, token, age_ms, encoded.payload)
        return build_call(current.id, REPEAT_KEY, payload, budget, encoded.context)

    # -- its end

    def _ended(self, current: _Try, results: tuple[Any, ...], error: CallbackError | None) -> None:
        retried = current._retried
        retried.current = None
        if retried.call not in self._calls:  # a fault has ended it
            return
        if current.route is not None:
            retried.call.route = current.route
        encoded = retried.encoded
        only_link = retried.header == self._state.header_of(encoded.kind)
        if only_link and (error is None or error.executed == "yes"):
            self._receipts.add(encoded.kind, encoded.encoded_id, current.id)
        if error is None:
            self._settle(retried, results, None)
        else:
            self._step(retried, self._failed, error)

    def _failed(self, retried: _Retried, error: CallbackError) -> None:
        """Plan the next try, or end the call."""
        delay_s = self._delay_s(retried, error)
        best = retried.error
        if best is None or EXECUTED.index(error.executed) >= EXECUTED.index(best.executed):
            retried.error = error
        retried.failed += 1
        # The time of the state is that of the latest step, which may have been long ago.
        now = max(self._state.now, retried.tried_at)
        deadline = retried.call.deadline
        if delay_s is None or (deadline is not None and now + delay_s >= deadline):
            self._settle(retried, (), self._last_error(retried, error))
            return
        retried.due_at = now + delay_s
        self._between[retried] = None
        state = self._state
        if retried.due_at < state.sweep_at:
            state.sweep_at = max(retried.due_at, state.sweep_after)
        self._shell.want_flush()  # this has the shell set its timer

    def _delay_s(self, retried: _Retried, error: CallbackError) -> float | None:
        """Return when to try again after an error, in seconds; None for never."""
        retry, code = retried.tries.retry, error.code
        if error.executed == "no":
            # A player that was there a moment ago may come back.
            again = code in _PASSING or (code is Code.UNKNOWN_PLAYER and retried.may_have_run)
        else:
            again = error.executed == "maybe" and code in _UNSURE and error.data != NOT_KNOWN
        if not again or retried.sent >= retry.attempts or self._closed():
            return None
        delay_s: float = min(retry.longest_delay, retry.first_delay * 2 ** min(retried.failed, 30))
        delay_s *= 0.5 + 0.5 * self._random()
        if code is Code.RATE_LIMITED:
            delay_s = max(delay_s, _retry_after_s(error.data) * (1 + 0.1 * self._random()))
        return delay_s

    def _last_error(self, retried: _Retried, error: CallbackError) -> CallbackError:
        """Return the error of the call: what it says of `executed` is true of all tries together."""
        best = retried.error
        assert best is not None
        if error.code in (Code.TIMEOUT, Code.CANCELLED):  # these say why there is no other try
            return _copy(error, best.executed, retried.sent)
        return best if best.executed == "yes" else _copy(best, best.executed, retried.sent)

    def _settle(self, retried: _Retried, results: tuple[Any, ...], error: CallbackError | None) -> None:
        del self._calls[retried.call]
        self._between.pop(retried, None)
        self._calls_out.end(retried.call, results, error)

    # -- from outside

    def sweep(self, now: float) -> float:
        """Make the tries that are due. Return when the next one is due."""
        earliest = math.inf
        for retried in list(self._between):
            if retried.due_at > now:
                earliest = min(earliest, retried.due_at)
                continue
            del self._between[retried]
            deadline = retried.call.deadline
            if deadline is not None and deadline <= now:
                text = f"the time of the call of {retried.call.key!r} was over before another try"
                self._step(retried, self._failed, CallTimeout(text, executed="no"))
            else:
                self._step(retried, self._try, now)
        return earliest

    def cancel(self, call: PendingCall) -> bool:
        """End a call because its caller says so. Return False if it is not tried here."""
        retried = self._calls.get(call)
        if retried is None:
            return False
        if retried.current is not None:
            self._calls_out.cancel(retried.current)
        else:
            text = "the caller cancelled the call between two tries"
            self._step(retried, self._failed, Cancelled(text, executed="no"))
        return True

    def close(self, error: CallbackError) -> None:
        """End the calls between two tries: this endpoint is closed."""
        for retried in list(self._between):
            self._step(retried, self._failed, error)


def _retry_after_s(data: Any) -> float:
    """Return how long the handler's side asks to wait, in seconds. It may say anything."""
    value: Any = data.get("retry_after", 0) if type(data) is dict else 0
    return value if type(value) in (int, float) and 0 <= value < math.inf else 0.0


def _copy(error: CallbackError, executed: Executed, sent: int) -> CallbackError:
    message = f"{error.message} (tried {sent} times)" if sent > 1 else error.message
    return call_error(error.code, message, executed, error.data)
