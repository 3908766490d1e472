"""Calls out and calls in, over any number of peers.

A pending call leaves its table in `_finish`, whatever ended it, and nowhere else.
"""

from __future__ import annotations

import math
from typing import Any

import msgpack

from ringback.core.call_recorder import CallRecorder
from ringback.core.calls import Execution, PendingCall
from ringback.core.counters import EndpointCounters
from ringback.core.outbox import Outbox
from ringback.core.peers import Peer
from ringback.core.permissions import Rule, permits
from ringback.core.rate_limits import Rate, per_second
from ringback.core.registry import Handler
from ringback.core.shell import Shell
from ringback.errors import (
    EXECUTED,
    CallbackError,
    CallTimeout,
    Cancelled,
    Code,
    Executed,
    Forbidden,
    InvalidPayload,
    Overloaded,
    RateLimited,
    UnknownCallback,
    call_error,
)
from ringback.protocol import envelopes
from ringback.protocol.envelopes import CALL, CANCEL, ERROR, RESULT, Decoded, Encoder, Envelope, Unreadable
from ringback.protocol.frames import Role
from ringback.protocol.limits import Limits
from ringback.protocol.player_ids import decode_player_id
from ringback.protocol.reports import MAX_WATCHED_BYTES, OTHERS, Report

SWEEP_S = 0.005
SWEEP_S_AN_ENTRY = 1e-6
"""Deadlines are looked for at most so often: a timeout fires late by 5 ms, and 1 ms for each 1000 calls."""

IDLE_S = 10.0
"""Routes that nothing is in flight on are forgotten after so long at the latest; where a rate limit was
counted, after twice as long, or when the limit says nothing any more."""

MAX_REMEMBERED = 10_000
"""Routes of sources that were named, and of operators, that are kept for their buckets alone. Those of
players end with them, but nobody says when an operator has left, and it may name any number of sources."""

SHORT_BYTES = 256
"""An answer as short as an error is kept as it is."""

MAX_RETURNED = 4096
"""Answers that may wait for one caller that does not read, where all together are over their bound."""


