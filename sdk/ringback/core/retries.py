"""Retries: calls of this endpoint that are tried again, as long as that is safe and their time lasts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ringback.core.calls_out import CallsOut
from ringback.core.encoded_call import encoded_call
from ringback.core.endpoint_state import EndpointState
from ringback.core.pending_call import PendingCall
from ringback.core.receipts import Receipts
from ringback.core.retried_call import RetriedCall, Tries, Try
from ringback.core.routes import Routes
from ringback.core.shell import Shell
from ringback.core.waiting_room import WaitingRoom
from ringback.errors import CallbackError, CallTimeout, Cancelled, Executed, Overloaded, TooLarge
from ringback.protocol.frames import FrameType


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
        routes: Routes,
        random: Callable[[], float],
    ) -> None:
        """Make it without any calls.

        Args:
            random: return a number from 0 to 1, to spread the tries.
        """
        self._state = state
        self._limits = state.limits
        self._calls_out = calls_out
        self._room = room
        self._shell = shell
        self._receipts = receipts
        self._send, self._problem, self._never_leaves = routes.call, routes.problem, routes.never_leaves
        self._random = random
        self._calls: dict[PendingCall, RetriedCall] = {}
        self._between: dict[RetriedCall, None] = {}

    @property
    def waiting(self) -> int:
        """How many calls wait for their next try."""
        return len(self._between)

    # -- a try

    def add(
        self, call: PendingCall, kind: FrameType | None, encoded_id: bytes, envelope: bytes, tries: Tries
    ) -> None:
        """Send a call, and try it again if need be. The arguments before the last are those of
        `Routes.call`."""
        if tries.bounded and len(self._calls) >= self._limits.max_pending:
            text = f"{len(self._calls)} calls are tried again, and max_pending is {self._limits.max_pending}"
            self._calls_out.end(call, (), Overloaded(text))
            return
        retried = self._calls[call] = RetriedCall(call, encoded_call(kind, encoded_id, envelope), tries)
        self._step(retried, self._try, call.began)

    def _step(self, retried: RetriedCall, step: Callable[[RetriedCall, Any], None], argument: object) -> None:
        """Take a step of a call. A fault in it ends the call: nothing else would."""
        try:
            step(retried, argument)
        except BaseException as fault:
            self._state.contain("trying a call again", fault)
            if retried.call in self._calls:
                executed: Executed = "maybe" if retried.sent else "no"
                error = Cancelled("a fault of this endpoint ended the call", executed=executed)
                self._settle(retried, (), error)

    def _try(self, retried: RetriedCall, now: float) -> None:
        encoded, tries, call = retried.encoded, retried.tries, retried.call
        problem = self._problem(encoded.kind)
        if problem is not None:  # no try: it neither counts, nor uses one up
            self._failed(retried, problem)
            return
        retried.tried_at = now
        again = retried.may_have_run
        if not again:
            retried.header = self._state.header_of(encoded.kind)
        current = Try(tries.next_id(), retried, now, self._ended)
        envelope = retried.envelope(current.id, now)
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

    # -- its end

    def _ended(self, current: Try, results: tuple[Any, ...], error: CallbackError | None) -> None:
        retried = current.retried
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

    def _failed(self, retried: RetriedCall, error: CallbackError) -> None:
        """Plan the next try, or end the call."""
        never = self._never_leaves(retried.encoded.kind)
        delay_s = None if never else retried.delay_s(error, self._random)
        retried.failed(error)
        # The time of the state is that of the latest step, which may have been long ago.
        now = max(self._state.now, retried.tried_at)
        deadline = retried.call.deadline
        if delay_s is None or (deadline is not None and now + delay_s >= deadline):
            self._settle(retried, (), retried.outcome(error))
            return
        retried.due_at = now + delay_s
        self._between[retried] = None
        state = self._state
        if retried.due_at < state.sweep_at:
            state.sweep_at = max(retried.due_at, state.sweep_after)
        self._shell.want_flush()  # this has the shell set its timer

    def _settle(self, retried: RetriedCall, results: tuple[Any, ...], error: CallbackError | None) -> None:
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

    def end_calls(self, error: CallbackError) -> None:
        """End the calls between two tries whose next try can never leave."""
        for retried in list(self._between):
            if self._never_leaves(retried.encoded.kind):
                self._step(retried, self._failed, error)
