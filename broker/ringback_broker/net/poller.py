"""Waiting for sockets: awake for a moment while frames keep coming, else asleep."""

from __future__ import annotations

import os
import time
from typing import Any

import zmq

from ringback_broker.net.wakefulness import Wakefulness

POLLIN = int(zmq.POLLIN)

LOOK_S = 0.01
"""How often the poller looks at sockets that carry no frames while it stays awake. Not each time."""

LONG_LOOK_S = 0.00002
"""A look that takes longer than this, and than four times the shortest one, was interrupted: another thread
had the core meanwhile."""


class Poller:
    """Waits for the sockets of a broker.

    To wake a process that sleeps takes longer than to pass a frame on, above all on a virtual machine that
    has given its idle core away. So when frames come one soon after another, the poller looks for the next
    one without sleeping, for a short time, as long as that pays. Other processes that want the processor go
    first.

    Args:
        links: the sockets that carry frames.
        others: other sockets and descriptors to wait for.
        spin_s: how long to stay awake for the next frame, in seconds; 0: not at all. It may be changed at any
            time.
    """

    def __init__(self, links: tuple[Any, ...], others: tuple[Any, ...], spin_s: float) -> None:
        self._links = [(link, POLLIN) for link in links]
        self._all = [*self._links, *((other, POLLIN) for other in others)]
        self._carriers = frozenset(links)
        self.spin_s = spin_s
        self._wakefulness = Wakefulness()
        self._look_at = 0.0
        self._long_look_s = self._shortest_look_s = 1.0

    def wait(self, wake_at: float) -> set[Any]:
        """Return the sockets that have something. Wait until a time of the monotonic clock at most."""
        poll, clock, wakefulness = zmq.zmq_poll, time.monotonic, self._wakefulness
        began_at = now = clock()
        shared_s = 0.0
        awake_until = min(wakefulness.awake_until, self._look_at, wake_at)
        while now < awake_until:
            found = poll(self._links, 0)
            if found:
                wakefulness.was_awake(now - began_at, shared_s, met=True)
                break
            os.sched_yield()
            looked_at, now = now, clock()
            look_s = now - looked_at
            if look_s > self._long_look_s:
                shared_s += look_s
            elif look_s < self._shortest_look_s:
                self._shortest_look_s = look_s
                self._long_look_s = max(LONG_LOOK_S, 4 * look_s)
        else:
            if began_at < wakefulness.awake_until <= now:
                wakefulness.was_awake(now - began_at, shared_s, met=False)
            found = poll(self._all, max(0, round((wake_at - now) * 1000)))
            self._look_at = clock() + LOOK_S
        ready = {socket for socket, _ in found}
        if came := len(self._carriers & ready):
            wakefulness.came(clock(), self.spin_s, came > 1)
        return ready
