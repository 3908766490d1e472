"""What an endpoint counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class EndpointCounters:
    """Counts since the endpoint was made.

    Attributes:
        calls: calls made here. They are results, errors and pending calls together.
        results: calls made here that ended with results.
        errors: calls made here that ended with an error.
        retries: calls made here that were tries after the first one.
        executions: calls of others that were taken to be handled.
        refused: calls of others that got an error without running a handler.
        stray_replies: replies that matched no pending call: late, forged, or of an earlier session. A TIMEOUT
            from the handler's side does not count: it crosses the CANCEL of the caller.
        late_replies: replies of handlers here whose caller no longer waited.
        duplicate_replies: second replies of a handler here to one call.
        stray_progress: values of progress that matched no pending call that asked for them: late or forged.
        dropped_progress: values of progress that handlers here reported and that did not arrive: after the
            outcome, over the bound of what waits for the link, or because the caller's queue was full.
        invalid: envelopes and frames that could not be accepted.
        faults: pieces of work, such as a message or a timer, that raised what nothing handles. Each is
            logged, and the endpoint goes on.
    """

    calls: int = 0
    results: int = 0
    errors: int = 0
    retries: int = 0
    executions: int = 0
    refused: int = 0
    stray_replies: int = 0
    late_replies: int = 0
    duplicate_replies: int = 0
    stray_progress: int = 0
    dropped_progress: int = 0
    invalid: int = 0
    faults: int = 0
