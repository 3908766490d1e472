"""A call that is encoded and may leave later, or more than once: its parts, without ID and budget."""

from __future__ import annotations

import math
from typing import NamedTuple

from ringback.core.pending_call import PendingCall
from ringback.protocol.envelopes import build_call, split_call
from ringback.protocol.frames import FrameType


class EncodedCall(NamedTuple):
    """The parts of a call that stay the same whenever it leaves.

    Attributes:
        kind: DATA to a player or the server, RELAY to the server in the name of a source, None to this
            endpoint itself in the name of a source.
        encoded_id: the ID of the player or source; empty on a player.
        payload: the encoded payload.
        context: the encoded context that the call carries; empty for none.
    """

    kind: FrameType | None
    encoded_id: bytes
    payload: bytes
    context: bytes

    def envelope(self, call: PendingCall, now: float) -> bytes:
        """Return the CALL of a pending call, with the budget that is left now."""
        return build_call(call.id, call.key, self.payload, budget_ms(call.deadline, now), self.context)


def encoded_call(kind: FrameType | None, encoded_id: bytes, envelope: bytes) -> EncodedCall:
    """Return the parts of an encoded CALL."""
    return EncodedCall(kind, encoded_id, *split_call(envelope))


def budget_ms(deadline: float | None, now: float) -> int | None:
    """Return the budget that is left until a deadline; None for no limit."""
    return None if deadline is None else max(0, math.ceil((deadline - now) * 1000))
