"""Calls in: the calls of others to this endpoint, from the limits that may refuse one to the reply.

An execution leaves its table in `CallsIn.reply` or `CallsIn.abandon`. `Once` takes out those of calls with a
token that a reply ends.
"""

from __future__ import annotations

from typing import Any

from ringback.core.endpoint_state import EndpointState
from ringback.core.execution import Execution, stopped_error
from ringback.core.once import Once
from ringback.core.outbox import Outbox, executed_in, no_room
from ringback.core.peers import Peer
from ringback.core.permissions import Rule, permits
from ringback.core.rate_limits import Rate, per_second, rate_limited
from ringback.core.registry import Handler
from ringback.core.serial_calls import SerialCalls
from ringback.core.shell import Shell
from ringback.core.typed_execution import TypedExecution
from ringback.errors import (
    CallbackError,
    CallTimeout,
    Code,
    Forbidden,
    Overloaded,
    UnknownCallback,
)
from ringback.protocol.contexts import ONCE
from ringback.protocol.envelopes import Encoder, Envelope
from ringback.protocol.repeats import REPEAT_KEY

CROSSING_S = 0.05
"""A CANCEL that comes at most this long before a call's deadline is recorded as a TIMEOUT. A CANCEL does not
say whether the time was over or the caller cancelled. The caller's deadline is earlier than the one here, by
as long as the call was on its way. Without this, chance would decide which of the two is recorded."""

PROGRESS_SHARE = 0.25
"""Progress is dropped while more than this share of `max_queued_bytes` waits for the link. The rest is for
calls and replies."""


