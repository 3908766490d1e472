"""Once: calls with a token are known when they come again, so that their handlers do not run twice.

Such a call has a token that is the same for all its tries. The handler's side remembers the call while its
handler runs, and its outcome for a while after that. A repeat gets the outcome of the first run.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from ringback.core.endpoint_state import EndpointState
from ringback.core.execution import Execution
from ringback.core.outbox import Outbox, no_room
from ringback.core.peers import Peer
from ringback.core.rate_limits import Rate, rate_limited
from ringback.core.registry import Handler
from ringback.core.shell import Shell
from ringback.errors import CallbackError, Code, ConnectionLost, InvalidPayload, Overloaded, call_error
from ringback.protocol.contexts import ONCE
from ringback.protocol.envelopes import CALL, Encoder, Envelope
from ringback.protocol.repeats import NOT_KNOWN, put_in_id, read_repeat, read_token, take_out_id

REMEMBER_S = 120.0
"""How long an outcome is remembered. No outcome is forgotten earlier."""

ON_THE_WAY_S = 2.0
"""How long a repeat may have been on its way: an endpoint that began shortly before it is not sure whether it
was there for the first try. Heartbeats find a link that delays frames for longer."""

MAX_REMEMBERED = 100_000
MAX_REMEMBERED_BYTES = 64 * 1024 * 1024
"""How many calls are remembered, and how many bytes their outcomes may take. Over either bound, a call with a
token is refused: an endpoint that forgot one early could run its handler twice."""

PLAYER_SHARE = 16
"""A player may take one part in so many of each bound, so that it leaves room for others."""

SHORT_BYTES = 256
"""An outcome up to this size is remembered in any case."""


class OnceCall:
    """A call with a token.

    Attributes:
        name: the ID part of its caller, and its token.
        execution: what runs; None once there is an outcome.
        peer: the peer that the execution belongs to, or belonged to.
        attached: whether the execution is in the table of its peer. It is not once its caller's link is lost.
        repeats: the repeats that wait for the execution, each with its peer.
        outcome: the encoded reply without its ID.
        forget_at: when the outcome is forgotten, on the monotonic clock, in seconds. Of a call that has no
            outcome, no deadline, and nobody that waits: when its handler is stopped.
    """

    __slots__ = ("attached", "execution", "forget_at", "name", "outcome", "peer", "repeats")

    def __init__(self, name: tuple[bytes, bytes], execution: Execution, peer: Peer) -> None:
        self.name = name
        self.execution: Execution | None = execution
        self.peer = peer
        self.attached = True
        self.repeats: dict[Execution, Peer] = {}
        self.outcome = b""
        self.forget_at = math.inf


class Once:
    """The calls with a token that others make to one endpoint.

    Attributes:
        running: the calls whose handlers run, by their executions and by the repeats that wait for them.
        calls: all calls that are remembered.
        size: the bytes of all outcomes.
    """

    def __init__(
        self,
        state: EndpointState,
        outbox: Outbox,
        shell: Shell,
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
        self.calls: dict[tuple[bytes, bytes], OnceCall] = {}
        self.size = 0
        self._state = state
        self._limits = state.limits
        self._outbox = outbox
        self._shell = shell
        self._encoder = encoder
        self._handlers = handlers
        self._rate = rate
        self._start = start
        self._refuse = refuse
        self._count = count
        self._busy = busy
        self._began = math.inf
        self._detached: dict[Execution, OnceCall] = {}
        self._ended: deque[OnceCall] = deque()
        self._shares: dict[bytes, tuple[int, int]] = {}

    @property
    def waiting(self) -> int:
        """How many handlers run for callers whose links are lost. No table of a peer has their executions."""
        return len(self._detached)

    def begin(self, now: float) -> None:
        """Take note that from now on this endpoint gets all calls for its place."""
        self._began = now

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
        known = self.calls.get(name)
        handler = self._handlers.get(key)
        if call_id in peer.executions:
            self._state.counters.invalid += 1
        elif known is not None:
            self._join(known, peer, envelope, size, now)
        elif age_s is not None and not (handler and handler.idempotent) and not self._would_know(age_s, now):
            text = f"{key!r} was called before this endpoint began: its handler may have run elsewhere"
            error: CallbackError = ConnectionLost(text, data=NOT_KNOWN)
            self._refuse(peer, call_id, error, key, payload, handler is not None)
        elif self._full(peer):
            text = f"{len(self.calls)} calls are remembered for retries, and their outcomes take"
            error = Overloaded(f"{text} {self.size} bytes; there is no room for another one")
            self._refuse(peer, call_id, error, key, payload, handler is not None)
        else:
            self._start(peer, envelope, size, now)
            execution = peer.executions.get(call_id)
            if execution is not None:
                execution.awaited = False  # its reply comes to `replied`
                call = OnceCall(name, execution, peer)
                self.calls[name] = self.running[execution] = call
                self._share(name[0], 1, 0)

    def _would_know(self, age_s: float, now: float) -> bool:
        """Return whether a call of this age would be known if it had come here."""
        return age_s + ON_THE_WAY_S < min(now - self._began, REMEMBER_S)

    def _full(self, peer: Peer) -> bool:
        if len(self.calls) >= MAX_REMEMBERED or self.size >= MAX_REMEMBERED_BYTES:
            return True
        calls, size = self._shares.get(peer.encoded_id, (0, 0))
        share = PLAYER_SHARE if peer.is_player else 1
        return calls >= MAX_REMEMBERED // share or size >= MAX_REMEMBERED_BYTES // share

    def _share(self, encoded_id: bytes, calls: int, size: int) -> None:
        """Count what is remembered of one caller."""
        had_calls, had_size = self._shares.get(encoded_id, (0, 0))
        self._shares[encoded_id] = (had_calls + calls, had_size + size)
        if self._shares[encoded_id] == (0, 0):
            del self._shares[encoded_id]

    def _join(self, call: OnceCall, peer: Peer, envelope: Envelope, size: int, now: float) -> None:
        """Give a call that came again the outcome of the first one, once there is one."""
        _, call_id, key, payload, budget_ms = envelope[:5]
        execution = call.execution
        if self._rate is not None and (wait_s := peer.take("", self._rate, now)):
            error: CallbackError | None = rate_limited("this endpoint", self._rate, wait_s)
        elif execution is None:
            self._send(peer, call_id, call.outcome)
            return
        else:
            error = self._busy(peer)
        if error is not None or execution is None:
            self._refuse(peer, call_id, error or Overloaded(), key, payload, True)
            return
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
            error = no_room("yes")
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
        end both.

        Args:
            why: what ended the wait.
            recorded: the code that the outcome is recorded with.
        """
        call = self.running[execution]
        peer.execution_bytes -= execution.size
        lost = why is not Code.CANCELLED and why is not Code.TIMEOUT
        call.forget_at = self._state.now + REMEMBER_S
        if execution is not call.execution:
            self._count(-1)
            del self.running[execution], call.repeats[execution]
            if why is Code.TIMEOUT:
                self._outbox.add(peer, self._encoder.error(execution.id, _stopped(why)))
            if why is not Code.CANCELLED:
                return
        elif lost:
            call.attached = False
            self._detached[execution] = call  # it still counts as one that is handled
            self._state.sweep_at = min(self._state.sweep_at, call.forget_at)
            return
        else:
            call.attached = False
            if why is Code.TIMEOUT:
                self._outbox.add(peer, self._encoder.error(execution.id, _stopped(why)))
        self._stop(call, recorded)

    def _stop(self, call: OnceCall, why: Code) -> None:
        """Stop the handler of a call. Its outcome is the reason."""
        execution = call.execution
        assert execution is not None
        execution.cancelled = True
        execution.payload = None
        error = _stopped(why)
        self._end(call, execution, self._encoder.error(execution.id, error), error, self._state.now)
        try:
            execution.shell.cancel(execution)
        except BaseException as fault:
            self._state.contain("stopping a handler", fault)

    def _end(
        self, call: OnceCall, execution: Execution, envelope: bytes, error: CallbackError | None, now: float
    ) -> None:
        """Remember the outcome of a call, and send it to those who wait for it."""
        state = self._state
        if state.recorder is not None:
            state.recorder.execution_ended(execution, call.peer, now, envelope, error)
        outcome = take_out_id(envelope)
        self._count(-1 - len(call.repeats))
        for one, peer in self._waiting(call):
            del peer.executions[one.id]
            peer.execution_bytes -= one.size
            self._outbox.add(peer, put_in_id(outcome, one.id))
        for one in call.repeats:
            del self.running[one]
        del self.running[execution]
        self._detached.pop(execution, None)
        call.execution, call.attached = None, False
        call.repeats.clear()
        if self.size + len(outcome) > MAX_REMEMBERED_BYTES and len(outcome) > SHORT_BYTES:
            outcome = take_out_id(self._encoder.error(0, no_room("yes")))
        call.outcome = outcome
        call.forget_at = state.now + REMEMBER_S
        self.size += len(outcome)
        self._share(call.name[0], 0, len(outcome))
        self._ended.append(call)
        state.sweep_at = min(state.sweep_at, call.forget_at + 1.0)

    def _send(self, peer: Peer, call_id: int, outcome: bytes) -> None:
        if self._outbox.queued_bytes > self._limits.max_queued_bytes:
            self._outbox.add(peer, self._encoder.error(call_id, no_room("yes")))
        else:
            self._outbox.add(peer, put_in_id(outcome, call_id))

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
        ended = self._ended
        while ended and ended[0].forget_at <= now:
            call = ended.popleft()
            del self.calls[call.name]
            self.size -= len(call.outcome)
            self._share(call.name[0], -1, -len(call.outcome))
        return min(earliest, ended[0].forget_at + 1.0) if ended else earliest  # at most once in a second

    def close(self) -> None:
        """Stop all handlers that still run, and forget everything: this endpoint is closed."""
        for execution in list(self._detached):
            execution.cancelled = True
            execution.payload = None
            try:
                execution.shell.cancel(execution)
            except BaseException as fault:
                self._state.contain("stopping a handler", fault)
        self._count(-len(self._detached))
        self._detached.clear()
        self.running.clear()
        self.calls.clear()
        self._ended.clear()
        self._shares.clear()
        self.size = 0


def _stopped(why: Code) -> CallbackError:
    text = (
        "its time was over before its handler replied"
        if why is Code.TIMEOUT
        else "the caller no longer waits"
    )
    return call_error(why, text, "maybe")
