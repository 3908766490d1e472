"""Calls out: the calls of this endpoint to others, and how a reply finds its call.

A pending call leaves its table in `CallsOut.finish`, whatever ended it, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ringback.core.endpoint_state import EndpointState
from ringback.core.outbox import Outbox
from ringback.core.peers import Peer
from ringback.core.pending_call import PendingCall
from ringback.core.shell import Shell
from ringback.errors import CallbackError, CallTimeout, Cancelled, Code, ConnectionLost, Overloaded
from ringback.protocol.envelopes import Encoder


class CallsOut:
    """The pending calls of one endpoint.

    Attributes:
        pending: how many calls wait for a reply, questions to the broker included.
        cancel_elsewhere: end a call that waits elsewhere, because its caller says so. The endpoint sets it.
        leaves_queue: see `CallsIn.leaves_queue`. The endpoint sets it.
    """

    def __init__(self, state: EndpointState, outbox: Outbox, shell: Shell, encoder: Encoder) -> None:
        self.pending = 0
        self._state = state
        self._limits = state.limits
        self._counters = state.counters
        self._outbox = outbox
        self._shell = shell
        self._encoder = encoder
        self.cancel_elsewhere: Callable[[PendingCall], None]
        self.leaves_queue: Callable[[Peer, int, Code], bool]

    def call(self, call: PendingCall, peer: Peer, envelope: bytes) -> None:
        """Send a call, unless a limit forbids it."""
        recorder = self._state.recorder
        if recorder is not None and recorder.watches and peer.is_player:
            recorder.call_made(call, envelope)
        limits = self._limits
        waiting_bytes = self._outbox.queued_bytes
        # The cheap count first: this is for every call.
        if self.pending >= limits.max_pending and self.pending_with_peers >= limits.max_pending:
            waiting = f"{self.pending_with_peers} calls wait for replies"
            text = f"{waiting}, and max_pending is {limits.max_pending}"
            self.fail_unsent(call, Overloaded(text), peer)
        elif len(peer.calls) >= limits.max_in_flight:
            waiting = f"{len(peer.calls)} calls to this peer wait for replies"
            text = f"{waiting}, and max_in_flight is {limits.max_in_flight}"
            self.fail_unsent(call, Overloaded(text), peer)
        elif waiting_bytes > limits.max_queued_bytes:
            waiting = f"{waiting_bytes} bytes wait for the link"
            text = f"{waiting}, and max_queued_bytes is {limits.max_queued_bytes}"
            self.fail_unsent(call, Overloaded(text), peer)
        else:
            self.expect(call, peer)
            self._outbox.add(peer, envelope)

    @property
    def pending_with_peers(self) -> int:
        """How many calls wait for a reply of a handler. Questions to the broker take no room from these."""
        broker = self._state.peers.get(b"")
        return self.pending if broker is None else self.pending - len(broker.calls)

    def expect(self, call: PendingCall, peer: Peer) -> None:
        """Put a call into the table."""
        self._counters.calls += 1
        self.pending += 1
        call.route = peer.route
        peer.calls[call.id] = call
        deadline, state = call.deadline, self._state
        if deadline is not None and deadline < state.sweep_at:
            state.sweep_at = max(deadline, state.sweep_after)
            # A shell sets its timer after a flush, and the outbox asks for none when the link is full.
            self._shell.want_flush()

    def fail_unsent(self, call: PendingCall, error: CallbackError, peer: Peer | None = None) -> None:
        """End a call that was never in the table."""
        self._counters.calls += 1
        if self._state.recorder is not None and peer is not None:
            self._state.recorder.call_ended(call, peer, self._state.now, (), error)
        self._counters.errors += 1
        self.end(call, (), error)

    def cancel(self, call: PendingCall) -> None:
        """End a call because its caller says so, and tell the handler's side."""
        peer = None if call.route is None else self._state.peers.get(call.route)
        if peer is None or call.id not in peer.calls:
            self.cancel_elsewhere(call)
            return
        never_ran = self._outbox.withdraw_call(peer, call.id) or self.leaves_queue(
            peer, call.id, Code.CANCELLED
        )
        error = Cancelled("the caller cancelled the call", executed="no" if never_ran else "maybe")
        self.finish(peer, call.id, (), error)
        if peer.route and not never_ran:  # a question to the broker can only be forgotten
            self._outbox.add(peer, self._encoder.cancel(call.id))

    def cancel_all(self, why: str) -> None:
        """Tell the handlers' sides that this endpoint closes. The calls that have left end with their peers.

        A call that has not left ends here: it never leaves.
        """
        for peer in self._state.peers.values():
            if peer.local or not peer.route:  # a question to the broker can only be forgotten
                continue
            unsent = self._outbox.withdraw_calls(peer, set(peer.calls)) if peer.outgoing else ()
            for call_id in unsent:
                self.finish(peer, call_id, (), ConnectionLost(why, executed="no"))
            for call_id in peer.calls:
                self._outbox.add(peer, self._encoder.cancel(call_id))

    def time_out(self, peer: Peer, call_ids: list[int]) -> None:
        """End calls whose time is over.

        A call that has not left yet is withdrawn. For one that has left, the handler's side is told: the
        call may have been held up on the way, and it should not run for nobody.
        """
        unsent = self._outbox.withdraw_calls(peer, set(call_ids)) if peer.outgoing else ()
        for call_id in call_ids:
            call = peer.calls[call_id]
            key = call.key
            if call_id in unsent:
                text = f"the call of {key!r} could not leave in time: the link is slow"
                error = CallTimeout(text, executed="no")
            else:
                assert call.deadline is not None  # its time is over
                text = f"no reply to the call of {key!r} came within {call.deadline - call.began:g} s"
                error = CallTimeout(text)
                if peer.route:
                    self._outbox.add(peer, self._encoder.cancel(call_id))
            self.finish(peer, call_id, (), error)

    def finish(self, peer: Peer, call_id: int, results: tuple[Any, ...], error: CallbackError | None) -> None:
        """End a pending call with its outcome; count an outcome that no pending call waits for."""
        call = peer.calls.pop(call_id, None)
        if call is None:
            # Both sides notice that the time of a call is over. Their TIMEOUT and CANCEL cross on the way.
            if not isinstance(error, CallTimeout):
                self._counters.stray_replies += 1
            return
        self.pending -= 1
        recorder = self._state.recorder
        if recorder is not None:
            recorder.call_ended(call, peer, self._state.now, results, error)
        if error is None:
            self._counters.results += 1
        else:
            self._counters.errors += 1
        self.end(call, results, error)

    def end(self, call: PendingCall, results: tuple[Any, ...], error: CallbackError | None) -> None:
        """Tell the caller an outcome. Every call ends here. One that stands for others is not counted."""
        try:
            call.settle(results, error)
        except BaseException as fault:  # of somebody who waits; the calls behind this one must end too
            self._state.contain("waking those who wait for a call", fault)
        if call.callback is not None or call.on_error is not None:
            try:
                self._shell.finished(call)
            except BaseException as fault:
                self._state.contain("running a callback", fault)

    def take_progress(self, peer: Peer, call_id: int, value: Any, size: int) -> None:
        """Give a pending call a value of its progress; count one that no pending call asked for."""
        call = peer.calls.get(call_id)
        progress = None if call is None else call._progress_taker
        if progress is None:
            self._counters.stray_progress += 1
        else:
            progress.take(value, size)
