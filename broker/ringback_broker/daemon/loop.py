"""The loop around the switchboard: poll, take, decide, send, tick."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ringback_broker.daemon.containment import Containment
from ringback_broker.daemon.receiver import Receiver
from ringback_broker.daemon.stopping import Stopping
from ringback_broker.net.poller import Poller
from ringback_broker.operations.snapshot import Lags
from ringback_broker.switchboard.switchboard import Switchboard

TICK_S = 0.25

FLUSH_S = 0.01
"""How often peers whose queue was full are tried again. Not each time that any other peer sends something."""

CLOSED_WITHIN_S = 0.1
"""How long a connection event waits while messages are read: a peer's last messages are taken before its
end."""


class Carrier(Protocol):
    """Carries frames to other brokers and from them, besides the two sockets.

    Attributes:
        due: when `take` has something to do, even if nothing comes.
    """

    @property
    def due(self) -> float: ...

    def fileno(self) -> int:
        """Return a descriptor that is readable when something has come."""
        ...

    def take(self, now: float) -> None:
        """Take what has come, and do what is due."""

    def flush(self) -> None:
        """Send the frames of this step."""


class Loop:
    """One thread's work: take what came, send, and do what is due.

    `step` asks no clock and polls nothing, so that a simulator can drive it.

    Args:
        receivers: take what comes to the two sockets that carry frames.
        others: what else is polled, each with the function that handles it; that gets the time.
        duties: what else is done at each tick, in this order; each gets the time.
        look: what is done between the ticks too. It gets the time, and returns when it is due again. None:
            nothing.
        carrier: carries frames besides the two sockets. None: nothing does.
        first: what is done before anything else in each step; it gets the time. None: nothing.

    Attributes:
        lags: how late the ticks were.
    """

    def __init__(
        self,
        switchboard: Switchboard,
        receivers: Sequence[Receiver],
        stopping: Stopping,
        others: Mapping[Any, Callable[[float], None]],
        duties: Sequence[Callable[[float], None]] = (),
        look: Callable[[float], float] | None = None,
        carrier: Carrier | None = None,
        first: Callable[[float], None] | None = None,
    ) -> None:
        self.lags = Lags()
        self._switchboard = switchboard
        self._contain = Containment(switchboard.counters)
        self._receivers = tuple(receivers)
        self._stopping = stopping
        self._others = tuple(others.items())
        self._duties = tuple(duties)
        self._look = look
        self._carrier = carrier
        self._carrier_fd = -1 if carrier is None else carrier.fileno()
        self._first = first
        self._tick_at = self._due_at = self._flush_at = 0.0
        self._waiting = False

    def poller(self, spin_s: float) -> Poller:
        """Return a poller for all that the loop waits for."""
        routers = [receiver.router for receiver in self._receivers]
        monitors = [router.monitor for router in routers]
        others = [source for source, _ in self._others]
        carriers = () if self._carrier is None else (self._carrier_fd,)
        links = (*(router.socket for router in routers), *carriers)
        return Poller(links, (*monitors, *others), spin_s)

    def run(self, poller: Poller) -> None:
        """Work until the broker has stopped."""
        wake_at: float | None = self.begin(time.monotonic())
        while wake_at is not None:
            wake_at = self.step(poller.wait(wake_at), time.monotonic())

    def begin(self, now: float) -> float:
        """Return when the first step is due if nothing comes before."""
        self._flush_at = now
        self._tick_at = now + TICK_S
        self._due_at = self._tick_at if self._look is None else now
        return self._due_at

    def step(self, ready: set[Any], now: float) -> float | None:
        """Take what came and do what is due.

        Args:
            ready: the polled sockets and descriptors that have something.

        Returns:
            When the next step is due if nothing comes before; None once the broker has stopped.
        """
        switchboard = self._switchboard
        if self._first is not None:
            self._first(now)
        for receiver in self._receivers:
            router, events = receiver.router, receiver.router.events
            if router.monitor in ready:
                events.note(now)
            since = events.noted_at
            if router.socket in ready or since is not None:
                try:
                    drained = receiver.take(now)
                    if since is not None and (drained or now - since > CLOSED_WITHIN_S):
                        receiver.take_events(now)
                except Exception as error:
                    self._contain("taking messages", error)
        carrier = self._carrier
        if carrier is not None and (self._carrier_fd in ready or now >= carrier.due):
            try:
                carrier.take(now)
            except Exception as error:
                self._contain("taking what came from other nodes", error)
        try:
            switchboard.send_bundles(now)
        except Exception as error:
            self._contain("sending bundles", error)
        for source, handle in self._others:
            if source in ready:
                try:
                    handle(now)
                except Exception as error:
                    self._contain("handling a signal or a handshake", error)
        if not self._waiting or now >= self._flush_at:
            self._flush_at = now + FLUSH_S
            try:
                self._waiting = switchboard.flush()
            except Exception as error:
                self._contain("sending what waits", error)
        if now >= self._due_at:
            self._do_what_is_due(now)
        wake_at = min(self._due_at, self._flush_at) if self._waiting else self._due_at
        if carrier is not None:
            wake_at = min(wake_at, self._flush_carrier(carrier))
        deadline = self._stopping.deadline
        if deadline is not None:
            if not len(switchboard.roster) or now >= deadline:
                return None
            wake_at = min(wake_at, deadline)
        # Closing a connection reads the monitor too, so events may be left although no socket is ready.
        for receiver in self._receivers:
            if receiver.router.events.noted_at is not None:
                return now
        return wake_at

    def _flush_carrier(self, carrier: Carrier) -> float:
        """Send the frames of this step. Return when the carrier is due again."""
        try:
            carrier.flush()
        except Exception as error:
            self._contain("sending to other nodes", error)
        return carrier.due

    def _do_what_is_due(self, now: float) -> None:
        if now >= self._tick_at:
            self._tick(now)
        self._due_at = self._tick_at
        if self._look is not None:
            try:
                self._due_at = min(self._tick_at, self._look(now))
            except Exception as error:
                self._contain("looking at the memory", error)

    def _tick(self, now: float) -> None:
        self.lags.add(now - self._tick_at)
        self._tick_at = now + TICK_S
        for duty in (self._switchboard.tick, *self._duties):
            try:
                duty(now)
            except Exception as error:  # the others are done all the same
                self._contain("a duty of a tick", error)
