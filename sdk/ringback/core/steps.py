"""Steps: what an endpoint does at the end of each step of its shell, and when time has passed."""

from __future__ import annotations

import math

from ringback.core.bounced_replies import BouncedReplies
from ringback.core.deadlines import Deadlines
from ringback.core.duty import Duty
from ringback.core.endpoint_state import EndpointState
from ringback.core.link_keeper import LinkKeeper
from ringback.core.once import Once
from ringback.core.outbox import Outbox
from ringback.core.reporter import Reporter
from ringback.core.retries import Retries
from ringback.core.serial_calls import SerialCalls
from ringback.core.shell import Shell
from ringback.core.waiting_room import WaitingRoom
from ringback.protocol import control
from ringback.protocol.control import encode
from ringback.protocol.frames import SessionState

_READY = SessionState.READY  # looked up once: each step asks

RETRY_S = 1.0
"""When something that was due is tried again after it failed."""


class Steps:
    """The steps of one endpoint."""

    def __init__(
        self,
        state: EndpointState,
        shell: Shell,
        outbox: Outbox,
        link: LinkKeeper,
        duty: Duty,
        reporter: Reporter,
        deadlines: Deadlines,
        bounced: BouncedReplies,
        room: WaitingRoom,
        retries: Retries,
        once: Once,
        serial: SerialCalls,
    ) -> None:
        self._state, self._peers = state, state.peers
        self._shell = shell
        self._outbox = outbox
        self._link, self._link_state, self._description = link, link.link_state, link.description
        self._duty = duty
        self._reporter = reporter
        self._deadlines = deadlines
        self._bounced = bounced
        self._room = room
        self._retries = retries
        self._once = once
        self._serial = serial

    def due_at(self) -> float | None:
        """Return when `tick` has something to do next; None for never."""
        # No min() of a list: a shell asks after each step.
        earliest = self._state.sweep_at
        if self._bounced.resend_at < earliest:
            earliest = self._bounced.resend_at
        link_at = self._link_state.due_at()
        if link_at is not None and link_at < earliest:
            earliest = link_at
        start_by = self._link_state.start_by
        if start_by is not None and start_by < earliest:
            earliest = start_by
        # Without peers, then as now, nothing can have changed.
        if self._reporter.report_at < earliest and (self._peers or self._state.forgot_peers):
            earliest = self._reporter.report_at
        return None if earliest == math.inf else earliest

    def tick(self, now: float) -> None:
        """Do what is due. If one thing fails, the others are done all the same."""
        state = self._state
        state.now = now
        if now >= state.sweep_at:
            try:
                self._deadlines.sweep(now)
            except BaseException as error:
                state.sweep_at = now + RETRY_S
                state.contain("looking for deadlines", error)
        if now >= self._bounced.resend_at:
            try:
                self._bounced.resend(now)
            except BaseException as error:
                self._bounced.resend_at = now + RETRY_S
                state.contain("sending replies again", error)
        if now >= self._reporter.report_at and (self._peers or state.forgot_peers):
            try:
                self._reporter.report(now)
            except BaseException as error:
                state.contain("reporting calls", error)
        self._link.tick(now)

    def flush(self, now: float) -> bool:
        """Send what waits. Return False if the link takes no more now; call again when it does."""
        self._state.now = now
        if self._serial.over:
            self._serial.go_on()
        if self._description.keys_changed and self._link_state.up:
            self._outbox.add_control(encode(self._description.keys()))
        if not self._outbox.flush():
            return False
        while self._room.busy and self._room.admit():
            if not self._outbox.flush():
                return False
        if self._link_state.state is _READY:
            return True
        return self._leave_if_done(now)

    def flush_early(self, now: float) -> None:
        """Send what waits before the end of a step, if all of it is for one peer behind the link.

        What is for many peers waits: the fewer messages, the better. `flush` follows, and does all else.
        """
        if self._outbox.is_for_one_peer:
            self._state.now = now
            self._outbox.flush()

    def _leave_if_done(self, now: float) -> bool:
        """Leave the broker if it stops, or if this server has handed over, once nothing is in flight.

        Return False if the link takes no more now.
        """
        if self._link_state.state is SessionState.RETIRING:
            waiting = self._room.calls or self._retries.waiting or self._once.running
            return bool(waiting) or self._duty.leave_if_done(now)
        if self._link_state.state is SessionState.DRAINING and not self._in_flight():
            self._shell.send(b"", encode(control.Bye(finished=self._link.retiring or None)))
            self._link.left(now)
        return True

    def _in_flight(self) -> bool:
        return not all(peer.idle or peer.local for peer in self._peers.values())
