"""What an endpoint counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class EndpointCounters:
    """Counts since the endpoint was made.

    Attributes:
        calls, results, errors: calls made, and how they ended; calls = results + errors + pending.
        executions: calls taken for handling.
        refused: calls of others answered without running a handler.
        stray_replies: answers that matched no pending call: late, forged, or of an earlier session.
        late_replies: answers of handlers here that nobody waits for any more.
        duplicate_replies: second answers to one call by a handler here.
        invalid: envelopes and frames that could not be accepted.
    """

    calls: int = 0
    results: int = 0
    errors: int = 0
    executions: int = 0
    refused: int = 0
    stray_replies: int = 0
    late_replies: int = 0
    duplicate_replies: int = 0
    invalid: int = 0
