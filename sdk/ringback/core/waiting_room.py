"""The waiting room: calls that wait until the limits have room for them, and those who wait for room."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

from ringback.core.calls_out import CallsOut
from ringback.core.encoded_call import EncodedCall, encoded_call
from ringback.core.endpoint_state import EndpointState
from ringback.core.outbox import Outbox
from ringback.core.pending_call import PendingCall
from ringback.core.routes import Routes
from ringback.core.shell import Shell
from ringback.errors import CallbackError, CallTimeout, Cancelled, Overloaded
from ringback.protocol.frames import FrameType


class WaitingRoom:
    """The calls of one endpoint that wait for room.

    The calls of one route leave in the order in which they came. The routes take turns.

    Attributes:
        calls: how many calls wait.
        busy: whether a call waits, or somebody waits for room.
    """

    def __init__(
        self,
        state: EndpointState,
        outbox: Outbox,
        calls_out: CallsOut,
        shell: Shell,
        routes: Routes,
        *,
        one_peer: bool,
    ) -> None:
        """Make an empty room.

        Args:
            one_peer: whether all calls of this endpoint go to the same peer, as those of a player do.
        """
        self.calls = 0
        self.busy = False
        self._state = state
        self._limits = state.limits
        self._outbox = outbox
        self._calls_out = calls_out
        self._shell = shell
        self._send, self._problem, self._never_leaves = routes.call, routes.problem, routes.never_leaves
        self._one_peer = one_peer
        self._queues: OrderedDict[bytes, OrderedDict[PendingCall, EncodedCall]] = OrderedDict()
        self._routes: dict[PendingCall, bytes] = {}
        self._watchers: OrderedDict[PendingCall, None] = OrderedDict()
        self._payload = b""  # the latest one: the calls of a group share it

    @property
    def waiting(self) -> int:
        """How many calls wait, and how many wait for room itself."""
        return self.calls + len(self._watchers)

    # -- who comes

    def add(
        self,
        call: PendingCall,
        kind: FrameType | None,
        encoded_id: bytes,
        envelope: bytes,
        bounded: bool = True,
    ) -> None:
        """Send a call as soon as there is room. The arguments before the last are those of `Routes.call`.

        Args:
            bounded: whether the number of calls that wait may forbid it. That of a group is bounded already:
                all its calls exist, and share one payload.
        """
        problem = self._problem(kind)
        route = encoded_id + self._state.header_of(kind)
        if problem is not None:
            self._calls_out.fail_unsent(call, problem)
        elif not self._queues and self._has_room(route):
            self._send(call, kind, encoded_id, envelope)
        elif bounded and self.calls >= self._limits.max_pending:
            text = f"{self.calls} calls wait for room, and max_pending is {self._limits.max_pending}"
            self._calls_out.fail_unsent(call, Overloaded(text))
        else:
            encoded = encoded_call(kind, encoded_id, envelope)
            if encoded.payload == self._payload:
                encoded = encoded._replace(payload=self._payload)
            self._payload = encoded.payload
            self._queues.setdefault(route, OrderedDict())[call] = encoded
            self._routes[call] = route
            self._changed()
            self._expire_at(call.deadline)

    def watch(self, call: PendingCall) -> None:
        """End a call that stands for nothing but the wait for room, once there is some."""
        if self._never_leaves(FrameType.DATA):
            self._calls_out.end(call, (), self._problem(FrameType.DATA))
            return
        self._watchers[call] = None
        self._changed()
        self._expire_at(call.deadline)

    def _expire_at(self, deadline: float | None) -> None:
        state = self._state
        if deadline is not None and deadline < state.sweep_at:
            state.sweep_at = max(deadline, state.sweep_after)
        self._shell.want_flush()  # this also has the shell set its timer

    def _changed(self) -> None:
        self.calls = len(self._routes)
        if not self.calls:
            self._payload = b""
        self.busy = bool(self._routes or self._watchers)

    # -- who leaves

    def admit(self) -> bool:
        """Send the calls for which there is room now. Return whether any was sent."""
        if self._problem(FrameType.DATA) is not None:
            self.end_calls(self._problem)
        sent = False
        for _ in range(len(self._queues)):
            if self._full:
                break
            route = next(iter(self._queues))
            queue = self._queues[route]
            while queue and self._has_room(route):
                call, encoded = queue.popitem(last=False)
                del self._routes[call]
                self._leave(call, encoded)
                sent = True
            self._queues.move_to_end(route)
            if not queue:
                del self._queues[route]
        self._tell_watchers()
        self._changed()
        return sent

    def _leave(self, call: PendingCall, encoded: EncodedCall) -> None:
        envelope = encoded.envelope(call, self._state.now)
        self._send(call, encoded.kind, encoded.encoded_id, envelope)

    def _tell_watchers(self) -> None:
        """End as many waits for room as there is room for calls, if nothing else waits for it."""
        if not self._watchers or self._queues or self._full or self._problem(FrameType.DATA) is not None:
            return
        limits = self._limits
        room = limits.max_pending - self._calls_out.pending_with_peers
        if self._one_peer:
            peers = self._state.peers.values()
            in_flight = max((len(peer.calls) for peer in peers if peer.route), default=0)
            room = min(room, limits.max_in_flight - in_flight)
        for _ in range(min(room, len(self._watchers))):
            watcher, _ = self._watchers.popitem(last=False)
            self._calls_out.end(watcher, (), None)

    @property
    def _full(self) -> bool:
        limits = self._limits
        pending, queued_bytes = self._calls_out.pending_with_peers, self._outbox.queued_bytes
        return pending >= limits.max_pending or queued_bytes > limits.max_queued_bytes

    def _has_room(self, route: bytes) -> bool:
        peer = self._state.peers.get(route)
        return not self._full and (peer is None or len(peer.calls) < self._limits.max_in_flight)

    # -- who gives up

    def cancel(self, call: PendingCall) -> None:
        """End a wait because its caller says so. This does nothing if the call does not wait here."""
        self._give_up(call, Cancelled("the caller cancelled the call before it was sent", executed="no"))

    def sweep(self, now: float) -> float:
        """End the waits whose time is over. Return the earliest deadline of the others."""
        earliest = math.inf
        for call in [*self._routes, *self._watchers]:
            if call.deadline is None:
                continue
            if call.deadline > now:
                earliest = min(earliest, call.deadline)
            else:
                text = f"the limits of this endpoint had no room for {call.key!r} in time"
                self._give_up(call, CallTimeout(text, executed="no"))
        return earliest

    def end_calls(self, why: Callable[[FrameType | None], CallbackError | None]) -> None:
        """End the waits of calls that cannot leave any more. If that is for good, end the waits for room too.

        Args:
            why: return why calls of a kind cannot leave; None if they still can.
        """
        for queue in list(self._queues.values()):
            for call, encoded in list(queue.items()):
                error = why(encoded.kind)
                if error is not None:
                    self._give_up(call, error)
        error = why(FrameType.DATA)
        if error is not None and self._never_leaves(FrameType.DATA):
            for call in list(self._watchers):
                self._give_up(call, error)

    def close(self, error: CallbackError) -> None:
        """End all waits: this endpoint is closed."""
        for call in [*self._routes, *self._watchers]:
            self._give_up(call, error)

    def _give_up(self, call: PendingCall, error: CallbackError) -> None:
        route = self._routes.pop(call, None)
        if route is not None:
            del self._queues[route][call]
            if not self._queues[route]:
                del self._queues[route]
            self._changed()
            self._calls_out.fail_unsent(call, error)
        elif call in self._watchers:
            del self._watchers[call]
            self._changed()
            self._calls_out.end(call, (), error)