class Exchange:
    """Pending calls, executions and their deadlines.

    Attributes:
        peers: by route.
        pending: how many calls wait for an answer.
        running: how many calls of others are being handled.
        now: the time of the latest step; what is delivered to oneself is delivered then.
        counters: what was counted.
        tallies: calls by callback, for the broker; None where it wants to hear nothing, as of a player.
    """

    def __init__(self, shell: Shell, handlers: dict[str, Handler], limits: Limits) -> None:
        self.peers: dict[bytes, Peer] = {}
        self.pending = 0
        self.running = 0
        self.counters = EndpointCounters()
        self.tallies: CallRecorder | None = None
        self.outbox = Outbox(shell, self._deliver_local)
        self._shell = shell
        self._handlers = handlers
        self._limits = limits
        calls_per_s = limits.max_calls_per_s
        self._rate = None if calls_per_s is None else per_second(calls_per_s)
        self._encoder = Encoder(envelopes.OWN)  # refusals and cancels leave, however small the limits are
        self._sweep_at = math.inf
        self._sweep_after = -math.inf
        self._tidy_at = -math.inf
        self._returned: list[Peer] = []
        self._returned_bytes = 0
        self._resend_at = math.inf
        self.now = 0.0

    # -- calls out

    def open(self, peer: Peer) -> Peer:
        """Puts a new route into the table, and gives it."""
        self.peers[peer.key] = peer
        self._sweep_at = min(self._sweep_at, self.now + IDLE_S)
        return peer

    def call(self, call: PendingCall, peer: Peer, envelope: bytes) -> None:
        """Sends a call, unless a bound says no."""
        limits = self._limits
        if self.pending >= limits.max_pending:
            self.fail_unsent(call, Overloaded(f"{self.pending} calls wait for answers already"), peer)
            return
        if len(peer.calls) >= limits.max_in_flight:
            self.fail_unsent(call, Overloaded(f"{len(peer.calls)} calls to one peer wait already"), peer)
            return
        if self.outbox.queued_bytes > limits.max_queued_bytes:
            waiting = f"{self.outbox.queued_bytes} bytes wait for the link already"
            self.fail_unsent(call, Overloaded(waiting), peer)
            return
        self.expect(call, peer)
        tallies = self.tallies
        if tallies is not None and peer.is_player:
            call.tally = tallies.called.get(call.key) or tallies.add(call.key, Role.PLAYER)
            if tallies.watches and len(envelope) <= MAX_WATCHED_BYTES:
                tallies.requests[call.id] = envelopes.read_own(envelope)[3]
        self.outbox.add(peer, envelope)

    def expect(self, call: PendingCall, peer: Peer) -> None:
        """Puts a call into the table."""
        self.counters.calls += 1
        self.pending += 1
        call.peer = peer
        peer.calls[call.id] = call
        deadline = call.deadline
        if deadline is not None and deadline < self._sweep_at:
            self._sweep_at = max(deadline, self._sweep_after)
            # A shell sets its timer after a flush, and the outbox asks for none when the link is full.
            self._shell.want_flush()

    def fail_unsent(self, call: PendingCall, error: CallbackError, peer: Peer | None = None) -> None:
        """Ends a call that was never in the table."""
        self.counters.calls += 1
        tallies = self.tallies
        if tallies is not None and peer is not None and peer.is_player:
            tally = tallies.called.get(call.key) or tallies.add(call.key, Role.PLAYER)
            tallies.count(tally, peer, call.key, self.now, 0.0, error)
        self._settle(call, (), error)

    def cancel(self, call: PendingCall) -> None:
        """Ends a call because its caller says so, and tells the handler's side."""
        peer = call.peer
        if peer is None or call.id not in peer.calls:
            return
        unsent = self.outbox.withdraw_call(peer, call.id)
        executed: Executed = "no" if unsent else "maybe"
        self._finish(peer, call.id, (), Cancelled("the caller cancelled the call", executed=executed))
        if peer.key and not unsent:  # a question to the broker can only be forgotten
            self.outbox.add(peer, self._encoder.cancel(call.id))

    def finish(self, peer: Peer, call_id: int, results: tuple[Any, ...], error: CallbackError | None) -> None:
        """Ends a call with what came for it; what matches no pending call is counted."""
        if not self._finish(peer, call_id, results, error):
            self.counters.stray_replies += 1

    def fail_peer(self, peer: Peer, code: Code, message: str) -> None:
        """Ends all that is in flight with a peer that is gone, and forgets it."""
        for unsent in self.outbox.forget(peer):
            call_id = envelopes.call_id_in(unsent)
            if call_id is not None:
                self._finish(peer, call_id, (), call_error(code, message, "no"))
        self._forget_returned(peer)
        for call_id in list(peer.calls):
            self._finish(peer, call_id, (), call_error(code, message, "maybe"))
        for execution_id in list(peer.executions):
            self._abandon(peer, execution_id, code)
        self.peers.pop(peer.key, None)

    def _finish(
        self, peer: Peer, call_id: int, results: tuple[Any, ...], error: CallbackError | None
    ) -> bool:
        call = peer.calls.pop(call_id, None)
        if call is None:
            return False
        self.pending -= 1
        tally, tallies = call.tally, self.tallies
        if tally is not None and tallies is not None:
            took_s = self.now - call.began
            if error is None and not tallies.watches:  # flat, as for an answer: this is for every call
                tally.answered(took_s)
                peer.ended += 1
            else:
                request = tallies.requests.pop(call_id, ...)
                tallies.count(tally, peer, call.key, self.now, took_s, error, results, request)
        self._settle(call, results, error)
        return True

    def _settle(self, call: PendingCall, results: tuple[Any, ...], error: CallbackError | None) -> None:
        if error is None:
            self.counters.results += 1
        else:
            self.counters.errors += 1
        call.settle(results, error)
        if call.callback is not None or call.on_error is not None:
            self._shell.finished(call)

    # -- what comes

    def take(self, peer: Peer, body: bytes, now: float) -> None:
        """Takes the body of a frame that came from a peer."""
        self.now = now
        decoded, unreadable, lost_bytes = envelopes.decode(body, self._limits)
        size = len(body) // (len(decoded) or 1)  # of each, about: to measure each would cost on every call
        for envelope in decoded:
            kind = envelope[0]
            if kind == RESULT:
                if not self._finish(peer, envelope[1], tuple(envelope[2]), None):
                    self.counters.stray_replies += 1
            elif kind == CALL:
                self._take_call(peer, envelope, size, now)
            elif kind == CANCEL:
                self._abandon(peer, envelope[1], Code.CANCELLED)
            else:
                self.finish(peer, envelope[1], (), envelopes.to_error(envelope))
        for damaged in unreadable:
            self._take_unreadable(peer, damaged)
        if lost_bytes:
            self.counters.invalid += 1

    def bounced(self, peer: Peer, body: bytes, code: Code, now: float) -> None:
        """Takes back the body of a frame that could not be delivered."""
        text = _BOUNCE_TEXTS.get(code, "the broker could not deliver it")
        if code is Code.UNKNOWN_PLAYER and peer.address:
            text = f"no player with the ID {decode_player_id(peer.address)!r} is connected"
        decoded = envelopes.decode(body, envelopes.OWN)
        data = {"retry_after": 1.0} if code is Code.RATE_LIMITED else None  # then a whole burst may pass
        for call_id in _calls_in(decoded):
            self._finish(peer, call_id, (), call_error(code, text, "no", data))
        if code in (Code.OVERLOADED, Code.RATE_LIMITED):
            for envelope in decoded.envelopes:
                if envelope[0] in (RESULT, ERROR):
                    executed = "yes" if envelope[0] == RESULT else EXECUTED[envelope[4]]
                    self._resend_later(peer, envelope[1], msgpack.packb(envelope), executed, now)
            for damaged in decoded.unreadable:  # its caller could not have read it either
                if damaged.type in (RESULT, ERROR):
                    error = _unacceptable(damaged)
                    answer = self._encoder.error(damaged.id, error)
                    self._resend_later(peer, damaged.id, answer, error.executed, now)
        self._tidy(peer, now)

    def _take_call(self, peer: Peer, envelope: Envelope, size: int, now: float) -> None:
        context = envelope.pop() if len(envelope) == 6 else None
        _, call_id, key, payload, budget_ms = envelope
        handler = self._handlers.get(key)
        limits = self._limits
        executions = peer.executions
        # What stays so comes before what passes; a callback's own limit last, so that a call that is not
        # run takes nothing of it. Only the endpoint's own counts them all, whatever they are.
        if self._rate is not None and (wait_s := peer.take("", self._rate, now)):
            error: CallbackError = _rate_limited("this endpoint", self._rate, wait_s)
        elif handler is None:
            error = UnknownCallback(f"no callback of the key {key!r} is registered")
        elif handler.allow is not None and not self._permits(handler.allow, key, peer):
            error = Forbidden(f"the caller may not call {key!r}")
        elif (
            len(executions) >= limits.max_in_flight
            or peer.execution_bytes > limits.max_in_flight_bytes
            or self.running >= limits.max_running
            or self._shell.jobs_waiting() >= limits.max_running
        ):
            error = self._overload(peer)
        elif budget_ms == 0:
            error = CallTimeout("the call's time was over when it came", executed="no")
        elif call_id in executions:
            self.counters.invalid += 1
            return
        elif handler.limit is not None and not peer.local and (wait_s := peer.take(key, handler.limit, now)):
            error = _rate_limited(repr(key), handler.limit, wait_s)
        else:
            deadline = None if budget_ms is None else now + budget_ms / 1000
            if deadline is not None and deadline < self._sweep_at:
                self._sweep_at = max(deadline, self._sweep_after)
            execution = Execution(
                self._shell, peer, call_id, key, payload, deadline, handler, size, now, context
            )
            tallies = self.tallies
            if tallies is not None:
                execution.tally = tallies.handled.get(key) or tallies.add(key, Role.SERVER)
            executions[call_id] = execution
            peer.execution_bytes += size
            self.running += 1
            self.counters.executions += 1
            self._shell.run(execution)
            return
        self._refuse(peer, call_id, error, key, payload, handler is not None)

    def _permits(self, rule: Rule, key: str, peer: Peer) -> bool:
        """Tells whether a caller may call what has an `allow`; this endpoint itself always may."""
        if peer.local:
            return True
        try:
            return permits(rule, peer.source, peer.of_operator)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a cancelled future's too: the call has to get its answer
            self._shell.allow_failed(key, error)
            return False

    def _overload(self, peer: Peer) -> Overloaded:
        handled = max(self.running, self._shell.jobs_waiting())
        if handled >= self._limits.max_running:
            return Overloaded(f"{handled} calls are being handled, or wait to be, already")
        calls, size = len(peer.executions), peer.execution_bytes
        return Overloaded(f"{calls} calls of one caller, of {size} bytes, are being handled already")

    def _end_execution(self, peer: Peer, call_id: int) -> Execution | None:
        """Takes an execution out of its table, if it is there still."""
        execution = peer.executions.pop(call_id, None)
        if execution is not None:
            peer.execution_bytes -= execution.size
            self.running -= 1
        return execution

    def _abandon(self, peer: Peer, call_id: int, why: Code) -> None:
        """Stops what is handled for a caller that does not wait for it any more, or is gone."""
        execution = self._end_execution(peer, call_id)
        if execution is not None:
            if self.tallies is not None:
                error = call_error(why, "nobody waits for it any more", "maybe")
                self.tallies.count_execution(execution, self.now, error)
            execution.cancelled = True
            execution.payload = None  # it may wait for long to be thrown away
            execution.shell.cancel(execution)

    def _take_unreadable(self, peer: Peer, damaged: Unreadable) -> None:
        self.counters.invalid += 1
        if damaged.type == CALL:
            self._refuse(peer, damaged.id, InvalidPayload(damaged.reason))
        elif damaged.type in (RESULT, ERROR):
            self.finish(peer, damaged.id, (), _unacceptable(damaged))

    def _refuse(
        self,
        peer: Peer,
        call_id: int,
        error: CallbackError,
        key: str = "",
        payload: Any = ...,
        registered: bool = False,
    ) -> None:
        """Answers a call without running a handler."""
        self.counters.refused += 1
        tallies = self.tallies
        if tallies is not None:
            counted = key if registered else OTHERS
            tally = tallies.handled.get(counted) or tallies.add(counted, Role.SERVER)
            tallies.count(tally, peer, key, self.now, 0.0, error, request=payload)
        self.outbox.add(peer, self._encoder.error(call_id, error))

    def _deliver_local(self, peer: Peer, body: bytes) -> None:
        self.take(peer, body, self.now)

    # -- counting, for the broker

    def count(self, wanted: bool) -> None:
        """Counts calls from now on or not, as the broker of a session wants that has just begun."""
        if not wanted:
            self.tallies = None
        elif self.tallies is None:
            self.tallies = CallRecorder()
        else:
            self.tallies.begin_session()

    def take_reports(self, now: float) -> list[Report]:
        """Gives what was counted since it was taken before."""
        return [] if self.tallies is None else self.tallies.take(self.peers.values(), now)

    # -- answers of handlers here

    def reply(self, execution: Execution, envelope: bytes, now: float) -> None:
        """Send the reply of a handler, if its caller still waits."""
        peer = execution.peer
        if self._end_execution(peer, execution.id) is None:
            self.counters.late_replies += 1
            return
        if self.outbox.queued_bytes > self._limits.max_queued_bytes:
            envelope = self._no_room(execution.id, "yes")
        tally, tallies = execution.tally, self.tallies
        if tally is not None and tallies is not None:
            if envelope[1] == RESULT and not tallies.watches:
                tally.answered(now - execution.began)
                peer.ended += 1
            else:
                tallies.count_answer(execution, envelope, now)
        self.outbox.add(peer, envelope)

    def _no_room(self, call_id: int, executed: Executed) -> bytes:
        """Gives the short word in the place of an answer for which there is no room."""
        error = Overloaded("the answer found no room on the way back", executed=executed)
        return self._encoder.error(call_id, error)

    def _resend_later(
        self, peer: Peer, call_id: int, envelope: bytes, executed: Executed, now: float
    ) -> None:
        """Keeps an answer; over the bound a short word in its place, as the call may have no time limit."""
        if self._returned_bytes > self._limits.max_queued_bytes:
            if len(peer.returned) >= MAX_RETURNED:
                self.counters.late_replies += 1
                return
            if len(envelope) > SHORT_BYTES:
                envelope = self._no_room(call_id, executed)
        self._resend_at = min(self._resend_at, peer.wait_to_resend(now))
        if not peer.returned:
            self._returned.append(peer)
        peer.returned.append(envelope)
        self._returned_bytes += len(envelope)

    def _forget_returned(self, peer: Peer) -> list[bytes]:
        returned = peer.returned
        if returned:
            peer.returned = []
            self._returned.remove(peer)
            self._returned_bytes -= sum(map(len, returned))
        return returned

    def _resend(self, now: float) -> None:
        for peer in [peer for peer in self._returned if peer.resend_at <= now]:
            for envelope in self._forget_returned(peer):
                self.outbox.add(peer, envelope)
        self._resend_at = min((peer.resend_at for peer in self._returned), default=math.inf)

    # -- time

    def due_at(self) -> float:
        """When `tick` has something to do next."""
        return min(self._sweep_at, self._resend_at)

    def tick(self, now: float) -> None:
        self.now = now
        if now >= self._sweep_at:
            self._sweep(now)
        if now >= self._resend_at:
            self._resend(now)

    def _sweep(self, now: float) -> None:
        """Ends what is over its deadline: one look at all, in place of a timer for each."""
        earliest = math.inf
        entries = 0
        remembered = []
        tidy = now >= self._tidy_at  # with slow limits many peers have buckets: not at each sweep
        if tidy:
            self._tidy_at = now + IDLE_S
            if self.tallies is not None:
                self.tallies.fold()
        self._sweep_at = math.inf  # what is called meanwhile, as an outcome is told, may set it
        for peer in list(self.peers.values()):
            entries += 1 + len(peer.calls) + len(peer.executions)
            overdue = []
            for call in peer.calls.values():
                deadline = call.deadline
                if deadline is None:
                    continue
                if deadline <= now:
                    overdue.append(call.id)
                elif deadline < earliest:
                    earliest = deadline
            if overdue:
                self._time_out(peer, overdue)
            for execution in list(peer.executions.values()):
                deadline = execution.deadline
                if deadline is None:
                    continue
                if deadline <= now:
                    self._abandon(peer, execution.id, Code.TIMEOUT)
                elif deadline < earliest:
                    earliest = deadline
            if tidy or not peer.buckets:
                self._tidy(peer, now)
                if peer.buckets and peer.idle and (peer.of_operator or peer.local):
                    remembered.append(peer)
        for peer in remembered[:-MAX_REMEMBERED]:
            del self.peers[peer.key]
        if self.peers:
            earliest = min(earliest, now + IDLE_S)
        self._sweep_after = now + SWEEP_S + SWEEP_S_AN_ENTRY * entries
        self._sweep_at = max(min(earliest, self._sweep_at), self._sweep_after)

    def _tidy(self, peer: Peer, now: float) -> None:
        """Forgets buckets that say nothing any more, and the peer if nothing is left of it."""
        if peer.buckets:
            peer.buckets = {
                key: bucket
                for key, bucket in peer.buckets.items()
                if bucket.full_at > now and bucket.rate is self._rate_of(key)
            }
        untold = peer.is_player and peer.ended and self.tallies is not None
        if peer.idle and not peer.buckets and not untold:
            self.peers.pop(peer.key, None)

    def _rate_of(self, key: str) -> Rate | None:
        """Gives the rate that counts now for a bucket."""
        if not key:
            return self._rate
        handler = self._handlers.get(key)
        return None if handler is None else handler.limit

    def _time_out(self, peer: Peer, call_ids: list[int]) -> None:
        """Ends calls whose time is over. What has not left yet never will; where a call has left, the
        handler's side is told, so that one that was held up on the way is not run for nobody."""
        unsent = self.outbox.withdraw_calls(peer, set(call_ids)) if peer.outgoing else ()
        for call_id in call_ids:
            if call_id in unsent:
                text = f"the call of {peer.calls[call_id].key!r} could not leave in time: the link is slow"
                error = CallTimeout(text, executed="no")
            else:
                error = CallTimeout(f"no answer to {peer.calls[call_id].key!r} came in time")
                if peer.key:
                    self.outbox.add(peer, self._encoder.cancel(call_id))
            self._finish(peer, call_id, (), error)


def _rate_limited(what: str, rate: Rate, wait_s: float) -> RateLimited:
    return RateLimited(f"{what} takes {rate.text} of one caller", data={"retry_after": wait_s})


def _unacceptable(damaged: Unreadable) -> InvalidPayload:
    """Gives what the caller is told of a RESULT or ERROR that can't be read."""
    executed: Executed = "yes" if damaged.type == RESULT else "maybe"
    return InvalidPayload(f"the answer can't be accepted: {damaged.reason}", executed=executed)


def _calls_in(decoded: Decoded) -> list[int]:
    """Gives the ids of the calls in a body of this endpoint's own, those with odd payloads included."""
    return [envelope[1] for envelope in (*decoded.envelopes, *decoded.unreadable) if envelope[0] == CALL]


_BOUNCE_TEXTS: dict[Code, str] = {
    Code.NO_SERVER: "no server is connected",
    Code.OVERLOADED: "the receiver's queue at the broker is full",
    Code.FORBIDDEN: "the broker's list does not let this operator name a source",
    Code.DRAINING: "the broker is stopping",
    Code.RATE_LIMITED: "the broker allows one player no more a second",
}
