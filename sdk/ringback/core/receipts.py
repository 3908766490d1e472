"""Receipts: they tell the handlers' sides of calls with a token that their outcomes have arrived.

A handler's side remembers such an outcome, in case it has to send it again. It forgets it with the receipt.
A receipt is a CANCEL for a call that has ended. Receipts leave with another call, or many at once.
"""

from __future__ import annotations

import math

from ringback.core.endpoint_state import EndpointState
from ringback.core.outbox import Outbox
from ringback.core.routes import Routes
from ringback.protocol.envelopes import Encoder
from ringback.protocol.frames import FrameType

MAX_LATER = 32
"""How many receipts for one peer wait for a call at most. More leave without one."""

LATER_S = 5.0
"""How long receipts wait for a call at most."""


class Receipts:
    """The receipts of one endpoint that have not left yet.

    Their number is bounded by that of the outcomes that arrive within `LATER_S`.
    """

    def __init__(self, state: EndpointState, outbox: Outbox, encoder: Encoder, routes: Routes) -> None:
        self._state = state
        self._outbox = outbox
        self._encoder = encoder
        self._problem = routes.problem
        self._later: dict[tuple[FrameType | None, bytes], list[int]] = {}
        self._send_at = math.inf

    @property
    def waiting(self) -> int:
        """How many peers get receipts."""
        return len(self._later)

    def add(self, kind: FrameType | None, encoded_id: bytes, call_id: int) -> None:
        """Take note that the outcome of a CALL has arrived. The first two arguments are those of
        `Routes.call`."""
        if not self._later:
            self._send_at = self._state.now + LATER_S
            self._state.sweep_at = min(self._state.sweep_at, self._send_at)
        call_ids = self._later.setdefault((kind, encoded_id), [])
        call_ids.append(call_id)
        if len(call_ids) >= MAX_LATER:
            self.send(kind, encoded_id)

    def send(self, kind: FrameType | None, encoded_id: bytes) -> None:
        """Send the receipts for a peer, if they can leave. Otherwise its side forgets a little later."""
        call_ids = self._later.pop((kind, encoded_id), None)
        if call_ids and self._problem(kind) is None:
            peer = self._state.peer(encoded_id, self._state.header_of(kind))
            for call_id in call_ids:
                self._outbox.add(peer, self._encoder.cancel(call_id))

    def sweep(self, now: float) -> float:
        """Send the receipts that have waited for long. Return when this is due next."""
        if not self._later:
            return math.inf
        if now < self._send_at:
            return self._send_at
        for kind, encoded_id in list(self._later):
            self.send(kind, encoded_id)
        return math.inf
