"""Once: calls with a token are known when they come again, so that their handlers do not run twice.

Such a call has a token that is the same for all its tries. The handler's side remembers the call while its
handler runs, and its outcome for a while after that. A repeat gets the outcome of the first run.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ringback.core.endpoint_state import EndpointState
from ringback.core.execution import Execution, stopped_error
from ringback.core.outbox import SHORT_REPLY_BYTES, Outbox, executed_in, no_room
from ringback.core.peers import Peer
from ringback.core.rate_limits import Rate, rate_limited
from ringback.core.registry import Handler
from ringback.core.remembered_calls import OnceCall, RememberedCalls
from ringback.core.serial_calls import SerialCalls
from ringback.core.shell import Shell
from ringback.errors import CallbackError, Code, ConnectionLost, InvalidPayload, Overloaded
from ringback.protocol.contexts import ONCE
from ringback.protocol.envelopes import CALL, Encoder, Envelope
from ringback.protocol.repeats import NOT_KNOWN, put_in_id, read_repeat, read_token, take_out_id


class Once:
    """The calls with a token that others make to one endpoint.

    Attributes:
        running: the calls whose handlers run, by their executions and by the repeats that wait for them.
        memory: all calls that are known.
    """

    def __init__(
        self,
        state: EndpointState,
        outbox: Outbox,
        shell: Shell,
        serial: SerialCalls,
        encoder: Encoder,
        handlers: dict[str, Handler],
        rate: Rate | None,
        start: Callable[[Peer, Envelope, int, float], None],
        refuse: Callable[[Peer, int, CallbackError, str, object, bool], None],
        count: Callable[[int], None],
        busy: Callable[[Peer], CallbackError | None],
    ) -> None:
        """Remember nothing.

        Args:
            rate: the endpoint's own limit on calls per second.
            start: run a call without a token, or refuse it; see `CallsIn.take`.
            refuse: see `CallsIn.refuse`.
            count: add to the number of calls that are being handled.
            busy: return why no further call of a peer can be handled now; None if one can.
        """
        self.running: dict[Execution, OnceCall] = {}
        self.memory = RememberedCalls()
        self._state = state
        self._limits = state.limits
        self._outbox = outbox
        self._shell = shell
        self._serial = serial
        self._encoder = encoder
        self._handlers = handlers
        self._rate = rate
        self._start = start
        self._refuse = refuse
        self._count = count
        self._busy = busy
        self._detached: dict[Execution, OnceCall] = {}

    @property
    def waiting(self) -> int:
        """How many handlers run for callers whose links are lost. No table of a peer has their executions."""
        return len(self._detached)

    # -- a call comes

    def take(self, peer: Peer, envelope: Envelope, context: dict[str, str], size: int, now: float) -> None:
        """Handle a CALL whose context has a token."""
        token = read_token(context.pop(ONCE))
        if context:
            envelope.append(context)
        if token is None:  # another form: for this endpoint it has no meaning
            self._start(peer, envelope, size, now)
        else:
            self._take(peer, envelope, token, size, now, None)

    def take_repeat(
        self, peer: Peer, envelope: Envelope, context: dict[str, str] | None, size: int, now: float
    ) -> None:
        """Handle a CALL of the key for repeats."""
        _, call_id, key, payload, budget_ms = envelope
        repeat = read_repeat(payload)
        if repeat is None:
            self._refuse(
                peer, call_id, InvalidPayload("the payload is no repeat of a call"), key, None, False
            )
            return
        inner = [CALL, call_id, repeat.key, repeat.payload, budget_ms]
        if context:
            inner.append(context)
        self._take(peer, inner, repeat.token, size, now, repeat.age_ms / 1000)

    def _take(
        self, peer: Peer, envelope: Envelope, token: bytes, size: int, now: float, age_s: float | None
    ) -> None:
        call_id, key, payload = envelope[1:4]
        name = (peer.encoded_id, token)
        known = self.memory.calls.get(name)
        handler = self._handlers.get(key)
        if call_id in peer.executions:
            self._state.counters.invalid += 1
        elif known is not None:
            self._join(known, peer, envelope, size, now)
        elif (
            age_s is not None
            and not (handler and handler.idempotent)
            and not self.memory.would_know(age_s, now)
        ):
            text = f"{key!r} was called before this endpoint began: its handler may have run elsewhere"
            error: CallbackError = ConnectionLost(text, data=NOT_KNOWN)
            self._refuse(peer, call_id, error, key, payload, handler is not None)
        elif self.memory.full_for(peer):
            text = f"{len(self.memory.calls)} calls are remembered for retries, and their outcomes take"
            error = Overloaded(f"{text} {self.memory.size} bytes; there is no room for another one")
            self._refuse(peer, call_id, error, key, payload, handler is not None)
        else:
            self._start(peer, envelope, size, now)
            execution = peer.executions.get(call_id)
            if execution is not None:
                execution.awaited = False  # its reply comes to `replied`
                call = self.running[execution] = OnceCall(name, execution, peer)
                self.memory.add(call)

    def _join(self, call: OnceCall, peer: Peer, envelope: Envelope, size: int, now: float) -> None:
        """Give a call that came again the outcome of the first one, once there is one."""
        call_id, key, payload = envelope[1:4]
        if self._rate is not None and (wait_s := peer.take("", self._rate, now)):
            error: CallbackError = rate_limited("this endpoint", self._rate, wait_s)
            self._refuse(peer, call_id, error, key, payload, True)
        elif call.execution is None:
            self._send(call, peer, call_id)
        elif (busy := self._busy(peer)) is not None:
            self._refuse(peer, call_id, busy, key, payload, True)
        else:
            self._add_repeat(call, call.execution, peer, envelope, size, now)

    def _add_repeat(
        self, call: OnceCall, execution: Execution, peer: Peer, envelope: Envelope, size: int, now: float
    ) -> None:
        """Have a call that came again wait for the outcome of the first one."""
        _, call_id, key, _, budget_ms = envelope[:5]
        deadline = None if budget_ms is None else now + budget_ms / 1000
        state = self._state
        if deadline is not None and deadline < state.sweep_at:
            state.sweep_at = max(deadline, state.sweep_after)
        repeat = Execution(
            self._shell, peer.route, peer.source, call_id, key, None, deadline, execution.handler, size
        )
        repeat.awaited = False
        peer.executions[call_id] = repeat
        peer.execution_bytes += size
        self._count(1)
        call.repeats[repeat] = peer
        self.running[repeat] = call

    # -- it ends

    def replied(self, execution: Execution, envelope: bytes, error: CallbackError | None, now: float) -> bool:
        """Take the reply of a handler. Return False if nobody waits for it, and nothing remembers it."""
        call = self.running.get(execution)
        if call is None:
            return False
        if self._outbox.queued_bytes > self._limits.max_queued_bytes:
            error = no_room(executed_in(error))
            envelope = self._encoder.error(execution.id, error)
        self._end(call, execution, envelope, error, now)
        return True

    def report(self, execution: Execution, envelope: bytes) -> bool:
        """Send what a handler reports of its progress to those who wait. Return False if nobody does."""
        call = self.running.get(execution)
        waiting = [] if call is None else self._waiting(call)
        if waiting:
            progress = take_out_id(envelope)
            for one, peer in waiting:
                self._outbox.add(peer, put_in_id(progress, one.id))
        return bool(waiting)

    def _waiting(self, call: OnceCall) -> list[tuple[Execution, Peer]]:
        """Return the executions and repeats whose callers wait, each with its peer."""
        waiting = list(call.repeats.items())
        if call.execution is not None and call.attached:
            waiting.append((call.execution, call.peer))
        return waiting

    def abandon(self, peer: Peer, execution: Execution, why: Code, recorded: Code) -> None:
        """Handle the end of a wait for a call with a token. The execution is out of its table.

        A lost link ends the wait and not the handler: a repeat may come. A CANCEL, and the end of the time,
        end both. If the time of a repeat is over, its call goes on, unless its turn has not come and nobody
        else waits for it.

        Args:
            why: what ended the wait.
            recorded: the code that the outcome is recorded with.
        """
        call = self.running[execution]
        peer.execution_bytes -= execution.size
        self.memory.keep_on(call, self._state.now)
        repeats = execution is not call.execution
        if repeats:
            self._count(-1)
            del self.running[execution], call.repeats[execution]
        else:
            call.attached = False
        if why is Code.CANCELLED:
            self._stop(call, recorded)
        elif why is not Code.TIMEOUT:
            if not repeats:
                self._detached[execution] = call  # it still counts as one that is handled
                self._state.sweep_at = min(self._state.sweep_at, call.forget_at)
        elif repeats and self._may_still_run(call):
            self._outbox.add(peer, self._encoder.error(execution.id, stopped_error(why)))
        else:
            error = self._stop(call, recorded)
            self._outbox.add(peer, self._encoder.error(execution.id, error))

    def _may_still_run(self, call: OnceCall) -> bool:
        """Return whether the handler of a call runs, or will: it waits for its turn, and others for it."""
        assert call.execution is not None
        return bool(self._waiting(call)) or not self._serial.waits(call.execution)

    def _stop(self, call: OnceCall, why: Code) -> CallbackError:
        """Stop the handler of a call. Return its outcome: the reason."""
        execution = call.execution
        assert execution is not None
        execution.cancelled = True
        execution.payload = None
        never_ran = execution.handler.serial and self._serial.stopped(execution)
        error = stopped_error(why, never_ran)
        self._end(call, execution, self._encoder.error(execution.id, error), error, self._state.now)
        if never_ran:
            return error
        try:
            execution.shell.cancel(execution)
        except BaseException as fault:
            self._state.contain("stopping a handler", fault)
        return error

    def _end(
        self, call: OnceCall, execution: Execution, envelope: bytes, error: CallbackError | None, now: float
    ) -> None:
        """Send the outcome of a call to those who wait for it. Remember it if the handler may have run."""
        state = self._state
        if state.recorder is not None:
            state.recorder.execution_ended(execution, call.peer, now, envelope, error)
        outcome = take_out_id(envelope)
        self._count(-1 - len(call.repeats))
        for one, peer in self._waiting(call):
            del peer.executions[one.id]
            peer.execution_bytes -= one.size
            self._outbox.add(peer, put_in_id(outcome, one.id))
        newest = next(reversed(call.repeats), execution if call.attached else None)
        for one in call.repeats:
            del self.running[one]
        del self.running[execution]
        self._detached.pop(execution, None)
        call.execution, call.attached = None, False
        call.repeats.clear()
        if executed_in(error) == "no":  # nothing ran, so the next try may
            self.memory.drop(call)
            return
        if len(outcome) > SHORT_REPLY_BYTES and not self.memory.has_room_for(outcome):
            outcome = take_out_id(self._encoder.error(0, no_room(executed_in(error))))
        self.memory.end(call, outcome, executed_in(error), state.now)
        if newest is not None:
            self.memory.replied(call, newest.id)
        state.sweep_at = min(state.sweep_at, call.forget_at + 1.0)

    def _send(self, call: OnceCall, peer: Peer, call_id: int) -> None:
        if self._outbox.queued_bytes > self._limits.max_queued_bytes:
            self._outbox.add(peer, self._encoder.error(call_id, no_room(call.executed)))
        else:
            self._outbox.add(peer, put_in_id(call.outcome, call_id))
        self.memory.replied(call, call_id)

    # -- time

    def sweep(self, now: float) -> float:
        """Stop the handlers that run without a caller for too long, and forget old outcomes."""
        earliest = math.inf
        for execution, call in list(self._detached.items()):
            stop_at, why = execution.deadline, Code.TIMEOUT
            if stop_at is None:
                stop_at, why = math.inf if call.repeats else call.forget_at, Code.CONNECTION_LOST
            if stop_at <= now:
                self._stop(call, why)
            else:
                earliest = min(earliest, stop_at)
        return min(earliest, self.memory.sweep(now))

    def close(self) -> None:
        """Stop all handlers that still run, and forget everything: this endpoint is closed."""
        for execution in list(self._detached):
            execution.cancelled = True
            execution.payload = None
            if execution.handler.serial and self._serial.stopped(execution):
                continue
            try:
                execution.shell.cancel(execution)
            except BaseException as fault:
                self._state.contain("stopping a handler", fault)
        self._count(-len(self._detached))
        self._detached.clear()
        self.running.clear()
        self.memory.clear()
