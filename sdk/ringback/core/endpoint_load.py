"""The load of an endpoint: what it holds at one moment."""

from __future__ import annotations

from typing import NamedTuple


class Load(NamedTuple):
    """What an endpoint holds at one moment.

    Attributes:
        pending: calls that wait for a reply, as the limits count them.
        running: calls of others that are being handled, as the limits count them.
        calls: calls in the tables; as many as `pending`, unless there is a fault.
        executions: executions in the tables; as many as `running`, unless there is a fault.
        peers: routes in the table.
        queued: envelopes that wait to be sent.
        queued_bytes: the bytes of these envelopes.
        returned: replies that bounced and wait to be sent again.
        waiting: calls of this endpoint that wait for room, or for their next try.
        remembered: calls of others that are remembered, so that they do not run twice.
    """

    pending: int
    running: int
    calls: int
    executions: int
    peers: int
    queued: int
    queued_bytes: int
    returned: int
    waiting: int
    remembered: int
