"""The steps of an endpoint: read what has come, send what waits, and set the timer. For both faces."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from typing import Protocol

from ringback._runtime.base_shell import ShellBase
from ringback._runtime.link import POLLIN, POLLOUT, Link
from ringback._runtime.log import folding
from ringback._runtime.options import EndpointOptions

BURST = 64
"""A step takes at most this many messages before something else runs. A failed attempt to read costs as much
as ten messages. So a step first takes one, and twice as many each time more are there."""


class Timer(Protocol):
    """A function that runs later."""

    def cancel(self) -> object:
        """Have it not run."""


class LinkSteps(ShellBase):
    """The steps of one endpoint: when its link has something to read or room to send, or a timer is due.

    All of them run on one thread.
    """

    def __init__(self, options: EndpointOptions) -> None:
        super().__init__(options)
        self._taking = False
        self._timer: Timer | None = None
        self._timer_at: float | None = None
        self._flush_wanted = False
        self._read_wanted = False
        self._burst = 1

    def _begin(self) -> None:
        # What ran the steps before may have ended too early to reset these two.
        self._flush_wanted = self._read_wanted = False
        super()._begin()

    # -- what a face adds

    @abstractmethod
    def _soon(self, function: Callable[[], None]) -> None:
        """Run a function in a later step."""

    @abstractmethod
    def _later(self, at: float, function: Callable[[], None]) -> Timer:
        """Run a function at a time on the monotonic clock."""

    @abstractmethod
    def _watch(self, link: Link) -> None:
        """Run `_readable` and `_monitored` when the link's descriptors are readable."""

    @abstractmethod
    def _unwatch(self, link: Link) -> None:
        """Run these two no more."""

    def _was_read(self) -> None:
        """Run what waits for the end of a read."""

    # -- steps

    def _readable(self) -> None:
        """Read what has come, run its handlers, and send their replies: each step once for all messages."""
        endpoint, link = self.endpoint, self._link
        if link is None:
            return
        self._taking = True
        try:
            clock = time.monotonic
            for number in range(self._burst):
                message = link.receive()
                if message is None:
                    self._burst = number or 1
                    break
                # Read for each message: a burst may take long, and calls end when their reply is read.
                try:
                    endpoint.receive(message[0], message[1], clock())
                except BaseException as error:
                    self.contain("handling a message", error)
                if self._link is not link:
                    break
            self._was_read()
        except BaseException as error:  # the step ends all the same: no other edge may come
            self.contain("reading", error)
        finally:
            self._taking = False
        self._settle()

    def _monitored(self) -> None:
        try:
            self._check_link()
        except BaseException as error:
            self.contain("handling a connection event", error)
        self._settle()

    def _check_link(self) -> None:
        link = self._link
        loss = None if link is None else link.lost()
        if link is not None and link.answered:
            self.endpoint.link_answered()
        if link is not None and loss is not None:
            # First read what came before the loss: a REJECT says more than a closed connection.
            while self._link is link and link.events() & POLLIN:
                self._readable()
            if self._link is link:
                self._take_loss(loss)

    def _flush(self) -> None:
        self._flush_wanted = False
        self._settle()

    def _settle(self) -> None:
        """Finish a step: send what waits, look for more to read or room to send, and set the timer.

        The descriptor is edge-triggered. Each send or look may swallow the edge that reports a message or
        room, so it is not enough to wait for the reader.
        """
        if not self.running:
            return
        full = False
        try:
            full = not self.endpoint.flush(time.monotonic())
        except BaseException as error:
            self.contain("sending", error)
        try:
            self._look_again(full)
        except BaseException as error:
            self.contain("looking at the link", error)
        self._set_timer()

    def _look_again(self, full: bool) -> None:
        link = self._link
        if link is not None:
            state = link.events()
            if state & POLLIN and not self._read_wanted:
                self._read_wanted = True
                self._burst = min(BURST, 2 * self._burst)
                self._soon(self._read_on)
            if full and state & POLLOUT:
                self.want_flush()

    def _read_on(self) -> None:
        self._read_wanted = False
        self._readable()

    def _set_timer(self) -> None:
        due_at = self.endpoint.due_at()
        if due_at is None or (self._timer_at is not None and self._timer_at <= due_at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due_at
        self._timer = self._later(due_at, self._timed)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._timer_at = None

    def _timed(self) -> None:
        if self.foreign:
            return
        self._timer = self._timer_at = None
        try:
            folding.over()
            self.endpoint.tick(time.monotonic())
        except BaseException as error:
            self.contain("a timer", error)
        self._settle()

    # -- effects of the core

    def open_link(self, address: str, heartbeat_ms: int) -> None:
        link = self._link = self._new_link(address, heartbeat_ms)
        self._watch(link)
        self._soon(self._monitored)  # for events from before somebody watched

    def close_link(self) -> None:
        if self._link is not None:
            self._unwatch(self._link)
            self._link.close(linger=self.endpoint.connected)
            self._link = None

    def want_flush(self) -> None:
        if not self._flush_wanted and not self._taking:
            self._flush_wanted = True
            self._soon(self._flush)
