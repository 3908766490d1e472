"""What a call takes over from the place where it is triggered: the deadline of a handler, and the tracer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any, Protocol

from ringback.core.execution import Execution
from ringback.core.pending_call import PendingCall
from ringback.protocol.frames import FrameType

DEFAULT_TIMEOUT_S = 15.0
LONGEST_S = 1e9
"""About thirty years: a longer timeout counts as no limit."""

deadline: ContextVar[float | None] = ContextVar("ringback_deadline", default=None)
"""The deadline of the call that is handled here. Calls that its handler triggers inherit it."""


class CallTracer(Protocol):
    """What traces calls; `ringback._runtime.tracer.Tracer` does it with OpenTelemetry."""

    def triggered(
        self, call: PendingCall, kind: FrameType | None, encoded_id: bytes
    ) -> dict[str, str] | None:
        """Begin the span of a call. Return the trace context that the call carries, None for nothing."""

    def handles(self, execution: Execution) -> Callable[..., Any] | None:
        """Begin the span of a handler. Return the function to run instead, None for the handler itself."""


def clean_context() -> Context:
    """Return a copy of the current context, for code that runs later: without the deadline of a handler."""
    context = copy_context()
    if deadline.get() is not None:
        context.run(deadline.set, None)
    return context


tracer: CallTracer | None = None
"""Traces the calls of all endpoints in this process. `ringback.tracing` sets it."""


def remaining() -> float | None:
    """Return how long the caller of the current handler still waits, in seconds; None for no limit.

    Outside a handler there is no limit. Calls that a handler triggers end after this time at the latest,
    whatever timeout they have.
    """
    at = deadline.get()
    return None if at is None else max(0.0, at - time.monotonic())


def check_timeout(timeout: float | None, name: str = "timeout") -> float | None:
    """Return a timeout in seconds, None for no limit.

    Raises:
        TypeError: the timeout is neither a number nor None.
        ValueError: the timeout is below 0, or not a number.
    """
    if timeout is None:
        return None
    if type(timeout) not in (int, float):
        raise TypeError(f"{name} must be a number of seconds or None, not {type(timeout).__name__}")
    if not timeout >= 0:  # also NaN
        raise ValueError(f"{name} must be 0 or more seconds, or None for no limit, not {timeout}")
    return timeout if timeout < LONGEST_S else None


def deadline_and_budget(timeout: float | None, now: float) -> tuple[float | None, int | None]:
    """Return the deadline of a call that is made now, and the budget that it carries, in milliseconds.

    Raises:
        TypeError, ValueError: the timeout has the wrong type, or is below 0.
    """
    if type(timeout) is not float or not 0.0 <= timeout < LONGEST_S:
        timeout = check_timeout(timeout)
    inherited = deadline.get()
    if inherited is not None and (timeout is None or inherited < now + timeout):
        return inherited, max(0, math.ceil((inherited - now) * 1000))
    if timeout is None:
        return None, None
    return now + timeout, math.ceil(timeout * 1000)