class CallsIn:
    """The executions of one endpoint.

    Attributes:
        running: how many calls are being handled.
        once: the calls that have a token.
        serial: the calls to serial callbacks.
    """

    def __init__(
        self,
        state: EndpointState,
        outbox: Outbox,
        shell: Shell,
        encoder: Encoder,
        handlers: dict[str, Handler],
    ) -> None:
        self.running = 0
        self._state = state
        self._peers = state.peers
        self._limits = state.limits
        self._counters = state.counters
        self._outbox = outbox
        self._shell = shell
        self._encoder = encoder
        self._handlers = handlers
        calls_per_s = state.limits.max_calls_per_s
        self._rate = None if calls_per_s is None else per_second(calls_per_s)
        self.serial = SerialCalls(shell)
        self.once = Once(
            state,
            outbox,
            shell,
            self.serial,
            encoder,
            handlers,
            self._rate,
            self.take,
            self.refuse,
            self._count,
            self._busy,
        )

    # -- a call comes

    def take(self, peer: Peer, envelope: Envelope, size: int, now: float) -> None:
        """Run the handler of a call, or refuse the call."""
        if len(envelope) == 6:
            context = envelope.pop()
            if ONCE in context:
                self.once.take(peer, envelope, context, size, now)
                return
        else:
            context = None
        _, call_id, key, payload, budget_ms = envelope
        handler = self._handlers.get(key)
        limits = self._limits
        executions = peer.executions
        if call_id in executions:  # an error would end the first call of this ID
            self._counters.invalid += 1
            return
        # Refusals that last come before those that pass. The callback's own limit comes last, so that a
        # call that does not run takes nothing of it. Only the endpoint's own limit counts every call.
        if handler is None and key == REPEAT_KEY:  # it is counted as a call of what it repeats
            self.once.take_repeat(peer, envelope, context, size, now)
            return
        if self._rate is not None and (wait_s := peer.take("", self._rate, now)):
            error: CallbackError = rate_limited("this endpoint", self._rate, wait_s)
        elif handler is None:
            error = UnknownCallback(f"no callback with the key {key!r} is registered")
        elif handler.allow is not None and not self._permits(handler.allow, key, peer):
            error = Forbidden(f"the caller may not call {key!r}")
        elif (
            len(executions) >= limits.max_in_flight
            or peer.execution_bytes > limits.max_in_flight_bytes
            or self.running >= limits.max_running
            or self._shell.jobs_waiting() >= limits.max_running
        ):
            error = self._overloaded(peer)
        elif budget_ms == 0:
            error = CallTimeout("the call's time was over when it came", executed="no")
        elif handler.limit is not None and not peer.local and (wait_s := peer.take(key, handler.limit, now)):
            error = rate_limited(repr(key), handler.limit, wait_s)
        else:
            state = self._state
            deadline = None if budget_ms is None else now + budget_ms / 1000
            if deadline is not None and deadline < state.sweep_at:
                state.sweep_at = max(deadline, state.sweep_after)
            shell = self._shell
            make = Execution if handler.types is None else TypedExecution
            executions[call_id] = execution = make(
                shell,
                peer.route,
                peer.source,
                call_id,
                key,
                payload,
                deadline,
                handler,
                size,
                context,
            )
            peer.execution_bytes += size
            self.running += 1
            self._counters.executions += 1
            if handler.serial:
                self.serial.start(execution)
            else:
                shell.run(execution)
            return
        self.refuse(peer, call_id, error, key, payload, handler is not None)

    def refuse(
        self,
        peer: Peer,
        call_id: int,
        error: CallbackError,
        key: str = "",
        payload: Any = None,
        registered: bool = False,
    ) -> None:
        """Reply to a call with an error, without running its handler."""
        self._counters.refused += 1
        state = self._state
        if state.recorder is not None:
            state.recorder.call_refused(peer, key, payload, registered, state.now, error)
        self._outbox.add(peer, self._encoder.error(call_id, error))

    def _permits(self, rule: Rule, key: str, peer: Peer) -> bool:
        """Return whether a caller may call a callback that has an `allow`. The endpoint itself always may."""
        if peer.local:
            return True
        try:
            return permits(rule, peer.source, peer.of_operator)
        except BaseException as error:  # whatever it is, the caller waits for a reply
            self._shell.allow_failed(key, error)
            return False

    def _count(self, more: int) -> None:
        self.running += more

    def _busy(self, peer: Peer) -> Overloaded | None:
        """Return why no further call of a peer can be handled now; None if one can."""
        limits = self._limits
        crowded = len(peer.executions) >= limits.max_in_flight or self.running >= limits.max_running
        return self._overloaded(peer) if crowded else None

    def _overloaded(self, peer: Peer) -> Overloaded:
        handled = max(self.running, self._shell.jobs_waiting())
        limits = self._limits
        if handled >= limits.max_running:
            return Overloaded(f"{handled} calls are being handled, and max_running is {limits.max_running}")
        return Overloaded(
            f"{len(peer.executions)} calls of this caller, of {peer.execution_bytes} bytes,"
            f" are being handled; max_in_flight is {limits.max_in_flight},"
            f" and max_in_flight_bytes is {limits.max_in_flight_bytes}"
        )

    def rate_of(self, key: str) -> Rate | None:
        """Return the rate limit that now applies to a bucket of a peer, or None if there is none."""
        if not key:
            return self._rate
        handler = self._handlers.get(key)
        return None if handler is None else handler.limit

    # -- it ends

    def reply(self, execution: Execution, envelope: bytes, error: CallbackError | None, now: float) -> None:
        """Send the reply of a handler, if its caller still waits.

        Args:
            envelope: the encoded reply.
            error: the error in the reply; None if it has results.
            now: when the handler replied, on the monotonic clock, in seconds; not the time of a step.
        """
        if execution.handler.serial:
            self.serial.replied(execution)
        if not execution.awaited:
            if not self.once.replied(execution, envelope, error, now):
                self._counters.late_replies += 1
            return
        peer = self._peers[execution.route]  # a peer stays in its table while it has executions
        if self._outbox.queued_bytes > self._limits.max_queued_bytes:
            error = no_room(executed_in(error))
            envelope = self._encoder.error(execution.id, error)
        # Flat, although `abandon` does the same: this is for every call.
        execution.awaited = False
        del peer.executions[execution.id]
        peer.execution_bytes -= execution.size
        self.running -= 1
        recorder = self._state.recorder
        if recorder is not None:
            recorder.execution_ended(execution, peer, now, envelope, error)
        self._outbox.add(peer, envelope)

    def report(self, execution: Execution, envelope: bytes) -> None:
        """Send what a handler reports of its progress, if its caller still waits and there is room.

        Args:
            envelope: the encoded PROGRESS.
        """
        if self._outbox.queued_bytes > self._limits.max_queued_bytes * PROGRESS_SHARE:
            self._counters.dropped_progress += 1
        elif execution.awaited:
            self._outbox.add(self._peers[execution.route], envelope)
        elif not self.once.report(execution, envelope):
            self._counters.dropped_progress += 1

    def abandon(self, peer: Peer, call_id: int, why: Code) -> None:
        """Stop an execution whose caller no longer waits. If its time is over, reply with TIMEOUT.

        A CANCEL for a call that has ended says that its caller has the outcome.
        """
        execution = peer.executions.pop(call_id, None)
        if execution is not None:
            now, deadline = self._state.now, execution.deadline
            cancelled, ended_by = why is Code.CANCELLED, why
            if cancelled and deadline is not None and deadline - now <= CROSSING_S:
                why = Code.TIMEOUT
            if execution in self.once.running:
                self.once.abandon(peer, execution, ended_by, why)
                return
            execution.awaited = False
            peer.execution_bytes -= execution.size
            self.running -= 1
            execution.cancelled = True
            never_ran = execution.handler.serial and self.serial.stopped(execution)
            error = stopped_error(why, never_ran)
            if self._state.recorder is not None:
                self._state.recorder.execution_ended(execution, peer, now, b"", error)
            execution.payload = None  # the execution may wait long in a queue until it is thrown away
            # The caller may not have seen that the time is over, and a call has exactly one outcome.
            if why is Code.TIMEOUT and not cancelled:
                self._outbox.add(peer, self._encoder.error(call_id, error))
            if never_ran:
                return
            try:
                execution.shell.cancel(execution)
            except BaseException as fault:  # the executions behind this one must be stopped too
                self._state.contain("stopping a handler", fault)
        elif why is Code.CANCELLED:
            self.once.memory.received(peer.encoded_id, call_id)

    def waits_for_turn(self, peer: Peer, call_id: int) -> bool:
        """Return whether a call of this endpoint to itself waits for its turn: its handler has not run."""
        execution = peer.executions.get(call_id) if peer.local else None
        return execution is not None and self.serial.waits(execution)

    def leaves_queue(self, peer: Peer, call_id: int, why: Code) -> bool:
        """Stop a call of this endpoint to itself that waits for its turn. Return False if it does not wait.

        Do it at once: its turn may come before an envelope does.
        """
        waits = self.waits_for_turn(peer, call_id)
        if waits:
            self.abandon(peer, call_id, why)
        return waits
