"""Waiting for sockets: awake for a moment while frames keep coming, else asleep."""

from __future__ import annotations

import os
import time
from typing import Any

import zmq

POLLIN = int(zmq.POLLIN)

LOOK_S = 0.01
"""While it stays awake it looks at sockets that carry no frames so often, not each time."""


class Poller:
    """The sockets of a broker.

    A process that sleeps takes longer to be woken than to pass a frame on, above all on a virtual machine,
    where an idle core has been given away. So after a frame that came soon after another one, the next one is
    looked for without sleeping, for a short time, and whoever else wants the processor goes first.

    Args:
        links: the sockets that carry frames.
        others: what else is waited for.
        spin_s: how long to stay awake for the next frame, in seconds; 0: not at all. It can be set later.
    """

    def __init__(self, links: tuple[Any, ...], others: tuple[Any, ...], spin_s: float) -> None:
        self._links = [(link, POLLIN) for link in links]
        self._all = [*self._links, *((other, POLLIN) for other in others)]
        self._carriers = frozenset(links)
        self.spin_s = spin_s
        self._awake_until = self._came_at = self._look_at = 0.0

    def wait(self, wake_at: float) -> set[Any]:
        """Gives the sockets that have something, none if nothing comes by a time of the monotonic clock."""
        poll, clock = zmq.zmq_poll, time.monotonic
        now = clock()
        awake_until = min(self._awake_until, self._look_at, wake_at)
        while now < awake_until:
            found = poll(self._links, 0)
            if found:
                break
            os.sched_yield()
            now = clock()
        else:
            found = poll(self._all, max(0, round((wake_at - now) * 1000)))
            self._look_at = clock() + LOOK_S
        ready = {socket for socket, _ in found}
        if not self._carriers.isdisjoint(ready):
            now = clock()
            if now - self._came_at < self.spin_s:
                self._awake_until = now + self.spin_s
            self._came_at = now
        return ready
