"""Deadlines: the sweep that ends what is over its deadline, and forgets peers that are idle.

One look at everything takes the place of a timer for each call.
"""

from __future__ import annotations

import math
from typing import Protocol

from ringback.core.calls_in import CallsIn
from ringback.core.calls_out import CallsOut
from ringback.core.endpoint_state import IDLE_S, EndpointState
from ringback.core.peers import Peer
from ringback.errors import Code

SWEEP_S = 0.005
SWEEP_S_AN_ENTRY = 1e-6
"""The least time between two sweeps: a deadline fires up to 5 ms late, and 1 ms more for each 1000 calls."""

MAX_IDLE_PEERS = 10_000
"""How many idle peers are kept for their rate limits alone, of operators and of the endpoint itself. Players
leave and are forgotten then. Nobody says when an operator has left, and it may name any number of sources."""


class Waits(Protocol):
    """A part of an endpoint in which things wait for a time."""

    @property
    def waiting(self) -> int:
        """How many things wait."""
        ...

    def sweep(self, now: float) -> float:
        """Do what is due. Return when something is due next."""
        ...


class Deadlines:
    """The sweep over the pending calls and executions of one endpoint.

    Attributes:
        others: the other parts that are looked at in each sweep.
    """

    def __init__(self, state: EndpointState, calls_out: CallsOut, calls_in: CallsIn) -> None:
        self.others: list[Waits] = []
        self._state = state
        self._calls_out = calls_out
        self._calls_in = calls_in
        self._tidy_at = -math.inf

    def sweep(self, now: float) -> None:
        """End what is over its deadline, forget idle peers, and set the time of the next sweep."""
        state = self._state
        earliest = math.inf
        entries = 0
        kept = []
        tidy = now >= self._tidy_at  # slow rate limits leave buckets with many peers: not at each sweep
        if tidy:
            self._tidy_at = now + IDLE_S
            if state.recorder is not None:
                state.recorder.fold()
        state.sweep_at = math.inf  # a caller that is told of an outcome may call again, and set it
        for peer in list(state.peers.values()):
            entries += 1 + len(peer.calls) + len(peer.executions)
            if peer.calls:
                earliest = min(earliest, self._end_calls(peer, now))
            if peer.executions:
                earliest = min(earliest, self._end_executions(peer, now))
            if tidy or not peer.buckets:
                self.tidy(peer, now)
                if peer.buckets and peer.idle and (peer.of_operator or peer.local):
                    kept.append(peer)
        for part in self.others:
            entries += part.waiting
            earliest = min(earliest, part.sweep(now))
        for peer in kept[:-MAX_IDLE_PEERS]:
            del state.peers[peer.route]
        if state.peers:
            earliest = min(earliest, now + IDLE_S)
        state.sweep_after = now + SWEEP_S + SWEEP_S_AN_ENTRY * entries
        state.sweep_at = max(min(earliest, state.sweep_at), state.sweep_after)

    def _end_calls(self, peer: Peer, now: float) -> float:
        """End the calls to a peer whose time is over. Return the earliest deadline of the others."""
        earliest = math.inf
        overdue = []
        for call in peer.calls.values():
            deadline = call.deadline
            if deadline is None:
                continue
            if deadline <= now:
                overdue.append(call.id)
            elif deadline < earliest:
                earliest = deadline
        if peer.local:
            leave = self._calls_in.leaves_queue  # its reply says that the handler did not run
            overdue = [call_id for call_id in overdue if not leave(peer, call_id, Code.TIMEOUT)]
        if overdue:
            self._calls_out.time_out(peer, overdue)
        return earliest

    def _end_executions(self, peer: Peer, now: float) -> float:
        """Stop the executions of a peer whose time is over. Return the earliest deadline of the others."""
        earliest = math.inf
        for execution in list(peer.executions.values()):
            deadline = execution.deadline
            if deadline is None:
                continue
            if deadline <= now:
                self._calls_in.abandon(peer, execution.id, Code.TIMEOUT)
            elif deadline < earliest:
                earliest = deadline
        return earliest

    def tidy(self, peer: Peer, now: float) -> None:
        """Forget the buckets of a peer that are full again, and the peer if nothing is left of it."""
        if peer.buckets:
            peer.buckets = {
                key: bucket
                for key, bucket in peer.buckets.items()
                if bucket.full_at > now and bucket.rate is self._calls_in.rate_of(key)
            }
        unreported = peer.is_player and peer.ended and self._state.recorder is not None
        if peer.idle and not peer.buckets and not unreported:
            self._state.peers.pop(peer.route, None)
            self._state.forgot_peers = True
